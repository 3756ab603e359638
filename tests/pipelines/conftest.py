"""The demo studies, each run once and shared by every test of its outputs."""

from pathlib import Path

import pytest
from commands import CONFOUNDING, DEMO, EMBED, PROGRAMME, WEALTH, command


@pytest.fixture(scope="session")
def demo_run(tmp_path_factory) -> Path:
    """Run folder of the undisturbed demo."""
    folder = tmp_path_factory.mktemp("demo")
    done = command("run", DEMO, "--out", folder / "run", folder=folder)
    assert done.code == 0, done.err
    return folder / "run"


@pytest.fixture(scope="session")
def embed_run(tmp_path_factory) -> Path:
    """Run folder of the undisturbed chips-and-embeddings demo."""
    folder = tmp_path_factory.mktemp("embed")
    done = command("run", EMBED, "--out", folder / "run", folder=folder)
    assert done.code == 0, done.err
    return folder / "run"


@pytest.fixture(scope="session")
def confounding_run(tmp_path_factory) -> Path:
    """Run folder of the undisturbed demo of images as confounders."""
    folder = tmp_path_factory.mktemp("confounding")
    done = command("run", CONFOUNDING, "--out", folder / "run", folder=folder)
    assert done.code == 0, done.err
    return folder / "run"


@pytest.fixture(scope="session")
def programme_run(tmp_path_factory) -> Path:
    """Run folder of the undisturbed demo of a programme with effects that differ."""
    folder = tmp_path_factory.mktemp("programme")
    done = command("run", PROGRAMME, "--out", folder / "run", folder=folder)
    assert done.code == 0, done.err
    return folder / "run"


@pytest.fixture(scope="session")
def wealth_run(tmp_path_factory) -> Path:
    """Run folder of the undisturbed demo of a wealth map."""
    folder = tmp_path_factory.mktemp("wealth")
    done = command("run", WEALTH, "--out", folder / "run", folder=folder)
    assert done.code == 0, done.err
    return folder / "run"
