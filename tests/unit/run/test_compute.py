"""One config, any scheduler: limits reach the process, unsafe addresses are refused."""

import os

import dask
import dask.array
import pytest
import threadpoolctl
from pydantic import ValidationError

from eo_causal.errors import ConfigError, SecurityError, WorkerError
from eo_causal.run.compute import (
    ComputeSettings,
    check_address,
    computing,
    scheduler_override,
)


@pytest.mark.parametrize("kind", ["synchronous", "threads", "processes"])
def test_local_schedulers_give_the_same_answer(kind):
    values = dask.array.arange(1000, chunks=100)
    with computing(ComputeSettings(kind=kind)):
        assert dask.config.get("scheduler") == kind
        assert values.sum().compute() == 499500


def test_limits_are_set_in_this_process(monkeypatch):
    monkeypatch.setenv("GDAL_CACHEMAX", "999")
    with computing(ComputeSettings(gdal={"GDAL_CACHEMAX": "64"})):
        assert os.environ["GDAL_CACHEMAX"] == "64"
        assert os.environ["OMP_NUM_THREADS"] == "1"


def test_linear_algebra_loaded_before_obeys_too():
    with threadpoolctl.threadpool_limits(2), computing(ComputeSettings()):
        blas = [pool for pool in threadpoolctl.threadpool_info() if pool["user_api"] == "blas"]
        assert blas
        assert all(pool["num_threads"] == 1 for pool in blas)


def test_more_threads_than_cores_are_refused():
    with pytest.raises(ConfigError, match="cores"), computing(ComputeSettings(n_workers=1000)):
        pass


def test_address_needs_an_address():
    with pytest.raises(ValidationError, match="scheduler_file"):
        ComputeSettings(kind="address")


@pytest.mark.parametrize(
    "address", ["tls://10.0.0.1:8786", "tcp://127.0.0.1:8786", "tcp://localhost:8786"]
)
def test_safe_addresses(address):
    check_address(address, insecure=False)


@pytest.mark.parametrize("address", ["tcp://10.0.0.1:8786", "tcp://example.org:8786", "ucx://h:1"])
def test_unencrypted_connections_to_other_machines_need_consent(address):
    with pytest.raises(SecurityError, match=r"compute\.insecure"):
        check_address(address, insecure=False)
    check_address(address, insecure=True)


def test_the_scheduler_option_stands_for_settings():
    assert scheduler_override("processes") == ["compute.kind=processes"]
    assert scheduler_override("tls://h:1") == ["compute.kind=address", "compute.address=tls://h:1"]


def test_an_address_nobody_answers_is_a_worker_error(monkeypatch):
    settings = ComputeSettings(kind="address", address="tcp://127.0.0.1:9", connect_timeout=1)
    with pytest.raises(WorkerError, match="no dask scheduler answers"), computing(settings):
        pass
