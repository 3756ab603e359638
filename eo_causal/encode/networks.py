"""What frozen networks of images and videos share: settings, building, bands, precision, running.

Encoders hold settings only; a network is built where it runs, once a process.
"""

import functools
import os
import threading
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from eo_causal.encode.frames import Bands, Images, Preparation
from eo_causal.encode.scales import EncoderOptions
from eo_causal.encode.weights import OFFLINE, fill_randomly, load_strictly, read_weights
from eo_causal.errors import ConfigError, EOCausalWarning

if TYPE_CHECKING:
    import torch

_building = threading.Lock()
RGB = ("red", "green", "blue")
Pooled = Literal["mean", "max", "both"]
Precision = Literal["float32", "bfloat16"]


@dataclass(frozen=True)
class NetworkKind:
    """What is known of a network without building it.

    Attributes
    ----------
    head : str
        Name of its classifier, which is removed.
    n_channels : int
        Of its last feature map or class token.
    has_map : bool
        Whether there is a feature map to pool; otherwise the class token is the embedding.
    """

    head: str
    n_channels: int
    has_map: bool = True


class NetworkOptions(EncoderOptions):
    """Settings of every frozen network."""

    weights_path: Path | None = Field(default=None, description="local state dict")
    sha256: str | None = Field(
        default=None, pattern="^[0-9a-fA-F]{64}$", description="of weights_path"
    )
    random_weights: bool = Field(default=False, description="a random network; for comparison only")
    rgb_bands: tuple[int | str, int | str, int | str] | None = Field(
        default=None, description="positions (from 0) or names of red, green, blue"
    )
    adapt: Literal["mean"] | None = Field(
        default=None, description="mean: first layer averaged over RGB, for any number of bands"
    )
    normalise: Literal["training", "per_image", "none", "imagenet"] = "training"
    value_range: tuple[float, float] = Field(
        default=(0.0, 1.0), description="values that are 0 and 1 for normalise: imagenet"
    )
    pooling: Pooled | None = Field(
        default=None,
        description="of the last feature map; null = both, the class token without one",
    )
    allow_coarsening: bool = Field(default=False, description="resize chips to fewer pixels")
    precision: Literal["float32", "bfloat16", "auto"] = Field(
        default="auto", description="auto: bfloat16 where the processor computes in it"
    )

    @model_validator(mode="after")
    def _consistent(self) -> "NetworkOptions":
        if (self.weights_path is None) != (self.sha256 is None):
            raise ValueError("weights_path and sha256 belong together: give both")
        if self.random_weights and self.weights_path is not None:
            raise ValueError("random_weights: true and weights_path exclude each other")
        if self.rgb_bands is not None and self.adapt is not None:
            raise ValueError("rgb_bands and adapt exclude each other")
        if not self.value_range[0] < self.value_range[1]:
            raise ValueError(f"value_range {list(self.value_range)} does not rise")
        return self


def check_pooling(name: str, kind: NetworkKind, pooling: Pooled | None) -> None:
    """Refuse to pool what is no map; for validators of settings.

    Raises
    ------
    ValueError
        The network has a class token.
    """
    if pooling is not None and not kind.has_map:
        raise ValueError(f"{name} has a class token and no map to pool: leave pooling out")


def check_source(settings: NetworkOptions, name: str) -> None:
    """Refuse a network without weights; warn of a random one.

    Raises
    ------
    ConfigError
        Neither a file nor ``random_weights: true``.
    """
    if settings.random_weights:
        warnings.warn(
            EOCausalWarning(
                f"encoder {name} has random weights: it has learned nothing from any image. Give"
                " weights_path and sha256, or compare with random_features.", "RandomWeightsWarning",
            ),
            stacklevel=3,
        )  # fmt: skip
    elif settings.weights_path is None:
        raise ConfigError(
            f"encoder {name} needs weights_path and sha256, or random_weights: true. {OFFLINE}",
            name=name,
        )


def embedding_names(name: str, kind: NetworkKind, pooling: Pooled | None) -> tuple[str, ...]:
    """``<network>_<mean | max | token>_<channel>``."""
    numbers = range(1, kind.n_channels + 1)
    return tuple(f"{name}_{part}_{number}" for part in _parts(kind, pooling) for number in numbers)


def _parts(kind: NetworkKind, pooling: Pooled | None) -> tuple[str, ...]:
    if not kind.has_map:
        return ("token",)
    return (pooling,) if pooling in ("mean", "max") else ("mean", "max")


@dataclass(frozen=True)
class BandChoice:
    """Which bands a network of three inputs sees, as the settings say."""

    rgb_bands: tuple[int | str, ...] | None
    adapt: str | None

    def __call__(self, bands: Bands) -> tuple[int, ...]:
        """Positions of the bands used.

        Raises
        ------
        ConfigError
            Not three bands and no choice, or a choice that does not exist.
        """
        if self.adapt is not None:
            return tuple(range(len(bands)))
        if self.rgb_bands is not None:
            named = [bands.index(item) if item in bands else item for item in self.rgb_bands]
            if not all(isinstance(item, int) and 0 <= item < len(bands) for item in named):
                raise ConfigError(
                    f"encoder.rgb_bands: {list(self.rgb_bands)} are not three of the bands"
                    f" {', '.join(bands)} (names, or positions from 0).", bands=list(bands),
                )  # fmt: skip
            return tuple(int(item) for item in named)
        if len(bands) != len(RGB):
            raise ConfigError(
                f"the network takes 3 bands, the chips have {len(bands)} ({', '.join(bands)}). Set"
                " encoder.rgb_bands: [i, j, k], or encoder.adapt: mean.", bands=list(bands),
            )  # fmt: skip
        return tuple(bands.index(name) for name in RGB) if set(bands) == set(RGB) else (0, 1, 2)


def prepare_bands(settings: NetworkOptions) -> Preparation:
    """Bands and normalisation as a network's settings say."""
    choose = BandChoice(settings.rgb_bands, settings.adapt)
    return Preparation(settings.normalise, choose, settings.value_range)


def check_size(height: int, width: int, size: int, *, allow: bool) -> bool:
    """Whether chips are resized to ``size``; refuses to coarsen them.

    Raises
    ------
    ConfigError
        Chips larger than the network's input, and coarsening not allowed.
    """
    if max(height, width) <= size:
        return height != size or width != size
    if not allow:
        raise ConfigError(
            f"chips of {height} x {width} px would be resized to {size} px: patterns finer than the"
            " new pixels are lost, and with them what they confound. Cut smaller chips, use another"
            " encoder, or set encoder.allow_coarsening: true.", size=size,
        )  # fmt: skip
    return True


def warn_coarse(height: int, width: int, size: int) -> None:
    """Warn where chips lose pixels."""
    if max(height, width) > size:
        warnings.warn(
            EOCausalWarning(
                f"chips of {height} x {width} px are resized to {size} px: patterns finer than the"
                " new pixels cannot be adjusted for.", "CoarseningWarning",
            ),
            stacklevel=4,
        )  # fmt: skip


def chosen_precision(wanted: str) -> Precision:
    """``auto`` resolved for this machine: bfloat16 only where its arithmetic is built in."""
    import torch

    if wanted == "auto":
        if torch.cuda.is_available():
            native = torch.cuda.is_bf16_supported(including_emulation=False)
        else:
            has = torch.cpu.get_capabilities()
            native = any(bool(has[name]) for name in has if name.endswith("bf16"))
        return "bfloat16" if native else "float32"
    return "bfloat16" if wanted == "bfloat16" else "float32"


def frozen_network(
    name: str,
    kind: NetworkKind,
    settings: NetworkOptions,
    seed: int,
    n_bands: int,
    precision: Precision,
) -> "torch.nn.Module":
    """A network without classifier, with weights, ready to encode; built once a process.

    Raises
    ------
    ConfigError
        The weights' file is absent or another one.
    UnsafeArtifactError
        The file does not hold this network's weights.
    """
    with _building:
        return _build(name, kind, settings, seed, n_bands, precision)


@functools.lru_cache(maxsize=4)
def _build(
    name: str,
    kind: NetworkKind,
    settings: NetworkOptions,
    seed: int,
    n_bands: int,
    precision: Precision,
) -> "torch.nn.Module":
    import torch

    with torch.random.fork_rng(devices=[]):  # construction draws numbers that are replaced below
        network = _make(name)
    return freeze(network, kind, settings, seed, n_bands, precision)


def _make(name: str) -> "torch.nn.Module":
    if name == "efficientnet_lite0":
        from eo_causal.encode.efficientnet_lite import EfficientNetLite0

        return EfficientNetLite0()
    from torchvision.models import get_model

    return get_model(name, weights=None)


def freeze(
    network: "torch.nn.Module",
    kind: NetworkKind,
    settings: NetworkOptions,
    seed: int,
    n_bands: int,
    precision: Precision,
) -> "torch.nn.Module":
    """Exchange classifier, weights, first layer and pooling as the settings say."""
    import torch

    setattr(network, kind.head, torch.nn.Identity())
    if settings.weights_path is not None and settings.sha256 is not None:
        state = read_weights(settings.weights_path, settings.sha256)
        load_strictly(network, state, kind.head, settings.weights_path)
    else:
        fill_randomly(network, seed)
    if settings.adapt == "mean":
        _widen(network, n_bands)
    if kind.has_map:
        network.avgpool = _global_pool(_parts(kind, settings.pooling))
    network.requires_grad_(False).eval()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    network.to(device, torch.bfloat16 if precision == "bfloat16" else torch.float32)
    if isinstance(_first_convolution(network), torch.nn.Conv2d):
        network.to(memory_format=torch.channels_last)
    return network


def _first_convolution(network: "torch.nn.Module") -> Any:
    import torch

    kinds = (torch.nn.Conv2d, torch.nn.Conv3d)
    return next(item for item in network.modules() if isinstance(item, kinds))


def _widen(network: "torch.nn.Module", n_bands: int) -> None:
    """First layer averaged over RGB and rescaled by 3 / n_bands, for any number of bands."""
    import torch

    first = _first_convolution(network)
    grey = first.weight.data.mean(dim=1, keepdim=True)
    shape = (1, n_bands) + (1,) * (grey.dim() - 2)
    first.weight = torch.nn.Parameter(grey.repeat(shape) * (len(RGB) / n_bands))
    first.in_channels = n_bands


def _global_pool(parts: tuple[str, ...]) -> "torch.nn.Module":
    import torch

    class GlobalPool(torch.nn.Module):
        """Mean and maximum over all positions, in float32."""

        def forward(self, maps: torch.Tensor) -> torch.Tensor:
            axes = tuple(range(2, maps.dim()))
            whole = maps.float()
            pooled = {"mean": whole.mean(axes, keepdim=True), "max": whole.amax(axes, keepdim=True)}
            return torch.cat([pooled[part] for part in parts], dim=1)

    return GlobalPool()


def run_network(
    network: "torch.nn.Module",
    inputs: Callable[[slice], "torch.Tensor"],
    n_inputs: int,
    chunk: int,
) -> Images:
    """Embeddings (input, feature) of inputs that are prepared chunk by chunk.

    Every product has ``chunk`` inputs, the last one filled up with zeros: results do not depend on
    how many inputs come together.
    """
    import torch

    wanted = os.environ.get("EO_CAUSAL_TORCH_THREADS")
    if wanted:
        torch.set_num_threads(int(wanted))
    weights = next(network.parameters())
    parts: list[NDArray[np.float32]] = []
    with torch.inference_mode():
        for start in range(0, n_inputs, chunk):
            block = inputs(slice(start, start + chunk))
            n = len(block)
            full = torch.zeros((chunk, *block.shape[1:]))
            full[:n] = block
            full = full.to(weights.device, weights.dtype)
            if full.dim() == 4:
                full = full.contiguous(memory_format=torch.channels_last)
            parts.append(network(full)[:n].float().cpu().numpy())
    return np.concatenate(parts)


def network_provenance(
    settings: NetworkOptions, seed: int, precision: Precision, preparation: Preparation
) -> dict[str, Any]:
    """Settings, weight hash or seed, normalisation and precision, as JSON values."""
    kept = settings.model_dump(
        mode="json",
        exclude={
            "scales", "n_components", "sequence", "weights_path", "normalise", "precision",
            "value_range", "random_weights", "sha256",
        },
    )  # fmt: skip
    if settings.sha256 is None:
        weights: dict[str, Any] = {"kind": "random", "seed": seed}
    else:
        weights = {"kind": "file", "sha256": settings.sha256.lower()}
    return {
        **kept,
        "weights": weights,
        "precision": precision,
        "normalisation": preparation.provenance(),
    }
