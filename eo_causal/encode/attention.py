"""A sequence of images read frame by frame and pooled by attention, gaps and all."""

import math

import torch
from torch import Tensor, nn

from eo_causal.encode.small_networks import ConvolutionTrunk


class SequenceNetwork(nn.Module):
    """Frame encoder, single-head attention pooling over the valid frames, linear head.

    A frame's token is the product of its features with its position code: weights are positive, so
    only signs that depend on the date can make differences between frames. Frames may lie at any
    dates; masked frames get weight 0 and are not seen by the frame encoder either.

    Parameters
    ----------
    n_bands, outputs : int
    width : int
        Size of the tokens, and so of the features.
    filters : int
        Filters of each convolution of the frame encoder.
    """

    def __init__(self, n_bands: int, outputs: int = 3, width: int = 64, filters: int = 32) -> None:
        super().__init__()
        self.trunk = ConvolutionTrunk(n_bands, filters)
        self.width = width
        self.content = nn.Linear(self.trunk.width, width)
        self.place = nn.Linear(3, width)
        self.score = nn.Linear(width, 1)
        self.hidden = nn.Sequential(nn.Linear(width, width), nn.SiLU())
        self.head = nn.Linear(width, outputs)

    def pool(self, values: Tensor, frames: Tensor, years: Tensor) -> tuple[Tensor, Tensor]:
        """Pooled tokens (unit, width) and the weights of the frames (unit, time)."""
        encoded = self.trunk(values[frames])
        features = encoded.new_zeros((*frames.shape, encoded.shape[-1]))
        features[frames] = encoded
        code = frame_code(years, frames).to(features)
        tokens = self.content(features) * self.place(code)
        scores = self.score(tokens).squeeze(-1).masked_fill(~frames, -torch.inf)
        weights = scores.softmax(dim=1)
        return (weights.unsqueeze(-1) * tokens).sum(dim=1), weights

    def features(self, values: Tensor, frames: Tensor, years: Tensor) -> Tensor:
        """(unit, width) hidden layer over the pooled tokens; every unit has a valid frame."""
        return self.hidden(self.pool(values, frames, years)[0])

    def forward(self, values: Tensor, frames: Tensor, years: Tensor) -> Tensor:
        """(unit, outputs)."""
        return self.head(self.features(values, frames, years))


def frame_code(years: Tensor, frames: Tensor) -> Tensor:
    """(unit, time, 3): sine and cosine of the day of the year, years since the first valid frame.

    Zero where there is no frame.
    """
    known = torch.where(frames, years, torch.inf)
    since = known - known.amin(dim=1, keepdim=True)
    angle = 2 * math.pi * (known - known.floor())
    code = torch.stack([angle.sin(), angle.cos(), since], dim=-1)
    return torch.where(frames.unsqueeze(-1), code, 0.0)
