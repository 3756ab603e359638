"""Kill a run at any moment; the same command then ends in the same bytes."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter

import pytest
from commands import DEMO, EMBED, command

from eo_causal.core.artefacts import Ledger, list_files


def contents(folder):
    """Hashes of outputs and artefacts; without what holds a clock."""
    files = list_files(folder)
    return {name: digest for name, digest in files.items() if not name.endswith(
        ("manifest.json", "ledger.jsonl"))}  # fmt: skip


def start(config, folder):
    return subprocess.Popen(
        [sys.executable, "-m", "eo_causal", "run", str(config), "--out", str(folder)],
        cwd=folder.parent, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        start_new_session=True, env=dict(os.environ),
    )  # fmt: skip


@pytest.mark.parametrize(("config", "run"), [(DEMO, "demo_run"), (EMBED, "embed_run")])
def test_killed_runs_resume_to_identical_bytes(config, run, request, tmp_path, full_size):
    undisturbed = request.getfixturevalue(run)
    seed = random.SystemRandom().randrange(10**6)
    print(f"seed of the kill times: {seed}")
    chance = random.Random(seed)
    expected = contents(undisturbed)
    clean = json.loads((undisturbed / "manifest.json").read_text())
    seconds = sum(stage["seconds"] for stage in clean["stages"]) + 2
    n_kills, n_stops = (50, 10) if full_size else (3, 1)
    signals = [signal.SIGKILL] * n_kills + [signal.SIGTERM, signal.SIGINT] * ((n_stops + 1) // 2)
    for number, kind in enumerate(signals[: n_kills + n_stops]):
        folder = tmp_path / f"run{number}"
        process = start(config, folder)
        time.sleep(chance.uniform(0.3, 1.0) * seconds if number else 0.5 * seconds)
        finished = process.poll() is not None
        if not finished:
            os.killpg(process.pid, kind)
        code = process.wait(timeout=20)
        if kind in (signal.SIGTERM, signal.SIGINT) and not finished:
            assert code in (130, 143, 0)
        done_before = Counter(
            record["stage"]
            for record in Ledger(folder / "stages" / "ledger.jsonl").records().values()
            if "stage" in record
        )
        done = command("run", config, "--out", folder, folder=tmp_path)
        assert done.code == 0, done.err
        stages = json.loads((folder / "manifest.json").read_text())["stages"]
        assert {stage["name"] for stage in stages if stage["cached"]} >= set(done_before)
        assert contents(folder) == expected
        assert not [path for path in folder.rglob("*") if ".tmp-" in path.name]
        assert not (folder / "run.lock").exists()
