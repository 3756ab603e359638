"""Where pipelines and case-study configs are found: beside the imported package, nowhere else."""

import importlib.util
import re
import sys
from pathlib import Path
from types import ModuleType

import eo_causal
from eo_causal.errors import ConfigError

_PACKAGE = Path(eo_causal.__file__).parent


def resource_folder(name: str) -> Path:
    """The ``pipelines`` or ``configs`` folder: inside the package in a wheel, else beside it."""
    inside = _PACKAGE / name
    return inside if inside.is_dir() else _PACKAGE.parent / name


def list_pipelines() -> list[str]:
    """Names of all pipelines that a config may ask for."""
    return sorted(path.stem for path in resource_folder("pipelines").glob("[a-z]*.py"))


def find_pipeline(name: str) -> ModuleType:
    """Load a pipeline module by its bare name.

    The current folder is never searched, so that a stranger's folder cannot run code.

    Raises
    ------
    ConfigError
        No such pipeline; lists those there are.
    """
    path = resource_folder("pipelines") / f"{name}.py"
    if not re.fullmatch(r"[a-z_]+", name) or not path.is_file():
        known = ", ".join(list_pipelines())
        raise ConfigError(f"pipeline: {name!r} is not a pipeline; known: {known}.", pipeline=name)
    module_name = f"eo_causal_pipelines.{name}"
    if module_name in sys.modules:
        return sys.modules[module_name]
    spec = importlib.util.spec_from_file_location(module_name, path)
    if spec is None or spec.loader is None:
        raise ConfigError(f"pipeline: {path} cannot be loaded.", pipeline=name)
    module = importlib.util.module_from_spec(spec)
    sys.modules[module_name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[module_name]
        raise
    return module


def list_configs() -> dict[str, Path]:
    """Case studies that come with the package: name (``demo/water_clarity``) -> file."""
    folder = resource_folder("configs")
    files = sorted(folder.rglob("*.yaml"))
    return {path.relative_to(folder).with_suffix("").as_posix(): path for path in files}


def find_config(text: str) -> Path:
    """A config file by path, or one of the package's by path or name when no such file exists.

    Raises
    ------
    ConfigError
        Neither a file nor a known name.
    """
    path = Path(text)
    if path.is_file():
        return path
    name = path.with_suffix("").as_posix().removeprefix("configs/")
    known = list_configs()
    if name in known:
        return known[name]
    raise ConfigError(
        f"{text}: no such file, and no config of the package. `eo-causal configs` lists: "
        f"{', '.join(known)}.",
        path=text,
    )
