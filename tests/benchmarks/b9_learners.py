"""R- and DR-learner against bare nuisance fits and LinearDML, a million rows, trees of econml."""

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import common
import numpy as np
import psutil
from econml.dml import LinearDML
from scipy.special import expit
from sklearn.linear_model import LogisticRegression, LogisticRegressionCV, Ridge, RidgeCV

from eo_causal.estimate.ate import aipw_scores
from eo_causal.estimate.cate import EffectSettings, Nuisances, Rows, fit_effects, fit_nuisances
from eo_causal.estimate.learners import LOGISTIC_PENALTIES, RIDGE_PENALTIES, deal_groups
from eo_causal.estimate.propensity import clip

SETTINGS = EffectSettings()
N_FOLDS = SETTINGS.inner_folds
N_TREES = 20
# of attributes of LogisticRegressionCV that nothing here reads
warnings.filterwarnings("ignore", "The fitted attributes", FutureWarning)


def world(n: int, n_features: int) -> tuple[Rows, np.ndarray]:
    """B4: treatment and outcome depend on the first feature, the effect on the first two."""
    random = np.random.default_rng(0)
    design = random.normal(size=(n, n_features))
    treatment = (random.random(n) < expit(0.5 * design[:, 0])).astype(float)
    effect = 1 + design[:, 0] + 0.5 * (design[:, 1] > 0)
    outcome = design[:, 0] + design[:, 2] + effect * treatment + random.normal(size=n)
    return Rows(design, treatment, outcome, np.arange(n)), effect


@dataclass(frozen=True)
class Work:
    """The same nuisances and effects by each of the variants, as average effects."""

    rows: Rows

    def nuisances(self) -> Nuisances:
        return fit_nuisances(self.rows, None, SETTINGS, np.random.default_rng(1))

    def learner(self, name: str) -> np.ndarray:
        """Nuisances and effects; (unit,) effects."""
        random = np.random.default_rng(2)
        model = fit_effects(name, self.rows, self.nuisances(), SETTINGS, random)
        return model.predict(self.rows.design)

    def bare(self, make: Callable[[int], tuple[Any, Any, Any]]) -> np.ndarray:
        """Cross-fitted scikit-learn models on our folds; (unit,) AIPW scores."""
        rows = self.rows
        n = len(rows.outcome)
        folds = deal_groups(rows.group, rows.treatment, N_FOLDS, np.random.default_rng(1))
        propensity, mu0, mu1 = np.empty(n), np.empty(n), np.empty(n)
        for k in range(N_FOLDS):
            part, rest = folds == k, folds != k
            logistic, *regressions = make(int(rest.sum()))
            logistic.fit(rows.design[rest], rows.treatment[rest])
            propensity[part] = logistic.predict_proba(rows.design[part])[:, 1]
            for arm, mean, regression in zip((0, 1), (mu0, mu1), regressions, strict=True):
                seen = rest & (rows.treatment == arm)
                regression.fit(rows.design[seen], rows.outcome[seen])
                mean[part] = regression.predict(rows.design[part])
        inside = clip(propensity, SETTINGS.clip)[0]
        return aipw_scores(rows.treatment, rows.outcome, inside, mu0, mu1)

    def peer(self) -> np.ndarray:
        """LinearDML, which tunes on its own folds, on the same grids; (unit,) effects."""
        n = len(self.rows.outcome) * (N_FOLDS - 1) // N_FOLDS
        logistic, regression, _ = tuned(n)
        peer = LinearDML(
            model_y=RidgeCV(regression.alphas * 2), model_t=logistic, discrete_treatment=True,
            cv=N_FOLDS, random_state=0,
        )  # fmt: skip
        rows = self.rows
        peer.fit(rows.outcome, rows.treatment, X=rows.design, inference=None)
        return np.asarray(peer.effect(rows.design))


def tuned(n: int) -> tuple[Any, Any, Any]:
    """Models of scikit-learn that choose among our penalties; half of ``n`` rows an arm."""
    logistic = LogisticRegressionCV(
        Cs=1 / (n * np.array(LOGISTIC_PENALTIES)),
        cv=None,  # five parts; econml takes its own
        scoring="neg_log_loss",
        l1_ratios=(0,),
    )
    alphas = n / 2 * np.array(RIDGE_PENALTIES)
    return logistic, RidgeCV(alphas), RidgeCV(alphas)


def given(nuisances: Nuisances) -> Callable[[int], tuple[Any, Any, Any]]:
    """Models of scikit-learn with the penalties that ours chose; nothing is tuned."""
    models = nuisances.models

    def make(n: int) -> tuple[Any, Any, Any]:
        regressions = (Ridge(n / 2 * arm.penalty_) for arm in (models.control, models.treated))
        return LogisticRegression(C=1 / (n * models.treatment.penalty_)), *regressions

    return make


def variants(work: Work) -> dict[str, Callable[[], np.ndarray]]:
    fixed = given(work.nuisances())
    return {
        "nuisances": lambda: work.nuisances().score(work.rows),
        "dr": lambda: work.learner("dr"),
        "r": lambda: work.learner("r"),
        "scikit-learn, tuned": lambda: work.bare(tuned),
        "scikit-learn, penalties given": lambda: work.bare(fixed),
        "LinearDML": work.peer,
    }


def check(work: Work, effect: np.ndarray) -> None:
    """Average effects agree; so do, within the error of a step, the effects of all units."""
    timed = variants(work)
    reference = timed["scikit-learn, penalties given"]().mean()
    limits = dict.fromkeys(timed, 1e-3) | {"dr": 1e-3, "r": 0.02, "LinearDML": 0.02}
    averages = {name: lambda run=run: run().mean() for name, run in timed.items()}
    common.check_answers(averages, reference, limits)
    errors = {
        name: lambda name=name: 1 + np.sqrt(np.mean((timed[name]() - effect) ** 2))
        for name in ("dr", "r", "LinearDML")
    }
    common.check_answers(errors, errors["LinearDML"](), 0.05)


def compare(rows: common.Rows, work: Work, reps: int, label: str) -> None:
    """P10: CPU seconds side by side."""
    seconds = common.interleave(variants(work), reps)
    for name, values in seconds.items():
        rows.note(f"{label}: {name}", float(np.median(values)), "CPU s")
    for name in ("dr", "r"):
        for base in ("nuisances", "scikit-learn, tuned"):
            value = common.ratio(seconds[name], seconds[base])
            rows.add("P10", f"{label}: {name} / {base}", value, 1.1, at_most=True)
        value = common.ratio(seconds[name], seconds["LinearDML"])
        rows.add("P10", f"{label}: {name} / LinearDML", value, 1.0, at_most=True)
    value = common.ratio(seconds["dr"], seconds["scikit-learn, penalties given"])
    rows.note(f"{label}: dr / scikit-learn, nothing tuned", value.median, "times")


def bench_many(rows: common.Rows, n: int, n_features: int) -> None:
    """P10: seconds and memory of a large study; the memory of the input counts as well."""
    before = psutil.Process().memory_info().rss / 2**20
    drawn, _ = world(n, n_features)
    work = Work(drawn)
    held = sum(values.nbytes for values in (drawn.design, drawn.treatment, drawn.outcome)) / 2**20
    start = common.cpu_seconds()
    nuisances = work.nuisances()
    fitted = common.cpu_seconds() - start
    fit_effects("dr", work.rows, nuisances, SETTINGS, np.random.default_rng(2))
    fit_effects("r", work.rows, nuisances, SETTINGS, np.random.default_rng(2))
    both = common.cpu_seconds() - start
    peak = (common.peak_megabytes() - before) / held
    rows.add("P10", f"{n:,} rows: CPU seconds of nuisances", fitted, 60, at_most=True)
    rows.add("P10", f"{n:,} rows: peak memory / input", peak, 4, at_most=True)
    rows.note(f"{n:,} rows: dr and r after the nuisances", both - fitted, "CPU s")
    compare(rows, work, 1, f"{n:,} rows")


def bench_forest(rows: common.Rows, work: Work, effect: np.ndarray) -> None:
    """P11: the forest is econml's own; what a tree costs there."""
    nuisances = work.nuisances()
    settings = EffectSettings(n_trees=N_TREES)
    start = common.cpu_seconds()
    model = fit_effects("causal_forest", work.rows, nuisances, settings, np.random.default_rng(2))
    seconds = (common.cpu_seconds() - start) / N_TREES
    error = np.sqrt(np.mean((model.predict(work.rows.design) - effect) ** 2))
    rows.note("causal forest of econml, a tree", seconds, "CPU s")
    rows.note(f"its error with {N_TREES} trees", float(error), "(root mean square)")


def main() -> None:
    flags = common.parser(__doc__)
    flags.add_argument("--rows", type=int, default=10_000, help="rows of the comparison")
    flags.add_argument("--many", type=int, default=1_000_000, help="rows of the large study")
    flags.add_argument("--features", type=int, default=50)
    arguments = flags.parse_args()
    if arguments.light:
        arguments.rows, arguments.features = 5_000, 8
    rows = common.Rows("b9_learners", arguments, "numpy", "scikit-learn", "econml")
    drawn, effect = world(arguments.rows, arguments.features)
    work = Work(drawn)
    check(work, effect)
    bench_forest(rows, work, effect)
    if not arguments.light:
        bench_many(rows, arguments.many, arguments.features)
        compare(rows, work, arguments.reps, f"{arguments.rows:,} rows")
    rows.write()


if __name__ == "__main__":
    main()
