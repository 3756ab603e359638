"""The choice of a frozen encoder in a config, and the encoder it stands for."""

from typing import Annotated

from pydantic import AfterValidator, Field

from eo_causal.encode.base import Encoder
from eo_causal.encode.image import EfficientNetLite0Settings, ImageEncoder, ImageSettings
from eo_causal.encode.pixel_stats import PixelStats, PixelStatsSettings
from eo_causal.encode.random_features import RandomFeatures, RandomFeaturesSettings
from eo_causal.encode.scales import N_COMPONENTS, MultiScale, Reduced
from eo_causal.encode.sequence import FramePooling
from eo_causal.encode.video import VideoEncoder, VideoSettings

EncoderSettings = Annotated[
    PixelStatsSettings
    | RandomFeaturesSettings
    | ImageSettings
    | EfficientNetLite0Settings
    | VideoSettings,
    Field(discriminator="name"),
]
"""Settings of one frozen encoder; ``name`` decides which."""


def _not_taken(name: str) -> str:
    if name == "network":
        raise ValueError("the name `network` is taken by the network trained end to end")
    return name


EncoderName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$"), AfterValidator(_not_taken)]
"""What a config calls an encoder: part of the names of arms, tables and files."""


def build_encoder(settings: EncoderSettings, seed: int) -> Encoder:
    """The encoder of some settings, not fitted yet.

    Parameters
    ----------
    settings : EncoderSettings
    seed : int
        Of the run; decides random filters and random weights.

    Raises
    ------
    ConfigError
        A network without weights, or weights that are absent.

    Warns
    -----
    EOCausalWarning
        ``NormalisationWarning`` for per-image normalisation, ``RandomWeightsWarning``.
    """
    if not settings.scales:
        return _one_scale(settings, seed, settings.n_components)
    reduced = settings.n_components or N_COMPONENTS
    return MultiScale({size: _one_scale(settings, seed, reduced) for size in settings.scales})


def _one_scale(settings: EncoderSettings, seed: int, n_components: int | None) -> Encoder:
    encoder = _plain(settings, seed)
    return encoder if n_components is None else Reduced(encoder, n_components)


def _plain(settings: EncoderSettings, seed: int) -> Encoder:
    match settings:
        case PixelStatsSettings():
            return PixelStats(settings)
        case RandomFeaturesSettings():
            return FramePooling(RandomFeatures(settings, seed), settings.sequence)
        case VideoSettings():
            return VideoEncoder(settings, seed)
        case ImageSettings() | EfficientNetLite0Settings():
            return FramePooling(ImageEncoder(settings, seed), settings.sequence)
