"""Archives of images: unpacked once, within limits, without anything that leaves the folder."""

import bz2
import gzip
import io
import lzma
import tarfile
import zlib
from pathlib import Path, PurePosixPath
from typing import IO, Any

from eo_causal.core.artefacts import Ledger, list_files, published, sha256_file, verify
from eo_causal.core.sources import user_cache
from eo_causal.errors import IntegrityError, ReadError, ResourceLimitError, UnsafeSourceError

MAX_RATIO = 100
MIN_LIMIT = 2**26
MAX_BYTES = 2**36
MAX_MEMBERS = 100_000
TAR_MAGIC = 257
TAR_BLOCK = 512
MAX_NAME = 255
DAMAGE = (
    tarfile.TarError, EOFError, zlib.error, lzma.LZMAError, gzip.BadGzipFile, FileExistsError,
    IsADirectoryError, NotADirectoryError,
)  # fmt: skip
OPENERS: dict[bytes, Any] = {b"\x1f\x8b": gzip.open, b"BZh": bz2.open, b"\xfd7zXZ\0": lzma.open}


def is_archive(path: Path) -> bool:
    """Whether a file is a tar archive, plain or compressed with gzip, bzip2 or xz, by its content."""
    try:
        with path.open("rb") as stream:
            head = stream.read(TAR_MAGIC + 5)
    except OSError:
        return False
    return head[TAR_MAGIC:] == b"ustar" or head.startswith(tuple(OPENERS))


def unpacked(path: Path, sha256: str | None = None) -> dict[Path, str]:
    """Files of an archive, unpacked in the user cache by its content, with their SHA-256.

    What lies there is verified; what differs is unpacked anew.
    """
    root = user_cache() / "archives"
    name = (sha256 or sha256_file(path))[:32]
    folder = root / name
    ledger = Ledger(root / "ledger.jsonl")
    record = ledger.records().get(name)
    if record is None or not _is_whole(folder, record["files"]):
        with published(folder) as temporary:
            extract_archive(path, temporary)
            record = {"artefact": name, "files": list_files(temporary)}
        ledger.append(record)
    return {folder / file: digest for file, digest in record["files"].items()}


def extract_archive(path: Path, folder: Path) -> list[Path]:
    """Unpack a tar archive into a folder.

    Parameters
    ----------
    path : Path
        Plain, or compressed with gzip, bzip2 or xz.
    folder : Path
        Existing folder.

    Returns
    -------
    list of Path
        The files, sorted.

    Raises
    ------
    UnsafeSourceError
        A member with an absolute or parent path, a link, or a device.
    ResourceLimitError
        More bytes or members than an archive of this size may hold; seen while reading.
    IntegrityError
        The archive is damaged, ends early, or holds a name twice.
    ReadError
        No tar archive.
    """
    limit = min(max(MIN_LIMIT, MAX_RATIO * path.stat().st_size), MAX_BYTES)
    seen: set[PurePosixPath] = set()
    try:
        with _decompressed(path) as stream:
            counted = _Counted(stream, path, limit)
            with tarfile.open(fileobj=counted, mode="r|") as archive:
                for member in archive:
                    _check_member(path, member, seen)
                    archive.extract(member, folder, filter="data")
            counted.finish()
    except tarfile.FilterError as error:
        raise UnsafeSourceError(f"{path}: {error}. Such an archive is refused.") from error
    except DAMAGE as error:
        wrong = IntegrityError if seen else ReadError
        raise wrong(
            f"{path}: cannot be unpacked ({error}). It is no tar archive, is damaged or ends early;"
            " fetch it again.", path=str(path),
        ) from error  # fmt: skip
    return sorted(found for found in folder.rglob("*") if found.is_file())


class _Counted(io.RawIOBase):
    """A stream that counts what is read and ends with an error above a limit."""

    def __init__(self, stream: IO[bytes], path: Path, limit: int) -> None:
        super().__init__()
        self.stream = stream
        self.path = path
        self.limit = limit
        self.n_bytes = 0
        self.tail = b""

    def read(self, size: int = -1) -> bytes:
        """At most ``size`` bytes."""
        data = self.stream.read(size)
        self.n_bytes += len(data)
        self.tail = (self.tail + data)[-TAR_BLOCK:]
        if self.n_bytes > self.limit:
            raise ResourceLimitError(
                f"{self.path}: unpacks to more than {self.limit:,} bytes. Such an archive is refused;"
                " unpack it yourself if you trust it.", path=str(self.path), limit=self.limit,
            )  # fmt: skip
        return data

    def finish(self) -> None:
        """Read to the end, where checksums are verified and a whole tar has an empty block."""
        while self.read(2**16):
            pass
        if self.tail != bytes(TAR_BLOCK):
            raise IntegrityError(
                f"{self.path}: the archive ends early. Fetch it again.", path=str(self.path)
            )


def _decompressed(path: Path) -> IO[bytes]:
    with path.open("rb") as stream:
        head = stream.read(6)
    opener = next((opener for magic, opener in OPENERS.items() if head.startswith(magic)), open)
    return opener(path, "rb")


def _check_member(path: Path, member: tarfile.TarInfo, seen: set[PurePosixPath]) -> None:
    """Refuse what could lie or lead outside the folder, what is no file, and names that repeat."""
    name = PurePosixPath(member.name)
    odd = "\0" in member.name or any(
        len(part.encode(errors="replace")) > MAX_NAME for part in name.parts
    )
    if odd or name.is_absolute() or ".." in name.parts:
        raise UnsafeSourceError(
            f"{path}: member {member.name[:80]!r} leads out of the archive's folder. Such an archive"
            " is refused.", path=str(path), member=member.name,
        )  # fmt: skip
    if member.issparse() or not (member.isreg() or member.isdir()):
        raise UnsafeSourceError(
            f"{path}: member {member.name[:80]!r} is a link, a device or a file with holes. Such an"
            " archive is refused.", path=str(path), member=member.name,
        )  # fmt: skip
    if member.isreg() and name in seen:
        raise IntegrityError(
            f"{path}: holds {member.name[:80]!r} twice. Keep one.", path=str(path),
            member=member.name,
        )  # fmt: skip
    seen.add(name)
    if len(seen) > MAX_MEMBERS:
        raise ResourceLimitError(
            f"{path}: holds more than {MAX_MEMBERS:,} members. Such an archive is refused.",
            path=str(path),
        )


def _is_whole(folder: Path, files: dict[str, str]) -> bool:
    try:
        verify(folder, files)
    except IntegrityError:
        return False
    return True
