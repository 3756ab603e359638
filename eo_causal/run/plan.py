"""A dry run: the same pipeline page, walked without computing anything."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from eo_causal.core.sources import InputFiles
from eo_causal.run.stage import Stages


@dataclass(frozen=True)
class PlannedStage:
    """One line of a plan: what a run would do for a stage."""

    name: str
    function: str
    cached: bool


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
        stand_in = self.folder / artefact
        self._remember(stand_in, key)
        return stand_in

    def inputs(self, paths: Iterable[Path], lock: Path | None = None) -> InputFiles:
        """List and hash the input files, as a run would."""
        files = super().inputs(paths, lock)
        self.files += [Path(name) for name in files.paths]
        return files
