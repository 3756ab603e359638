"""A dry run: the same pipeline page, walked without computing anything."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from eo_causal.core.artefacts import sha256_json
from eo_causal.core.sources import InputFiles
from eo_causal.run.stage import Stages


@dataclass(frozen=True)
class PlannedStage:
    """One line of a plan: what a run would do for a stage."""

    name: str
    function: str
    cached: bool


class StandIn:
    """What a stage would return: carries a cache key, and so do the fields it is asked for."""

    def __init__(self, plan: "Plan", key: str, path: Path) -> None:
        self._plan, self._key, self._path = plan, key, path
        plan.remember(self, key)

    def __getattr__(self, name: str) -> "StandIn":
        if name.startswith("_"):
            raise AttributeError(name)
        found = StandIn(self._plan, sha256_json([self._key, name]), self._path)
        setattr(self, name, found)
        return found

    def __truediv__(self, name: str) -> Path:
        """A file of a stage that writes a folder."""
        return self._path / name

    def __fspath__(self) -> str:
        return str(self._path)


class Plan(Stages):
    """Takes the place of :class:`Stages`; records what would be computed and what is cached."""

    planned: list[PlannedStage]

    def __init__(self, *arguments: Any, **settings: Any) -> None:
        super().__init__(*arguments, **settings)
        self.planned = []
        self.files: list[Path] = []

    def __call__(self, name: str, function: Callable[..., Any], *inputs: Any) -> Any:
        """Note the stage and return a stand-in that carries its key to later stages."""
        key = self.key(name, function, inputs)
        artefact = f"{name}-{key[:16]}"
        cached = artefact in self._known and (self.folder / artefact).is_dir()
        where = f"{function.__module__}.{function.__name__}".removeprefix("eo_causal.")
        self.planned.append(PlannedStage(name, where, cached))
        return StandIn(self, key, self.folder / artefact)

    def remember(self, value: Any, key: str) -> None:
        """Know a stand-in again by identity."""
        self._remember(value, key)

    def inputs(self, paths: Iterable[Path], lock: Path | None = None) -> InputFiles:
        """List and hash the input files, as a run would; files that a stage would write are absent."""
        known = [path for path in paths if path.exists() or self.folder not in path.parents]
        files = super().inputs(known, lock)
        self.files += [Path(name) for name in files.paths]
        return files
