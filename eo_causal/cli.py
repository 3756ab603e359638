"""The command line: ``eo-causal``."""

import contextlib
import json
import re
import signal
import sys
import tempfile
import traceback
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.exceptions import TyperException

from eo_causal.core.sources import without_secrets
from eo_causal.errors import EOCausalError, EOCausalWarning, StorageError

app = typer.Typer(
    help="Causal answers from satellite rasters, run from YAML.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,  # a third of the time of --help
    pretty_exceptions_enable=False,
)
ConfigArgument = Annotated[str, typer.Argument(help="A config file, or the name of one of ours.")]
SetOption = Annotated[list[str] | None, typer.Option("--set", help="Override a key: a.b=value.")]
OutOption = Annotated[Path | None, typer.Option("--out", help="Run folder.")]
SchedulerOption = Annotated[
    str | None,
    typer.Option(help="synchronous, threads, processes, local, or tls://host:8786."),
]


@app.command()
def run(
    config: ConfigArgument,
    sets: SetOption = None,
    out: OutOption = None,
    scheduler: SchedulerOption = None,
    force: Annotated[bool, typer.Option(help="Take over a locked run folder.")] = False,
) -> None:
    """Run a config; the same command goes on where a stopped run left off."""
    from eo_causal.run.execute import execute

    prepared = _prepare(config, sets, out, scheduler)
    _print(f"{config} -> {prepared.folder}")
    execute(prepared, force=force, begin=_show_begin, announce=_show_done)
    for line in _headline(prepared.folder):
        typer.echo(line)
    typer.echo(f"Report: {prepared.folder / 'report.html'}")


@app.command()
def plan(
    config: ConfigArgument,
    sets: SetOption = None,
    out: OutOption = None,
    scheduler: SchedulerOption = None,
) -> None:
    """Say what a run would read and compute, what is cached, and every config error."""
    from eo_causal.run.execute import plan as make_plan

    prepared = _prepare(config, sets, out, scheduler)
    found = make_plan(prepared)
    n_bytes = sum(path.stat().st_size for path in found.files if path.is_file())
    typer.echo(f"{config}: valid. Run folder {prepared.folder}")
    if prepared.design is not None:
        status = found.registration.status.replace("_", " ")
        typer.echo(f"Registration: {status}. {found.registration.text}")
    typer.echo(f"Reads {len(found.files)} file(s), {n_bytes / 1e6:.1f} MB")
    for path in found.files:
        typer.echo(f"  {path.name}")
    for stage in found.planned:
        typer.echo(
            f"  {'cached ' if stage.cached else 'compute'}  {stage.name:<24}  {stage.function}"
        )


@app.command()
def configs() -> None:
    """List the case studies that come with the package."""
    from eo_causal.run.registry import list_configs

    for name, path in list_configs().items():
        first = path.read_text(encoding="utf-8").splitlines()[0].removeprefix("# ")
        typer.echo(f"{name:<32}{first}")


@app.command()
def schema(pipeline: Annotated[str, typer.Argument(help="Pipeline name.")]) -> None:
    """Print the JSON schema of a pipeline's config: every key, default and description."""
    from eo_causal.run.registry import find_pipeline

    typer.echo(json.dumps(find_pipeline(pipeline).Config.model_json_schema(), indent=1))


@app.command()
def init(
    name: Annotated[str, typer.Argument(help="Name of the new study.")],
    source: Annotated[str, typer.Option("--from", help="Case study to start from.")],
) -> None:
    """Copy a case study's config to NAME.yaml, to start one's own."""
    from eo_causal.core.artefacts import write_atomic
    from eo_causal.errors import ConfigError
    from eo_causal.run.registry import find_config

    target = Path(name).with_suffix(".yaml")
    if target.exists():
        raise ConfigError(f"{target} exists already. Choose another name.", path=str(target))
    write_atomic(target, find_config(source).read_bytes())
    typer.echo(f"Wrote {target}. Edit it, then: eo-causal run {target}")


@app.command()
def report(folder: Annotated[Path, typer.Argument(help="A run folder.")]) -> None:
    """Check a run's outputs against its manifest and print the answer."""
    from eo_causal.run.execute import check_outputs

    outputs = check_outputs(folder)
    for line in _headline(folder):
        typer.echo(line)
    typer.echo(f"{len(outputs)} outputs verified. Report: {folder / 'report.html'}")


@app.command()
def data(
    action: Annotated[str, typer.Argument(help="list, path or fetch.")],
    name: Annotated[str | None, typer.Argument(help="Data set name.")] = None,
) -> None:
    """Named public data sets: list them, fetch one, or say where it lies."""
    from eo_causal.errors import ConfigError
    from eo_causal.ingest import datasets

    if action == "list":
        for entry in datasets.list_datasets():
            typer.echo(f"{entry.name:<20}{entry.licence:<44}{entry.citation}")
    elif action in ("path", "fetch") and name:
        finder = datasets.fetch if action == "fetch" else datasets.dataset_path
        typer.echo(str(finder(name)))
    else:
        raise ConfigError("data: say `data list`, `data path NAME` or `data fetch NAME`.")


@app.command()
def doctor() -> None:
    """Check this installation: versions, cores, memory, disk, data sets."""
    from eo_causal.run.doctor import examine

    healthy = True
    for fact in examine():
        healthy = healthy and fact.fine
        typer.echo(f"{'ok ' if fact.fine else 'BAD'}  {fact.name:<16}{fact.text}")
    if not healthy:
        raise typer.Exit(1)


@app.command()
def inspect(
    path: Annotated[str, typer.Argument(help="One raster file or store.")],
    sha256: Annotated[str | None, typer.Option(help="Expected hash of the file.")] = None,
) -> None:
    """Read one file through the loader and print its facts as one JSON line."""
    from eo_causal.core.sources import default_policy
    from eo_causal.ingest.inspect import inspect_file

    facts = inspect_file(path, default_policy(), sha256=sha256)
    typer.echo(json.dumps(facts, allow_nan=False))


@app.command()
def lock(
    config: ConfigArgument,
    sets: SetOption = None,
    out: OutOption = None,
) -> None:
    """Write inputs.lock: path, bytes and sha256 of every input of a config."""
    from eo_causal.core.artefacts import write_atomic
    from eo_causal.run.execute import plan as make_plan

    prepared = _prepare(config, sets, out, None)
    found = make_plan(prepared)
    rows = [
        {"path": name, "bytes": Path(name).stat().st_size, "sha256": digest}
        for name, digest in found.inputs_read.items()
    ]
    write_atomic(Path("inputs.lock"), json.dumps(rows, indent=1).encode())
    typer.echo(f"Wrote inputs.lock with {len(rows)} file(s). Name it in data.lock to enforce it.")


@app.command()
def freeze(config: ConfigArgument, sets: SetOption = None) -> None:
    """Register the design of a config before outcomes are read; later runs are held against it."""
    from eo_causal.errors import ConfigError
    from eo_causal.run.design import design_hash
    from eo_causal.run.registered import freeze as freeze_design

    prepared = _prepare(config, sets, None, None)
    if prepared.design is None:
        raise ConfigError(
            f"{config}: pipeline {prepared.config.pipeline} makes no causal claim, so there is no"
            " design to freeze. Name the config of a study.", config=config,
        )  # fmt: skip
    path = freeze_design(prepared.design, prepared.registry)
    typer.echo(f"Wrote {path}, hash {design_hash(prepared.design)}")


@app.command()
def trial(
    wealth_map: Annotated[Path, typer.Option("--map", help="wealth.tif with its card beside it")],
    units: Annotated[Path, typer.Option(help="places of the trial: CSV, GeoJSON, GeoPackage")],
    treatment: Annotated[str, typer.Option(help="column of 0 and 1")] = "treatment",
    pilot: Annotated[
        str | None, typer.Option(help="column of measured outcomes, empty where there is none")
    ] = None,
    cluster: Annotated[
        str | None, typer.Option(help="column of what was treated as a whole")
    ] = None,
    randomised: Annotated[bool, typer.Option(help="treatment was assigned at random")] = False,
    out: OutOption = None,
) -> None:
    """Effects of a trial whose outcome is read from a wealth map, with and without correction."""
    import yaml

    name = re.sub(r"[^a-z0-9_]", "_", units.stem.lower()).lstrip("_0123456789") or "trial"
    numbers = [treatment, *([pilot] if pilot else [])]
    config = {
        "pipeline": "map_trials",
        "data": {"map": str(wealth_map)},
        "trials": [{
            "name": name, "treatment": treatment, "pilot": pilot, "cluster": cluster,
            "assignment": "randomised" if randomised else "observed",
            "units": {"file": str(units), "numbers": numbers, "labels": [cluster] if cluster else []},
        }],
    }  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"trial_{name}.yaml"
        path.write_text(yaml.safe_dump(config, sort_keys=False), encoding="utf-8")
        run(str(path), out=out or Path("runs") / f"trial_{name}")


@app.command()
def power(
    rho: Annotated[float, typer.Option(help="correlation of map and truth in the study area")],
    n_clusters: Annotated[
        int | None, typer.Option(help="randomised groups; leave out to ask for them")
    ] = None,
    cluster_size: Annotated[int, typer.Option(help="places a group")] = 1,
    icc: Annotated[float, typer.Option(help="intra-cluster correlation of the outcome")] = 0.0,
    map_error_icc: Annotated[float, typer.Option(help="the same of the map's errors")] = 0.0,
    effect: Annotated[
        float | None, typer.Option(help="sd of the outcome; leave out to ask for it")
    ] = None,
    power: Annotated[
        float | None, typer.Option("--power", help="leave out, with --effect, to ask for it")
    ] = None,
    share_treated: Annotated[float, typer.Option(help="of the groups")] = 0.5,
) -> None:
    """How small an effect a trial with an outcome from a map can find, or how many groups it takes."""
    from pydantic import ValidationError

    from eo_causal.audit.power import DesignSettings, design_power
    from eo_causal.errors import ConfigError

    usual = 0.8 if effect is None or n_clusters is None else None
    try:
        settings = DesignSettings(
            rho=rho, n_clusters=n_clusters, cluster_size=cluster_size, icc=icc,
            map_error_icc=map_error_icc, effect=effect, share_treated=share_treated,
            power=usual if power is None else power,
        )  # fmt: skip
    except ValidationError as error:
        item = error.errors()[0]
        raise ConfigError(
            f"power: {'.'.join(map(str, item['loc']))}: {item['msg']} (got {item['input']!r})."
        ) from error
    typer.echo(str(design_power(settings)))


def main() -> None:
    """Entry point: errors become one line on standard error and their exit code."""
    debug = "--debug" in sys.argv
    arguments = [word for word in sys.argv[1:] if word != "--debug"]
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _stop)
    if not debug:
        sys.excepthook = _show_unexpected
    with _warnings_as_lines():
        sys.exit(_guarded(arguments, debug=debug))


def _guarded(arguments: list[str], *, debug: bool) -> int:
    try:
        code = typer.main.get_command(app)(arguments, standalone_mode=False)
        return code if isinstance(code, int) else 0
    except EOCausalError as error:
        if debug:
            traceback.print_exc()
        _print(f"{type(error).__name__}: {error.message}")
        return error.exit_code
    except (KeyboardInterrupt, typer.Abort):
        _print("Interrupted. The same command goes on where this one stopped.")
        return 130
    except OSError as error:
        if debug or error.errno is None or error.filename is None:
            raise
        _print(
            f"{StorageError.__name__}: {error.filename}: {error.strerror}. Choose a folder that can"
            " be written with --out, or free space."
        )
        return StorageError.exit_code
    except TyperException as error:
        _print(f"Usage error: {error} See `eo-causal --help`.")
        return 2


def _show_unexpected(kind: type[BaseException], error: BaseException, trace: Any) -> None:
    """A defect of ours: one line on screen, the traceback in a log file."""
    with tempfile.NamedTemporaryFile(
        "w", prefix="eo-causal-", suffix=".log", delete=False, encoding="utf-8"
    ) as log:
        log.write(without_secrets("".join(traceback.format_exception(kind, error, trace))))
    first = (str(error).splitlines() or [""])[0]
    _print(f"Unexpected {kind.__name__}: {first} (traceback in {log.name})")


def _stop(number: int, frame: Any) -> None:
    """End the run; a little later where distributed watches the garbage collector.

    Python drops what is raised inside such a callback, and the signal would be lost.
    """
    inside = frame
    while inside is not None:
        if inside.f_code.co_name == "_gc_callback":
            signal.signal(signal.SIGALRM, lambda _, later: _stop(number, later))
            signal.setitimer(signal.ITIMER_REAL, 0.05)
            return
        inside = inside.f_back
    if number == signal.SIGINT:
        raise KeyboardInterrupt
    raise SystemExit(128 + number)


@contextlib.contextmanager
def _warnings_as_lines() -> Iterator[None]:
    show = warnings.showwarning

    def one_line(message: Any, category: Any, *details: Any, **named: Any) -> None:
        if isinstance(message, EOCausalWarning):
            _print(f"{message.code}: {message}")
        else:
            show(message, category, *details, **named)

    warnings.showwarning = one_line
    try:
        yield
    finally:
        warnings.showwarning = show


def _prepare(config: str, sets: list[str] | None, out: Path | None, scheduler: str | None) -> Any:
    from eo_causal.run.compute import scheduler_override
    from eo_causal.run.execute import prepare
    from eo_causal.run.registry import find_config

    overrides = [*(sets or []), *(scheduler_override(scheduler) if scheduler else [])]
    return prepare(find_config(config), overrides, out)


def _print(text: str) -> None:
    typer.echo(without_secrets(text), err=True)


def _show_begin(name: str, cached: bool) -> None:
    if not cached and sys.stderr.isatty():
        _print(f"  {name} ...")


def _show_done(record: Any) -> None:
    counts = ", ".join(f"{n:,} {what.replace('_', ' ')}" for what, n in record.counts.items())
    how = "cached" if record.cached else f"{record.seconds:.1f} s"
    _print(f"  {record.name:<22}{how:>8}  {counts}")
    for item in record.warnings:
        _print(f"    {item['code']}: {item['message']}")


def _headline(folder: Path) -> list[str]:
    results = json.loads((folder / "results.json").read_text())
    return [str(line) for line in results.get("headline", [])]
