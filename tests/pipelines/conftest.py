"""The demo study, run once and shared by every test of its outputs."""

from pathlib import Path

import pytest
from commands import DEMO, command


@pytest.fixture(scope="session")
def demo_run(tmp_path_factory) -> Path:
    """Run folder of the undisturbed demo."""
    folder = tmp_path_factory.mktemp("demo")
    done = command("run", DEMO, "--out", folder / "run", folder=folder)
    assert done.code == 0, done.err
    return folder / "run"
