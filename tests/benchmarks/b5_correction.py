"""Corrections of a map: pixels per CPU second, the exact density, and a plain copy of the raster."""

from collections.abc import Callable
from dataclasses import dataclass

import common
import numpy as np
from scipy.stats import gaussian_kde

from eo_causal.debias.linear import LinearCalibration
from eo_causal.debias.tweedie import TweedieCorrection

N_EXACT = 2000  # pixels that the exact density is asked for
STEP = 1e-3  # of its central difference, in sd of the predictions


@dataclass(frozen=True)
class Work:
    """Calibration pairs of a skewed map, and the map."""

    truth: np.ndarray
    prediction: np.ndarray
    pixels: np.ndarray

    def tweedie(self) -> TweedieCorrection:
        return TweedieCorrection("scott", "never").fit(self.truth, self.prediction)

    def linear(self) -> LinearCalibration:
        return LinearCalibration().fit(self.truth, self.prediction)

    def exact(self, pixels: np.ndarray) -> np.ndarray:
        """Pixels corrected with scipy's density, differenced at each of them."""
        kernel = gaussian_kde(self.prediction)
        step = STEP * self.prediction.std()
        score = (kernel.logpdf(pixels + step) - kernel.logpdf(pixels - step)) / (2 * step)
        return pixels - np.var(self.prediction - self.truth) * score

    def exact_score(self, pixels: np.ndarray) -> np.ndarray:
        """Score of the kernel density in closed form: no differences."""
        bandwidth = self.prediction.std(ddof=1) * len(self.prediction) ** -0.2
        apart = (pixels[:, None] - self.prediction) / bandwidth
        kernel = np.exp(-0.5 * apart**2)
        return -(kernel * apart).sum(axis=1) / kernel.sum(axis=1) / bandwidth


def world(n_calibration: int, n_pixels: int) -> Work:
    """Predictions from two normals, truth = prediction + noise."""
    random = np.random.default_rng(0)

    def draw(n: int) -> np.ndarray:
        poor = random.random(n) < 0.7
        return np.where(poor, random.normal(25, 6, n), random.normal(50, 12, n))

    prediction = draw(n_calibration)
    truth = prediction + random.normal(0, 8, n_calibration)
    return Work(truth, prediction, draw(n_pixels).astype(np.float32))


def check(rows: common.Rows, work: Work) -> np.ndarray:
    """Within the support our scores are the exact ones; returns the pixels that were compared."""
    fit = work.tweedie()
    lower, upper = fit.curve_.support
    inside = work.pixels[(work.pixels > lower) & (work.pixels < upper)][:N_EXACT].astype(float)
    variants: dict[str, Callable[[], np.ndarray]] = {
        "tweedie, float64": lambda: fit.correct(inside),
        "tweedie, float32": lambda: fit.correct(inside.astype(np.float32)),
        "scipy": lambda: work.exact(inside),
    }
    limits = {"tweedie, float64": 1e-3, "tweedie, float32": 1e-3, "scipy": 1e-3}
    expected = work.exact_score(inside)
    common.check_answers(variants, inside - fit.noise_variance_ * expected, limits)
    found = (inside - fit.correct(inside)) / fit.noise_variance_
    error = float(np.abs(found - expected).max() / expected.std())
    rows.add("P7", "largest error of the score, in its sd", error, 1e-4, at_most=True)
    return inside


def bench(rows: common.Rows, work: Work, inside: np.ndarray, reps: int) -> None:
    """P7, P8: the same raster by each."""
    tweedie, linear = work.tweedie(), work.linear()
    variants = {
        "tweedie": lambda: tweedie.correct(work.pixels),
        "lcc": lambda: linear.correct(work.pixels),
        "copy": lambda: work.pixels.copy(),
        "scipy": lambda: work.exact(inside),
    }
    seconds = common.interleave(variants, reps)
    millions = len(work.pixels) / 1e6
    for name in ("tweedie", "lcc", "copy"):
        rows.throughput(name, millions, seconds[name], "million pixels")
    rate = millions / float(np.median(seconds["tweedie"]))
    rows.add("P7", "tweedie, million pixels per CPU second", rate, 100)
    exact_rate = len(inside) / float(np.median(seconds["scipy"]))
    rows.add("P7", "tweedie / scipy, pixels per CPU second", rate * 1e6 / exact_rate, 10_000)
    value = common.ratio(seconds["lcc"], seconds["copy"])
    rows.add("P8", "lcc / copy", value, 3, at_most=True)


def main() -> None:
    flags = common.parser(__doc__)
    flags.add_argument("--pixels", type=int, default=20_000_000)
    flags.add_argument("--pairs", type=int, default=5000, help="calibration pairs")
    arguments = flags.parse_args()
    if arguments.light:
        arguments.pixels = 10_000
    rows = common.Rows("b5_correction", arguments, "numpy", "numba", "scipy")
    work = world(arguments.pairs, arguments.pixels)
    inside = check(rows, work)
    if not arguments.light:
        bench(rows, work, inside, arguments.reps)
    rows.write()


if __name__ == "__main__":
    main()
