"""Tables for people (HTML, CSV) and for programs (Parquet)."""

from html import escape
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from eo_causal.core.display import show_number, show_p

P_VALUES = ("p", "p_value", "p_adjusted", "p_two_sided", "q_value")
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
    """An escaped HTML table.

    The numbers of a column share their decimals (:func:`format_column`); missing values are dashes.
    """
    named = table.reset_index() if table.index.name else table
    shown = named.head(max_rows)
    columns = [_html_column(str(column), shown[column]) for column in shown.columns]
    head = "".join(top for top, _ in columns)
    rows = [
        f"<tr>{''.join(cells)}</tr>" for cells in zip(*(cells for _, cells in columns), strict=True)
    ]
    more = ""
    if len(named) > max_rows:
        more = f'<p class="note">{len(named) - max_rows} more rows in the table files.</p>'
    body = "".join(rows)
    return (
        f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'
        f"{more}"
    )


def format_column(column: pd.Series, *, p_values: bool = False) -> list[str]:
    """The texts of a column: decimals that give its largest number four significant digits.

    Columns whose numbers lie more than four powers of ten apart, or are tiny, hold different
    things; each of their numbers gets four digits of its own.

    >>> format_column(pd.Series([4.19, -0.0212])), format_column(pd.Series([0.04, 1e-9]), p_values=True)
    (['4.190', '-0.021'], ['0.040', '< 0.001'])
    """
    if not pd.api.types.is_float_dtype(column):
        return [format_value(value) for value in column]
    if p_values:
        return [show_p(value).removeprefix("= ") if np.isfinite(value) else "–" for value in column]
    sizes = column.abs()[np.isfinite(column) & (column != 0)]
    if (
        not len(sizes)
        or sizes.max() < 1e-3
        or sizes.max() >= 1e4
        or sizes.max() > 1e4 * sizes.min()
    ):
        return [format_value(value) for value in column]
    whole = bool((column.dropna() % 1 == 0).all())
    decimals = 0 if whole else max(0, 3 - int(np.floor(np.log10(sizes.max()))))
    return [
        f"{value:.{decimals}f}" if np.isfinite(value) else format_value(value) for value in column
    ]


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


def _html_column(name: str, column: pd.Series) -> tuple[str, list[str]]:
    """Head and cells of one column."""
    texts = format_column(column, p_values=name in P_VALUES or name.endswith("_p"))
    if _is_number(column):
        kinds = [' class="number"'] * len(texts)
    else:
        kinds = [' class="short"' if len(text) <= SHORT_TEXT else "" for text in texts]
    cells = [f"<td{kind}>{escape(text)}</td>" for kind, text in zip(kinds, texts, strict=True)]
    top = ' class="number"' if _is_number(column) else ""
    return f"<th{top}>{escape(_words(name))}</th>", cells


def _is_number(column: pd.Series) -> bool:
    kind = pd.api.types
    return bool(kind.is_numeric_dtype(column) and not kind.is_bool_dtype(column))


def _words(column: str) -> str:
    return column.replace("_", " ")


def _guarded(value: Any) -> Any:
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA) else value
