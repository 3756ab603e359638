"""The same config on any scheduler, with any number of workers, ends in the same bytes."""

import pytest
from commands import DEMO, command

from eo_causal.core.artefacts import list_files

CLOCKS = ("manifest.json", "ledger.jsonl", "config.yaml")


@pytest.mark.parametrize(
    "words",
    [("--scheduler", "local"), ("--scheduler", "processes", "--set", "compute.n_workers=1")],
    ids=["local", "processes"],
)
def test_equal_bytes(demo_run, tmp_path, words):
    done = command("run", DEMO, "--out", tmp_path / "run", *words, folder=tmp_path)
    assert done.code == 0, done.err
    found, expected = (
        {name: digest for name, digest in list_files(folder).items() if not name.endswith(CLOCKS)}
        for folder in (tmp_path / "run", demo_run)
    )
    assert len(expected) > 30
    different = [name for name in expected if found.get(name) != expected[name]]
    assert different == []
    assert set(found) == set(expected)
