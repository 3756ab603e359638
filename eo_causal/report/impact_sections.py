"""The sections of an impact report, in the order a reader asks."""

from pathlib import Path
from typing import Any

import pandas as pd

from eo_causal.core.display import show_number, show_units
from eo_causal.report.audit_section import audit_table_block
from eo_causal.report.html import Block, Callout, Level, Paragraph, Picture, Section, Table
from eo_causal.report.run_sections import ledger_block, run_sections, warning_blocks
from eo_causal.report.tables import format_value

_LEVELS: dict[bool | None, Level] = {True: "pass", False: "fail", None: "open"}
_CAPTIONS = {
    "impact": "Observed and expected series, monthly difference, cumulative difference, with intervals."
    " The dashed line is the intervention.",
    "breakpoints": "Searched series; thin lines are candidates of single methods, bold lines are"
    " reported, dotted ones are changes of sensors.",
    "placebo_in_time": "The same analysis at dates where nothing happened.",
    "placebo_in_space": "The same analysis in zones where nothing happened.",
    "climatology": "Mean by month of the year, before and after.",
    "data_quality": "How much of each zone was seen.",
    "zone_map": "Zones of the study.",
    "difference_map": "Mean after minus mean before in every cell. Descriptive, not causal.",
    "land_cover": "Area of each land-cover class by year.",
}
_DATA_CAPTIONS = {
    "raster_check": "Largest difference between the tables and zone means of the raster: along the"
    " published path (cells with their centre inside, single precision), and with exact coverage",
    "harmonisation": "Lines between sensors, in ln Kd490, with their jackknife variances",
    "sensor_changes": "Steps of ln Kd490 where the sensors change",
}
_METHOD_PAPER = "2603.07331"
_DEPARTURES = (
    (
        "model",
        "local linear trend and season with shocks, by maximum likelihood; the trend's"
        " variance is estimated as zero, so a fixed line carries the answer",
        "local level and fixed months with priors; the posterior of the variances is integrated over",
    ),
    (
        "interval",
        "mean of monthly bounds: the uncertainty of one month",
        "quantiles of the average over all months, draw by draw",
    ),
    (
        "break date",
        "months shuffled, which takes memory for a break",
        "largest F statistic against autoregressive series, which allows for memory and search",
    ),
    (
        "placebos",
        "12-month windows; p = k / n, which can be zero",
        "windows as long as the real one; p = (k + 1) / (n + 1)",
    ),
    ("euphotic depth", "no interval", "interval from every draw"),
    ("land-cover rate", "divided by the time span twice", "divided once"),
)
_READABLE = {
    "response": "observed",
    "point_pred": "expected",
    "point_pred_lower": "expected_lower",
    "point_pred_upper": "expected_upper",
    "point_effect": "difference",
    "n_months": "months",
}
ASSUMPTIONS = (
    ("The controls were not affected by the intervention", "control_contamination"),
    ("Controls and outcome kept their relation before the intervention", "pre_trend"),
    ("The method finds nothing at other dates", "placebo_in_time"),
    ("The method finds nothing at other places", "placebo_in_space"),
    ("No local change of temperature or salinity at the date", "local_confounders"),
    ("The answer does not hang on one control", "leave_one_out"),
    ("The answer does not hang on the prior", "prior_sensitivity"),
    ("The answer does not hang on the scale", "scale_sensitivity"),
    ("Errors are near normal white noise", "fit"),
    ("The effect is larger than searching for a date makes it", "search_adjusted"),
)


_OWN_UNITS = {
    "control_contamination": "each row in its own units",
    "local_confounders": "each row in its own units",
    "scale_sensitivity": "relative effect, a fraction",
}


def all_sections(study: Any, pictures: dict[str, Path], scale: float, units: str) -> list[Section]:
    """Every section the study has content for."""
    sections = [
        Section("Audit", [audit_table_block(study.audits)]),
        Section("Assumptions and checks", _assumptions(study)),
        Section("Estimate", _estimate(study, pictures, scale, units)),
        Section("Placebos and sensitivity", _sensitivity(study, pictures, scale, units)),
        Section("When did it change?", _breaks(study, pictures, scale, units)),
        Section("What it means in metres of light", _depth(study)),
        Section("Where", _places(study, pictures)),
    ]
    if study.land_cover is not None:
        sections.append(Section("Land beside the water", _land_cover(study, pictures)))
    if study.comparison is not None:
        sections.append(Section("Published and computed", _published(study)))
    sections += [
        Section("Data: what was read, used and missing", _data(study, pictures)),
        *run_sections(study.provenance, study.config_text),
    ]
    return [section for section in sections if section.blocks]


def annual_means(series: pd.DataFrame) -> pd.DataFrame:
    """Yearly means of response, expectation and difference, and the months behind them."""
    columns = ["response", "point_pred", "point_effect"]
    grouped = series[columns].groupby(series.index.year)
    table = grouped.mean()
    table["n_months"] = series["response"].groupby(series.index.year).count()
    return table.rename_axis("year")


def _picture(pictures: dict[str, Path], name: str) -> list[Block]:
    return [Picture(pictures[name], _CAPTIONS[name])] if name in pictures else []


def _assumptions(study: Any) -> list[Block]:
    by_name = {check.name: check for check in study.checks}
    blocks: list[Block] = []
    for title, name in ASSUMPTIONS:
        if name in by_name:
            blocks.append(Callout(_LEVELS[by_name[name].passed], title, by_name[name].text))
    source = study.impact.settings.intervention_source
    text = (
        "The date was found in the same outcome series, which selects for a large effect."
        if source == "data"
        else "The date comes from outside the data."
    )
    level: Level = "warning" if source == "data" else "pass"
    blocks.append(Callout(level, "The date was not chosen from the outcome", text))
    blocks.append(
        Callout(
            "open", "Nothing else happened there at that date",
            "Not testable with these data; local knowledge has to decide.",
        )
    )  # fmt: skip
    return blocks


def _estimate(study: Any, pictures: dict[str, Path], scale: float, units: str) -> list[Block]:
    impact = study.impact
    blocks: list[Block] = [
        Paragraph(text) for text in impact.scaled(scale, units).report(study.checks).split("\n\n")
    ]
    blocks += [Callout("warning", "Note", note) for note in impact.notes]
    blocks += _picture(pictures, "impact")
    blocks.append(
        Table(_summary_table(impact.table, scale, units), f"Summary, {units}; relative in percent")
    )
    diagnostics = [
        {"diagnostic": _words(name), "value": str(value) if name == "seed" else format_value(value)}
        for name, value in impact.diagnostics.items()
        if not isinstance(value, dict | list)
    ]
    annual = annual_means(impact.series * scale).rename(columns=_READABLE)
    blocks.append(Table(annual, f"Annual means, {units}"))
    post = impact.series[impact.series.index >= impact.diagnostics["intervention"]]
    monthly = post[list(_READABLE)[:-1]].rename(columns=_READABLE)
    blocks.append(Table(monthly * scale, f"Months after the intervention, {units}"))
    blocks.append(Table(pd.DataFrame(diagnostics), "How it was computed"))
    return blocks


def _words(name: str) -> str:
    return name.replace("_", " ")


def _summary_table(table: pd.DataFrame, scale: float, units: str) -> pd.DataFrame:
    """Rows as in CausalImpact, columns Average and Cumulative."""
    rows = []
    for title, name, factor in (
        ("actual", "actual", scale),
        ("expected", "predicted", scale),
        ("absolute effect", "abs_effect", scale),
        ("relative effect (%)", "rel_effect", 100.0),
    ):
        row: dict[str, Any] = {"": title}
        for column in ("average", "cumulative"):
            values = table.loc[column]
            text = show_number(values[name] * factor)
            if f"{name}_lower" in values:
                low, high = values[f"{name}_lower"] * factor, values[f"{name}_upper"] * factor
                text += f"  [{show_number(low)}, {show_number(high)}]"
            row[column] = text
        rows.append(row)
    return pd.DataFrame(rows)


def _sensitivity(study: Any, pictures: dict[str, Path], scale: float, units: str) -> list[Block]:
    blocks: list[Block] = []
    if study.impact.settings.scale == "log":
        scale, units = 1.0, "log ratio"
    for check in study.checks:
        blocks.append(Callout(_LEVELS[check.passed], _words(check.name), check.text))
        blocks += _picture(pictures, check.name)
        if len(check.table) and check.name not in ("fit", "pre_trend", "search_adjusted"):
            same_units = check.name not in _OWN_UNITS
            table = check.table.copy()
            for name in ("mean", "sd", "lower", "upper"):
                if name in table and same_units:
                    table[name] = table[name] * scale
            blocks.append(Table(table, _OWN_UNITS.get(check.name, units)))
    return blocks


def _breaks(study: Any, pictures: dict[str, Path], scale: float, units: str) -> list[Block]:
    breaks = study.breaks
    raw = pd.concat(
        [item.scaled(scale, units).to_frame() for item in breaks.raw_difference_in_differences]
    )
    return [
        Paragraph(breaks.text),
        *_picture(pictures, "breakpoints"),
        Table(breaks.search, "Best single date; p allows for the search and for autocorrelation"),
        Table(
            breaks.statistics,
            "Before and after each reported break, m-1; tests not adjusted for autocorrelation or searching",
        ),
        Table(breaks.candidates, "Candidates of every method"),
        Table(
            raw[["method", "estimate", "lower", "upper"]],
            f"Impact against control zones, before and after the intervention, {units}; no model",
        ),
    ]


def _depth(study: Any) -> list[Block]:
    return [Paragraph(study.depth.text), Table(study.depth.table, "Three ways from Kd490 to depth")]


def _places(study: Any, pictures: dict[str, Path]) -> list[Block]:
    return [*_picture(pictures, "zone_map"), *_picture(pictures, "difference_map")]


def _land_cover(study: Any, pictures: dict[str, Path]) -> list[Block]:
    cover = study.land_cover
    return [
        Paragraph(cover.text),
        *_picture(pictures, "land_cover"),
        Table(_areas(cover.area), "Area by class and year, km²"),
        Table(cover.interval, "Speed of change by interval"),
        Table(
            cover.category.assign(**{"class": cover.category["class"].map(_words)}),
            "Gains and losses by class",
        ),
        Table(cover.components, "Quantity, exchange and shift"),
    ]


def _areas(area: pd.DataFrame) -> pd.DataFrame:
    table = area.pivot_table(index="class", columns="year", values="area_km2", sort=False)
    return table.rename(index=_words, columns=str).rename_axis("class").rename_axis(columns=None)


def _published(study: Any) -> list[Block]:
    """Published numbers beside ours, and why they differ."""
    caption = f"Published in {study.published.source}, and computed here"
    numbers = study.comparison.assign(units=study.comparison["units"].map(show_units))
    if study.mode != "paper":
        blocks: list[Block] = [Table(numbers, caption)]
        if _METHOD_PAPER in study.published.source:
            table = pd.DataFrame(_DEPARTURES, columns=["", "published", "here"])
            blocks.append(Table(table, "Where this departs from the publication, and why"))
        return blocks
    if _METHOD_PAPER not in study.published.source:
        return [Table(numbers, caption)]
    facts = study.impact.diagnostics
    text = (
        "The published numbers are one early stop of an optimiser on a flat ridge of the likelihood;"
        f" here the maximum is used (log-likelihood {facts['log_likelihood']:.4f}; the library's"
        f" default optimiser stops at {facts['log_likelihood_default']:.4f}). The published interval"
        " is that of a single month, and a placebo p of 0 is impossible with a finite number of"
        " dates. The default mode answers the same question with a full posterior."
    )
    return [Paragraph(text), Table(numbers, caption)]


def _data(study: Any, pictures: dict[str, Path]) -> list[Block]:
    blocks = warning_blocks(study.warnings)
    blocks += [Table(table, _DATA_CAPTIONS[name]) for name, table in study.data_tables.items()]
    blocks += _picture(pictures, "data_quality")
    blocks += _picture(pictures, "climatology")
    gaps = study.zones["kd490"].isnull().sum("time").to_series()
    table = gaps.rename("months_missing").to_frame()
    table["months"] = study.zones.sizes["time"]
    blocks.append(Table(table, "Missing months by zone"))
    blocks.append(ledger_block(study.ledger))
    attrs = {str(name): str(value) for name, value in study.zones["kd490"].attrs.items()}
    attrs |= {str(name): str(value) for name, value in study.zones.attrs.items()}
    facts = pd.DataFrame({"attribute": list(attrs), "value": list(attrs.values())})
    blocks.append(Table(facts, "What the files say"))
    return blocks
