"""Would the method find an effect where there is none? Placebos in space, negative controls."""

from collections.abc import Callable, Mapping, Sequence
from typing import Annotated

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import Field

from eo_causal.audit.report import AuditReport
from eo_causal.core.effect import Effect
from eo_causal.core.progress import count, track
from eo_causal.core.random import generator
from eo_causal.core.settings import Settings
from eo_causal.errors import DataError

Floats = NDArray[np.float64]
Positions = NDArray[np.intp]
Estimator = Callable[[Positions, Floats], float]
LARGEST_T = 2.0


class PlaceboSettings(Settings):
    """Pseudo-treated blocks among units that were never treated."""

    n_placebos: Annotated[int, Field(ge=1)] = 199
    buffer_km: Annotated[float, Field(ge=0)] = Field(
        default=10.0, description="units nearer than this to a treated one take no part"
    )
    block_km: Annotated[float, Field(gt=0)] = Field(
        default=10.0, description="treated units nearer than this to one another are one block"
    )
    alpha: Annotated[float, Field(gt=0, lt=0.5)] = 0.05


def placebo_rank(effect: float, placebos: Sequence[float], alpha: float = 0.05) -> AuditReport:
    """Rank of an effect among effects where nothing happened.

    p = (1 + number of placebos at least as large) / (J + 1); a placebo that is NaN counts as large.

    Parameters
    ----------
    effect : float
        The effect found.
    placebos : sequence of float
        The same estimate where there was no treatment.
    alpha : float
        Level of the claim. Below 1/alpha - 1 placebos no claim is possible.

    Returns
    -------
    AuditReport
        ``placebo_rank``. Flag ``placebo_floor`` where 1/(J + 1) > alpha; the claim is then refused
        whatever the rank.

    Notes
    -----
    Source: specification AU section 6.
    """
    others = np.asarray(placebos, dtype=float)
    floor = 1 / (len(others) + 1)
    p = (1 + int((~(np.abs(others) < abs(effect))).sum())) * floor
    table = pd.DataFrame(
        [{"check": "placebo rank", "n": len(others), "statistic": effect, "p_value": p,
          "smallest_p_value": floor}]
    )  # fmt: skip
    text = (
        f"Among {len(others)} placebos p = {p:.3f}; the smallest that so many can give is"
        f" {floor:.3f}."
    )
    if floor > alpha:
        text += f" A claim at {alpha:.0%} is refused: it needs {int(np.ceil(1 / alpha)) - 1}."
        return AuditReport("placebo_rank", "warn", text, table, ("placebo_floor",))
    if p > alpha:
        text += " As large an effect is found where nothing happened."
        return AuditReport("placebo_rank", "warn", text, table)
    return AuditReport("placebo_rank", "pass", text, table)


def placebo_in_space(
    effect: float,
    estimator: Estimator,
    treatment: Floats,
    coordinates_m: Floats,
    settings: PlaceboSettings,
    *,
    seed: int,
) -> AuditReport:
    """The same estimate with pseudo-treated blocks among the never-treated units.

    Parameters
    ----------
    effect : float
        The effect of the real treatment.
    estimator : callable
        (positions of the units that take part, their pseudo-treatment) -> estimate.
    treatment : (n,) array
        0 or 1.
    coordinates_m : (n, 2) array
        Metres.
    settings : PlaceboSettings
        Number, buffer, blocks.
    seed : int
        Seed of the run.

    Returns
    -------
    AuditReport
        ``placebo_in_space``; as :func:`placebo_rank`, its table followed by a row a placebo.

    Raises
    ------
    DataError
        Too few never-treated units beyond the buffer.
    """
    used, drawn = pseudo_treatments(treatment, coordinates_m, settings, seed=seed)
    found = [estimator(used, pseudo) for pseudo in track(list(drawn), "placebos in space")]
    count(placebos_in_space=len(found))
    ranked = placebo_rank(effect, found, settings.alpha)
    rows = pd.DataFrame({"check": "placebo", "n": len(used), "statistic": found})
    table = pd.concat([ranked.table, rows], ignore_index=True)
    return AuditReport("placebo_in_space", ranked.status, ranked.text, table, ranked.flags)


def pseudo_treatments(
    treatment: Floats, coordinates_m: Floats, settings: PlaceboSettings, *, seed: int
) -> tuple[Positions, NDArray[np.float64]]:
    """Pseudo-treated units: the treated blocks, each turned at random and laid elsewhere.

    Treated units within ``block_km`` of one another are a block. Each block is turned by a random
    angle and laid with its middle on a random unit that was never treated and lies beyond the
    buffer; the nearest such units become pseudo-treated, none twice, as many as were treated.

    Returns
    -------
    used : (m,) array
        Positions of the never-treated units beyond the buffer.
    drawn : (placebo, m) array
        1 for pseudo-treated units.

    Raises
    ------
    DataError
        Not twice as many such units as treated ones, or none treated.
    """
    from scipy.spatial import cKDTree

    treated = np.flatnonzero(treatment == 1)
    never = np.flatnonzero(treatment == 0)
    if not np.isfinite(coordinates_m).all() or not len(treated):
        raise DataError("Placebos in space need treated units, and a place for every unit.")
    far = cKDTree(coordinates_m[treated]).query(coordinates_m[never])[0]
    used = never[far >= 1000 * settings.buffer_km]
    if len(used) < 2 * len(treated):
        raise DataError(
            f"{len(used)} never-treated units lie {settings.buffer_km:g} km or more from the"
            f" {len(treated)} treated ones; placebos need twice as many as are treated. Set a smaller"
            " buffer_km, or leave out this audit.",
            n=len(used), n_treated=len(treated),
        )  # fmt: skip
    blocks = _treated_blocks(coordinates_m[treated], 1000 * settings.block_km)
    places = coordinates_m[used]
    drawn = np.zeros((settings.n_placebos, len(used)))
    for number in range(settings.n_placebos):
        random = generator(seed, "placebo_in_space", number)
        wanted = [
            places[random.integers(len(places))] + block @ _turn(random.uniform(0, 2 * np.pi))
            for block in blocks
        ]
        drawn[number, _distinct_nearest(np.concatenate(wanted), places)] = 1
    return used, drawn


def negative_controls(effects: Mapping[str, Effect]) -> AuditReport:
    """Outcomes that were fixed before the treatment must not move.

    Parameters
    ----------
    effects : mapping
        Outcome -> its effect from the same pipeline, with a standard error.

    Returns
    -------
    AuditReport
        ``negative_controls``; fails where an estimate is more than 2 standard errors from zero, or
        has none. Flag ``negative_control_moves``.

    Raises
    ------
    DataError
        No outcome.
    """
    if not effects:
        raise DataError("No negative-control outcome is named. Name one, or leave out this audit.")
    rows = []
    for name, effect in effects.items():
        error = effect.std_error or np.nan
        rows.append({"check": name, "n": effect.n, "statistic": effect.estimate,
                     "std_error": error, "t": effect.estimate / error})  # fmt: skip
    table = pd.DataFrame(rows)
    moved = table[~(table["t"].abs() <= LARGEST_T)]
    shown = ", ".join(f"{row.check} (t = {row.t:.2f})" for row in table.itertuples())
    text = f"Outcomes fixed before the treatment: {shown}."
    if len(moved):
        text += f" {len(moved)} of {len(table)} move by more than {LARGEST_T:g} standard errors."
        return AuditReport("negative_controls", "fail", text, table, ("negative_control_moves",))
    return AuditReport("negative_controls", "pass", text, table)


def _treated_blocks(places: Floats, reach_m: float) -> list[Floats]:
    """Places of each block from its middle; the largest block first."""
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components
    from scipy.spatial import cKDTree

    pairs = cKDTree(places).query_pairs(reach_m, output_type="ndarray")
    shape = (len(places), len(places))
    graph = coo_matrix((np.ones(len(pairs)), (pairs[:, 0], pairs[:, 1])), shape=shape)
    codes = connected_components(graph, directed=False)[1]
    blocks = [places[codes == code] for code in range(codes.max() + 1)]
    return [block - block.mean(axis=0) for block in sorted(blocks, key=len, reverse=True)]


def _turn(angle: float) -> Floats:
    return np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])


def _distinct_nearest(wanted: Floats, places: Floats) -> Positions:
    """One place for each wanted one, none twice; each goes to the first that finds it nearest."""
    from scipy.spatial import cKDTree

    chosen = np.full(len(wanted), -1)
    free = np.arange(len(places))
    while (unmet := np.flatnonzero(chosen < 0)).size:
        nearest = cKDTree(places[free]).query(wanted[unmet])[1]
        taken, first = np.unique(nearest, return_index=True)
        chosen[unmet[first]] = free[taken]
        free = np.delete(free, taken)
    return chosen
