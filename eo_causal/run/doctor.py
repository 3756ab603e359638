"""Is this computer ready: versions, cores, memory, disk, data sets."""

import os
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from eo_causal.run.manifest import versions


@dataclass(frozen=True)
class Fact:
    """One line of the doctor's report."""

    name: str
    text: str
    fine: bool = True


def examine() -> Iterator[Fact]:
    """Yield facts about this installation; ``fine`` is False where a run would fail."""
    import psutil

    python = sys.version.split()[0]
    yield Fact("python", f"{python} (3.12 or newer is needed)", sys.version_info >= (3, 12))
    for name, version in versions().items():
        if name not in ("python", "eo_causal"):
            yield Fact(name, version, version != "not installed")
    yield Fact("cores", str(len(os.sched_getaffinity(0))))
    memory = psutil.virtual_memory().available / 2**30
    yield Fact("free memory", f"{memory:.1f} GiB (4 are enough for the demos)", memory > 2)
    disk = shutil.disk_usage(Path.cwd()).free / 2**30
    yield Fact("free disk", f"{disk:.1f} GiB in the working folder", disk > 1)
    folder = os.environ.get("EO_CAUSAL_DATA")
    found = bool(folder) and Path(str(folder)).is_dir()
    text = folder if found else "EO_CAUSAL_DATA not set; data sets are downloaded when asked for"
    yield Fact("data sets", str(text))
