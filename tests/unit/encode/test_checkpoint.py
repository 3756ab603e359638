"""Networks on disk: what goes out comes back, and nothing else comes in."""

import hashlib
import json
import pickle

import numpy as np
import pytest
import torch
import xarray as xr
from safetensors.numpy import save_file

from eo_causal.encode.checkpoint import CARD, WEIGHTS, load_network, save_network
from eo_causal.encode.train import ImageNetwork, TrainSettings
from eo_causal.errors import (
    ConfigError,
    IntegrityError,
    ResourceLimitError,
    UnsafeArtifactError,
)


@pytest.fixture(scope="module")
def chips():
    random = np.random.default_rng(0)
    return xr.DataArray(
        random.normal(size=(30, 1, 2, 8, 8)).astype(np.float32),
        dims=("unit", "time", "band", "y", "x"),
        coords={
            "unit_id": ("unit", [f"u{i}" for i in range(30)]),
            "band": ["red", "nir"],
            "fractional_year": (("unit", "time"), np.full((30, 1), 2015.5)),
        },
    )


@pytest.fixture(scope="module")
def network(chips):
    target = chips.mean(("time", "band", "y", "x")).to_numpy()
    return ImageNetwork(TrainSettings(epochs=2)).fit(chips, target)


@pytest.fixture
def folder(network, tmp_path):
    save_network(network, tmp_path / "model")
    return tmp_path / "model"


def rewrite(folder, **changes):
    """Change the card as a careful forger would."""
    card = json.loads((folder / CARD).read_text(encoding="utf-8"))
    card.update(changes)
    (folder / CARD).write_text(json.dumps(card), encoding="utf-8")


def vouch(folder):
    rewrite(folder, weights_sha256=hashlib.sha256((folder / WEIGHTS).read_bytes()).hexdigest())


@pytest.mark.parametrize("kind", ["small_cnn", "small_vit", "single_filter", "attention"])
def test_every_network_comes_back_as_it_was(kind, chips, tmp_path):
    target = chips.mean(("time", "band", "y", "x")).to_numpy()
    network = ImageNetwork(TrainSettings(network=kind, epochs=1)).fit(chips, target)
    save_network(network, tmp_path / "model")
    again = load_network(tmp_path / "model")
    assert again.provenance() == network.provenance()
    assert again.predict(chips).tobytes() == network.predict(chips).tobytes()
    assert again.history_.equals(network.history_)


def test_the_card_says_what_the_network_is(network, folder):
    card = json.loads((folder / CARD).read_text(encoding="utf-8"))
    assert card["bands"] == ["red", "nir"]
    assert card["settings"]["epochs"] == 2
    assert card["weights_sha256"] == network.provenance()["weights_sha256"]
    assert card["metrics"]["n_training"] == 24
    assert len(card["history"]) == 2


def test_provenance_of_the_caller_is_kept(network, tmp_path):
    card = save_network(network, tmp_path / "model", {"licence": "MIT"})
    assert card.provenance == {"licence": "MIT"}


def test_saving_twice_gives_the_same_bytes(network, folder, tmp_path):
    save_network(network, tmp_path / "again")
    for name in (CARD, WEIGHTS):
        assert (folder / name).read_bytes() == (tmp_path / "again" / name).read_bytes()


def test_an_altered_bit_is_found(folder):
    data = bytearray((folder / WEIGHTS).read_bytes())
    data[-5] ^= 1
    (folder / WEIGHTS).write_bytes(bytes(data))
    with pytest.raises(IntegrityError, match="sha256"):
        load_network(folder)


class Trap:
    def __reduce__(self):
        return exec, ("raise SystemExit('a pickle was run')",)


def test_a_pickle_is_refused_without_running_it(folder):
    (folder / WEIGHTS).write_bytes(pickle.dumps(Trap()))
    vouch(folder)
    with pytest.raises(UnsafeArtifactError, match="not a safetensors file"):
        load_network(folder)


def test_a_torch_file_is_refused(folder):
    torch.save({"head.weight": torch.zeros(1)}, folder / WEIGHTS)
    vouch(folder)
    with pytest.raises(UnsafeArtifactError, match="not a safetensors file"):
        load_network(folder)


@pytest.mark.parametrize(
    ("change", "first"),
    [
        (lambda state: state.pop("head.bias"), "head.bias"),
        (lambda state: state.update(extra=np.zeros(2, np.float32)), "extra"),
        (lambda state: state.update({"head.weight": np.zeros((1, 63), np.float32)}), "head.weight"),
        (lambda state: state.update({"head.bias": np.zeros(1)}), "head.bias"),
    ],
    ids=["missing", "added", "shape", "type"],
)
def test_weights_of_another_network_are_refused(change, first, network, folder):
    state = dict(network.state_)
    change(state)
    save_file(state, folder / WEIGHTS)
    vouch(folder)
    with pytest.raises(UnsafeArtifactError, match=rf"1 tensor.*first: {first}"):
        load_network(folder)


def test_a_card_of_another_network_is_refused(folder):
    rewrite(folder, bands=["red", "nir", "blue"])
    with pytest.raises(UnsafeArtifactError, match="3 band"):
        load_network(folder)
    rewrite(folder, bands=["red", "nir"], mean=[0.0])
    with pytest.raises(UnsafeArtifactError, match="normalisation"):
        load_network(folder)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_weights_that_are_no_numbers_are_refused(value, network, folder):
    state = {**network.state_, "head.bias": np.array([value], np.float32)}
    save_file(state, folder / WEIGHTS)
    vouch(folder)
    with pytest.raises(UnsafeArtifactError, match=r"NaN or infinite.*head\.bias"):
        load_network(folder)


@pytest.mark.parametrize("name", [CARD, WEIGHTS])
def test_an_absent_file_is_named(name, folder):
    (folder / name).unlink()
    with pytest.raises(ConfigError, match=name):
        load_network(folder)


@pytest.mark.parametrize(
    ("text", "message"),
    [("{", "JSON"), ("[]", "object"), ("{}", "format"), ("\xff", "JSON")],
)
def test_a_file_that_is_no_card_is_refused(text, message, folder):
    (folder / CARD).write_bytes(text.encode("latin-1"))
    with pytest.raises(ConfigError, match=message):
        load_network(folder)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": "else"}, "format 'else'"),
        ({"code": "print(1)"}, "code"),
        ({"target_scale": None}, "target_scale"),
        ({"settings": {"epochs": -1}}, "epochs"),
    ],
)
def test_a_card_with_other_contents_is_refused(changes, message, folder):
    rewrite(folder, **changes)
    with pytest.raises(ConfigError, match=message):
        load_network(folder)


def test_a_huge_card_is_not_read(folder):
    with (folder / CARD).open("ab") as stream:
        stream.truncate(2**40)
    with pytest.raises(ResourceLimitError, match="too many"):
        load_network(folder)
