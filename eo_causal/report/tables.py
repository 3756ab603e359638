"""Tables for people (HTML, CSV) and for programs (Parquet)."""

from html import escape
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from eo_causal.core.display import show_number

SHORT_TEXT = 12  # longest text that is kept on one line, months among them
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def write_table(folder: Path, name: str, table: pd.DataFrame) -> None:
    """Write ``name.csv`` and ``name.parquet``.

    Text cells that a spreadsheet would run as a formula get a leading quote in the CSV.
    """
    folder.mkdir(parents=True, exist_ok=True)
    plain = table.rename(columns=str)
    named = plain.reset_index() if plain.index.name else plain
    named.to_parquet(folder / f"{name}.parquet", index=False)
    safe = named.copy()
    for column in safe.columns:
        if not pd.api.types.is_numeric_dtype(safe[column]):
            safe[column] = safe[column].map(_guarded)
    safe.to_csv(folder / f"{name}.csv", index=False, date_format="%Y-%m-%d", lineterminator="\n")


def html_table(table: pd.DataFrame, max_rows: int = 400) -> str:
    """An escaped HTML table; numbers in four significant digits, missing values as a dash."""
    named = table.reset_index() if table.index.name else table
    shown = named.head(max_rows)
    head = "".join(
        f"<th{_number_class(_is_number(shown[column]))}>{escape(_words(str(column)))}</th>"
        for column in shown.columns
    )
    rows = []
    for values in shown.itertuples(index=False):
        rows.append(f"<tr>{''.join(_cell(value) for value in values)}</tr>")
    more = ""
    if len(named) > max_rows:
        more = f'<p class="note">{len(named) - max_rows} more rows in the table files.</p>'
    body = "".join(rows)
    return (
        f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'
        f"{more}"
    )


def format_value(value: Any) -> str:
    """One value as a reader wants to see it."""
    if (
        value is None
        or value is pd.NaT
        or (isinstance(value, float | np.floating) and np.isnan(value))
    ):
        return "–"
    if isinstance(value, bool | np.bool_):
        return "yes" if value else "no"
    if isinstance(value, float | np.floating):
        return show_number(float(value))
    if isinstance(value, int | np.integer):
        return f"{int(value):,}" if abs(int(value)) >= 10_000 else str(value)
    if isinstance(value, pd.Timestamp):
        return f"{value:%Y-%m}"
    return str(value)


def _cell(value: Any) -> str:
    number = isinstance(value, int | float | np.number) and not isinstance(value, bool)
    text = format_value(value)
    short = ' class="short"' if len(text) <= SHORT_TEXT else ""
    return f"<td{_number_class(number) or short}>{escape(text)}</td>"


def _is_number(column: pd.Series) -> bool:
    kind = pd.api.types
    return bool(kind.is_numeric_dtype(column) and not kind.is_bool_dtype(column))


def _number_class(number: bool) -> str:
    return ' class="number"' if number else ""


def _words(column: str) -> str:
    return column.replace("_", " ")


def _guarded(value: Any) -> Any:
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA) else value
