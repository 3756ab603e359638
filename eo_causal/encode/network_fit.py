"""What cross-fitted networks leave behind, as values: readable without torch."""

from dataclasses import dataclass

import pandas as pd
import xarray as xr


@dataclass(frozen=True)
class NetworkFit:
    """Cross-fitted networks: what they predict, and what they look at.

    Attributes
    ----------
    predictions : DataFrame
        split, unit_id, propensity, mu0, mu1; each by the network of the fold that left the unit out.
    salience : Dataset (unit, time, y, x)
        ``magnitude`` and ``direction`` of d logit(propensity) / d pixel or d effect / d pixel,
        averaged over the networks of the first split that did not see the place, and ``drawn``, the
        directions as they are drawn; with ``treated``, ``propensity`` and ``effect`` of the units.
        The three treated places of highest and the three untreated ones of lowest propensity; or
        the three of largest and of smallest effect.
    history : DataFrame
        split, fold, epoch, training_loss, validation_loss.
    networks : DataFrame
        split, fold, best_epoch, validation_loss, n_training, n_validation, n_groups,
        weights_sha256.
    salience_correlation : float or None
        Of the magnitudes with those of random weights; None where a map is constant.
    """

    predictions: pd.DataFrame
    salience: xr.Dataset
    history: pd.DataFrame
    networks: pd.DataFrame
    salience_correlation: float | None
