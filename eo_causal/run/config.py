"""From a YAML file to a pipeline's settings, with every mistake named at once."""

import difflib
import typing
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel, Field, ValidationError

from eo_causal.core.settings import Settings
from eo_causal.core.storage import settings_json
from eo_causal.errors import ConfigError
from eo_causal.run.compute import ComputeSettings
from eo_causal.run.design import Design, DesignText
from eo_causal.run.registry import find_pipeline
from eo_causal.run.yaml import Document, parse_yaml, read_yaml

Location = tuple[str | int, ...]


class DataSettings(Settings):
    """Keys that every ``data:`` block has."""

    roots: tuple[Path, ...] = Field(
        default=(), description="folders beside the working folder that may be read"
    )
    lock: Path | None = Field(default=None, description="inputs.lock whose hashes must hold")


class PipelineConfig(Settings):
    """Keys that every pipeline config has."""

    pipeline: str = Field(pattern=r"^[a-z_]+$", description="which pipeline to run")
    mode: typing.Literal["default", "paper"] = Field(
        default="default", description="default, or paper to reproduce the publication"
    )
    seed: int = Field(
        default=20260307, ge=0, description="all random numbers of the run derive from it"
    )
    title: str | None = Field(default=None, description="heading of the report")
    question: str | None = Field(default=None, description="the causal question, in words")
    output: Path | None = Field(default=None, description="run folder, inside the working folder")
    compute: ComputeSettings = ComputeSettings()
    data: DataSettings = DataSettings()


class CausalConfig(PipelineConfig):
    """A config of a pipeline that makes a causal claim, and so has a design."""

    design: DesignText

    def causal_design(self, name: str) -> Design:
        """The whole design: what is typed under ``design``, and what the other settings say.

        Parameters
        ----------
        name : str
            The design's id where none is typed.

        Raises
        ------
        DesignError
            The settings contradict one another.
        """
        raise NotImplementedError


def load_config(path: Path, overrides: typing.Sequence[str] = ()) -> PipelineConfig:
    """Read, override and validate a config file.

    Parameters
    ----------
    path : Path
        YAML file with a ``pipeline:`` key.
    overrides : sequence of str
        ``a.b=value`` pairs, applied on top of the file; the value is read as YAML.

    Raises
    ------
    ConfigError
        Lists every unknown, duplicate, missing, badly typed or out-of-range key with its line.
    """
    document = read_yaml(path)
    for override in overrides:
        _apply_override(document, override)
    name = document.values.get("pipeline")
    if not isinstance(name, str):
        raise ConfigError(
            f"{path}: the key `pipeline` is missing. Add `pipeline: NAME`.", path=str(path)
        )
    model = find_pipeline(name).Config
    return validate(document, model)


def validate(document: Document, model: type[PipelineConfig]) -> PipelineConfig:
    """Build the settings model from a parsed document; all mistakes end in one ConfigError."""
    mistakes = [
        (_line(document, where), f"{_dotted(where)} is written twice; keep one of them")
        for where, _ in document.duplicates
    ]
    config = None
    try:
        config = model.model_validate(document.values)
    except ValidationError as error:
        for item in error.errors():
            where = _visible(item["loc"], document.values)
            mistakes.append((_line(document, where), _explain(item, where, model)))
    if config is not None and not mistakes:
        return config
    unique = sorted(set(mistakes))
    listed = "\n".join(f"- line {line}: {text}" if line else f"- {text}" for line, text in unique)
    number = f"{len(unique)} mistakes" if len(unique) > 1 else "1 mistake"
    raise ConfigError(
        f"{document.path}: {number}\n{listed}",
        path=document.path, mistakes=[text for _, text in unique],
    )  # fmt: skip


def config_yaml(config: PipelineConfig) -> str:
    """The resolved config as YAML, all defaults included."""
    return _yaml(settings_json(config))


def study_settings(config: PipelineConfig) -> dict[str, Any]:
    """What decides the numbers: the resolved config without where it runs and writes."""
    settings = settings_json(config)
    return {key: value for key, value in settings.items() if key not in ("compute", "output")}


def study_yaml(config: PipelineConfig) -> str:
    """:func:`study_settings` as YAML, for the report: the same on any scheduler."""
    return _yaml(study_settings(config))


def _yaml(settings: dict[str, Any]) -> str:
    import yaml

    return yaml.safe_dump(settings, sort_keys=False, allow_unicode=True)


def _apply_override(document: Document, override: str) -> None:
    key, equals, text = override.partition("=")
    parts = key.strip().split(".")
    if not equals or not all(parts):
        raise ConfigError(
            f"--set {override}: not of the form key=value. Write for example"
            " --set impact.intervention=2019-05.", override=override,
        )  # fmt: skip
    target: Any = document.values
    for part in parts[:-1]:
        if target.get(part) is None:
            target[part] = {}
        target = target[part]
        if not isinstance(target, dict):
            raise ConfigError(f"--set {override}: {part} is no block of keys.", override=override)
    target[parts[-1]] = parse_yaml(f"value: {text}", f"--set {override}").values["value"]


def _visible(location: Location, values: Any) -> Location:
    """Drop what pydantic adds to a location (union branches); keep what the user wrote."""
    shown: list[str | int] = []
    here = values
    for position, part in enumerate(location):
        last = position == len(location) - 1
        inside = part in here if isinstance(here, dict) else False
        if isinstance(here, list) and isinstance(part, int):
            inside = part < len(here)
        if inside:
            here = here[part]
        elif not (last and isinstance(here, dict) and "[" not in str(part)):
            continue
        shown.append(part)
    return tuple(shown)


def _explain(item: Any, where: Location, model: type[BaseModel]) -> str:
    key = _dotted(where) or "the file"
    if item["type"] == "extra_forbidden":
        known = _fields_at(model, where[:-1])
        close = difflib.get_close_matches(str(where[-1]), known, n=1, cutoff=0.5)
        parent = [*map(str, where[:-1])]
        if close:
            return f"{key} is not a known key; did you mean {'.'.join([*parent, close[0]])}?"
        return f"{key} is not a known key; known here: {', '.join(known) or 'none'}"
    if item["type"] == "missing":
        return f"{key} is missing"
    text = str(item["msg"]).removeprefix("Value error, ")
    return f"{key}: {text} (got {item['input']!r})"


def _fields_at(model: Any, location: Location) -> list[str]:
    models = [model]
    for part in location:
        following = []
        for candidate in models:
            info = candidate.model_fields.get(part) if isinstance(part, str) else None
            following += _models_in(info.annotation) if info else []
        models = following
    return [name for candidate in models for name in candidate.model_fields]


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [found for part in get_args(annotation) for found in _models_in(part)]


def _dotted(location: Location) -> str:
    return ".".join(map(str, location))


def _line(document: Document, location: Location) -> int:
    while location:
        if location in document.lines:
            return document.lines[location]
        location = location[:-1]
    return 0
