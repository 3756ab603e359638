"""Mutated files end in a result or in a named error: no traceback, no signal, no hang.

Where a hash lies beside the file, no mutant is read as anything but the original.
"""

import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from reliability.faults import SEED, seal
from reliability.fuzz import FORMATS, Worker, mutate, parts

MEMORY = 4 * 2**30


@pytest.fixture(scope="module")
def worker():
    """The process that reads mutants."""
    one = Worker()
    one.examine(Path("warm-up"), seconds=120)
    yield one
    one.close()


@pytest.mark.parametrize("kind", FORMATS)
def test_mutants(kind, worker, tmp_path, monkeypatch, full_size, measured):
    monkeypatch.chdir(tmp_path)
    found = Counter()
    for seed in range(SEED, SEED + (3 if full_size else 1)):
        for item in tmp_path.iterdir():
            shutil.rmtree(item) if item.is_dir() else item.unlink()
        chance = np.random.default_rng(seed)
        path = FORMATS[kind](chance)
        original = worker.examine(path)
        assert not original.startswith("refused"), original
        contents = {part: part.read_bytes() for part in parts(path)}
        sidecar = path.with_name(path.name + ".sha256")
        for number in range(500 if full_size else 50):
            part = list(contents)[number % len(contents)]
            part.write_bytes(mutate(contents[part], chance))
            answer = worker.examine(path)
            place = f"seed {seed}, mutant {number} of {part}"
            assert not answer.startswith(("traceback", "died", "hung")), f"{place}: {answer}"
            found["refused" if answer.startswith("refused") else "read"] += 1
            found["silent"] += not answer.startswith("refused") and answer != original
            mutant = part.read_bytes()
            part.write_bytes(contents[part])
            seal(path)
            part.write_bytes(mutant)
            if kind != "yaml" and mutant != contents[part]:  # configs are hashed with their run
                assert worker.examine(path).startswith("refused"), place
            sidecar.unlink()
            part.write_bytes(contents[part])
    assert worker.peak_bytes < MEMORY
    measured("mutants", found["refused"] + found["read"])
    measured("different without a known hash", found["silent"])
