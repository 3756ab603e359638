"""The one place where dask is configured: local schedulers, a local cluster, or any address."""

import contextlib
import ipaddress
import multiprocessing
import os
import sys
import warnings
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import Field, model_validator

from eo_causal.core.settings import Settings
from eo_causal.errors import ConfigError, EOCausalWarning, SecurityError, WorkerError
from eo_causal.run.watch import watched

Count = Annotated[int, Field(ge=1)]


class ThreadSettings(Settings):
    """Threads each library may use inside one task."""

    torch: Count = 1
    omp: Count = 1
    numba: Count = 1


class ComputeSettings(Settings):
    """Where the work runs. Pipelines never build a cluster; they receive one from here."""

    kind: Literal["synchronous", "threads", "processes", "local", "address"] = Field(
        default="threads",
        description="dask scheduler, a local cluster, or the address of any cluster",
    )
    address: str | None = Field(default=None, description="tls://host:8786, for kind: address")
    scheduler_file: Path | None = Field(default=None, description="instead of address")
    n_workers: Count | Literal["auto"] = Field(default="auto", description="auto = number of cores")
    threads_per_worker: Count = 1
    memory_limit: str = "auto"
    local_directory: Path | None = Field(default=None, description="where workers spill")
    gdal: dict[str, str] = Field(
        default={
            "GDAL_CACHEMAX": "128",
            "GDAL_NUM_THREADS": "1",
            "GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR",
        },
        description="GDAL options set on every worker",
    )
    threads: ThreadSettings = ThreadSettings()
    insecure: bool = Field(default=False, description="allow tcp:// to another machine")
    connect_timeout: Count = Field(default=30, description="seconds to wait for the scheduler")
    no_progress: Count = Field(
        default=600, description="seconds a cluster may stand still (kinds local and address)"
    )

    @model_validator(mode="after")
    def _address_given(self) -> "ComputeSettings":
        if self.kind == "address" and not (self.address or self.scheduler_file):
            raise ValueError("kind: address needs `address` or `scheduler_file`")
        return self


def scheduler_override(text: str) -> list[str]:
    """The ``--set`` pairs that a ``--scheduler`` option stands for."""
    if "://" in text:
        return ["compute.kind=address", f"compute.address={text}"]
    return [f"compute.kind={text}"]


@contextlib.contextmanager
def computing(settings: ComputeSettings) -> Iterator[None]:
    """Run the block with dask set up as the settings say, and every worker proven to obey them.

    Raises
    ------
    ConfigError
        More threads than cores.
    SecurityError
        ``tcp://`` to another machine without ``compute.insecure: true``.
    WorkerError
        The scheduler cannot be reached, a worker dies again and again, nothing moves, or a worker
        process that was started here has other limits. In processes that somebody else started
        (this one, or a cluster's) other limits are a warning.
    """
    import dask

    n_workers = _n_workers(settings)
    apply_limits(settings)
    if settings.kind in ("synchronous", "threads"):
        with dask.config.set(scheduler=settings.kind, num_workers=n_workers):
            _check_limits(settings, _task_limits(settings, n_workers))
            yield
        return
    if settings.kind == "processes":
        # tasks take seconds: dask's own six at a time would leave workers without any
        with (
            _pool(n_workers) as pool,
            dask.config.set(scheduler="processes", pool=pool, chunksize=1),
        ):
            _check_limits(settings, _task_limits(settings, n_workers))
            yield
        return
    with _client(settings, n_workers) as client:
        client.register_plugin(_limits_plugin(settings))
        _check_limits(settings, client.run(limits_in_force, settings))
        with watched(client, settings.no_progress):
            yield


def _n_workers(settings: ComputeSettings) -> int:
    n_cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    n_cores = n_cores or 1
    if settings.n_workers == "auto":
        return max(1, n_cores // settings.threads_per_worker)
    asked = settings.n_workers * settings.threads_per_worker
    if settings.kind != "address" and asked > n_cores:
        raise ConfigError(
            f"compute: {settings.n_workers} workers with {settings.threads_per_worker} thread(s)"
            f" ask for {asked} of {n_cores} cores. Lower n_workers or threads_per_worker.",
            asked=asked, n_cores=n_cores,
        )  # fmt: skip
    return settings.n_workers


def check_address(address: str, *, insecure: bool) -> None:
    """Refuse unencrypted connections to other machines.

    Raises
    ------
    SecurityError
        ``tcp://`` to a host that is not loopback while ``insecure`` is False.
    """
    parts = urlsplit(address)
    if parts.scheme == "tls" or insecure:
        return
    with contextlib.suppress(ValueError):
        if parts.hostname == "localhost" or ipaddress.ip_address(parts.hostname or "").is_loopback:
            return
    raise SecurityError(
        f"compute.address: {address} is an unencrypted connection to another machine. Use"
        " tls://, or set compute.insecure: true.", address=address,
    )  # fmt: skip


def _pool(n_workers: int) -> ProcessPoolExecutor:
    """Worker processes that stay: dask by itself starts new ones, seconds each, for every result.

    They are spawned, and inherit this process's environment with its limits.
    """
    from dask.multiprocessing import initialize_worker_process

    os.environ.setdefault("PYTHONHASHSEED", "6640")  # equal hashes in all workers, as dask sets it
    context = multiprocessing.get_context("spawn")
    return ProcessPoolExecutor(n_workers, mp_context=context, initializer=initialize_worker_process)


@contextlib.contextmanager
def _client(settings: ComputeSettings, n_workers: int) -> Iterator[Any]:
    from distributed import Client, LocalCluster

    if settings.kind == "local":
        with (
            LocalCluster(
                n_workers=n_workers, threads_per_worker=settings.threads_per_worker,
                memory_limit=settings.memory_limit, host="127.0.0.1", dashboard_address="127.0.0.1:0",
                local_directory=settings.local_directory,
            ) as cluster,
            Client(cluster) as client,
        ):  # fmt: skip
            yield client
        return
    if settings.address:
        check_address(settings.address, insecure=settings.insecure)
    where = settings.address or settings.scheduler_file
    try:
        options = {"scheduler_file": str(where)} if settings.scheduler_file else {"address": where}
        client = Client(**options, timeout=settings.connect_timeout)
    except OSError as error:
        raise WorkerError(
            f"compute.address: no dask scheduler answers at {where}. Start one"
            " (`dask scheduler`), or use --scheduler threads.", address=str(where),
        ) from error  # fmt: skip
    with client:
        yield client


def apply_limits(settings: ComputeSettings) -> None:
    """Set GDAL options and thread limits in this process.

    Libraries read them from the environment when they are first used, so this must come before.
    Linear algebra and GDAL's cache obey later too: sums depend on the one, memory on the other.
    """
    import threadpoolctl

    os.environ.update(_wanted(settings))
    threadpoolctl.threadpool_limits(settings.threads.omp)
    if "zarr" in sys.modules:
        sys.modules["zarr"].config.set({"threading.max_workers": _threads_of_a_process(settings)})
    gdal, megabytes = sys.modules.get("rasterio.env"), _cache_megabytes(settings)
    if gdal is not None and megabytes:
        gdal.set_gdal_config("GDAL_CACHEMAX", megabytes * 2**20)


def limits_in_force(settings: ComputeSettings) -> dict[str, str]:
    """What this thread of this process obeys, by the names of the environment.

    What a library has taken already counts, not what the environment says since.
    """
    import threadpoolctl

    found = {name: os.environ.get(name, "unset") for name in _wanted(settings)}
    threads = [pool["num_threads"] for pool in threadpoolctl.threadpool_info()]
    if threads:
        found["OMP_NUM_THREADS"] = str(max(threads))
    gdal = sys.modules.get("rasterio.env")
    if gdal is not None and _cache_megabytes(settings):
        found["GDAL_CACHEMAX"] = f"{gdal.get_gdal_config('GDAL_CACHEMAX') / 2**20:g}"
    return found


def _wanted(settings: ComputeSettings) -> dict[str, str]:
    return settings.gdal | {
        "OMP_NUM_THREADS": str(settings.threads.omp),
        "NUMBA_NUM_THREADS": str(settings.threads.numba),
        "EO_CAUSAL_TORCH_THREADS": str(settings.threads.torch),
        "ZARR_THREADING__MAX_WORKERS": str(_threads_of_a_process(settings)),
    }


def _threads_of_a_process(settings: ComputeSettings) -> int:
    """As many as a process has tasks: Zarr by itself compresses in four threads more than cores."""
    if settings.kind in ("synchronous", "processes"):
        return 1
    if settings.kind == "threads":
        return _n_workers(settings)
    return settings.threads_per_worker


def _cache_megabytes(settings: ComputeSettings) -> int:
    """GDAL's cache where it is given in megabytes, as GDAL takes numbers below 100,000; else 0."""
    text = settings.gdal.get("GDAL_CACHEMAX", "")
    return int(text) if text.isdigit() and int(text) < 100_000 else 0


def _task_limits(settings: ComputeSettings, n_workers: int) -> dict[str, dict[str, str]]:
    """What the tasks of a local scheduler obey."""
    from dask.base import compute
    from dask.delayed import delayed

    read = delayed(limits_in_force, pure=False)
    found = compute(*(read(settings) for _ in range(n_workers)))
    return {f"{settings.kind} {number}": limits for number, limits in enumerate(found)}


def _check_limits(settings: ComputeSettings, found: dict[str, dict[str, str]]) -> None:
    wanted = _wanted(settings)
    different = [
        f"{worker} has {name}={limits[name]} instead of {wanted[name]}"
        for worker, limits in found.items()
        for name in wanted
        if limits[name] != wanted[name]
    ]
    if not different:
        return
    message = (
        f"compute: {different[0]} ({len(different)} such). It was read before this run began: set it"
        " where the process is started, or choose compute.kind: processes or local."
    )
    if settings.kind in ("processes", "local"):
        raise WorkerError(message, different=different)
    warnings.warn(EOCausalWarning(message, "ComputeWarning"), stacklevel=4)


def _limits_plugin(settings: ComputeSettings) -> Any:
    from distributed import WorkerPlugin

    class Limits(WorkerPlugin):
        """Applies the limits on every worker, whoever started it."""

        def setup(self, worker: Any) -> None:
            apply_limits(settings)

    return Limits()
