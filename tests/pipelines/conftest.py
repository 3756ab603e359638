"""The demo studies, each run once and shared by every test of its outputs."""

import pytest
from commands import CONFOUNDING, DEMO, EMBED, PROGRAMME, WEALTH, command


def undisturbed(config):
    """A fixture: the run folder of a demo that nothing interfered with."""

    @pytest.fixture(scope="session")
    def run(tmp_path_factory):
        folder = tmp_path_factory.mktemp(config.stem)
        done = command("run", config, "--out", folder / "run", folder=folder)
        assert done.code == 0, done.err
        return folder / "run"

    return run


demo_run = undisturbed(DEMO)
embed_run = undisturbed(EMBED)
confounding_run = undisturbed(CONFOUNDING)
programme_run = undisturbed(PROGRAMME)
wealth_run = undisturbed(WEALTH)
