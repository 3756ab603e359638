"""Artefacts appear whole or not at all, and damage is noticed."""

import errno

import pytest

from eo_causal.core.artefacts import (
    Ledger,
    list_files,
    published,
    remove_leftovers,
    verify,
    write_atomic,
)
from eo_causal.errors import IntegrityError, StorageError


def test_a_folder_takes_its_name_only_when_all_went_well(tmp_path):
    target = tmp_path / "zones"
    with published(target) as temporary:
        (temporary / "a.txt").write_text("one")
        assert not target.exists()
    assert (target / "a.txt").read_text() == "one"

    def fail_while_writing():
        with published(target) as temporary:
            (temporary / "a.txt").write_text("two")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail_while_writing()
    assert (target / "a.txt").read_text() == "one"
    assert [path.name for path in tmp_path.iterdir()] == ["zones"]


def test_a_full_disk_is_a_storage_error_that_leaves_nothing(tmp_path):
    with pytest.raises(StorageError, match="No space left") as caught, published(tmp_path / "z"):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert caught.value.facts["errno"] == errno.ENOSPC
    assert not list(tmp_path.iterdir())


def test_leftovers_of_a_killed_run_are_removed_and_nothing_else(tmp_path):
    (tmp_path / ".zones.tmp-12345678").mkdir()
    (tmp_path / ".results.json.tmp-12345678").touch()
    (tmp_path / "zones").mkdir()
    (tmp_path / ".hidden").touch()
    removed = remove_leftovers(tmp_path)
    assert sorted(removed) == [".results.json.tmp-12345678", ".zones.tmp-12345678"]
    assert sorted(path.name for path in tmp_path.iterdir()) == [".hidden", "zones"]


def test_ledger_ignores_torn_and_altered_lines(tmp_path):
    ledger = Ledger(tmp_path / "ledger.jsonl")
    ledger.append({"artefact": "a", "n": 1})
    ledger.append({"artefact": "b", "n": 1})
    ledger.append({"artefact": "a", "n": 2})
    text = ledger.path.read_text()
    assert ledger.records()["a"]["n"] == 2

    ledger.path.write_text(text.replace('"artefact": "b", "n": 1', '"artefact": "b", "n": 9'))
    assert set(ledger.records()) == {"a"}

    ledger.path.write_text(text[:-10])
    assert ledger.records()["a"]["n"] == 1
    ledger.append({"artefact": "c", "n": 3})
    assert set(ledger.records()) == {"a", "b", "c"}


@pytest.mark.parametrize("damage", ["alter", "remove", "add"])
def test_verify_names_the_file_that_differs(tmp_path, damage):
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "a.bin").write_bytes(b"abc")
    files = list_files(tmp_path)
    verify(tmp_path, files)
    if damage == "alter":
        (tmp_path / "x" / "a.bin").write_bytes(b"abd")
    elif damage == "remove":
        (tmp_path / "x" / "a.bin").unlink()
    else:
        (tmp_path / "x" / "b.bin").touch()
    with pytest.raises(IntegrityError) as caught:
        verify(tmp_path, files)
    assert caught.value.facts["files"] == ["x/b.bin" if damage == "add" else "x/a.bin"]


def test_write_atomic_replaces(tmp_path):
    write_atomic(tmp_path / "sub" / "a.json", b"1")
    write_atomic(tmp_path / "sub" / "a.json", b"2")
    assert (tmp_path / "sub" / "a.json").read_bytes() == b"2"
    assert len(list((tmp_path / "sub").iterdir())) == 1
