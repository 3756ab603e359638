"""What a network is trained to make small."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional


def mean_squared(prediction: Tensor, target: Tensor) -> Tensor:
    """Mean of the squared errors of (n,) predictions."""
    return (prediction - target).square().mean()


def log_loss(logit: Tensor, target: Tensor) -> Tensor:
    """Mean cross-entropy of (n,) logits against targets in [0, 1]."""
    return functional.binary_cross_entropy_with_logits(logit, target)


def smoothed(label: Tensor, smoothing: float) -> Tensor:
    """Labels of 0 and 1 drawn towards 1/2 by a share of the way."""
    return label * (1 - smoothing) + smoothing / 2


def joint(
    outputs: Tensor,
    target: Tensor,
    smoothing: float,
    treatment_weight: float,
    outcome_weight: float,
) -> Tensor:
    """Log loss of the treatment plus squared error of the outcome in the arm that was observed.

    Parameters
    ----------
    outputs : (n, 3) tensor
        Logit of treatment, outcome without and with treatment.
    target : (n, 2) tensor
        Treatment (0 or 1) and outcome.
    smoothing : float
        Of the treatment's labels.
    treatment_weight, outcome_weight : float
        Of the two parts.
    """
    logit, untreated, treated = outputs.unbind(dim=1)
    treatment, outcome = target.unbind(dim=1)
    observed = torch.where(treatment == 1, treated, untreated)
    assignment = log_loss(logit, smoothed(treatment, smoothing))
    return treatment_weight * assignment + outcome_weight * mean_squared(observed, outcome)


def quintile_edges(target: NDArray[np.floating]) -> NDArray[np.float64]:
    """The six edges of the quintiles of a training target, fixed once for a fit."""
    return np.quantile(np.asarray(target, dtype=float), np.linspace(0, 1, 6))


def quintile_bias(
    prediction: Tensor, target: Tensor, edges: NDArray[np.float64], weight: float
) -> Tensor:
    """Squared error plus the worst bias of a quintile (arXiv 2109.02890).

    MSE + weight * max_j (mean over Q_j of (prediction - target))^2. Targets beyond the outer edges
    belong to the outer quintiles; a quintile without a row in the batch is left out.

    Parameters
    ----------
    prediction, target : (n,) tensors
    edges : (6,) array
        From :func:`quintile_edges` of the training target.
    weight : float
        lambda_b of the paper, 1 to 20 there.
    """
    error = prediction - target
    inner = torch.as_tensor(edges[1:-1], dtype=target.dtype, device=target.device)
    quintile = torch.bucketize(target, inner, right=True)
    biases = [error[quintile == j].mean() for j in torch.unique(quintile)]
    return error.square().mean() + weight * torch.stack(biases).square().max()
