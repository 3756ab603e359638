"""The sections of an impact report, in the order a reader asks."""

from pathlib import Path
from typing import Any

import pandas as pd

from eo_causal.report.html import Block, Callout, Code, Level, Paragraph, Picture, Section, Table

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
ASSUMPTIONS = (
    ("The controls were not affected by the intervention", "control_contamination"),
    ("Controls and outcome kept their relation before the intervention", "pre_trend"),
    ("The method finds nothing at other dates", "placebo_in_time"),
    ("The method finds nothing at other places", "placebo_in_space"),
    ("No local change of temperature or salinity at the date", "local_confounders"),
    ("The answer does not hang on one control", "leave_one_out"),
    ("The answer does not hang on the prior", "prior_sensitivity"),
    ("Errors are near normal white noise", "fit"),
)


def all_sections(study: Any, pictures: dict[str, Path], scale: float, units: str) -> list[Section]:
    """Every section the study has content for."""
    sections = [
        Section("Assumptions and checks", _assumptions(study)),
        Section("Estimate", _estimate(study, pictures, scale, units)),
        Section("Placebos and sensitivity", _sensitivity(study, pictures, scale, units)),
        Section("When did it change?", _breaks(study, pictures)),
        Section("What it means in metres of light", _depth(study)),
        Section("Where", _places(study, pictures)),
    ]
    if study.land_cover is not None:
        sections.append(Section("Land beside the water", _land_cover(study, pictures)))
    if study.comparison is not None:
        sections.append(Section("Published and computed", _published(study)))
    sections += [
        Section("Data: what was read, used and missing", _data(study, pictures)),
        Section("Settings", [Code(study.config_text)]),
        Section("Versions and inputs", _provenance(study)),
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
        {"diagnostic": name, "value": str(value)}
        for name, value in impact.diagnostics.items()
        if not isinstance(value, dict)
    ]
    blocks.append(Table(annual_means(impact.series) * _factors(scale), f"Annual means, {units}"))
    post = impact.series[impact.series.index >= impact.diagnostics["intervention"]]
    monthly = post[
        ["response", "point_pred", "point_pred_lower", "point_pred_upper", "point_effect"]
    ]
    blocks.append(Table(monthly * scale, f"Months after the intervention, {units}"))
    blocks.append(Table(pd.DataFrame(diagnostics), "How it was computed"))
    return blocks


def _factors(scale: float) -> pd.Series:
    return pd.Series({"response": scale, "point_pred": scale, "point_effect": scale, "n_months": 1})


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
            text = f"{values[name] * factor:.4g}"
            if f"{name}_lower" in values:
                low, high = values[f"{name}_lower"] * factor, values[f"{name}_upper"] * factor
                text += f"  [{low:.4g}, {high:.4g}]"
            row[column] = text
        rows.append(row)
    return pd.DataFrame(rows)


def _sensitivity(study: Any, pictures: dict[str, Path], scale: float, units: str) -> list[Block]:
    blocks: list[Block] = []
    for check in study.checks:
        blocks.append(Callout(_LEVELS[check.passed], check.name.replace("_", " "), check.text))
        blocks += _picture(pictures, check.name)
        if len(check.table) and check.name not in ("fit", "pre_trend"):
            same_units = check.name not in ("control_contamination", "local_confounders")
            table = check.table.copy()
            for name in ("mean", "sd", "lower", "upper"):
                if name in table and same_units:
                    table[name] = table[name] * scale
            blocks.append(Table(table, units if same_units else "each row in its own units"))
    return blocks


def _breaks(study: Any, pictures: dict[str, Path]) -> list[Block]:
    breaks = study.breaks
    return [
        Paragraph(breaks.text),
        *_picture(pictures, "breakpoints"),
        Table(breaks.search, "Best single date; p allows for the search and for autocorrelation"),
        Table(
            breaks.statistics,
            "Before and after each reported break, m-1; tests not adjusted for autocorrelation or searching",
        ),
        Table(breaks.candidates, "Candidates of every method"),
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
        Table(cover.area, "Area by class and year"),
        Table(cover.interval, "Speed of change by interval"),
        Table(cover.category, "Gains and losses by class"),
        Table(cover.components, "Quantity, exchange and shift"),
    ]


def _published(study: Any) -> list[Block]:
    text = (
        "The published numbers are one early stop of an optimiser on a flat ridge of the likelihood;"
        " here the maximum is used, so that the small differences are ours to explain. The published"
        " interval is that of a single month, and the published placebo p of 0 is impossible with 40"
        " dates. The default mode answers the same question with a full posterior."
    )
    return [Paragraph(text), Table(study.comparison)]


def _data(study: Any, pictures: dict[str, Path]) -> list[Block]:
    blocks: list[Block] = [
        Callout("warning", f"{item['code']} ({item['stage']})", item["message"])
        for item in study.warnings
    ]
    blocks += [Table(table, _DATA_CAPTIONS[name]) for name, table in study.data_tables.items()]
    blocks += _picture(pictures, "data_quality")
    blocks += _picture(pictures, "climatology")
    gaps = study.zones["kd490"].isnull().sum("time").to_series()
    table = gaps.rename("months_missing").to_frame()
    table["months"] = study.zones.sizes["time"]
    blocks.append(Table(table, "Missing months by zone"))
    blocks.append(Table(study.ledger, "Counts of every stage"))
    attrs = {str(name): str(value) for name, value in study.zones["kd490"].attrs.items()}
    attrs |= {str(name): str(value) for name, value in study.zones.attrs.items()}
    facts = pd.DataFrame({"attribute": list(attrs), "value": list(attrs.values())})
    blocks.append(Table(facts, "What the files say"))
    return blocks


def _provenance(study: Any) -> list[Block]:
    facts = study.provenance
    versions = pd.DataFrame(
        {"library": list(facts["versions"]), "version": list(facts["versions"].values())}
    )
    inputs = pd.DataFrame(
        {"input": list(facts["inputs"]), "sha256": list(facts["inputs"].values())}
    )
    text = f"Run {facts['run_id']}, mode {facts['mode']}, seed {facts['seed']}."
    return [Paragraph(text), Table(inputs, "Inputs"), Table(versions, "Versions")]
