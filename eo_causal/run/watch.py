"""What a cluster may do to a run: lose a worker again and again, or stand still. Both become errors."""

import _thread
import contextlib
import threading
from collections.abc import Iterator
from typing import Any

from eo_causal.errors import WorkerError


@contextlib.contextmanager
def watched(client: Any, no_progress: float) -> Iterator[None]:
    """Run the block; a cluster that fails or stands still raises.

    Parameters
    ----------
    client : distributed.Client
    no_progress : float
        Seconds without any change of any task before giving up, while tasks wait.

    Raises
    ------
    WorkerError
        A task lost its worker too often, or nothing happened for too long; names the task.
    """
    from distributed import KilledWorker

    stalled: list[str] = []
    ended = threading.Event()
    watcher = threading.Thread(
        target=_watch, args=(client, no_progress, ended, stalled), daemon=True, name="no-progress"
    )
    watcher.start()
    try:
        yield
    except KilledWorker as error:
        raise WorkerError(
            f"task {error.task}: its worker died {error.allowed_failures + 1} times, the last one at"
            f" {error.last_worker.address}. Give workers more memory (compute.memory_limit), or look"
            " at their logs.", task=str(error.task),
        ) from error  # fmt: skip
    except KeyboardInterrupt as error:
        if not stalled:
            raise
        raise WorkerError(
            f"task {stalled[0]}: no task has moved for {no_progress:g} seconds. Look at the workers,"
            " or raise compute.no_progress.", task=stalled[0], seconds=no_progress,
        ) from error  # fmt: skip
    finally:
        ended.set()
        watcher.join(timeout=5)


def _watch(client: Any, limit: float, ended: threading.Event, stalled: list[str]) -> None:
    """Interrupt the main thread when the scheduler's state stays the same for ``limit`` seconds."""
    step = min(limit / 5, 5.0)
    before, unchanged = None, 0.0
    while not ended.wait(step):
        try:
            waiting, state = client.run_on_scheduler(_state)
        except (OSError, TimeoutError, RuntimeError):  # the run itself reports a lost scheduler
            return
        unchanged = unchanged + step if waiting and state == before else 0.0
        before = state
        if unchanged >= limit and not ended.is_set():
            stalled.append(waiting)
            _thread.interrupt_main()
            return


def _state(dask_scheduler: Any = None) -> tuple[str | None, int]:
    """A task that waits or runs (None when there is none), and a counter that every change moves."""
    active = (key for key, task in dask_scheduler.tasks.items() if task.state != "memory")
    first = next(active, None)
    return None if first is None else str(first), int(dask_scheduler.transition_counter)
