"""The report of simulated studies whose confounder only images show: what adjusting for them leaves."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import xarray as xr
from pydantic import Field

from eo_causal.core.settings import Settings
from eo_causal.estimate.pattern_study import KNOWN, MEASURED, NOTHING, TRUE, PatternStudyResult
from eo_causal.report.confounding_study_figures import AXES, MONTE_CARLO, write_figures
from eo_causal.report.html import Block, KeyNumber, Page, Paragraph, Picture, Section, Table, render
from eo_causal.report.results import write_results
from eo_causal.report.run_sections import ledger_block, run_sections, warning_blocks
from eo_causal.report.tables import write_table

UNITS = "sd of the confounder"
VALUE = {"resolution": "pooling", "misspecification": "true_width"}
CAPTIONS = {
    "bias": "Bias of the estimated effect, mean over the repetitions with its 95 % Monte-Carlo interval,"
    " and what the law predicts from the correlation ρ of the measured with the true pattern.",
    "examples": "Two images of the first repetition. Above: the image as it is measured; the blue stroke"
    " lies where the true pattern is strongest, the red ring where the study finds it. Below:"
    " {response} (red = strong) and its largest value; only the central window counts.",
    "scores": "What the image that is adjusted for says of the pattern, against the truth; first repetition.",
}
RESPONSES = {
    "resolution": "the response of the pooled image",
    "misspecification": "the response to the true pattern",
}
ADJUSTED = {
    NOTHING: "nothing", KNOWN: "true propensity", TRUE: "true pattern", MEASURED: "measured pattern",
}  # fmt: skip
ESTIMATORS = {
    "difference_in_means": "difference in means", "horvitz_thompson": "Horvitz-Thompson",
    "hajek": "Hájek", "aipw": "AIPW",
}  # fmt: skip
HEADS = {
    "correlation": "ρ", "hajek": "Hájek", "aipw": "AIPW", "reference_hajek": "Hájek, reference",
    "reference_aipw": "AIPW, reference",
}  # fmt: skip


class ReferenceSettings(Settings):
    """Numbers to print beside: case -> bias."""

    source: str = Field(description="who found them, on what")
    hajek: dict[int, float] = Field(default={}, description="bias of the Hájek estimate")
    aipw: dict[int, float] = Field(default={}, description="bias of AIPW")


class ConfoundingStudyReportSettings(Settings):
    """How the report looks."""

    reference: ReferenceSettings | None = Field(
        default=None, description="numbers of others, shown in columns of their own"
    )


@dataclass(frozen=True)
class SimulatedConfounding:
    """Everything the report is made of.

    Attributes
    ----------
    title, question : str
    settings : PatternStudySettings
        Kind, cases, sizes.
    source : str
        Where the images come from, in words.
    units : Dataset (value, repetition, unit)
    result : PatternStudyResult
    examples : Dataset (value, example, y, x)
    ledger, warnings, provenance, config_text
        As in every report.
    """

    title: str
    question: str
    settings: Any
    source: str
    units: xr.Dataset
    result: PatternStudyResult
    examples: xr.Dataset
    ledger: pd.DataFrame
    warnings: list[dict[str, str]]
    provenance: dict[str, Any]
    config_text: str

    def bias(self, adjusted_for: str, estimator: str) -> pd.Series:
        """Mean bias of every case."""
        table = self.result.bias
        rows = (table["adjusted_for"] == adjusted_for) & (table["estimator"] == estimator)
        return table[rows].set_index("value")["bias"]

    @property
    def naive(self) -> pd.Series:
        """Bias of the unadjusted difference in every case."""
        return self.bias(NOTHING, "difference_in_means")

    @property
    def left(self) -> pd.Series:
        """Share of the confounding that AIPW with the measured pattern leaves."""
        return self.bias(MEASURED, "aipw") / self.naive

    @property
    def departure(self) -> float:
        """Largest difference of AIPW or Hajek from the law."""
        law = self.result.cases.set_index("value")["predicted"]
        found = [(self.bias(MEASURED, name) - law).abs().max() for name in ("hajek", "aipw")]
        return float(max(found))


def write_confounding_study_report(
    study: SimulatedConfounding, settings: ConfoundingStudyReportSettings, *, folder: Path
) -> None:
    """Write every output below ``folder``."""
    answer = headline(study)
    write_results(folder, study_results(study, settings.reference) | {"headline": answer})
    remaining = remaining_table(study, settings.reference)
    found = study.result
    tables = {
        "remaining": remaining, "bias": found.bias, "estimates": found.estimates,
        "correlations": found.correlations,
    }  # fmt: skip
    for name, table in tables.items():
        write_table(folder / "tables", name, table)
    pictures = write_figures(study, folder / "figures")
    page = Page(
        title=study.title, question=study.question, answer=answer, numbers=key_numbers(study),
        sections=_sections(study, remaining, settings.reference, pictures),
        footer=f"Run {study.provenance['run_id']}, eo_causal {study.provenance['versions']['eo_causal']}."
        " Every number on this page is also in results.json and the tables folder.",
    )  # fmt: skip
    (folder / "report.html").write_text(render(page), encoding="utf-8")


def study_results(
    study: SimulatedConfounding, reference: ReferenceSettings | None
) -> dict[str, Any]:
    """What results.json holds, without the headline."""
    cases = []
    for row in study.result.cases.to_dict("records"):
        bias: dict[str, dict[str, Any]] = {}
        of_case = study.result.bias[study.result.bias["value"] == row["value"]]
        for item in of_case.itertuples():
            half = MONTE_CARLO * item.std_error
            bias.setdefault(item.adjusted_for.replace(" ", "_"), {})[item.estimator] = {
                "estimate": item.bias, "interval": [item.bias - half, item.bias + half],
                "std_error": item.std_error, "units": UNITS, "method": "mean over repetitions",
            }  # fmt: skip
        left = float(study.left[row["value"]])
        cases.append({**row, "share_left": left, "bias": bias})
    return {
        "pipeline": study.provenance["pipeline"], "mode": study.provenance["mode"],
        "run_id": study.provenance["run_id"], "truth": {"ate": study.result.effect},
        "study": {
            "kind": study.settings.kind, "images": study.source,
            "n_images": study.settings.n_images, "n_repetitions": study.settings.n_repetitions,
            "cases": cases, "departure_from_law": study.departure,
            "reference": None if reference is None else reference.model_dump(mode="json"),
        },
    }  # fmt: skip


def headline(study: SimulatedConfounding) -> list[str]:
    """The answer, in a few sentences."""
    settings = study.settings
    said = _resolution if settings.kind == "resolution" else _misspecification
    return [
        f"In {settings.n_repetitions:,} simulated studies of {settings.n_images:,} images each"
        f" ({study.source}), a pattern that only the images show makes the unadjusted effect"
        f" {_span(study.naive)} too large; the true effect is {study.result.effect:g}.",
        *said(study),
        "A score that correlates ρ with the confounder leaves about 1 − ρ² of the confounding: no bias"
        f" here is farther than {study.departure:.2f} from that law.",
    ]


def _resolution(study: SimulatedConfounding) -> list[str]:
    width, left, bias = study.settings.width, study.left, study.bias(MEASURED, "aipw")
    sentences = []
    if 1 in bias:
        sentences.append(
            f"Adjusted for the pattern at full resolution, AIPW is off by {abs(bias[1]):.3f}."
        )
    finer = [r for r in left.index if 1 < r < width]
    coarser = [r for r in left.index if r >= width]
    if finer:
        listed = _listed([f"{_percent(left[r])} ({r} ×)" for r in finer])
        sentences.append(
            f"Of the confounding, coarser pixels that are still finer than the pattern leave {listed}."
        )
    if coarser:
        first = coarser[0]
        how = "as coarse as" if first == width else "coarser than"
        sentences.append(
            f"Once a pixel is {how} the pattern ({first} ×), {_percent(left[first])} of the"
            " confounding stays."
        )
    return sentences


def _misspecification(study: SimulatedConfounding) -> list[str]:
    width, left, bias = study.settings.filter_width, study.left, study.bias(MEASURED, "aipw")
    sentences = []
    if width in bias:
        sentences.append(
            f"A filter of {width} pixels removes the confounding by a pattern of {width} pixels: AIPW is"
            f" off by {abs(bias[width]):.3f}."
        )
    others = [f"{_percent(left[k])} ({k} px)" for k in left.index if k != width]
    if others:
        sentences.append(
            f"Of the confounding by patterns of other widths, the filter of {width} pixels leaves"
            f" {_listed(others)}."
        )
    return sentences


def key_numbers(study: SimulatedConfounding) -> list[KeyNumber]:
    """The row of large numbers."""
    worst = int(study.left.idxmax())
    cases = study.result.cases.set_index("value")
    name = VALUE[study.settings.kind].replace("_", " ")
    return [
        KeyNumber("unadjusted bias", _span(study.naive), UNITS),
        KeyNumber("bias left at most", f"{study.bias(MEASURED, 'aipw')[worst]:.2f}",
                  f"AIPW, {name} {worst}"),
        KeyNumber("share left at most", _percent(study.left[worst]), "of the confounding"),
        KeyNumber("correlation there", f"{cases['correlation'][worst]:.2f}", "measured, true pattern"),
        KeyNumber("studies", f"{study.settings.n_repetitions:,}",
                  f"of {study.settings.n_images:,} images"),
    ]  # fmt: skip


def remaining_table(
    study: SimulatedConfounding, reference: ReferenceSettings | None
) -> pd.DataFrame:
    """One row a case: what adjusting for the measured pattern leaves."""
    cases = study.result.cases.set_index("value")
    table = pd.DataFrame({
        "correlation": cases["correlation"], "unadjusted": study.naive, "law": cases["predicted"],
        "hajek": study.bias(MEASURED, "hajek"), "aipw": study.bias(MEASURED, "aipw"),
        "share_left": study.left,
    })  # fmt: skip
    if reference is not None:
        for name in ("hajek", "aipw"):
            table[f"reference_{name}"] = pd.Series(getattr(reference, name), dtype=float)
    return table.rename_axis(VALUE[study.settings.kind]).reset_index().round(6)


def _sections(
    study: SimulatedConfounding,
    remaining: pd.DataFrame,
    reference: ReferenceSettings | None,
    pictures: dict[str, Path],
) -> list[Section]:
    def shown(name: str) -> Block:
        caption = CAPTIONS[name].format(response=RESPONSES[study.settings.kind])
        return Picture(pictures[name], caption)

    error = study.result.bias["std_error"].max()
    caption = f"Mean bias ({UNITS}) by {AXES[study.settings.kind]}."
    caption += f" Monte-Carlo errors are at most {error:.3f}."
    if reference is not None:
        caption += f" Reference: {reference.source}."
    every = study.result.bias.replace({"adjusted_for": ADJUSTED, "estimator": ESTIMATORS})
    every = every.rename(columns={"value": VALUE[study.settings.kind]})
    return [
        Section("What is left", [shown("bias"), Table(remaining.rename(columns=HEADS), caption)]),
        Section("What is seen", [shown("examples"), shown("scores")]),
        Section("The design", [Paragraph(text) for text in _design(study)]),
        Section("Every estimator", [
            Table(every, "bias: mean over repetitions; std error: its Monte-Carlo error; sd: of one"
                         " study's estimate; rmse: root mean square error of one study"),
        ]),
        Section("Data and counts", [*warning_blocks(study.warnings), ledger_block(study.ledger)]),
        *run_sections(study.provenance, study.config_text),
    ]  # fmt: skip


def _design(study: SimulatedConfounding) -> list[str]:
    settings = study.settings
    measured = {
        "resolution": "What the study measures: the same, in the image averaged over squares of pixels,"
        " with a filter that shrinks with it, down to a single pooled pixel.",
        "misspecification": "What the study measures: the same, with a filter of another width than the"
        " true pattern's.",
    }
    level = "largest" if settings.pool == "max" else "mean"
    return [
        f"Images of 128 × 128 pixels: {study.source}. The confounder U of an image is the {level} response"
        " to a diagonal stroke within its central window, standardised.",
        "Treatment: W = 1 with probability expit(U + N(0, 0.1²)). Outcome:"
        f" Y = U + {study.result.effect:g} W + N(0, 0.1²).",
        measured[settings.kind],
        "Estimates: a logistic propensity and linear outcome models in the one measured score. All cases"
        " of a repetition share their images and random draws.",
        "After the simulations of arXiv 2301.12985. There the filter is trained; here it is given, which"
        " leaves only what resolution or width do.",
    ]


def _span(values: pd.Series) -> str:
    low, high = f"{values.min():.2f}", f"{values.max():.2f}"
    return low if low == high else f"{low} to {high}"


def _percent(share: float) -> str:
    return f"{round(share, 2) + 0.0:.0%}".replace("%", " %")  # + 0.0: never -0


def _listed(texts: list[str]) -> str:
    return texts[0] if len(texts) == 1 else f"{', '.join(texts[:-1])} and {texts[-1]}"
