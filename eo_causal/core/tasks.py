"""Independent tasks on the scheduler of the run."""

from typing import Any


def compute_tasks(tasks: list[Any]) -> list[Any]:
    """Run delayed tasks where the run's scheduler says; what they compute inside, they compute alone.

    The inner scheduler is set here, not by each task: with threads that setting is shared, so it
    must hold until all of them have ended.
    """
    import dask
    from dask import base

    if not tasks:
        return []
    outer = base.get_scheduler(collections=tasks)
    with dask.config.set(scheduler="synchronous"):
        return list(base.compute(*tasks, scheduler=outer))
