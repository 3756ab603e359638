"""Fixtures that all tests share."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

# One thread a process, before numpy is imported: two workers share two cores.
for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS"):
    os.environ.setdefault(_name, "1")


@pytest.fixture(scope="session")
def data_folder() -> Path:
    """The folder of named data sets, ``$EO_CAUSAL_DATA``; skips the test where there is none."""
    folder = os.environ.get("EO_CAUSAL_DATA", "")
    if not folder or not Path(folder).is_dir():
        pytest.skip("EO_CAUSAL_DATA names no folder of data sets")
    return Path(folder).resolve()


def pytest_terminal_summary(terminalreporter) -> None:
    """List what the statistical studies measured (fixture ``measured``)."""
    lines = [
        f"{report.nodeid.split('::', 1)[1]}: {name} = {value:.4g}"
        for report in terminalreporter.getreports("passed")
        if report.when == "call"
        for name, value in report.user_properties
    ]
    if lines:
        terminalreporter.write_sep("=", "measured")
        terminalreporter.write_line("\n".join(lines))


@pytest.fixture(scope="session")
def full_size() -> bool:
    """Whether the full-size statistical studies were asked for (``EO_CAUSAL_SIZE=full``)."""
    return os.environ.get("EO_CAUSAL_SIZE") == "full"


@pytest.fixture
def measured(record_property) -> Callable[[str, float], None]:
    """Record a measured figure; listed at the end of the run."""
    return lambda name, value: record_property(name, float(value))
