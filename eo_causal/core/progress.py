"""Progress bars and the counts every stage ends with."""

import contextlib
import sys
from collections.abc import Iterable, Iterator
from contextvars import ContextVar

_counts: ContextVar[dict[str, int] | None] = ContextVar("counts", default=None)


def track[Item](
    items: Iterable[Item], description: str, total: int | None = None
) -> Iterable[Item]:
    """Iterate with a progress bar on standard error; silent where that is no terminal."""
    if not sys.stderr.isatty():
        return items
    from rich.console import Console
    from rich.progress import track as rich_track

    return rich_track(items, description, total=total, console=Console(stderr=True), transient=True)


def count(**numbers: int) -> None:
    """Record what the running stage read, used, skipped or failed.

    Any word is allowed, for example ``count(files_read=324, months_missing=5)``; repeated words
    add up. Outside a stage the call does nothing.
    """
    counts = _counts.get()
    if counts is not None:
        for name, number in numbers.items():
            counts[name] = counts.get(name, 0) + int(number)


@contextlib.contextmanager
def counting() -> Iterator[dict[str, int]]:
    """Collect the :func:`count` calls made inside the block."""
    counts: dict[str, int] = {}
    token = _counts.set(counts)
    try:
        yield counts
    finally:
        _counts.reset(token)
