"""Networks for images that confound: one trunk that predicts treatment and both outcomes.

What moves the treatment and the outcome is learned together, inside the training part of every
fold; predictions for a unit come from a network that did not see its image.
"""

from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal, Self

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray
from pydantic import Field

from eo_causal.core.folds import Folds
from eo_causal.core.progress import count, track
from eo_causal.core.random import generator
from eo_causal.core.tasks import compute_tasks
from eo_causal.core.units import StudyUnits
from eo_causal.encode.base import check_chips
from eo_causal.encode.examples import Examples, check_binary, check_varies
from eo_causal.encode.network_fit import NetworkFit
from eo_causal.encode.salience import check_salience, drawn, gradient_salience
from eo_causal.encode.train import NetworkSettings, TrainedNetwork, warn_of_settings
from eo_causal.errors import ConfigError, DataError

Positions = NDArray[np.intp]
PREDICTED = ["propensity", "mu0", "mu1"]
N_SHOWN = 3


class JointSettings(NetworkSettings):
    """A network for treatment and outcomes, and how often it is cross-fitted."""

    outputs: ClassVar[int] = 3

    treatment_weight: float = Field(default=1.0, gt=0, description="of the log loss")
    outcome_weight: float = Field(
        default=1.0, gt=0, description="of the squared error of the outcome, in its standard deviations"
    )  # fmt: skip
    n_splits: int = Field(default=1, ge=1, description="splits of the folds that are trained on")
    explain: Literal["treatment", "effect"] = Field(
        default="treatment",
        description="whose salience maps are drawn: of the logit, or of mu1 - mu0",
    )


class JointNetwork(TrainedNetwork):
    """Predicts propensity and the outcome without and with treatment from chips.

    Three linear outputs share the trunk of the settings. The loss is the log loss of the treatment
    plus the squared error of the outcome in the arm that was observed, standardised by the training
    part.

    Parameters
    ----------
    settings : JointSettings, optional

    Notes
    -----
    The treatment head alone is the propensity model of arXiv 2301.12985.
    """

    name = "joint_network"
    settings: JointSettings

    def __init__(self, settings: JointSettings | None = None) -> None:
        self.settings = settings or JointSettings()

    def fit(  # type: ignore[override]  # a supervised encoder cannot do without its targets
        self,
        chips: xr.DataArray,
        treatment: Any,
        outcome: Any,
        units: Positions | None = None,
        groups: Any = None,
    ) -> Self:
        """Train on some units and no others.

        Parameters
        ----------
        chips : DataArray (unit, time, band, y, x)
        treatment, outcome : (n,) array
            0 or 1, and any number, a row of ``units``.
        units : (n,) int array, optional
            Position of each row's image in ``chips``; rows may share an image. All by default.
        groups : (n,) array, optional
            Kept whole by the validation split; the image by default.

        Raises
        ------
        DataError, LeakageError, ConfigError, ConvergenceError
            As :meth:`eo_causal.encode.train.ImageNetwork.fit` says.

        Warns
        -----
        EOCausalWarning
            ``AugmentationWarning``, ``LabelSmoothingWarning``.
        """
        warn_of_settings(self.settings)
        return self._fit(chips, treatment, outcome, units, groups)

    def predict(self, chips: xr.DataArray) -> pd.DataFrame:
        """``propensity``, ``mu0`` and ``mu1``, in units of the outcome; one row a chip."""
        from scipy.special import expit

        logit, *outcomes = self.outputs(chips).T
        columns = [expit(logit), *(values * self.scale_ + self.centre_ for values in outcomes)]
        return pd.DataFrame(dict(zip(PREDICTED, columns, strict=True)))

    @property
    def output_scale(self) -> float:
        """Units of what is explained: 1 for a logit, sd of the outcome for effects."""
        return 1.0 if self.settings.explain == "treatment" else self.scale_

    def explained(self, output: Any) -> Any:
        """The logit of treatment, or the effect mu1 - mu0, of each row of raw outputs."""
        if self.settings.explain == "treatment":
            return output[:, 0]
        return output[:, 2] - output[:, 1]

    def _fit(
        self,
        chips: xr.DataArray,
        treatment: Any,
        outcome: Any,
        units: Positions | None,
        groups: Any,
    ) -> Self:
        from eo_causal.encode.loop import joint_objective, train_network

        targets = {"the treatment": treatment, "the outcome": outcome}
        examples = self._examples(chips, targets, units, groups)
        check_binary(examples.target[:, 0], "a joint network needs a treatment")
        training, validation = self._divide(examples)
        for name, values in zip(targets, training.target.T, strict=True):
            check_varies(values, f"the training part of {name}")
        self.centre_ = float(training.target[:, 1].mean())
        self.scale_ = float(training.target[:, 1].std())
        best = train_network(
            self.settings, self.inputs, self._scaled(training), self._scaled(validation),
            joint_objective(self.settings),
        )  # fmt: skip
        self._keep(best, training, validation)
        return self

    def _scaled(self, examples: Examples) -> Examples:
        return replace(examples, target=(examples.target - [0, self.centre_]) / [1, self.scale_])


@dataclass(frozen=True)
class NetworkStudy:
    """What the tasks of all folds share: position of each unit's image, treatment, outcome, group."""

    image: Positions
    treatment: NDArray[np.float64]
    outcome: NDArray[np.float64]
    group: Positions


@dataclass(frozen=True)
class FoldFit:
    """A network, the fold it is of, and its predictions for the units (positions) it left out."""

    network: JointNetwork
    split: int
    fold: int
    test: Positions
    predictions: pd.DataFrame


def cross_fit_network(
    chips: xr.DataArray, units: StudyUnits, folds: Folds, settings: JointSettings, *, seed: int
) -> NetworkFit:
    """Train one network a fold, and predict every unit by the network that did not see it.

    One dask task a fold. Early stopping holds out whole groups of the folds. Networks depend on the
    seeds of run and settings, split and fold, and nothing else.

    Parameters
    ----------
    chips : DataArray (unit, time, band, y, x)
        One an image key, numpy or dask; units share them by ``image_key``.
    units : StudyUnits
    folds : Folds
        Of these units.
    settings : JointSettings
    seed : int
        Of the run.

    Raises
    ------
    ConfigError
        More splits than the folds have.
    DataError
        Units without a chip; otherwise as :meth:`JointNetwork.fit`.

    Warns
    -----
    EOCausalWarning
        ``AugmentationWarning``, ``LabelSmoothingWarning``, ``SalienceWarning``.
    """
    warn_of_settings(settings)
    study = _study(chips, units, folds, settings)
    fits = [
        fit
        for split in track(range(settings.n_splits), "networks")
        for fit in _fit_split(chips, study, folds.pairs(split), settings, split, 0, seed)
    ]
    count(networks=len(fits), epochs=sum(len(fit.network.history_) for fit in fits))
    predictions = _predictions(fits, units)
    models = [
        (fit.network, study.image[folds.pairs(0)[fit.fold][0]]) for fit in fits if fit.split == 0
    ]
    shown = _shown(predictions, units, study, settings)
    salience, correlation = _explain(models, chips, shown, seed)
    return NetworkFit(predictions, salience, _history(fits), _networks(fits), correlation)


def cross_fit_sequence(
    chips: xr.DataArray, units: StudyUnits, folds: Folds, settings: JointSettings, *, seed: int
) -> pd.DataFrame:
    """Predict each fold by a network of the folds before it, for sequential tests of a ranking.

    Parameters
    ----------
    chips, units, folds, settings, seed
        As :func:`cross_fit_network`, with the same errors and warnings.

    Returns
    -------
    DataFrame
        ``split``, ``unit_id``, ``propensity``, ``mu0``, ``mu1``; no rows for the units of each split's
        first fold (:meth:`eo_causal.core.folds.Folds.sequence`).
    """
    study = _study(chips, units, folds, settings)
    fits = [
        fit
        for split in track(range(settings.n_splits), "networks in sequence")
        for fit in _fit_split(
            chips, study, folds.sequence(split, seed), settings, split, folds.n_folds, seed
        )
    ]
    count(networks=len(fits), epochs=sum(len(fit.network.history_) for fit in fits))
    return _predictions(fits, units)


def _study(
    chips: xr.DataArray, units: StudyUnits, folds: Folds, settings: JointSettings
) -> NetworkStudy:
    check_chips(chips)
    if settings.n_splits > folds.n_splits:
        raise ConfigError(
            f"n_splits: {settings.n_splits} of the network, but there are {folds.n_splits}. Lower"
            " it, or raise folds.n_splits.", n_splits=settings.n_splits,
        )  # fmt: skip
    return NetworkStudy(_images_of(units, chips), units.treatment, units.outcome, folds.group)


def fit_fold(
    chips: xr.DataArray,
    study: NetworkStudy,
    pair: tuple[Positions, Positions],
    settings: JointSettings,
    split_and_fold: tuple[int, int],
) -> FoldFit:
    """The network of one training part, and its predictions for the test part."""
    import dask

    training, test = pair
    with dask.config.set(scheduler="synchronous"):
        network = JointNetwork(settings)._fit(
            chips, study.treatment[training], study.outcome[training], study.image[training],
            study.group[training],
        )  # fmt: skip
        images, row = np.unique(study.image[test], return_inverse=True)
        predicted = network.predict(chips.isel(unit=images))
    return FoldFit(network, *split_and_fold, test, predicted.iloc[row])


def _fit_split(
    chips: xr.DataArray,
    study: NetworkStudy,
    pairs: list[tuple[Positions, Positions]],
    settings: JointSettings,
    split: int,
    first: int,
    seed: int,
) -> list[FoldFit]:
    """One task a pair of training and test units; pairs are numbered from ``first``."""
    from dask.delayed import delayed

    # traverse=False: else dask would load the chips before it hands them out
    shared = [delayed(item, traverse=False) for item in (chips, study)]
    task = delayed(fit_fold, pure=False)
    tasks = [
        task(*shared, pair, _seeded(settings, seed, split, fold), (split, fold))
        for fold, pair in enumerate(pairs, first)
    ]
    return compute_tasks(tasks)


def _seeded(settings: JointSettings, seed: int, split: int, fold: int) -> JointSettings:
    child = generator(seed, "joint", settings.seed, split, fold).integers(2**31)
    return settings.model_copy(update={"seed": int(child)})


def _images_of(units: StudyUnits, chips: xr.DataArray) -> Positions:
    image = units.image_of(chips["image_key"].to_numpy().astype(str))
    absent = units.table.loc[image < 0, "unit_id"].tolist()
    if absent:
        raise DataError(
            f"{len(absent)} of {len(units)} units have no chip (first: {absent[0]}). Leave them out"
            " under units.exclude, or widen the period of the imagery.", unit_ids=absent,
        )  # fmt: skip
    return image


def _predictions(fits: list[FoldFit], units: StudyUnits) -> pd.DataFrame:
    """Of all folds, in the order of split and unit."""
    parts = [fit.predictions.assign(split=fit.split, unit=fit.test) for fit in fits]
    found = pd.concat(parts).sort_values(["split", "unit"], ignore_index=True)
    found["unit_id"] = units.table["unit_id"].to_numpy()[found["unit"]]
    return found[["split", "unit_id", *PREDICTED]]


def _history(fits: list[FoldFit]) -> pd.DataFrame:
    parts = [fit.network.history_.assign(split=fit.split, fold=fit.fold) for fit in fits]
    columns = ["split", "fold", "epoch", "training_loss", "validation_loss"]
    return pd.concat(parts, ignore_index=True)[columns]


def _networks(fits: list[FoldFit]) -> pd.DataFrame:
    return pd.DataFrame([
        {"split": fit.split, "fold": fit.fold, **fit.network.metrics_,
         "weights_sha256": fit.network.provenance()["weights_sha256"]}
        for fit in fits
    ])  # fmt: skip


def _shown(
    predictions: pd.DataFrame, units: StudyUnits, study: NetworkStudy, settings: JointSettings
) -> pd.DataFrame:
    """Places to explain: ``image``, ``treated``, ``propensity`` and ``effect`` of the first split.

    Treated places of highest and untreated ones of lowest propensity; to explain effects, places of
    the largest and of the smallest. A place is shown once, whether its images or its units say that it
    is the same (to the metre).
    """
    first = predictions.iloc[: len(units)]
    table = pd.DataFrame({
        "image": study.image, "place": study.image, "treated": study.treatment == 1,
        "propensity": first["propensity"].to_numpy(),
        "effect": (first["mu1"] - first["mu0"]).to_numpy(),
    })  # fmt: skip
    if units.coordinates is not None:
        rounded = np.round(units.coordinates)
        table["place"] = np.unique(rounded, axis=0, return_inverse=True)[1]
    if settings.explain == "effect":
        ordered = _distinct(table.sort_values("effect", kind="stable"))
        few = min(N_SHOWN, len(ordered) // 2)
        return pd.concat([ordered.tail(few)[::-1], ordered.head(few)], ignore_index=True)
    ordered = table.sort_values("propensity", kind="stable")
    untreated = _distinct(ordered[~ordered["treated"]]).head(N_SHOWN)
    treated = ordered[ordered["treated"]][::-1]
    seen = treated["place"].isin(untreated["place"]) | treated["image"].isin(untreated["image"])
    return pd.concat([_distinct(treated[~seen]).head(N_SHOWN), untreated], ignore_index=True)


def _distinct(table: pd.DataFrame) -> pd.DataFrame:
    return table.drop_duplicates("image").drop_duplicates("place")


def _explain(
    models: list[tuple[JointNetwork, Positions]],
    chips: xr.DataArray,
    shown: pd.DataFrame,
    seed: int,
) -> tuple[xr.Dataset, float | None]:
    """Maps of the shown places, and their correlation with those of random weights.

    Parameters
    ----------
    models : list of (JointNetwork, positions)
        With the images each has seen.
    """
    image = shown["image"].to_numpy()
    seen_by = [(network, np.flatnonzero(~np.isin(image, seen))) for network, seen in models]
    images = chips.isel(unit=image).compute()
    maps = gradient_salience(seen_by, images)
    maps["drawn"] = (maps["direction"].dims, drawn(maps["direction"].to_numpy()))
    for name in ("treated", "propensity", "effect"):
        maps[name] = ("unit", shown[name].to_numpy())
    correlation = check_salience(seen_by, images, seed)
    return maps, correlation if np.isfinite(correlation) else None
