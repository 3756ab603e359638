"""An estimated effect with its uncertainty."""

from dataclasses import asdict, dataclass
from typing import Any

import pandas as pd


@dataclass(frozen=True)
class Effect:
    """A point estimate with interval; the one form in which all estimators answer.

    Parameters
    ----------
    estimate : float
        Point estimate, in ``units``.
    std_error : float or None
        Standard error or posterior standard deviation, in ``units``.
    interval : (float, float) or None
        Lower and upper end, in ``units``.
    level : float
        Nominal coverage of the interval, for example 0.95.
    method : str
        What computed it and, where it matters, what the interval means.
    n : int
        Observations that entered.
    n_effective : float or None
        Effective number of observations, where it is known.
    units : str
        Units of estimate, error and interval; "1" for fractions.
    p_value : float or None
        p-value or tail probability, where it exists.
    """

    estimate: float
    std_error: float | None
    interval: tuple[float, float] | None
    level: float
    method: str
    n: int
    n_effective: float | None = None
    units: str = "1"
    p_value: float | None = None

    def scaled(self, factor: float, units: str) -> "Effect":
        """The same effect in other units: estimate, error and interval times ``factor``."""
        low_high = None
        if self.interval is not None:
            ends = sorted(end * factor for end in self.interval)
            low_high = (ends[0], ends[1])
        error = None if self.std_error is None else self.std_error * abs(factor)
        return Effect(
            self.estimate * factor, error, low_high, self.level, self.method, self.n,
            self.n_effective, units, self.p_value,
        )  # fmt: skip

    def to_frame(self) -> pd.DataFrame:
        """One row with a column per field; the interval becomes ``lower`` and ``upper``."""
        row: dict[str, Any] = asdict(self)
        low, high = row.pop("interval") or (None, None)
        return pd.DataFrame([{**row, "lower": low, "upper": high}])

    def __str__(self) -> str:
        text = f"{self.estimate:.4g}"
        if self.interval is not None:
            text += f" [{self.interval[0]:.4g}, {self.interval[1]:.4g}]"
        unit = "" if self.units == "1" else f" {self.units}"
        return f"{text}{unit} ({self.level:.0%}, {self.method})"
