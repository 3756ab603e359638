"""The same config on any scheduler, with any number of workers, ends in the same bytes."""

import pytest
from commands import DEMO, EMBED, command

from eo_causal.core.artefacts import list_files

CLOCKS = ("manifest.json", "ledger.jsonl", "config.yaml")


@pytest.mark.parametrize(
    "words",
    [("--scheduler", "local"), ("--scheduler", "processes", "--set", "compute.n_workers=1")],
    ids=["local", "processes"],
)
@pytest.mark.parametrize(("config", "run"), [(DEMO, "demo_run"), (EMBED, "embed_run")])
def test_equal_bytes(config, run, request, tmp_path, words):
    undisturbed = request.getfixturevalue(run)
    done = command("run", config, "--out", tmp_path / "run", *words, folder=tmp_path)
    assert done.code == 0, done.err
    found, expected = (
        {name: digest for name, digest in list_files(folder).items() if not name.endswith(CLOCKS)}
        for folder in (tmp_path / "run", undisturbed)
    )
    assert len(expected) > 30
    different = [name for name in expected if found.get(name) != expected[name]]
    assert different == []
    assert set(found) == set(expected)
