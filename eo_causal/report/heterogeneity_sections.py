"""What the page of a study of effect heterogeneity says."""

from pathlib import Path
from typing import Any

import pandas as pd

from eo_causal.core.display import show_number, show_p
from eo_causal.report.audit_section import audit_table_block
from eo_causal.report.confounding_report import audit_details, audit_sentence, network_blocks
from eo_causal.report.heterogeneity_figures import ranking_label
from eo_causal.report.html import Block, Callout, KeyNumber, Paragraph, Picture, Section, Table
from eo_causal.report.run_sections import ledger_block, run_sections, warning_blocks

ALPHA = 0.025  # 5 % for AUTOC and Qini together
ASSUMPTIONS = (
    "Randomisation: who was offered treatment was drawn by lot, in the groups that folds and errors"
    " keep together.",
    "No interference: one unit's treatment does not move another unit's outcome.",
    "Time order: images are from before the treatment, so that what they show cannot be its result.",
    "What goes with a large effect need not cause it: images show where effects are larger, not why.",
    "Effects elsewhere assume that what images show means there what it means in the trial. Nothing"
    " in the data can prove it; places that look different are masked.",
)
CAPTIONS = {
    "rates": "Every ranking that was tried: does it find units with larger effects?",
    "curves": "Treating first those with the largest predicted effects: gain over treating at random,"
    " by share treated. Curves are no test.",
    "groups": "Left: units in groups of equal size by predicted effect, and the effect found in each."
    " Right: predicted effects of all units.",
    "effects": "Average effects, with intervals.",
    "components": "What in the images goes with a larger effect: leading components, named by the"
    " feature that weighs most. Filled: false discovery rate below 10 %.",
    "land_cover": "Effect of ten percentage points more of a class, instead of the commonest one.",
    "composition": "What the footprints and units of each group consist of, with intervals.",
    "places": "Places with the largest and the smallest predicted effects (latest image).",
    "salience": "What moves the effect that the network predicts (latest image): pixels that raise it are"
    " red, pixels that lower it blue.",
    "map": "Predicted effects outside the trial. Crosses mark places that look unlike the trial.",
}


def headline(study: Any, units: str) -> list[str]:
    """The answer, in a few sentences."""
    plain = study.ate.effect("unadjusted", "difference_in_means")
    treated = int(study.units.treatment.sum())
    sentences = [
        f"On average the treatment ({study.treatment_name}) changed {study.outcome_name} by"
        f" {show_number(plain.estimate)} {units} ({plain.level:.0%} interval"
        f" {show_number(plain.interval[0])} to {show_number(plain.interval[1])};"
        f" {len(study.units):,} units, {treated:,} of them treated).",
        _rate_sentence(study),
    ]
    groups = study.groups
    if len(groups):
        first, last = groups.iloc[0], groups.iloc[-1]
        sentences.append(
            f"In the {_ordinal(len(groups))} of units with the largest predicted effects the effect is"
            f" {show_number(last['effect'])} ({show_number(last['lower'])} to"
            f" {show_number(last['upper'])}), in that with the smallest"
            f" {show_number(first['effect'])} ({show_number(first['lower'])} to"
            f" {show_number(first['upper'])})."
        )
    if study.elsewhere:
        sentences.append(_elsewhere_sentence(study, units))
    return [*sentences, audit_sentence(study.block)]


def _rate_sentence(study: Any) -> str:
    """The headline's tests; where several rankings were tried, how many of them find anything."""
    autoc, qini = study.rate("autoc"), study.rate("qini")
    rates = study.result.rates
    n_rankings = len(rates) // 2
    shown = min(autoc["p_adjusted"], qini["p_adjusted"]) < ALPHA
    verdict = "Effects differ with" if shown else "Effects are not shown to differ with"
    tests = "; ".join(
        f"{name} {show_number(row['estimate'])}, ratio {row['ratio']:.1f}{_over(row)}, p"
        f" {show_p(row['p_adjusted'])}"
        for name, row in (("AUTOC", autoc), ("Qini", qini))
    )
    tried = ""
    if n_rankings > 1:
        held = rates[rates["p_adjusted"] < ALPHA].groupby("metric").size()
        tried = (
            f" p is adjusted for the {n_rankings} rankings tried, of which {held.get('autoc', 0)} hold by"
            f" AUTOC and {held.get('qini', 0)} by Qini (p < {ALPHA:g} each, as there are two)."
        )
    return f"{verdict} what {ranking_label(*study.ranking)} ranks by: {tests}.{tried}"


def _over(row: Any) -> str:
    if not row["n_splits"] > 1:
        return ""
    return (
        f" ({row['split_low']:.1f} to {row['split_high']:.1f} over {int(row['n_splits'])} splits)"
    )


def _elsewhere_sentence(study: Any, units: str) -> str:
    found = study.headline_elsewhere
    parts = [
        f"{row.area} {show_number(row.estimate)} ({show_number(row.lower)} to {show_number(row.upper)})"
        for row in found.areas.itertuples()
        if row.n_in_support
    ]
    listed = f" Average predicted effects of those, {units}: {'; '.join(parts)}." if parts else ""
    return (
        f"Of {len(found.places):,} places outside the trial {found.supported:.0%} look like it; of the"
        f" others nothing is said.{listed}"
    )


def _ordinal(n_groups: int) -> str:
    return {2: "half", 3: "third", 4: "quarter", 5: "fifth", 10: "tenth"}.get(
        n_groups, f"one of {n_groups} parts"
    )


def key_numbers(study: Any, units: str) -> list[KeyNumber]:
    """The row of large numbers."""
    plain, row = study.ate.effect("unadjusted", "difference_in_means"), study.rate("autoc")
    low, high = plain.interval
    numbers = [
        KeyNumber("average effect", show_number(plain.estimate),
                  f"{show_number(low)} to {show_number(high)} {units}"),
        KeyNumber("units", f"{len(study.units):,}", f"{study.units.table['image_key'].nunique():,} places"),
        KeyNumber("AUTOC ratio", f"{row['ratio']:.1f}",
                  f"{row['split_low']:.1f} to {row['split_high']:.1f} over {int(row['n_splits'])} splits"),
        KeyNumber("p, one-sided", show_p(row["p_adjusted"]).removeprefix("= "),
                  "adjusted for the rankings tried"),
    ]  # fmt: skip
    if study.elsewhere:
        found = study.headline_elsewhere
        numbers.append(
            KeyNumber("like the trial", f"{found.supported:.0%}", f"of {len(found.places):,} places elsewhere")
        )  # fmt: skip
    if study.truth is not None:
        numbers.append(KeyNumber("true average", show_number(study.truth["ate"]), "simulated"))
    return numbers


def sections(study: Any, pictures: dict[str, Path]) -> list[Section]:
    """The page from top to bottom."""

    def shown(*names: str) -> list[Block]:
        return [Picture(pictures[name], CAPTIONS[name]) for name in names if name in pictures]

    found, drivers = study.result, study.drivers
    loud, details = audit_details(study.audits)
    return [
        Section("Do effects differ?", [*loud, *shown("rates", "groups", "curves"),
                                       *_rankings(study)]),
        Section("Audits", [audit_table_block(study.block)]),
        Section("What goes with a large effect", [
            *shown("places", "salience", "components", "land_cover", "composition"),
            *_drivers(study, drivers)]),
        *([_elsewhere(study, shown("map"))] if study.elsewhere else []),
        Section("Average effects", [*shown("effects"), Table(_brief(study.ate.effects),
                                    "Median over the splits")]),
        Section("What the answer assumes", [Paragraph(text) for text in ASSUMPTIONS]),
        Section("Audits in detail", details),
        Section("Every split", [
            Paragraph("The test ratio depends on how units are dealt to folds. One split is luck; the"
                      " median and the range above are of these."),
            Table(found.splits[found.splits["metric"] == "autoc"].drop(columns="metric"),
                  "Sequential tests, AUTOC")]),
        Section("Data and counts", _data_blocks(study)),
        *run_sections(study.provenance, study.config_text),
    ]  # fmt: skip


def _rankings(study: Any) -> list[Block]:
    found = study.result
    labels = [
        ranking_label(arm, learner)
        for arm, learner in zip(found.rates["arm"], found.rates["learner"], strict=True)
    ]
    shown = ["metric", "estimate", "ratio", "split_low", "split_high", "p_value", "p_adjusted"]
    rates = found.rates[shown].assign(ranking=labels)[["ranking", *shown]]
    blocks: list[Block] = [
        Table(rates, "Tests of every ranking: models learn on some folds and rank the next. p_adjusted"
              " counts the rankings tried (Holm)"),
        *([Table(study.choices, "What each choice adds to the ratio, least squares over the rankings; they"
                 " share their data, so there are no errors")] if len(study.choices) else []),
        Table(study.own(found.calibration), "Calibration of the headline: 1 is ideal; a slope of 0"
              " means that predicted differences are noise"),
        Table(study.groups, "Groups by predicted effect, 1 = smallest"),
    ]  # fmt: skip
    name, pairs = " ".join(study.ranking), found.comparisons
    pairs = pairs[(pairs["ranking_a"] == name) | (pairs["ranking_b"] == name)]
    if len(pairs):
        caption = "The headline against the other rankings, on the same folds: AUTOC of a minus b"
        blocks.append(Table(pairs, caption))
    return blocks


def _drivers(study: Any, drivers: Any) -> list[Block]:
    blocks: list[Block] = [Table(drivers.components, "Best linear projection on image components")]
    if study.land_cover is not None:
        source = f"{study.land_cover.product}, {study.land_cover.year}"
        blocks += [
            Table(
                drivers.land_cover,
                f"Effect of ten percentage points of a class ({source});"
                " classes that cover less than 1 % are left out",
            ),
            Table(drivers.dominant, "Mean predicted effect by the class that covers most"),
        ]
    if len(drivers.correlations):
        blocks.append(Table(drivers.correlations, "Rank correlation with the predicted effect"))
    if study.clusters is not None:
        sure = study.clusters.sure_share
        blocks += [
            Table(
                study.clusters.clusters,
                f"Clusters of images by effect (mixture model; {sure:.0%} of the"
                f" memberships are certain; implied average {show_number(study.clusters.implied.estimate)})",
            ),
            Table(study.clusters.candidates, "Held-out likelihood by number of clusters"),
        ]
    if study.network is not None:
        blocks += network_blocks(study.network)
    return blocks


def _elsewhere(study: Any, pictures: list[Block]) -> Section:
    blocks = list(pictures)
    for name, each in study.elsewhere.items():
        blocks.append(
            Table(each.areas, f"Averages by {name.replace('_', ' ')}: estimate over places that look like"
                  f" the trial ({each.supported:.0%}), estimate_all over all")
        )  # fmt: skip
    agreement = study.map_agreement
    if agreement:
        rows = {"maps": list(agreement), "rank_correlation": list(agreement.values())}
        blocks.append(Table(pd.DataFrame(rows), "Do maps of different encoders agree?"))
    note = (
        "An effect carried to another place is a prediction. It is meant for averages over many places,"
        " not for choosing single ones."
    )
    return Section("Outside the trial", [*blocks, Callout("info", "How to read the map", note)])


def _brief(effects: pd.DataFrame) -> pd.DataFrame:
    return effects.drop(columns=["n", "n_effective", "split_low", "split_high"])


def _data_blocks(study: Any) -> list[Block]:
    blocks = warning_blocks(study.warnings)
    if len(study.failures):
        blocks.append(Table(study.failures, "Reads that failed, after all retries"))
    return [*blocks, ledger_block(study.ledger)]
