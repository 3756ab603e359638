"""A cluster that loses workers or stands still ends in a named error, soon."""

import os
import time

import dask
import pytest

from eo_causal.errors import WorkerError
from eo_causal.run.compute import ComputeSettings, computing

LOCAL = {"kind": "local", "n_workers": 1}


def test_a_cluster_gives_the_same_answer_and_runs_the_limits():
    settings = ComputeSettings(**LOCAL, gdal={"GDAL_CACHEMAX": "77"})
    with computing(settings):
        assert dask.delayed(sum)([1, 2, 3]).compute() == 6
        assert dask.delayed(os.environ.get)("GDAL_CACHEMAX").compute() == "77"


def test_a_task_that_stands_still_is_named():
    start = time.monotonic()
    task = dask.delayed(time.sleep)(60, dask_key_name="block-3")
    with (
        pytest.raises(WorkerError, match="block-3: no task has moved for 2 seconds") as caught,
        computing(ComputeSettings(**LOCAL, no_progress=2)),
    ):
        task.compute()
    assert caught.value.exit_code == 7
    assert time.monotonic() - start < 40


def test_a_task_that_kills_its_worker_is_named():
    task = dask.delayed(os._exit)(1, dask_key_name="block-4")
    with (
        dask.config.set({"distributed.scheduler.allowed-failures": 1}),
        pytest.raises(WorkerError, match="block-4: its worker died 2 times"),
        computing(ComputeSettings(**LOCAL)),
    ):
        task.compute()
