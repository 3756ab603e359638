"""Weights: local, hashed, tensors only, every one in its place; random ones by seed and name."""

import hashlib
import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from eo_causal.encode.weights import fill_randomly, load_strictly, read_weights
from eo_causal.errors import ConfigError, UnsafeArtifactError


def network():
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4, 2))


def saved(path: Path, state) -> tuple[Path, str]:
    if path.suffix == ".safetensors":
        save_file(state, path)
    else:
        torch.save(state, path)
    return path, hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.parametrize("name", ["a.pt", "a.safetensors"])
def test_both_formats_are_read_by_content(tmp_path, name):
    state = network().state_dict()
    path, sha256 = saved(tmp_path / name, state)
    path = path.rename(tmp_path / "weights.bin")
    found = read_weights(path, sha256.upper())
    assert sorted(found) == sorted(state)
    assert all(torch.equal(found[key], state[key]) for key in state)


def test_an_absent_file_is_refused_with_the_ways_out(tmp_path):
    with pytest.raises(
        ConfigError, match=r"none\.pt cannot be read .*random_features, pixel_stats"
    ):
        read_weights(tmp_path / "none.pt", "0" * 64)


def test_another_file_is_refused_before_it_is_opened(tmp_path):
    path = tmp_path / "other.pt"
    path.write_bytes(pickle.dumps(Path("anything")))
    with pytest.raises(ConfigError, match=r"other\.pt has sha256 .*, not 0000"):
        read_weights(path, "0" * 64)


def test_a_file_that_could_run_code_is_refused(tmp_path):
    path, sha256 = saved(tmp_path / "whole.pt", network())
    with pytest.raises(UnsafeArtifactError, match="more than tensors"):
        read_weights(path, sha256)
    path, sha256 = saved(tmp_path / "nested.pt", {"state_dict": network().state_dict()})
    with pytest.raises(UnsafeArtifactError, match="not a plain state dict"):
        read_weights(path, sha256)
    path.write_bytes(b"\x08\0\0\0\0\0\0\0{broken}")
    with pytest.raises(UnsafeArtifactError, match="damaged"):
        read_weights(path, hashlib.sha256(path.read_bytes()).hexdigest())


def test_weights_that_are_not_finite_are_refused(tmp_path):
    state = network().state_dict()
    state["0.weight"][0, 0, 0, 0] = float("nan")
    path, sha256 = saved(tmp_path / "a.safetensors", state)
    with pytest.raises(
        UnsafeArtifactError, match=r"1 tensors hold NaN or infinity \(first: 0.weight"
    ):
        read_weights(path, sha256)


@pytest.mark.parametrize(
    ("change", "name"),
    [
        (lambda state: state.pop("0.bias"), "0.bias"),
        (lambda state: state.update({"9.weight": torch.ones(1)}), "9.weight"),
        (lambda state: state.update({"1.weight": torch.ones(5)}), "1.weight"),
    ],
)
def test_every_tensor_must_fit(change, name):
    target = network()
    target[3] = nn.Identity()
    state = network().state_dict()
    change(state)
    with pytest.raises(UnsafeArtifactError, match=rf"1 tensors .*first: {name}"):
        load_strictly(target, state, "3", Path("a.pt"))


def test_the_classifier_is_left_out_and_old_files_lack_counters():
    source, target = network(), network()
    target[3] = nn.Identity()
    state = {key: item for key, item in source.state_dict().items() if "num_batches" not in key}
    load_strictly(target, state, "3", Path("a.pt"))
    assert torch.equal(target[0].weight, source[0].weight)


def test_random_weights_depend_on_seed_and_name_only():
    first, again, other = network(), network(), network()
    before = torch.random.get_rng_state()
    for item, seed in ((first, 1), (again, 1), (other, 2)):
        fill_randomly(item, seed)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert torch.equal(first[0].weight, again[0].weight)
    assert not torch.equal(first[0].weight, other[0].weight)
    assert not first[0].bias.any()
    assert torch.equal(first[1].weight, torch.ones(4))
    wide = nn.Linear(400, 300)
    fill_randomly(wide, 1)
    assert wide.weight.std().item() == pytest.approx((2 / 400) ** 0.5, rel=0.02)
