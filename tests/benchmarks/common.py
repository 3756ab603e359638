"""What all benchmarks share: answers first, interleaved runs, CPU seconds, one JSON line per row."""

import argparse
import json
import os
import platform
import resource
import statistics
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"

# import this module before numpy, which reads these once
for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS"):
    os.environ.setdefault(_name, "1")


@dataclass(frozen=True)
class Ratio:
    """Median and quartiles of per-round ratios."""

    median: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.median:.2f} [{self.low:.2f}, {self.high:.2f}]"


def parser(description: str) -> argparse.ArgumentParser:
    """Flags every benchmark takes."""
    result = argparse.ArgumentParser(description=description)
    result.add_argument("--reps", type=int, default=7, help="rounds of interleaved runs")
    result.add_argument("--light", action="store_true", help="small sizes, answers only")
    result.add_argument("--json", type=Path, help="file that gets one JSON line per row")
    return result


def cpu_seconds() -> float:
    """User and system seconds of this process and its ended children."""
    usages = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def peak_megabytes() -> float:
    """Largest resident size so far, in MB (imports included)."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def check_answers(
    variants: Mapping[str, Callable[[], Any]], reference: Any, relative: float | Mapping[str, float]
) -> None:
    """Run every variant once and compare with the reference; also warms caches and compilers.

    Raises
    ------
    SystemExit
        A variant's answer differs: nothing is timed.
    """
    import numpy as np

    for name, run in variants.items():
        limit = relative if isinstance(relative, float) else relative[name]
        found, expected = np.asarray(run(), dtype=float), np.asarray(reference, dtype=float)
        gap = np.nanmax(np.abs(found / expected - 1)) if found.shape == expected.shape else np.inf
        if not (gap <= limit and (np.isnan(found) == np.isnan(expected)).all()):
            sys.exit(f"{name}: wrong answer, relative difference {gap:.2e} (limit {limit:.0e})")
        print(f"  answer of {name}: relative difference {gap:.1e}")


def interleave(variants: Mapping[str, Callable[[], Any]], reps: int) -> dict[str, list[float]]:
    """CPU seconds of every variant, round after round: A B C, A B C, ..."""
    seconds: dict[str, list[float]] = {name: [] for name in variants}
    for _ in range(reps):
        for name, run in variants.items():
            start = cpu_seconds()
            run()
            seconds[name].append(cpu_seconds() - start)
    return seconds


def ratio(slower: list[float], faster: list[float]) -> Ratio:
    """Per-round ratios of CPU seconds: how many times less the second one needs."""
    values = [first / second for first, second in zip(slower, faster, strict=True)]
    low, median, high = statistics.quantiles(values, n=4) if len(values) > 1 else values * 3
    return Ratio(median, low, high)


def environment(*packages: str) -> dict[str, Any]:
    """Versions, cores and threads, for every row."""
    versions = {}
    for package in packages:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            versions[package] = "absent"
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "python": platform.python_version(),
        "cores": os.cpu_count(),
        "load": round(os.getloadavg()[0], 1),
        "threads": os.environ["OMP_NUM_THREADS"],
        "peak_megabytes": round(peak_megabytes()),
        "versions": versions,
    }


class Rows:
    """Prints rows and keeps them for the JSON file."""

    def __init__(self, benchmark: str, arguments: argparse.Namespace, *packages: str) -> None:
        self.benchmark, self.arguments, self.packages = benchmark, arguments, packages
        self.rows: list[dict[str, Any]] = []

    def add(
        self, goal: str, what: str, value: Ratio | float, target: float, at_most: bool = False
    ) -> None:
        """One goal: the measured value beside its target."""
        middle = value.median if isinstance(value, Ratio) else value
        met = middle <= target if at_most else middle >= target
        sign = "<=" if at_most else ">="
        shown = str(value) if isinstance(value, Ratio) else f"{value:.3g}"
        print(f"{goal}: {what}: {shown} (target {sign} {target:g}) {'met' if met else 'NOT MET'}")
        quartiles = [value.low, value.high] if isinstance(value, Ratio) else None
        self.rows.append(
            {"benchmark": self.benchmark, "goal": goal, "what": what, "value": middle,
             "quartiles": quartiles, "target": target, "at_most": at_most, "met": met}
        )  # fmt: skip

    def note(self, what: str, value: float, unit: str) -> None:
        """A measured number without a goal."""
        print(f"  {what}: {value:,.3g} {unit}")
        self.rows.append({"benchmark": self.benchmark, "what": what, "value": value, "unit": unit})

    def throughput(self, what: str, amount: float, seconds: list[float], unit: str = "MB") -> None:
        """One variant's megabytes, or other units of work, per CPU second."""
        rate = amount / statistics.median(seconds)
        print(f"  {what}: {rate:,.0f} {unit} per CPU second")
        self.rows.append(
            {"benchmark": self.benchmark, "what": what, f"{unit}_per_cpu_second": rate}
        )

    def write(self) -> None:
        """Append the rows to the JSON file, where one was asked for."""
        around = environment(*self.packages)
        print(f"peak {around['peak_megabytes']} MB, {around['cores']} cores, {around['versions']}")
        if self.arguments.json:
            self.arguments.json.parent.mkdir(parents=True, exist_ok=True)
            sizes = {key: str(value) for key, value in vars(self.arguments).items()}
            with self.arguments.json.open("a", encoding="utf-8") as stream:
                for row in self.rows:
                    stream.write(json.dumps({**row, **around, "arguments": sizes}) + "\n")
