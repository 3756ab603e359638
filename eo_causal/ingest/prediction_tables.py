"""Published predictions: a table of places with what was measured and what a model said of them."""

from pathlib import Path

import pandas as pd
from pydantic import Field

from eo_causal.core.progress import count
from eo_causal.core.settings import Settings
from eo_causal.core.sources import InputFiles
from eo_causal.errors import DataError, TableError


class PredictionSettings(Settings):
    """Which table holds predictions that its places did not teach, and which column is what."""

    dataset: str | None = Field(default=None, description="named data set the file belongs to")
    file: str = Field(description="CSV")
    outcome: str = Field(default="outcome", description="column of measured values")
    prediction: str = Field(default="prediction", description="column of held-out predictions")
    longitude: str = "longitude"
    latitude: str = "latitude"
    group: str | None = Field(
        default=None, description="column of regions: placebo groups, and what is sampled together"
    )


def read_predictions(files: InputFiles, settings: PredictionSettings) -> pd.DataFrame:
    """Read a table of predictions.

    Returns
    -------
    DataFrame
        ``unit_id`` (row number as text), ``outcome``, ``prediction``, ``longitude``, ``latitude``,
        ``group`` (text, empty where none is named).

    Raises
    ------
    TableError
        A column that is not there.
    DataError
        Missing values or text among the numbers.
    """
    path = Path(files.paths[0])
    raw = pd.read_csv(path)
    named = {
        "outcome": settings.outcome, "prediction": settings.prediction,
        "longitude": settings.longitude, "latitude": settings.latitude,
    }  # fmt: skip
    wanted = [*named.values(), *([settings.group] if settings.group else [])]
    absent = [name for name in wanted if name not in raw]
    if absent:
        raise TableError(
            f"{path.name}: has no column {', '.join(absent)}; it has {', '.join(map(str, raw))}.",
            path=str(path), column=absent[0],
        )  # fmt: skip
    numbers = raw[list(named.values())].apply(pd.to_numeric, errors="coerce")
    wrong = numbers.isna().sum()
    if wrong.any():
        listed = ", ".join(f"{name} ({n})" for name, n in wrong.items() if n)
        raise DataError(
            f"{path.name}: missing values or text among the numbers: {listed}. Remove these rows."
        )
    table = pd.DataFrame({new: numbers[old].to_numpy() for new, old in named.items()})
    table.insert(0, "unit_id", table.index.astype(str))
    group = raw[settings.group].astype(str) if settings.group else ""
    count(places=len(table))
    return table.assign(group=group)
