"""Each error class once through the command line: one line, its exit code, facts, no traceback.

Classes that ``tests/pipelines/test_refusals.py`` or ``test_faults.py`` meet are not repeated.
"""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pytest
from commands import DEMO
from reliability.faults import SEED, netcdf, water

from eo_causal import cli, errors

BROKEN = """
import eo_causal.cli, eo_causal.run.registry
def fail():
    raise ZeroDivisionError("at https://me:pass@data.org/a.tif?sig=0a1b\\nsecond line")
eo_causal.run.registry.list_configs = fail
eo_causal.cli.main()
"""


@pytest.fixture
def work(tmp_path, monkeypatch):
    """A working folder with a study that would run."""
    monkeypatch.chdir(tmp_path)
    netcdf(water(np.random.default_rng(SEED)))
    return tmp_path


def ended(capsys, *words):
    """Exit code and last line on standard error of a command."""
    code = cli._guarded(list(map(str, words)), debug=False)
    shown = capsys.readouterr().err
    assert "Traceback" not in shown
    return code, shown.strip().splitlines()[-1]


def error_of(*words):
    """The exception behind a command."""
    with pytest.raises(errors.EOCausalError) as caught:
        cli.typer.main.get_command(cli.app)(list(map(str, words)), standalone_mode=False)
    return caught.value


def test_a_defect_of_ours_is_one_line_and_a_log_without_secrets(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", BROKEN, "configs"], capture_output=True, text=True, cwd=tmp_path
    )
    assert done.returncode == errors.EOCausalError.exit_code
    [line] = done.stderr.strip().splitlines()
    assert line.startswith("Unexpected ZeroDivisionError: at https://data.org/a.tif")
    log = Path(line.partition("traceback in ")[2].rstrip(")"))
    text = log.read_text()
    log.unlink()
    assert "Traceback" in text
    for secret in ("pass", "0a1b"):
        assert secret not in line + text


CASES = {
    "SecurityError": (
        ("--scheduler", "tcp://10.0.0.1:8786"), {"address": "tcp://10.0.0.1:8786"},
    ),
    "WorkerError": (
        ("--scheduler", "tcp://127.0.0.1:1", "--set", "compute.connect_timeout=1"),
        {"address": "tcp://127.0.0.1:1"},
    ),
    "ConfigError": (("--set", "compute.n_workers=4096"), {"asked": 4096}),
    "CoverageError": (("--set", "data.period=[1990-01, 1991-12]"), {}),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_classes_that_a_run_can_meet(name, work, capsys):
    options, facts = CASES[name]
    kind = getattr(errors, name)
    code, line = ended(capsys, "run", "study.yaml", *options)
    assert code == kind.exit_code
    assert line.startswith(f"{name}: ")
    error = error_of("run", "study.yaml", *options)
    assert type(error) is kind
    assert error.facts.items() >= facts.items()
    assert not (work / "runs" / "study" / "results.json").exists()
    manifest = json.loads((work / "runs" / "study" / "manifest.json").read_text())
    assert manifest["status"] == "failed"


@pytest.mark.parametrize("out", ["taken", "taken/below", "/proc/nowhere"])
def test_a_run_folder_that_cannot_be(out, work, capsys):
    (work / "taken").write_text("a file of the user")
    code, line = ended(capsys, "run", "study.yaml", "--out", out)
    assert code == errors.StorageError.exit_code
    assert line.startswith(f"StorageError: {out}")
    assert "--out" in line
    assert (work / "taken").read_text() == "a file of the user"


def test_a_full_disk_is_a_storage_error(work, capsys, monkeypatch):
    from eo_causal.core import artefacts

    def full(path):
        raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr(artefacts, "_flush", full)
    code, line = ended(capsys, "run", "study.yaml")
    assert code == errors.StorageError.exit_code
    assert "No space left on device" in line
    assert not [path for path in work.rglob("*") if ".tmp-" in path.name]
    assert not (work / "runs" / "study" / "results.json").exists()


def test_numbers_that_are_none_are_degenerate(tmp_path):
    from eo_causal.report.results import write_results

    with pytest.raises(errors.DegenerateError) as caught:
        write_results(tmp_path, {"effect": {"average": float("nan")}})
    assert caught.value.exit_code == 5
    assert "effect" in caught.value.facts["key"]
    assert not (tmp_path / "results.json").exists()


@pytest.mark.parametrize(
    "words", [("run",), ("nonsense",), ("inspect", "a", "b"), ("run", "a", "-x")]
)
def test_usage_errors_end_in_one_line(words, capsys):
    code, line = ended(capsys, *words)
    assert code == 2
    assert "--help" in line


@pytest.mark.parametrize(("kind", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupted_run_stops_with_its_children(kind, code, tmp_path):
    options = ["--set", "compute.kind=local", "--set", "compute.n_workers=1"]
    process = subprocess.Popen(
        [sys.executable, "-m", "eo_causal", "run", str(DEMO), "--out", "run", *options],
        cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHONWARNINGS": "ignore"}, start_new_session=True,
    )  # fmt: skip
    ledger = tmp_path / "run" / "stages" / "ledger.jsonl"
    deadline = time.monotonic() + 60
    while not ledger.exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    children = psutil.Process(process.pid).children(recursive=True)
    os.kill(process.pid, kind)
    shown = process.communicate(timeout=10)[1]
    assert process.returncode == code
    assert "Traceback" not in shown
    _, alive = psutil.wait_procs(children, timeout=10)
    assert not alive
    assert not (tmp_path / "run" / "run.lock").exists()
    assert not (tmp_path / "run" / "results.json").exists()
