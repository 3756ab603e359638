"""The stage cache: a finished stage is never computed again, a killed one leaves nothing half."""

import dataclasses
import inspect
import json
import shutil
import time
import typing
import warnings
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from pydantic import BaseModel

from eo_causal.audit.report import not_run
from eo_causal.core import storage
from eo_causal.core.artefacts import (
    Ledger,
    list_files,
    published,
    remove_leftovers,
    sha256_file,
    sha256_json,
    verify,
)
from eo_causal.core.progress import counting
from eo_causal.core.sources import InputFiles, SourcePolicy
from eo_causal.core.storage import read_value, settings_json, write_value
from eo_causal.errors import EOCausalWarning, IntegrityError, ReadError
from eo_causal.run.code import code_version


@dataclasses.dataclass(frozen=True)
class StageRecord:
    """What one stage did in this run."""

    name: str
    key: str
    cached: bool
    seconds: float
    counts: dict[str, int]
    warnings: list[dict[str, str]]


class Stages:
    """Runs the stages of one pipeline; called as ``stage(name, function, *inputs)``.

    Parameters
    ----------
    folder : Path
        The run folder; artefacts live in ``folder / "stages"``.
    seed : int
        Handed to stage functions that have a ``seed`` parameter.
    policy : SourcePolicy
        Handed to stage functions that have a ``policy`` parameter: what they may open.
    announce : callable
        Receives a StageRecord when a stage is done.

    Attributes
    ----------
    design : dict
        Hash, strategy, estimand and registration of the study's design, as results.json holds
        them; empty where there is no causal claim.
    registration : AuditReport
        Whether the design is the one that was frozen.
    """

    def __init__(
        self,
        folder: Path,
        seed: int,
        policy: SourcePolicy,
        announce: Callable[[StageRecord], None] = lambda record: None,
        begin: Callable[[str, bool], None] = lambda name, cached: None,
    ) -> None:
        self.folder = folder / "stages"
        self.folder.mkdir(parents=True, exist_ok=True)
        self.seed = seed
        self.policy = policy
        self.records: list[StageRecord] = []
        self.inputs_read: dict[str, str] = {}
        self.design: dict[str, Any] = {}
        self.registration = not_run("registration", "this pipeline makes no causal claim.")
        self._announce = announce
        self._begin = begin
        self._keys: dict[int, tuple[Any, str]] = {}
        self._ledger = Ledger(self.folder / "ledger.jsonl")
        self._known = self._ledger.records()
        remove_leftovers(self.folder)

    def __call__[Value](self, name: str, function: Callable[..., Value], *inputs: Any) -> Value:
        """Return the stage's value: from the cache when nothing it depends on has changed.

        Parameters
        ----------
        name : str
            Stage name, unique within the pipeline.
        function : callable
            Takes the inputs in order and, when it has such keyword-only parameters, ``seed``,
            ``policy`` and ``folder`` (then what it writes there is its result: a Path, or what its
            annotation says, in the form of ``core.storage``).
        *inputs
            Outputs of earlier stages, settings models, plain JSON values, or dataclasses of these;
            of a callable dataclass the code counts too.
        """
        key = self.key(name, function, inputs)
        artefact = f"{name}-{key[:16]}"
        record = self._valid_record(artefact)
        self._begin(name, record is not None)
        started = time.perf_counter()
        if record is None:
            counts, caught = self._compute(artefact, name, function, inputs)
        else:
            counts, caught = record["counts"], record["warnings"]
        value = self._load(artefact, function)
        self._remember(value, key)
        seconds = time.perf_counter() - started
        done = StageRecord(name, key, record is not None, seconds, counts, caught)
        self.records.append(done)
        self._announce(done)
        return value

    def inputs(self, paths: Iterable[Path], lock: Path | None = None) -> InputFiles:
        """Hash input files, so that stages reading them depend on their content.

        Raises
        ------
        ReadError
            No such file.
        IntegrityError
            A file is not the one ``lock`` (written by ``eo-causal lock``) names.
        """
        checked = [Path(str(self.policy.check(str(path)))) for path in paths]
        absent = next((path for path in checked if not path.exists()), None)
        if absent is not None:
            raise ReadError(f"{absent}: there is no such file. Correct its name.", path=str(absent))
        hashes = tuple(self._hash(path) for path in checked)
        names = tuple(str(path) for path in checked)
        self.inputs_read |= dict(zip(names, hashes, strict=True))
        if lock is not None:
            check_lock(lock, self.inputs_read)
        files = InputFiles(names, hashes)
        shown = [Path(name).name for name in names]
        self._remember(files, sha256_json([shown, list(hashes)]))
        return files

    def key(self, name: str, function: Callable[..., Any], inputs: Sequence[Any]) -> str:
        """Cache key: stage name, settings, keys of inputs, code that computes and stores it."""
        parts = {
            "stage": name,
            "function": f"{function.__module__}.{function.__qualname__}",
            "inputs": [self._input_key(item) for item in inputs],
            "seed": self.seed if "seed" in _parameters(function) else None,
            "code": [code_version(function.__module__), code_version(storage.__name__)],
        }
        return sha256_json(parts)

    def ledger(self) -> pd.DataFrame:
        """What every stage so far read, used, skipped and failed: stage, what, n."""
        rows = [
            (record.name, what.replace("_", " "), number)
            for record in self.records
            for what, number in record.counts.items()
        ]
        return pd.DataFrame(rows, columns=["stage", "what", "n"])

    def warnings(self) -> list[dict[str, str]]:
        """Every warning so far: stage, code and message."""
        return [
            {"stage": record.name, **item} for record in self.records for item in record.warnings
        ]

    def artefact(self, name: str) -> Path:
        """Folder of a finished stage's artefact."""
        record = next(record for record in self.records if record.name == name)
        return self.folder / f"{name}-{record.key[:16]}"

    def prune(self) -> None:
        """Remove artefacts this run did not use."""
        used = {f"{record.name}-{record.key[:16]}" for record in self.records}
        for path in self.folder.iterdir():
            if path.is_dir() and path.name not in used:
                shutil.rmtree(path)

    def _remember(self, value: Any, key: str) -> None:
        """Know a value, and the fields of a result, again by identity; scalars by what they say."""
        if value is not None and not isinstance(value, str | int | float | bool):
            self._keys[id(value)] = (value, key)
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            for part in dataclasses.fields(value):
                self._remember(getattr(value, part.name), sha256_json([key, part.name]))

    def _valid_record(self, artefact: str) -> dict[str, Any] | None:
        record = self._known.get(artefact)
        if record is None or not (self.folder / artefact).is_dir():
            return None
        try:
            verify(self.folder / artefact, record["files"])
        except IntegrityError as error:
            warnings.warn(
                EOCausalWarning(f"{error.message} It is computed again.", "CacheWarning"),
                stacklevel=3,
            )
            return None
        return record

    def _compute(
        self, artefact: str, name: str, function: Callable[..., Any], inputs: Sequence[Any]
    ) -> tuple[dict[str, int], list[dict[str, str]]]:
        target = self.folder / artefact
        started = time.perf_counter()
        with published(target) as temporary, warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", EOCausalWarning)
            with counting() as counts:
                extra = self._extra(function, temporary)
                value = function(*inputs, **extra)
                if "folder" not in extra:
                    write_value(value, _returns(function), temporary)
        counts = dict(sorted(counts.items()))
        noted = _noted(caught)
        self._ledger.append(
            {
                "artefact": artefact,
                "stage": name,
                "files": list_files(target),
                "counts": counts,
                "warnings": noted,
                "seconds": round(time.perf_counter() - started, 3),
            }
        )
        return counts, noted

    def _extra(self, function: Callable[..., Any], temporary: Path) -> dict[str, Any]:
        offered = {"seed": self.seed, "policy": self.policy, "folder": temporary}
        return {name: offered[name] for name in offered if name in _parameters(function)}

    def _load(self, artefact: str, function: Callable[..., Any]) -> Any:
        folder = self.folder / artefact
        declared = _returns(function)
        if "folder" in _parameters(function) and declared in (Path, type(None)):
            return folder
        return read_value(declared, folder)

    def _input_key(self, item: Any) -> Any:
        if id(item) in self._keys:
            return self._keys[id(item)][1]
        if isinstance(item, BaseModel):
            return settings_json(item)
        if isinstance(item, pd.DataFrame):
            return item.to_json(orient="split", double_precision=15)
        if dataclasses.is_dataclass(item) and not isinstance(item, type):
            parts = dataclasses.fields(item)
            key = {part.name: self._input_key(getattr(item, part.name)) for part in parts}
            return key | {"code": code_version(type(item).__module__)} if callable(item) else key
        if isinstance(item, dict | list | tuple):
            values = item.values() if isinstance(item, dict) else item
            names = list(item) if isinstance(item, dict) else None
            return [names, [self._input_key(value) for value in values]]
        if item is None or isinstance(item, str | int | float | bool):
            return {"value": item}
        raise TypeError(f"a stage got {type(item).__name__}, neither settings nor a stage output")

    def _hash(self, path: Path) -> str:
        """Content hash of an input, remembered while path, size and mtime stay the same."""
        if path.is_dir():
            return sha256_json(list_files(path))
        status = path.stat()
        mark = f"{path}|{status.st_size}|{status.st_mtime_ns}"
        found = self._known.get(mark)
        if found is None:
            found = {"artefact": mark, "sha256": sha256_file(path)}
            self._ledger.append(found)
            self._known[mark] = found
        return str(found["sha256"])


def check_lock(lock: Path, found: dict[str, str]) -> None:
    """Compare input hashes with an ``inputs.lock`` file, by file name.

    Raises
    ------
    IntegrityError
        A file differs from the lock, or is not in it.
    """
    try:
        rows = json.loads(lock.read_text(encoding="utf-8"))
        locked = {Path(row["path"]).name: row["sha256"] for row in rows}
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise IntegrityError(
            f"data.lock: {lock} cannot be read ({error}). Write it anew."
        ) from error
    wrong = [name for name, digest in found.items() if locked.get(Path(name).name) != digest]
    if wrong:
        raise IntegrityError(
            f"{wrong[0]}: not the file that {lock} names ({len(wrong)} such). Restore it, or write the"
            " lock anew with `eo-causal lock`.", path=wrong[0], files=wrong,
        )  # fmt: skip


def _parameters(function: Callable[..., Any]) -> list[str]:
    """Names of the keyword-only parameters, the only ones a stage fills in by itself."""
    parameters = inspect.signature(function).parameters.values()
    return [item.name for item in parameters if item.kind is inspect.Parameter.KEYWORD_ONLY]


def _returns(function: Callable[..., Any]) -> Any:
    return typing.get_type_hints(function)["return"]


def _noted(caught: Sequence[warnings.WarningMessage]) -> list[dict[str, str]]:
    """Our own warnings as records; any other is shown again as it would have been."""
    ours = []
    for item in caught:
        if isinstance(item.message, EOCausalWarning):
            ours.append({"code": item.message.code, "message": str(item.message)})
        else:
            warnings.warn_explicit(item.message, item.category, item.filename, item.lineno)
    unique = {tuple(sorted(entry.items())): entry for entry in ours}
    return list(unique.values())
