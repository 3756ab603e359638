"""Networks that are trained from scratch: small enough for a processor, for chips of any size.

Every network is called with (unit, time, band, y, x) values without NaN, the (unit, time) frame
mask and the (unit, time) years, and gives (unit, outputs); ``features`` gives what its linear head
sees.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional


class Dropout(nn.Module):
    """Dropout with its own random numbers, so that nothing else in the process moves them."""

    def __init__(self, share: float) -> None:
        super().__init__()
        self.share = share
        self.generator: torch.Generator | None = None

    def forward(self, values: Tensor) -> Tensor:
        """Zeros for a share of the values, the others scaled up; in training only."""
        if not self.training:
            return values
        drawn = torch.rand(values.shape, generator=self.generator)
        return values * (drawn >= self.share).to(values) / (1 - self.share)


class ConvolutionTrunk(nn.Module):
    """Three convolutions (swish, batch norm, stride 2), then [global max, global mean].

    A pattern that confounds is a maximum over the scene, which a mean alone misses (arXiv
    2206.06417).
    """

    def __init__(self, n_bands: int, filters: int = 32, width: int = 5) -> None:
        super().__init__()
        blocks: list[nn.Module] = []
        for channels in (n_bands, filters, filters):
            convolution = nn.Conv2d(channels, filters, width, stride=2, padding=width // 2)
            blocks += [convolution, nn.SiLU(), nn.BatchNorm2d(filters)]
        self.blocks = nn.Sequential(*blocks)
        self.width = 2 * filters

    def forward(self, images: Tensor) -> Tensor:
        """(image, band, y, x) to (image, 2 x filters)."""
        maps = self.blocks(images)
        return torch.cat([maps.amax(dim=(2, 3)), maps.mean(dim=(2, 3))], dim=1)


class FilterTrunk(nn.Module):
    """One linear filter, its maximum over the scene, batch norm (arXiv 2301.12985)."""

    def __init__(self, n_bands: int, width: int = 8, filters: int = 1) -> None:
        super().__init__()
        self.filter = nn.Conv2d(n_bands, filters, width)
        self.norm = nn.BatchNorm1d(filters)
        self.width = filters

    def forward(self, images: Tensor) -> Tensor:
        """(image, band, y, x) to (image, filters)."""
        return self.norm(self._largest(images))

    def _largest(self, images: Tensor) -> Tensor:
        """(image, filters) maxima of the maps."""
        return self.filter(images).amax(dim=(2, 3))


class SparseFilterTrunk(FilterTrunk):
    """The same but for rounding, with gradients only through the places of the maxima.

    Through whole maps of 128 x 128 pixels a step takes six times as long.
    """

    def _largest(self, images: Tensor) -> Tensor:
        """(image, filters) maxima of the maps, filtered once more where they are."""
        weight, bias = self.filter.weight, self.filter.bias
        filters, n_bands, width, _ = weight.shape
        with torch.no_grad():
            maps = self.filter(images)
            place = maps.flatten(2).argmax(dim=2)
        columns, reach = images.shape[-1], torch.arange(width, device=images.device)
        corner = place // maps.shape[-1] * columns + place % maps.shape[-1]
        pixel = corner[..., None, None] + reach[:, None] * columns + reach
        image = torch.arange(len(images), device=images.device)[:, None, None, None]
        seen = images.flatten(2)[image, :, pixel].movedim(-1, 2)
        windows = seen.reshape(-1, filters * n_bands, width, width)
        return functional.conv2d(windows, weight, bias, groups=filters).flatten(1)


class TransformerBlock(nn.Module):
    """Self-attention and a two-layer perceptron, each after layer norm and beside a shortcut."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.before_attention, self.before_perceptron = nn.LayerNorm(width), nn.LayerNorm(width)
        self.project, self.join = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.perceptron = nn.Sequential(
            nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width)
        )
        self.dropout = Dropout(dropout)

    def forward(self, tokens: Tensor) -> Tensor:
        """(image, token, width) to the same shape."""
        n, n_tokens, width = tokens.shape
        parts = self.project(self.before_attention(tokens)).chunk(3, dim=-1)
        query, key, value = (
            part.reshape(n, n_tokens, self.heads, -1).transpose(1, 2) for part in parts
        )
        seen = functional.scaled_dot_product_attention(query, key, value)
        tokens = tokens + self.dropout(self.join(seen.transpose(1, 2).reshape(n, n_tokens, width)))
        return tokens + self.dropout(self.perceptron(self.before_perceptron(tokens)))


class PatchTrunk(nn.Module):
    """Small vision transformer: patches, sine and cosine position codes, mean over the patches."""

    def __init__(
        self,
        n_bands: int,
        patch: int = 16,
        depth: int = 4,
        width: int = 256,
        heads: int = 4,
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        self.patch, self.width = patch, width
        self.embed = nn.Conv2d(n_bands, width, patch, stride=patch)
        self.blocks = nn.Sequential(
            *(TransformerBlock(width, heads, dropout) for _ in range(depth))
        )
        self.norm = nn.LayerNorm(width)

    def forward(self, images: Tensor) -> Tensor:
        """(image, band, y, x) to (image, width); sizes are filled up to whole patches with 0."""
        down, right = (-size % self.patch for size in images.shape[-2:])
        maps = self.embed(functional.pad(images, (0, right, 0, down)))
        maps = maps + position_code(maps.shape[-2], maps.shape[-1], self.width).to(maps)
        tokens = self.blocks(maps.flatten(2).transpose(1, 2))
        return self.norm(tokens).mean(dim=1)


def position_code(height: int, width: int, channels: int) -> Tensor:
    """(channels, height, width): sines and cosines of the row, then of the column."""
    quarter = channels // 4
    speeds = torch.exp(-math.log(10_000) * torch.arange(quarter) / quarter)
    codes = []
    for size, shape in ((height, (-1, height, 1)), (width, (-1, 1, width))):
        angles = speeds[:, None] * torch.arange(size)
        for wave in (angles.sin(), angles.cos()):
            codes.append(wave.reshape(shape).expand(-1, height, width))
    return torch.cat(codes)


class StillNetwork(nn.Module):
    """A trunk that reads one image, and a linear head."""

    def __init__(self, trunk: ConvolutionTrunk | FilterTrunk | PatchTrunk, outputs: int) -> None:
        super().__init__()
        self.trunk, self.width = trunk, trunk.width
        self.head = nn.Linear(trunk.width, outputs)

    def features(self, values: Tensor, frames: Tensor, years: Tensor) -> Tensor:
        """(unit, width) features of the first frame."""
        return self.trunk(values[:, 0])

    def forward(self, values: Tensor, frames: Tensor, years: Tensor) -> Tensor:
        """(unit, outputs)."""
        return self.head(self.features(values, frames, years))


def small_cnn(n_bands: int, outputs: int = 3, filters: int = 32, width: int = 5) -> StillNetwork:
    """Three convolution blocks; by default for a treatment logit and two outcomes."""
    return StillNetwork(ConvolutionTrunk(n_bands, filters, width), outputs)


def small_vit(n_bands: int, outputs: int = 3) -> StillNetwork:
    """Vision transformer of 16-pixel patches, depth 4, width 256, dropout 0.1."""
    return StillNetwork(PatchTrunk(n_bands), outputs)


def single_filter(n_bands: int, outputs: int = 1, width: int = 8, filters: int = 1) -> StillNetwork:
    """One linear filter: the estimation model of arXiv 2301.12985. Chips are ``width`` or larger."""
    # one output keeps its arithmetic: networks on disk predict the same bits
    trunk = FilterTrunk if outputs == 1 else SparseFilterTrunk
    return StillNetwork(trunk(n_bands, width, filters), outputs)


def initialise(network: nn.Module, generator: torch.Generator) -> None:
    """Fresh weights, in place, and the generator that dropout will use.

    Matrices and filters are uniform within 1/sqrt(number of inputs), norms are 1, biases 0.
    """
    for module in network.modules():
        if isinstance(module, Dropout):
            module.generator = generator
        elif isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            module.reset_running_stats()
    for name, weight in network.named_parameters():
        with torch.no_grad():
            if weight.ndim > 1:
                bound = 1 / math.sqrt(weight[0].numel())
                weight.uniform_(-bound, bound, generator=generator)
            else:
                weight.fill_(float(name.endswith("weight")))
