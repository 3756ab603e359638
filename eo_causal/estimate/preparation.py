"""From features of images and covariates of units to a design matrix that knows its training part only."""

import numpy as np
from numpy.typing import NDArray

from eo_causal.errors import DataError

Floats = NDArray[np.float64]
Positions = NDArray[np.intp]


def design_matrix(
    features: Floats | None,
    image_of_unit: Positions,
    covariates: Floats | None,
    training: Positions,
    n_components: int | None,
) -> Floats:
    """Features and covariates of all units, scaled by what the training units show.

    Parameters
    ----------
    features : (chip, feature) array or None
        Standardised over the images of the training units and, where they are more than
        ``n_components``, reduced to that many principal components of those images.
    image_of_unit : (unit,) int array
        Position of each unit's image.
    covariates : (unit, covariate) array or None
        NaN = missing: filled with the training median, with a column of its own that says so.
        Standardised over the training units.
    training : (unit,) int array
        Positions of the training units.
    n_components : int or None
        None keeps all features.

    Returns
    -------
    (unit, column) array
    """
    blocks = [np.empty((len(image_of_unit), 0))]
    if features is not None:
        images = np.unique(image_of_unit[training])
        scaled = standardise(features, images)
        if n_components is not None and scaled.shape[1] > n_components:
            scaled = scaled @ principal_axes(scaled[images], n_components)
        blocks.append(scaled[image_of_unit])
    if covariates is not None:
        blocks.append(standardise(fill_missing(covariates, training), training))
    return np.concatenate(blocks, axis=1)


def standardise(values: Floats, training: Positions) -> Floats:
    """(value - mean) / sd by column, mean and sd of the training rows; 0 where these are constant."""
    part = values[training]
    mean, sd = part.mean(axis=0), part.std(axis=0)
    constant = ~(sd > 1e-10 * np.abs(mean))
    return np.where(constant, 0.0, (values - mean) / np.where(constant, 1.0, sd))


def fill_missing(covariates: Floats, training: Positions) -> Floats:
    """Training medians for missing values, and a 0/1 column for each covariate that misses some."""
    missing = np.isnan(covariates)
    medians = np.zeros(covariates.shape[1])
    known = ~missing[training].all(axis=0)
    medians[known] = np.nanmedian(covariates[training][:, known], axis=0)
    filled = np.where(missing, medians, covariates)
    return np.concatenate([filled, missing[:, missing.any(axis=0)].astype(float)], axis=1)


def principal_axes(rows: Floats, n_components: int) -> Floats:
    """(feature, component) axes of largest variance of rows whose mean is 0.

    From the smaller of the two Gram matrices. The largest loading of each axis is positive, so that
    an axis does not depend on the linear algebra at hand.
    """
    n, p = rows.shape
    if p <= n:
        axes = np.linalg.eigh(rows.T @ rows)[1][:, ::-1][:, :n_components]
    else:
        scores = np.linalg.eigh(rows @ rows.T)[1][:, ::-1][:, : min(n_components, n - 1)]
        axes = rows.T @ scores
        axes /= np.linalg.norm(axes, axis=0)
    largest = np.abs(axes).argmax(axis=0)
    return np.asarray(axes * np.sign(axes[largest, np.arange(axes.shape[1])]))


def check_features(
    features: NDArray[np.floating],
    source: str,
    image_of_unit: Positions,
    n_images: int,
    unit_id: NDArray[np.object_],
) -> Floats:
    """The features as float64, once there is a row for every image and every unit's are finite.

    Raises
    ------
    DataError
        Another number of rows; units with missing or infinite features, listed.
    """
    if features.ndim != 2 or len(features) != n_images:
        raise DataError(
            f"features {source} have the shape {features.shape} for {n_images} images. Give one row an"
            " image key, in the order of image_keys.", source=source,
        )  # fmt: skip
    values = np.asarray(features, dtype=np.float64)
    wrong = ~np.isfinite(values).all(axis=1)[image_of_unit]
    if wrong.any():
        ids = unit_id[wrong].tolist()
        shown = ", ".join(map(str, ids[:5]))
        raise DataError(
            f"features {source}: {len(ids)} of {len(unit_id)} units have values that are missing or"
            f" infinite (units {shown}{', ...' if len(ids) > 5 else ''}). Widen the period of their"
            " chips, or leave the units out.", source=source, unit_ids=ids,
        )  # fmt: skip
    return values
