"""One config, any scheduler: limits reach the process, unsafe addresses are refused."""

import os
import time

import dask
import dask.array
import pytest
import threadpoolctl
from pydantic import ValidationError

from eo_causal.errors import ConfigError, EOCausalWarning, SecurityError, WorkerError
from eo_causal.run import compute
from eo_causal.run.compute import (
    ComputeSettings,
    check_address,
    computing,
    limits_in_force,
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


LIMITS = {
    "GDAL_CACHEMAX": "77", "GDAL_NUM_THREADS": "1", "OMP_NUM_THREADS": "1",
    "NUMBA_NUM_THREADS": "1", "EO_CAUSAL_TORCH_THREADS": "1", "ZARR_THREADING__MAX_WORKERS": "1",
}  # fmt: skip
GDAL = {"GDAL_CACHEMAX": "77", "GDAL_NUM_THREADS": "1"}


@dask.delayed(pure=False)
def slow_identity():
    time.sleep(0.5)
    return os.getpid()


def in_force(settings):
    """What a worker obeys once GDAL, linear algebra and OpenMP are loaded there."""
    import rasterio.env
    import sklearn.cluster  # noqa: F401
    import zarr

    assert zarr.config.get("threading.max_workers") == 1
    return limits_in_force(settings), rasterio.env.get_gdal_config("GDAL_CACHEMAX")


@pytest.mark.parametrize("kind", ["synchronous", "threads", "processes", "local"])
def test_workers_of_each_kind_obey_the_config(kind):
    settings = ComputeSettings(kind=kind, n_workers=1, gdal=GDAL)
    with computing(settings):
        found, cache = dask.delayed(in_force)(settings).compute()
    assert found == LIMITS
    assert cache == 77 * 2**20


def test_workers_of_a_cluster_started_elsewhere_obey_too():
    from distributed import LocalCluster

    with LocalCluster(
        n_workers=1, threads_per_worker=1, host="127.0.0.1", dashboard_address="127.0.0.1:0",
    ) as cluster:  # fmt: skip
        settings = ComputeSettings(kind="address", address=cluster.scheduler_address, gdal=GDAL)
        with computing(settings):
            found, cache = dask.delayed(in_force)(settings).compute()
        again = settings.model_copy(update={"gdal": GDAL | {"GDAL_CACHEMAX": "55"}})
        with computing(again):  # GDAL is loaded there by now
            cache_again = dask.delayed(in_force)(again).compute()[1]
    assert found == LIMITS
    assert (cache, cache_again) == (77 * 2**20, 55 * 2**20)


def test_every_process_gets_tasks():
    with computing(ComputeSettings(kind="processes", n_workers=2)):
        assert len(set(dask.compute(*(slow_identity() for _ in range(4))))) == 2


@pytest.fixture
def stubborn(monkeypatch):
    """Workers that keep two threads whatever they are told."""
    limits = dict.fromkeys(LIMITS, "1") | {"OMP_NUM_THREADS": "2", "GDAL_CACHEMAX": "77"}
    monkeypatch.setattr(compute, "_task_limits", lambda *_: {"threads 0": limits})


def test_other_limits_in_a_process_started_here_are_an_error(stubborn):
    with (
        pytest.raises(WorkerError, match="threads 0 has OMP_NUM_THREADS=2 instead of 1") as caught,
        computing(ComputeSettings(kind="processes", n_workers=1, gdal=GDAL)),
    ):
        pass
    assert len(caught.value.facts["different"]) == 1


def test_other_limits_in_a_process_started_elsewhere_are_a_warning(stubborn):
    with (
        pytest.warns(EOCausalWarning, match="set it where the process is started") as caught,
        computing(ComputeSettings(kind="threads", n_workers=1, gdal=GDAL)),
    ):
        pass
    assert caught[0].message.code == "ComputeWarning"
    assert caught[0].filename == __file__


def test_threads_that_a_library_has_taken_already_are_seen():
    """Each thread has its own OpenMP limit: the environment alone would say 1."""
    import sklearn.cluster  # noqa: F401

    with threadpoolctl.threadpool_limits(2):
        assert limits_in_force(ComputeSettings())["OMP_NUM_THREADS"] == "2"
