"""The words of an impact result: CausalImpact's table, and prose that claims no more than it may."""

from collections.abc import Sequence
from typing import Any

from eo_causal.core.display import show_number, show_units


def summary_text(result: Any) -> str:
    """The table users of CausalImpact know: Average and Cumulative columns."""
    average, cumulative = (result.table.loc[name] for name in ("average", "cumulative"))
    level = f"{1 - average['alpha']:.0%} CI"
    rows: list[tuple[str, ...]] = [("", "Average", "Cumulative")]
    rows.append(("Actual", show_number(average["actual"]), show_number(cumulative["actual"])))
    for title, name, percent in (
        ("Prediction (s.d.)", "predicted", False),
        ("Absolute effect (s.d.)", "abs_effect", False),
        ("Relative effect (s.d.)", "rel_effect", True),
    ):
        rows.append((title, *(_with_sd(row, name, percent) for row in (average, cumulative))))
        rows.append((level, *(_interval(row, name, percent) for row in (average, cumulative))))
    lines = [f"{title:<24}{left:<28}{right}".rstrip() for title, left, right in rows]
    lines.append("")
    if result.method == "ucm_mle":
        lines.append(f"z-test p-value: {result.p_value:.4f}")
    else:
        lines.append(f"Posterior tail-area probability p: {result.p_value:.5f}")
        lines.append(f"Posterior probability of a causal effect: {1 - result.p_value:.2%}")
    return "\n".join(lines)


def report_text(result: Any, checks: Sequence[Any] = ()) -> str:
    """Four paragraphs: what was seen, how large, how sure, and what speaks against it."""
    return "\n\n".join(
        [
            _observed_paragraph(result),
            _size_paragraph(result),
            _certainty_paragraph(result),
            _checks_paragraph(result, checks),
        ]
    )


def _observed_paragraph(result: Any) -> str:
    row = result.table.loc["average"]
    level = f"{1 - row['alpha']:.0%}"
    text = (
        f"Over the {result.average.n} observed periods from"
        f" {result.diagnostics['intervention'].removesuffix('-01')} on, the outcome averaged"
        f" {show_number(row['actual'])}{_units(result)}. Without the intervention the model expects"
        f" {show_number(row['predicted'])}, {level} interval"
        f" {_interval(row, 'predicted', False)}."
    )
    if result.diagnostics.get("n_missing_post"):
        text += (
            f" {result.diagnostics['n_missing_post']} post periods are missing; sums run over"
            " observed periods."
        )
    return text


def _size_paragraph(result: Any) -> str:
    row = result.table.loc["average"]
    level = f"{1 - row['alpha']:.0%}"
    return (
        f"The difference is {show_number(row['abs_effect'])}{_units(result)} per period, {level}"
        f" interval {_interval(row, 'abs_effect', False)}, or {row['rel_effect']:+.1%}"
        f" {_interval(row, 'rel_effect', True)} of what was expected. Summed over the observed"
        f" post periods it is {show_number(result.cumulative.estimate)}{_units(result)}."
    )


def _certainty_paragraph(result: Any) -> str:
    low, high = result.average.interval
    excludes = low > 0 or high < 0
    verdict = "excludes" if excludes else "includes"
    if result.method == "ucm_mle":
        return (
            f"The interval {verdict} zero; the published z-test gives p = {result.p_value:.4f}. It"
            " treats the uncertainty of one month as that of the average and takes the"
            " maximum-likelihood variances as known."
        )
    alpha = 1 - result.average.level
    text = (
        f"The interval {verdict} zero. The posterior tail-area probability is {result.p_value:.4f}"
        f" (Monte-Carlo standard error {result.p_value_mcse:.4f})."
    )
    if abs(result.p_value - alpha / 2) < 2 * (result.p_value_mcse or 0):
        text += " It lies too close to the threshold to decide with this number of draws."
    return text


def _checks_paragraph(result: Any, checks: Sequence[Any]) -> str:
    failed = [check.name for check in checks if check.passed is False]
    open_ones = [check.name for check in checks if check.passed is None]
    facts = result.diagnostics
    text = (
        f"Engine {facts.get('engine', result.method)}, prior {result.settings.prior}, {facts['n_pre']}"
        f" pre and {facts['n_post']} post periods, {facts['n_missing_pre']} and"
        f" {facts['n_missing_post']} missing, seed {facts.get('seed')}. "
    )
    if not checks:
        text += "No checks were run, so this is an association in time, not yet a causal claim."
    elif failed:
        text += (
            f"These checks failed: {_list(failed)}. The change is associated with the date of the"
            " intervention; calling it caused by the intervention is not supported."
        )
    else:
        text += "No check failed. "
        text += (
            "Read as an effect of the intervention it rests on three assumptions: the controls were"
            " not affected, their relation to the outcome stayed the same, and nothing else"
            " happened at that place and date."
        )
    if open_ones:
        text += f" Could not be run or is for information only: {_list(open_ones)}."
    return text


def _list(names: Sequence[str]) -> str:
    return ", ".join(name.replace("_", " ") for name in names)


def _units(result: Any) -> str:
    shown = show_units(result.units)
    return f" {shown}" if shown else ""


def _with_sd(row: Any, name: str, percent: bool) -> str:
    if percent:
        return f"{row[name]:.1%} ({row[f'{name}_sd']:.1%})"
    return f"{show_number(row[name])} ({show_number(row[f'{name}_sd'])})"


def _interval(row: Any, name: str, percent: bool) -> str:
    low, high = row[f"{name}_lower"], row[f"{name}_upper"]
    return f"[{low:.1%}, {high:.1%}]" if percent else f"[{show_number(low)}, {show_number(high)}]"
