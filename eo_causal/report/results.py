"""results.json: the numbers of a run in report units, one schema for all pipelines."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from eo_causal.core.effect import Effect
from eo_causal.errors import DegenerateError

SCHEMA_PATH = Path(__file__).with_name("results.schema.json")


def quantity(effect: Effect | None) -> dict[str, Any] | None:
    """An effect as results.json holds it."""
    if effect is None:
        return None
    found: dict[str, Any] = {
        "estimate": effect.estimate,
        "interval": None if effect.interval is None else list(effect.interval),
        "units": effect.units,
        "level": effect.level,
        "method": effect.method,
    }
    if effect.std_error is not None:
        found["std_error"] = effect.std_error
    if effect.p_value is not None:
        found["p_value"] = effect.p_value
    return found


def write_results(folder: Path, results: dict[str, Any]) -> Path:
    """Write results.json; same results, same bytes.

    Raises
    ------
    DegenerateError
        A number is NaN or infinite; absent values must be null. Names the key.
    """
    plain = _plain(results, "results")
    path = folder / "results.json"
    path.write_text(json.dumps(plain, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    return path


def plain_rows(table: pd.DataFrame) -> list[dict[str, Any]]:
    """Rows of a table as JSON: absent numbers are null, other things are text."""
    return [
        {str(name): _cell(value) for name, value in row.items()} for row in table.to_dict("records")
    ]


def read_schema() -> dict[str, Any]:
    """The JSON schema every results.json satisfies."""
    schema: dict[str, Any] = json.loads(SCHEMA_PATH.read_text(encoding="utf-8"))
    return schema


def _plain(value: Any, where: str) -> Any:
    if isinstance(value, dict):
        return {str(key): _plain(item, f"{where}.{key}") for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item, f"{where}.{position}") for position, item in enumerate(value)]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        raise DegenerateError(f"{where} is {value}; no result is written.", key=where)
    return value


def _cell(value: Any) -> Any:
    if isinstance(value, float | np.floating):
        return float(value) if np.isfinite(value) else None
    return (
        value if isinstance(value, int | str | bool | np.generic) or value is None else str(value)
    )
