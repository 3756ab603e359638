"""Trained networks on disk: weights as safetensors beside a model card that vouches for them."""

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from pydantic import BaseModel, ConfigDict, ValidationError

from eo_causal.core.artefacts import published
from eo_causal.encode.base import Normalisation
from eo_causal.encode.train import ImageNetwork, State, TrainSettings
from eo_causal.errors import ConfigError, IntegrityError, ResourceLimitError, UnsafeArtifactError

WEIGHTS, CARD = "weights.safetensors", "model.json"
FORMAT = "eo_causal image_network 1"
MAX_CARD_BYTES = 4 * 2**20


class ModelCard(BaseModel):
    """What ``model.json`` says: everything of a network but its weights, and their hash."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    format: str
    settings: TrainSettings
    weights_sha256: str
    bands: tuple[str, ...]
    mean: tuple[float, ...]
    sd: tuple[float, ...]
    target_centre: float
    target_scale: float
    metrics: dict[str, float | int | None]
    history: list[dict[str, int | float]]
    provenance: dict[str, Any]


def save_network(
    network: ImageNetwork, folder: Path, provenance: dict[str, Any] | None = None
) -> ModelCard:
    """Write a fitted network: both files are there, or neither.

    Parameters
    ----------
    network : ImageNetwork
    folder : Path
        Replaced where it exists.
    provenance : dict, optional
        What else a reader should know (data, code version, licence), as JSON values.

    Raises
    ------
    StorageError
        The disk is full or not writable.
    """
    from safetensors.numpy import save

    weights = save(network.state_)
    card = ModelCard(
        format=FORMAT,
        settings=network.settings,
        weights_sha256=hashlib.sha256(weights).hexdigest(),
        bands=network.bands_,
        mean=tuple(network.normalisation_.mean.tolist()),
        sd=tuple(network.normalisation_.sd.tolist()),
        target_centre=network.centre_,
        target_scale=network.scale_,
        metrics=network.metrics_,
        history=network.history_.to_dict("records"),
        provenance=provenance or {},
    )
    text = json.dumps(card.model_dump(mode="json"), indent=1, sort_keys=True, allow_nan=False)
    with published(folder) as temporary:
        (temporary / WEIGHTS).write_bytes(weights)
        (temporary / CARD).write_text(text + "\n", encoding="utf-8")
    return card


def load_network(folder: Path) -> ImageNetwork:
    """Read a network that :func:`save_network` wrote, and nothing else.

    Raises
    ------
    ConfigError
        A file is absent, or the card is not one.
    ResourceLimitError
        The card is larger than 4 MiB.
    IntegrityError
        The weights are not those of the card.
    UnsafeArtifactError
        The weights are no safetensors, not of the network the card describes, or not finite.
    """
    card = _read_card(folder / CARD)
    state = _read_weights(folder / WEIGHTS, card)
    network = ImageNetwork(card.settings)
    network.bands_ = card.bands
    network.normalisation_ = Normalisation(np.array(card.mean), np.array(card.sd))
    network.centre_, network.scale_ = card.target_centre, card.target_scale
    network.history_, network.metrics_ = pd.DataFrame(card.history), dict(card.metrics)
    network.state_ = state
    return network


def _read_card(path: Path) -> ModelCard:
    if not path.is_file():
        raise ConfigError(
            f"{path}: no model card. Name the folder that save_network wrote, or train the network"
            " again.", path=str(path),
        )  # fmt: skip
    if path.stat().st_size > MAX_CARD_BYTES:
        raise ResourceLimitError(
            f"{path}: {path.stat().st_size:,} bytes are too many for a model card.", path=str(path)
        )
    try:
        card = ModelCard.model_validate_json(path.read_bytes())
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "JSON"
        raise ConfigError(
            f"{path}: {where}: {first['msg']}. This is no model card of this version; train the"
            " network again.", path=str(path),
        ) from error  # fmt: skip
    if card.format != FORMAT:
        raise ConfigError(
            f"{path}: format {card.format!r}, expected {FORMAT!r}. Train the network again.",
            path=str(path),
        )
    return card


def _read_weights(path: Path, card: ModelCard) -> State:
    from safetensors import SafetensorError
    from safetensors.numpy import load

    if not path.is_file():
        raise ConfigError(
            f"{path}: no weights beside the model card. Copy the whole folder.", path=str(path)
        )
    data = path.read_bytes()
    found = hashlib.sha256(data).hexdigest()
    if found != card.weights_sha256:
        raise IntegrityError(
            f"{path}: sha256 {found[:12]}..., the model card says {card.weights_sha256[:12]}...."
            " Copy the folder again, or train the network again.", path=str(path), sha256=found,
        )  # fmt: skip
    try:
        state: State = load(data)
    except SafetensorError as error:
        raise UnsafeArtifactError(
            f"{path}: not a safetensors file ({error}). Other formats can run code and are not"
            " read.", path=str(path),
        ) from error  # fmt: skip
    _check_tensors(state, card, path)
    broken = [name for name, item in state.items() if not np.isfinite(item).all()]
    if broken:
        raise UnsafeArtifactError(
            f"{path}: {len(broken)} tensor(s) hold NaN or infinite numbers (first: {broken[0]})."
            " Train the network again.", path=str(path), tensors=broken,
        )  # fmt: skip
    return state


def _check_tensors(state: State, card: ModelCard, path: Path) -> None:
    """Names, shapes and types are exactly those of the network that the card describes."""
    from eo_causal.encode.loop import build

    expected = build(card.settings, len(card.bands)).state_dict()
    wanted = {name: (tuple(item.shape), str(item.dtype)) for name, item in expected.items()}
    held = {name: (item.shape, f"torch.{item.dtype}") for name, item in state.items()}
    differing = sorted(name for name in {*wanted, *held} if wanted.get(name) != held.get(name))
    if differing or not len(card.mean) == len(card.sd) == len(card.bands):
        raise UnsafeArtifactError(
            f"{path}: {len(differing)} tensor(s) are not those of network:"
            f" {card.settings.network} with {len(card.bands)} band(s) (first:"
            f" {(differing or ['normalisation'])[0]}). Train the network again.",
            path=str(path), tensors=differing,
        )  # fmt: skip
