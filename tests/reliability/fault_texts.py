"""Faults of zone tables and configs; see :mod:`reliability.faults`."""

import os
from pathlib import Path

from reliability.faults import Refusal, refused

from eo_causal import errors

PLAN = ("plan", "study.yaml")
HEADER = "Time,Kd490,Temperature,Salinity"
TABLES = """
pipeline: water_clarity
data: {tables: {impact: impact.csv, control: control.csv}, units: 1e-2 m-1}
impact: {intervention: 2009-01, engine: exact}
"""


def rows(chance, n_months=24):
    """Good rows of a zone table."""
    return [
        f"{2008 + month // 12}-{month % 12 + 1:02d}-01,{chance.uniform(3, 6):.2f},29.5,34.1"
        for month in range(n_months)
    ]


def table(lines, header=HEADER, encoding="utf-8"):
    """Write the tables of a study; ``lines`` are those of the impact zone."""
    Path("study.yaml").write_text(TABLES)
    Path("impact.csv").write_bytes("\n".join([header, *lines, ""]).encode(encoding))
    Path("control.csv").write_text("Time,Kd490\n2008-01-01,4.1\n2008-02-01,4.4\n")


def spoiled_row(chance, change):
    """Tables with one changed row; returns its number in the file, the header being 1."""
    lines = rows(chance)
    place = int(chance.integers(len(lines)))
    lines[place] = change(lines[place])
    table(lines)
    return place + 2


@refused
def a_cell_that_is_no_number(chance):
    cell = str(chance.choice(["inf", "-inf", "=1+1", "@SUM(A1)", "NA", "n/a", "4.o", "1_0", "-"]))
    row = spoiled_row(chance, lambda line: line.replace("29.5", cell))
    facts = {"row": row, "column": "Temperature", "value": cell}
    return Refusal(errors.TableError, ("impact.csv", f"row {row}"), facts)


@refused
def water_that_attenuates_nothing(chance):
    value = str(chance.choice(["0", "-4.1", "-999"]))
    row = spoiled_row(chance, lambda line: ",".join([line.split(",")[0], value, "29.5", "34.1"]))
    return Refusal(errors.TableError, ("impact.csv", f"row {row}", "Kd490"), {"row": row})


@refused
def a_date_of_another_form(chance):
    date = str(
        chance.choice(["39448", "01/02/2008", "2008-1", "2008-13-01", "9999-01-01", "Jan 08"])
    )
    row = spoiled_row(chance, lambda line: date + line[10:])
    return Refusal(errors.TimeAxisError, ("impact.csv", f"row {row}", date), {"row": row})


@refused
def a_month_twice(chance):
    lines = rows(chance)
    table([*lines, lines[int(chance.integers(24))]])
    return Refusal(errors.TimeAxisError, ("impact.csv", "26"), {"row": 26})


@refused
def a_table_in_another_encoding(chance):
    encoding = str(chance.choice(["utf-16", "latin-1"]))
    table([*rows(chance), "# \xe9"], encoding=encoding)
    return Refusal(errors.TableError, ("impact.csv", "UTF-8"))


@refused
def a_row_of_another_length(chance):
    row = spoiled_row(chance, lambda line: line + str(chance.choice([",", ",1,2"])))
    return Refusal(errors.TableError, ("impact.csv", f"row {row}"), {"row": row})


@refused
def columns_with_other_names(chance):
    header = str(
        chance.choice(["Date,Kd490,Temperature,Salinity", "Time;Kd490", "Time,Kd490,Kd490,X"])
    )
    table(rows(chance), header=header)
    return Refusal(errors.TableError, ("impact.csv", "expected Time and Kd490"))


@refused
def a_quote_that_never_closes(chance):
    table([*rows(chance), '2010-01-01,"4.0,29,34'])
    return Refusal(errors.TableError, ("impact.csv", "row 26", "no CSV"), {"row": 26})


@refused
def a_table_as_large_as_a_cube(chance):
    table(rows(chance))
    os.truncate("impact.csv", 2**26 + int(chance.integers(1, 2**20)))
    return Refusal(errors.ResourceLimitError, ("impact.csv", "too many"))


@refused
def units_that_cannot_be(chance):
    table([line.replace(",29.5", "e-3,29.5") for line in rows(chance)])
    return Refusal(errors.UnitsError, ("impact.csv", "pure water"), {"units": "1e-2 m-1"})


def config(text, encoding="utf-8"):
    """Write a config and the command that reads it."""
    Path("study.yaml").write_bytes(text.encode(encoding, errors="surrogatepass"))


@refused
def aliases_that_multiply(chance):
    width = int(chance.integers(4, 9))
    lines = ["a0: &a0 [lol, lol]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * width)}]" for i in range(1, 11)]
    config("\n".join(lines))
    return Refusal(errors.ResourceLimitError, ("study.yaml",), command=PLAN)


@refused
def nesting_without_end(chance):
    depth = int(chance.integers(40, 20_000))
    config("a: " + "[" * depth + "]" * depth)
    return Refusal(errors.ResourceLimitError, ("study.yaml", "line 1", "levels"), command=PLAN)


@refused
def a_list_without_end(chance):
    config("a: [" + "1," * int(chance.integers(100_000, 500_000)) + "1]")
    return Refusal(errors.ResourceLimitError, ("study.yaml", "values"), command=PLAN)


@refused
def a_config_as_large_as_data(chance):
    config("a: " + "x" * int(chance.integers(2**20, 2**22)))
    return Refusal(errors.ResourceLimitError, ("study.yaml", "bytes"), command=PLAN)


@refused
def a_tag_that_would_run_code(chance):
    tag = str(chance.choice(["!!python/object/apply:os.mkdir", "!!python/name:os.system", "!run"]))
    config(f"pipeline: water_clarity\ntitle: {tag} [canary]\n")
    return Refusal(errors.ConfigError, ("study.yaml", "not allowed"), {"line": 2}, PLAN)


@refused
def text_that_is_none(chance):
    text = str(chance.choice(['"\\0"', '"\\uD800"', '"\\U00110000"', "\x00", "\x07"]))
    config(f"pipeline: water_clarity\ntitle: {text}\n")
    return Refusal(errors.ConfigError, ("study.yaml",), command=PLAN)


@refused
def a_key_twice(chance):
    config(TABLES + "seed: 1\nseed: 2\n")
    return Refusal(errors.ConfigError, ("line 6", "seed is written twice"), command=PLAN)


@refused
def a_value_out_of_range(chance):
    wrong = [
        ("seed", "-1"),
        ("seed", "9" * 5000),
        ("roles", "{fill: magic}"),
        ("zone_means", "{min_valid_fraction: .nan}"),
    ]
    key, value = wrong[chance.integers(len(wrong))]
    config(f"{TABLES}{key}: {value}\n")
    return Refusal(errors.ConfigError, ("line 5", str(key)), command=PLAN)


@refused
def a_key_that_is_a_list(chance):
    config(TABLES + "? [a, b]\n: 1\n")
    return Refusal(errors.ConfigError, ("line 5", "key: value"), {"line": 5}, PLAN)


@refused
def a_run_folder_outside(chance):
    table(rows(chance))
    config(TABLES + "output: ../../elsewhere\n")
    return Refusal(errors.ConfigError, ("--out",), {"output": "../../elsewhere"})
