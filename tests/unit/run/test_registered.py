"""A frozen design is never overwritten, and a change after it is refused or branded."""

import json

import pytest

from eo_causal.errors import IntegrityError, RegistrationError
from eo_causal.run.design import Design, design_hash
from eo_causal.run.registered import design_facts, freeze, registration

BLOCK = {
    "id": "trial", "strategy": "rct",
    "estimand": {"population": "schools"},
    "units": {"geometry": "point", "id": "school"},
    "treatment": {"name": "meals", "assignment": "randomised"},
    "outcome": {"name": "score", "source": "survey"},
    "design_specific": {"p_treat": 0.5, "strata": [], "cluster": None},
}  # fmt: skip


def design(**changes):
    return Design(**{**BLOCK, **changes})


@pytest.fixture
def registry(tmp_path):
    freeze(design(), tmp_path / "registry")
    return tmp_path / "registry"


def test_a_frozen_file_holds_the_block_its_hash_and_when(registry):
    record = json.loads((registry / "trial-1.json").read_text())
    assert record["hash"] == design_hash(design())
    assert record["design"]["registered_at"].startswith("20")
    assert record["design"]["design_specific"] == {"p_treat": 0.5, "strata": []}


def test_a_frozen_design_is_never_overwritten_but_a_new_version_stands_beside(registry):
    before = (registry / "trial-1.json").read_bytes()
    with pytest.raises(RegistrationError, match=r"never overwritten. Raise design\.version"):
        freeze(design(question="Other?"), registry)
    assert (registry / "trial-1.json").read_bytes() == before
    freeze(design(version="2", question="Other?"), registry)
    assert sorted(path.name for path in registry.iterdir()) == ["trial-1.json", "trial-2.json"]


def test_a_full_disk_leaves_no_half_frozen_file(tmp_path, monkeypatch):
    def full(path, data):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr("eo_causal.run.registered.write_atomic", full)
        with pytest.raises(OSError, match="No space left"):
            freeze(design(), tmp_path / "registry")
    assert not list((tmp_path / "registry").iterdir())
    assert freeze(design(), tmp_path / "registry").is_file()


def test_the_same_design_passes_and_one_without_a_file_says_not_frozen(registry, tmp_path):
    same = registration(design(), registry, allow_change=False)
    assert (same.status, same.flags) == ("pass", ())
    for folder, made in ((tmp_path / "none", design()), (registry, design(version="2"))):
        found = registration(made, folder, allow_change=False)
        assert found.status == "not_run"
        assert found.text.startswith("Not frozen")
        assert design_facts(made, found)["registration"]["changed"] == []


def test_a_change_is_refused_with_its_keys_or_branded(registry):
    changed = design(
        question="Other?", design_specific={"p_treat": 0.4, "strata": [], "cluster": None}
    )
    with pytest.raises(RegistrationError, match=r"p_treat: 0\.5 -> 0\.4; question: - -> \"Other"):
        registration(changed, registry, allow_change=False)
    found = registration(changed, registry, allow_change=True)
    assert (found.status, found.flags) == ("warn", ("post_registration_change",))
    assert found.table.to_dict("records") == [
        {"key": "design_specific.p_treat", "frozen": "0.5", "now": "0.4"},
        {"key": "question", "frozen": "-", "now": '"Other?"'},
    ]
    facts = design_facts(changed, found)
    assert facts["post_registration_change"] is True
    assert facts["hash"] == design_hash(changed)


@pytest.mark.parametrize("damage", ["{", "[]", '{"hash": "0"}', "edit"])
def test_an_edited_or_broken_file_is_noticed(registry, damage):
    path = registry / "trial-1.json"
    edited = path.read_text().replace("0.5", "0.4")
    path.write_text(edited if damage == "edit" else damage)
    with pytest.raises(IntegrityError, match="Restore the file"):
        registration(design(), registry, allow_change=True)
