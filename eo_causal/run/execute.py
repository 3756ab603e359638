"""Run a config: lock the folder, run the pipeline, put its outputs under their final names."""

import contextlib
import datetime
import json
import os
import shutil
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from eo_causal.core.artefacts import list_files, remove_leftovers, write_atomic
from eo_causal.core.sources import SourcePolicy, default_policy
from eo_causal.errors import ConfigError, EOCausalError, IntegrityError, StorageError
from eo_causal.run.compute import computing
from eo_causal.run.config import CausalConfig, PipelineConfig, config_yaml, load_config
from eo_causal.run.design import Design
from eo_causal.run.manifest import write_manifest
from eo_causal.run.plan import Plan
from eo_causal.run.registered import REGISTRY, design_facts, registration
from eo_causal.run.registry import find_pipeline, list_configs
from eo_causal.run.stage import StageRecord, Stages

REPORT = "report"


@dataclass(frozen=True)
class Run:
    """A config made ready to run: its settings, its folder and what it may open.

    ``design`` is None where the pipeline makes no causal claim; ``registry`` is the folder of
    frozen designs beside the config.
    """

    config: PipelineConfig
    folder: Path
    policy: SourcePolicy
    design: Design | None
    registry: Path


def prepare(path: Path, overrides: Sequence[str] = (), out: Path | None = None) -> Run:
    """Load the config and decide the run folder: ``--out``, else ``output:``, else ``runs/NAME``.

    Raises
    ------
    ConfigError
        Mistakes in the file, or an ``output`` outside the working folder.
    DesignError
        The settings of a causal study contradict one another.
    """
    config = load_config(path, overrides)
    folder = out or config.output or Path("runs") / _run_name(path)
    if out is None and not folder.resolve().is_relative_to(Path.cwd()):
        raise ConfigError(
            f"{path}: output: {folder} lies outside the working folder. Use --out for that.",
            path=str(path), output=str(folder),
        )  # fmt: skip
    policy = default_policy(run_folder=folder, extra_roots=config.data.roots)
    design = config.causal_design(path.stem) if isinstance(config, CausalConfig) else None
    return Run(config, folder, policy, design, path.parent / REGISTRY)


def plan(run: Run) -> Plan:
    """Walk the pipeline without computing; lists files, stages and what is cached."""
    recorder = Plan(run.folder, run.config.seed, run.policy)
    _register(recorder, run)
    find_pipeline(run.config.pipeline).run(run.config, recorder)
    return recorder


def execute(
    run: Run, *, force: bool = False,
    begin: Callable[[str, bool], None] = lambda name, cached: None,
    announce: Callable[[StageRecord], None] = lambda record: None,
) -> Stages:  # fmt: skip
    """Run the pipeline to its end, or raise and leave no output under a final name.

    Parameters
    ----------
    run : Run
        From :func:`prepare`.
    force : bool
        Take over the folder although another run seems to hold it.
    begin, announce : callable
        Called when a stage begins (name, cached) and ends.

    Raises
    ------
    RegistrationError
        The design changed after it was frozen; then nothing is read.
    """
    run.folder.mkdir(parents=True, exist_ok=True)
    started, clock = _now(), time.perf_counter()
    with _locked(run.folder, force=force):
        remove_leftovers(run.folder)

        def begin_stage(name: str, cached: bool) -> None:
            if not cached:
                _withdraw(run.folder)
            begin(name, cached)

        stage = Stages(run.folder, run.config.seed, run.policy, announce, begin_stage)
        _register(stage, run)
        write_atomic(run.folder / "config.yaml", config_yaml(run.config).encode())
        status, error, outputs = "failed", None, {}
        try:
            with computing(run.config.compute):
                find_pipeline(run.config.pipeline).run(run.config, stage)
            outputs = _publish(stage.artefact(REPORT), run.folder)
            status = "complete"
            stage.prune()
        except BaseException as failure:
            _withdraw(run.folder)
            error = failure.message if isinstance(failure, EOCausalError) else repr(failure)
            _keep_draws(failure, run.folder)
            raise
        finally:
            write_manifest(
                run.folder, run.config, stage, status=status, error=error, outputs=outputs,
                started=started, seconds=time.perf_counter() - clock,
            )  # fmt: skip
    return stage


def check_outputs(folder: Path) -> dict[str, str]:
    """Verify a run folder's outputs against its manifest; returns path -> SHA-256.

    Raises
    ------
    IntegrityError
        No complete run here, or a file differs from what the run wrote.
    """
    path = folder / "manifest.json"
    if not path.is_file():
        raise IntegrityError(f"{folder}: holds no manifest.json, so no run ended here. Run it.")
    manifest = json.loads(path.read_text())
    if manifest["status"] != "complete":
        raise IntegrityError(
            f"{folder}: the run did not finish ({manifest['error']}). Run the same config again;"
            " finished stages are kept.", path=str(folder),
        )  # fmt: skip
    outputs: dict[str, str] = manifest["outputs"]
    actual = {name: digest for name, digest in list_files(folder).items() if name in outputs}
    wrong = sorted(name for name in outputs if actual.get(name) != outputs[name])
    if wrong:
        raise IntegrityError(
            f"{folder}: {len(wrong)} output(s) differ from the manifest (first: {wrong[0]})."
            " Run the same config again to restore them.", path=str(folder), files=wrong,
        )  # fmt: skip
    return outputs


def _register(stage: Stages, run: Run) -> None:
    """Compare the design with the frozen one and hand both to the pipeline, before any stage."""
    if isinstance(run.config, CausalConfig) and run.design is not None:
        allow_change = run.config.design.allow_change
        stage.registration = registration(run.design, run.registry, allow_change=allow_change)
        stage.design = design_facts(run.design, stage.registration)


def _run_name(path: Path) -> str:
    """The config's name: ``demo/water_clarity`` for one of the package's, else its stem."""
    known = {file.resolve(): name for name, file in list_configs().items()}
    return known.get(path.resolve(), path.stem)


def _publish(source: Path, folder: Path) -> dict[str, str]:
    """Copy the report artefact's files to their final names, the page last."""
    files = list_files(source)
    for name in sorted(files, key=lambda name: name == "report.html"):
        write_atomic(folder / name, (source / name).read_bytes())
    write_atomic(folder / "stages" / "outputs.json", json.dumps(sorted(files)).encode())
    return files


def _withdraw(folder: Path) -> None:
    """Take published outputs away: they no longer belong to the settings of this run."""
    listing = folder / "stages" / "outputs.json"
    if not listing.exists():
        return
    for name in json.loads(listing.read_text()):
        (folder / name).unlink(missing_ok=True)
    for name in ("maps", "tables", "figures"):
        if (folder / name).is_dir() and not any((folder / name).iterdir()):
            shutil.rmtree(folder / name)
    listing.unlink()


def _keep_draws(failure: BaseException, folder: Path) -> None:
    """Draws that failed the convergence gate are kept for inspection, apart from results."""
    draws = failure.facts.get("draws") if isinstance(failure, EOCausalError) else None
    if draws is not None:
        path = folder / "failed" / "draws.nc"
        path.parent.mkdir(exist_ok=True)
        draws.to_netcdf(path, engine="netcdf4")


@contextlib.contextmanager
def _locked(folder: Path, *, force: bool) -> Iterator[None]:
    """Hold ``run.lock``; a lock whose process on this host is gone is taken over."""
    path = folder / "run.lock"
    holder = {"host": socket.gethostname(), "pid": os.getpid(), "started": _now()}
    if path.exists() and not force:
        other = json.loads(path.read_text() or "{}")
        same_host = other.get("host") == holder["host"]
        if not same_host or _alive(int(other.get("pid", 0))):
            raise StorageError(
                f"{folder}: another run holds this folder (process {other.get('pid')} on"
                f" {other.get('host')} since {other.get('started')}). Wait, use --out, or --force.",
                path=str(folder), **{f"lock_{key}": value for key, value in other.items()},
            )  # fmt: skip
    write_atomic(path, json.dumps(holder).encode())
    try:
        yield
    finally:
        path.unlink(missing_ok=True)


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return process > 0


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
