"""Folds for cross-fitting that keep together what belongs together."""

import heapq
from dataclasses import dataclass
from itertools import pairwise
from typing import Annotated, Literal

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray
from pydantic import Field

from eo_causal.core.progress import count
from eo_causal.core.random import generator
from eo_causal.core.settings import Settings
from eo_causal.core.units import StudyUnits
from eo_causal.errors import DataError, LeakageError

Positions = NDArray[np.intp]
Places = NDArray[np.float64]
BLOCKS_A_FOLD = 8
FEWEST_GROUPS = 10
FEWEST_KEYS = 2


@dataclass(frozen=True)
class Folds:
    """Several random splits of the units into folds; one object for every nuisance and network.

    Attributes
    ----------
    table : Dataset
        ``fold_of_unit (split, unit)`` number of the fold a unit is predicted in; ``training (split, fold,
        unit)`` True where a fold's models may learn from the unit; ``group (unit)`` codes of what is
        kept whole (spatial blocks: those of the first split).
    kind : str
        ``spatial_block``, ``image_key`` or ``cluster``.
    n_merged : int
        Groups that were joined because their footprints share ground.
    """

    table: xr.Dataset
    kind: str
    n_merged: int

    @property
    def n_splits(self) -> int:
        """Number of splits."""
        return self.table.sizes["split"]

    @property
    def n_folds(self) -> int:
        """Number of folds of a split."""
        return self.table.sizes["fold"]

    @property
    def group(self) -> Positions:
        """(unit,) codes."""
        return self.table["group"].to_numpy()

    def pairs(self, split: int) -> list[tuple[Positions, Positions]]:
        """(training, test) positions of each fold of a split; the tests are a partition."""
        fold = self.table["fold_of_unit"].to_numpy()[split]
        training = self.table["training"].to_numpy()[split]
        return [
            (np.flatnonzero(training[k]), np.flatnonzero(fold == k)) for k in range(self.n_folds)
        ]

    def sequence(self, split: int, seed: int) -> list[tuple[Positions, Positions]]:
        """(training, test) positions where each fold is tested by models of the folds before it.

        Folds come in random order; the first is only learned from. What a model says of a test fold
        never depends on the outcomes of a later one, so that the folds' test statistics given the
        past are independent (see :func:`eo_causal.estimate.rate.sequential_rate`).
        """
        pairs = self.pairs(split)
        order = generator(seed, "sequence of folds", split).permutation(self.n_folds)
        known = np.zeros(self.table.sizes["unit"], dtype=bool)
        found = []
        for before, k in pairwise(order):
            known[pairs[before][1]] = True
            training, test = pairs[k]
            found.append((training[known[training]], test))
        return found


class FoldSettings(Settings):
    """How units are split for cross-fitting."""

    kind: Literal["auto", "spatial_block", "image_key", "cluster"] = Field(
        default="auto",
        description="auto = spatial_block for observed treatment with places, else image_key",
    )
    n_folds: Annotated[int, Field(ge=2)] = 5
    n_splits: Annotated[int, Field(ge=1)] = Field(
        default=5, description="random splits; the median over them is reported"
    )
    block_km: Annotated[float, Field(gt=0)] | None = Field(
        default=None, description="side of a block; default: about 8 occupied blocks a fold"
    )
    buffer_m: Annotated[float, Field(ge=0)] | None = Field(
        default=None, description="units nearer to a test unit do not train; default: the footprint"
    )


def make_folds(
    units: StudyUnits,
    settings: FoldSettings,
    overlap: pd.DataFrame | None,
    footprint_m: float,
    randomised: bool,
    *,
    seed: int,
) -> Folds:
    """Random splits that never part an image key and never test on ground that was learned from.

    Groups are shuffled and dealt to folds of about equal numbers of units. ``spatial_block`` lays
    square blocks, shifted at random for each split; image keys with a unit nearer than the buffer
    to a test unit do not train in its fold. Near is the larger of the differences in easting and
    northing, because two footprints of width w share ground where both are below w; keys that
    ``overlap`` lists with a test key do not train either. Where the buffer is narrower than a
    footprint, and for the other kinds, keys whose footprints overlap become one group instead.

    Parameters
    ----------
    units : StudyUnits
        Units with their treatment.
    settings : FoldSettings
        Kind and sizes.
    overlap : DataFrame or None
        ``unit_a, unit_b``: image keys whose footprints share ground. None = not known: squares of
        ``footprint_m`` round the places of the units decide, where there are places.
    footprint_m : float
        Width of a footprint on the ground; 0 where no image is used.
    randomised : bool
        Whether treatment was assigned at random.
    seed : int
        Seed of the run.

    Raises
    ------
    DataError
        Fewer than 10 groups, fewer than two image keys of an arm to learn from, or blocks without
        places.
    LeakageError
        An image key, or two overlapping footprints, in training and test of one fold.
    """
    kind = settings.kind
    if kind == "auto":
        blocks = units.coordinates is not None and not randomised
        kind = "spatial_block" if blocks else "image_key"
    buffer_m = footprint_m if settings.buffer_m is None else settings.buffer_m
    merges = kind != "spatial_block" or buffer_m < footprint_m
    names, key = np.unique(units.table["image_key"].to_numpy(dtype=str), return_inverse=True)
    pairs = _shared_ground(units, names, key, overlap, footprint_m if merges else 0.0)
    links = _links(units.cluster, key) if kind == "cluster" else pairs[:0]
    apart = _joined(links, len(names))
    whole = _joined(np.concatenate([links, pairs]), len(names)) if merges else apart
    if kind == "spatial_block":
        widest = max(footprint_m, buffer_m)
        groups = _block_groups(_places(units), whole[key], widest, settings, seed)
    else:
        groups = [whole[key]] * settings.n_splits
    n_merged = int(apart.max() - whole.max())
    for group in groups:
        _check_number(group, kind, n_merged, settings.n_folds)
    fold = np.stack(
        [_deal(g, settings.n_folds, generator(seed, "folds", s)) for s, g in enumerate(groups)]
    )
    test = fold[:, None] == np.arange(settings.n_folds)[:, None]
    near = np.zeros_like(test)
    if kind == "spatial_block":
        near = _near(_places(units), test, key, pairs, buffer_m) & ~test
    table = xr.Dataset(
        {
            "fold_of_unit": (("split", "unit"), fold),
            "training": (("split", "fold", "unit"), ~test & ~near),
            "group": ("unit", groups[0]),
        }
    )
    folds = Folds(table, kind, n_merged)
    check_separate(folds, key, pairs)
    if not np.isnan(units.treatment).all():  # a survey, where nothing was treated
        _check_arms(folds, key, units.treatment)
    count(fold_groups=len(np.unique(groups[0])), groups_merged=n_merged)
    count(units_left_out_a_fold=round(near.sum() / (settings.n_splits * settings.n_folds)))
    return folds


def check_separate(folds: Folds, key: Positions, pairs: Positions) -> None:
    """Refuse folds that test on an image key they learn from, or on ground they have seen.

    Parameters
    ----------
    folds : Folds
        To be checked.
    key : (unit,) array
        Codes of image keys.
    pairs : (pair, 2) array
        Codes of image keys whose footprints share ground.

    Raises
    ------
    LeakageError
        Always then; no setting allows it.
    """
    for split in range(folds.n_splits):
        for fold, (training, test) in enumerate(folds.pairs(split)):
            learned, tested = np.zeros((2, key.max() + 1), dtype=bool)
            learned[key[training]] = tested[key[test]] = True
            n_keys = int((learned & tested).sum())
            n_pairs = int((learned[pairs] & tested[pairs[:, ::-1]]).any(axis=1).sum())
            if n_keys or n_pairs:
                raise LeakageError(
                    f"Fold {fold} of split {split} learns from and is tested on {n_keys} image"
                    f" key(s) and {n_pairs} pair(s) of overlapping footprints. Make folds with"
                    " make_folds, from all units and the overlap table of their chips.",
                    split=split, fold=fold, n_keys=n_keys, n_pairs=n_pairs,
                )  # fmt: skip


def _places(units: StudyUnits) -> Places:
    places = units.coordinates
    if places is None:
        raise DataError(
            "Spatial blocks need a place for each unit, and some have none. Give every unit a"
            " geometry, or set folds.kind to image_key."
        )
    return places


def _shared_ground(
    units: StudyUnits,
    names: NDArray[np.str_],
    key: Positions,
    overlap: pd.DataFrame | None,
    footprint_m: float,
) -> Positions:
    """(pair, 2) codes of image keys whose footprints overlap."""
    from scipy.spatial import cKDTree

    if overlap is not None:
        index = pd.Index(names)
        ends = [index.get_indexer(overlap[end].astype(str)) for end in ("unit_a", "unit_b")]
        listed = np.stack(ends, axis=1)
        return listed[(listed >= 0).all(axis=1)]
    if units.coordinates is None or footprint_m == 0:
        return np.empty((0, 2), np.intp)
    places = _means(units.coordinates, key)
    pairs = cKDTree(places).query_pairs(footprint_m, p=np.inf, output_type="ndarray")
    distance = np.abs(places[pairs[:, 0]] - places[pairs[:, 1]]).max(axis=1)
    return pairs[distance < footprint_m]


def _links(cluster: Positions, key: Positions) -> Positions:
    """(unit, 2): the image key of each unit and the first one of its cluster."""
    first = np.unique(cluster, return_index=True)[1]
    return np.stack([key, key[first][cluster]], axis=1)


def _joined(links: Positions, n: int) -> Positions:
    """(n,) codes of the sets that links join."""
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    graph = coo_matrix((np.ones(len(links)), (links[:, 0], links[:, 1])), shape=(n, n))
    return np.asarray(connected_components(graph, directed=False)[1], dtype=np.intp)


def _means(places: Places, codes: Positions) -> Places:
    """(code, 2) mean place of the rows of each code."""
    sizes = np.bincount(codes)
    return np.stack([np.bincount(codes, column) / sizes for column in places.T], axis=1)


def _block_groups(
    places: Places, whole: Positions, widest_m: float, settings: FoldSettings, seed: int
) -> list[Positions]:
    """(unit,) block codes for each split; what is kept whole lies in the block of its mean place."""
    middle = _means(places, whole)
    wanted = BLOCKS_A_FOLD * settings.n_folds
    side = 1000 * settings.block_km if settings.block_km else _side(middle, 2 * widest_m, wanted)
    shifts = [generator(seed, "blocks", s).uniform(0, side, 2) for s in range(settings.n_splits)]
    return [_blocks(middle, side, shift)[whole] for shift in shifts]


def _side(places: Places, narrowest: float, wanted: int) -> float:
    """The longest side, of halving areas, that occupies the wanted number of blocks."""
    extent = float(np.ptp(places, axis=0).max())
    side = extent / 2
    while side > extent / 1000 and _blocks(places, side, places.min(axis=0)).max() < wanted - 1:
        side /= np.sqrt(2)
    return max(side, narrowest, 1.0)


def _blocks(places: Places, side: float, corner: Places) -> Positions:
    """(place,) codes of the occupied squares."""
    cell = np.floor((places - corner) / side).astype(np.int64)
    return np.unique(cell[:, 0] * 2**32 + cell[:, 1], return_inverse=True)[1]


def _deal(group: Positions, n_folds: int, random: np.random.Generator) -> Positions:
    """(unit,) fold: groups in random order, the larger first, each to the smallest fold so far."""
    sizes = np.bincount(group)
    order = random.permutation(len(sizes))
    order = order[np.argsort(-sizes[order], kind="stable")]
    fold_of_group = np.empty(len(sizes), dtype=np.intp)
    loads = [(0, fold) for fold in range(n_folds)]
    for number in order:
        load, fold = heapq.heappop(loads)
        fold_of_group[number] = fold
        heapq.heappush(loads, (load + int(sizes[number]), fold))
    return fold_of_group[group]


def _near(
    places: Places, test: NDArray[np.bool_], key: Positions, pairs: Positions, buffer_m: float
) -> NDArray[np.bool_]:
    """(split, fold, unit): whether a unit's image lies near, or shares ground with, a test unit."""
    from scipy.spatial import cKDTree

    distinct, place = np.unique(places, axis=0, return_inverse=True)
    near = np.zeros_like(test)
    for split, fold in np.ndindex(test.shape[:2]):
        here = test[split, fold]
        tested, others = np.unique(place[here]), np.unique(place[~here])
        found = cKDTree(distinct[tested]).query(
            distinct[others], distance_upper_bound=buffer_m, p=np.inf
        )
        close = np.zeros(len(distinct), dtype=bool)
        close[others] = np.isfinite(found[0])
        tested_key, near_key = np.zeros((2, key.max() + 1), dtype=bool)
        tested_key[key[here]] = True
        near_key[key[close[place]]] = True
        for one, other in ((0, 1), (1, 0)):
            near_key[pairs[tested_key[pairs[:, one]], other]] = True
        near[split, fold] = near_key[key]
    return near


def _check_number(group: Positions, kind: str, n_merged: int, n_folds: int) -> None:
    n, least = len(np.unique(group)), max(FEWEST_GROUPS, n_folds)
    if n < least:
        raise DataError(
            f"{len(group)} units are only {n} group(s) of kind {kind}, {n_merged} having been joined"
            f" to others whose footprints overlap; {least} are the least for {n_folds} folds. Choose"
            " another folds.kind (spatial_block joins no footprints), a smaller folds.block_km or"
            " footprint, or more places.",
            n_groups=n, least=least, n_merged=n_merged,
        )  # fmt: skip


def _check_arms(folds: Folds, key: Positions, treatment: NDArray[np.float64]) -> None:
    for split in range(folds.n_splits):
        for fold, (training, _) in enumerate(folds.pairs(split)):
            learned, arm = key[training], treatment[training]
            n_treated, n_control = (len(np.unique(learned[arm == value])) for value in (1, 0))
            if min(n_treated, n_control) < FEWEST_KEYS:
                raise DataError(
                    f"Fold {fold} of split {split} learns from {n_treated} treated and {n_control}"
                    f" control image keys; {FEWEST_KEYS} of each are the least. Set a smaller"
                    " folds.buffer_m or folds.block_km, or fewer folds.",
                    split=split, fold=fold, n_treated=n_treated, n_control=n_control,
                )  # fmt: skip
