"""Archives made at run time: unpacked whole, or refused before anything is outside the folder."""

import gzip
import io
import os
import tarfile

import pytest

from eo_causal.errors import IntegrityError, ReadError, ResourceLimitError, UnsafeSourceError
from eo_causal.ingest import archive
from eo_causal.ingest.archive import extract_archive, is_archive, unpacked


@pytest.fixture
def pack(tmp_path):
    """Write a tar archive of (name, content or change of the member) pairs."""

    def make(*members, name="files.tar.gz", mode="w:gz", **options):
        path = tmp_path / name
        with tarfile.open(path, mode, **options) as target:
            for member, content in members:
                info = tarfile.TarInfo(member)
                data = content if isinstance(content, bytes) else b""
                info.size = len(data)
                for key, value in content.items() if isinstance(content, dict) else ():
                    setattr(info, key, value)
                target.addfile(info, io.BytesIO(data))
        return path

    return make


@pytest.fixture
def folder(tmp_path):
    path = tmp_path / "out" / "inner"
    path.mkdir(parents=True)
    return path


def outside(folder):
    return [found for found in folder.parent.iterdir() if found != folder]


@pytest.mark.parametrize("ending", ["gz", "bz2", "xz", ""])
def test_members_come_out_whole_and_sorted(pack, folder, ending):
    path = pack(("b/2.tif", b"two"), ("a.tif", os.urandom(20_000)), mode=f"w:{ending}")
    assert is_archive(path)
    found = extract_archive(path, folder)
    assert [item.relative_to(folder).as_posix() for item in found] == ["a.tif", "b/2.tif"]
    assert found[1].read_bytes() == b"two"


@pytest.mark.parametrize(
    ("member", "content", "words"),
    [
        ("/etc/cron.d/x", b"x", "leads out"),
        ("../x.tif", b"x", "leads out"),
        ("a/../../x.tif", b"x", "leads out"),
        ("x" * 300, b"x", "leads out"),
        ("x.tif", {"type": tarfile.SYMTYPE, "linkname": "/etc/passwd"}, "a link"),
        ("x.tif", {"type": tarfile.LNKTYPE, "linkname": "../y.tif"}, "a link"),
        ("x.tif", {"type": tarfile.CHRTYPE}, "a device"),
        ("x.tif", {"type": tarfile.FIFOTYPE}, "a device"),
    ],
)
def test_what_could_leave_the_folder_is_refused(pack, folder, member, content, words):
    path = pack((member, content))
    with pytest.raises(UnsafeSourceError, match=words) as caught:
        extract_archive(path, folder)
    assert str(path) in caught.value.message
    assert not list(folder.iterdir())
    assert not outside(folder)


def test_a_huge_archive_is_refused_while_it_is_read(pack, folder, monkeypatch):
    monkeypatch.setattr(archive, "MIN_LIMIT", 2**20)
    path = pack(("zeros.tif", bytes(2**24)))
    with pytest.raises(ResourceLimitError, match="unpacks to more than") as caught:
        extract_archive(path, folder)
    assert sum(item.stat().st_size for item in folder.iterdir()) <= caught.value.facts["limit"]


def test_a_huge_header_is_refused_too(pack, folder, monkeypatch):
    monkeypatch.setattr(archive, "MIN_LIMIT", 2**20)
    path = pack(("a.tif", {"pax_headers": {"comment": "x" * 2**23}}), format=tarfile.PAX_FORMAT)
    with pytest.raises(ResourceLimitError, match="unpacks to more than"):
        extract_archive(path, folder)


def test_too_many_members(pack, folder, monkeypatch):
    monkeypatch.setattr(archive, "MAX_MEMBERS", 3)
    path = pack(*((f"{number}.tif", b"") for number in range(4)))
    with pytest.raises(ResourceLimitError, match="more than 3 members"):
        extract_archive(path, folder)


@pytest.mark.parametrize(
    "members",
    [(("a", b"1"), ("a", b"2")), (("a", b"1"), ("./a", b"2")), (("a", b"1"), ("a/b", b"2"))],
)
def test_names_that_repeat_are_refused(pack, folder, members):
    with pytest.raises(IntegrityError, match=r"twice|unpacked"):
        extract_archive(pack(*members), folder)


@pytest.mark.parametrize(
    ("ending", "share"),
    [("gz", 0.3), ("gz", 0.99), ("xz", 0.3), ("xz", 0.99), ("", 0.3), ("", 0.6)],
)
def test_archives_that_end_early_are_refused(pack, folder, ending, share):
    content = os.urandom(3000)
    path = pack(*((f"{number}.tif", content) for number in range(9)), mode=f"w:{ending}")
    os.truncate(path, int(path.stat().st_size * share))
    with pytest.raises((IntegrityError, ReadError), match=r"files\.tar\.gz"):
        extract_archive(path, folder)


def test_a_cut_between_members_is_seen(pack, folder):
    path = pack(("a.tif", bytes([7]) * 512), ("b.tif", bytes([7]) * 512), mode="w:")
    os.truncate(path, 1024)
    with pytest.raises(IntegrityError, match="ends early"):
        extract_archive(path, folder)


def test_a_flipped_bit_is_seen_by_the_checksum_at_the_end(pack, folder):
    path = pack(("a.tif", os.urandom(50_000)))
    data = bytearray(path.read_bytes())
    data[25_000] ^= 1
    path.write_bytes(data)
    with pytest.raises((IntegrityError, ReadError)):
        extract_archive(path, folder)


def test_compressed_files_that_are_no_archive(tmp_path, folder):
    path = tmp_path / "a.tif.gz"
    path.write_bytes(gzip.compress(os.urandom(3000)))
    assert is_archive(path)
    with pytest.raises(ReadError, match="no tar archive"):
        extract_archive(path, folder)
    assert not is_archive(tmp_path / "absent")


def test_unpacked_files_are_kept_verified_and_mended(pack, tmp_path, monkeypatch):
    monkeypatch.setenv("EO_CAUSAL_CACHE", str(tmp_path / "cache"))
    path = pack(("a.tif", b"one"))
    [(found, digest)] = unpacked(path).items()
    stamp = found.stat().st_mtime_ns
    assert unpacked(path) == {found: digest}
    assert found.stat().st_mtime_ns == stamp
    found.write_bytes(b"two")
    assert unpacked(path) == {found: digest}
    assert found.read_bytes() == b"one"
