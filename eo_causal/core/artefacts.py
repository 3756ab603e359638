"""What stages leave on disk: open formats, published whole or not at all, with checksums.

An artefact is a folder. It is written under a temporary name on the same disk, flushed, renamed,
and only then recorded in the ledger; a folder without its record does not exist for the reader.
"""

import contextlib
import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from eo_causal.errors import IntegrityError, StorageError

TEMPORARY = ".tmp-"


def sha256_file(path: Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def sha256_json(value: Any) -> str:
    """SHA-256 of a JSON value in canonical form."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def list_files(folder: Path) -> dict[str, str]:
    """Every file below a folder: relative POSIX path -> SHA-256."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): sha256_file(path) for path in files}


@contextlib.contextmanager
def published(folder: Path) -> Iterator[Path]:
    """Write a folder atomically: yields a temporary folder that takes the name when all went well.

    Raises
    ------
    StorageError
        When the disk is full or not writable; nothing stays behind under either name.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = folder.with_name(f".{folder.name}{TEMPORARY}{uuid.uuid4().hex[:8]}")
    try:
        temporary.mkdir()
        yield temporary
        for path in [*temporary.rglob("*"), temporary]:
            _flush(path)
        if folder.exists():
            shutil.rmtree(folder)
        temporary.rename(folder)
        _flush(folder.parent)
    except OSError as error:
        if error.errno is None:
            raise
        raise StorageError(
            f"{folder}: {error.strerror}. Free space or choose another folder with --out;"
            " the same command then goes on where it stopped.",
            path=str(folder), errno=error.errno,
        ) from error  # fmt: skip
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def write_atomic(path: Path, data: bytes) -> None:
    """Replace one file in a single step."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}{TEMPORARY}{uuid.uuid4().hex[:8]}")
    try:
        temporary.write_bytes(data)
        _flush(temporary)
        temporary.replace(path)
        _flush(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def remove_leftovers(folder: Path) -> list[str]:
    """Delete temporary files and folders that a killed run left directly below ``folder``."""
    leftovers = [path for path in folder.glob(f".*{TEMPORARY}*") if TEMPORARY in path.name]
    for path in leftovers:
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()
    return [path.name for path in leftovers]


class Ledger:
    """Append-only record of published artefacts; each line carries its own checksum.

    Parameters
    ----------
    path : Path
        The ``ledger.jsonl`` file. A torn or altered line is ignored, as if its artefact had never
        been written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def records(self) -> dict[str, dict[str, Any]]:
        """Latest record per artefact name."""
        found: dict[str, dict[str, Any]] = {}
        if not self.path.exists():
            return found
        for line in self.path.read_text(encoding="utf-8", errors="replace").splitlines():
            check, _, text = line.partition(" ")
            if hashlib.sha256(text.encode()).hexdigest()[:16] == check:
                record = json.loads(text)
                found[record["artefact"]] = record
        return found

    def append(self, record: dict[str, Any]) -> None:
        """Add one record and flush it to disk."""
        text = json.dumps(record, sort_keys=True, allow_nan=False)
        line = f"{hashlib.sha256(text.encode()).hexdigest()[:16]} {text}\n"
        with self.path.open("a+b") as stream:
            stream.seek(0, os.SEEK_END)
            if stream.tell():
                stream.seek(-1, os.SEEK_END)
                if stream.read(1) != b"\n":
                    stream.write(b"\n")
            stream.write(line.encode())
            stream.flush()
            os.fsync(stream.fileno())


def verify(folder: Path, files: dict[str, str]) -> None:
    """Compare a published folder with its record.

    Raises
    ------
    IntegrityError
        When a file is missing, added or altered; names the first one.
    """
    actual = list_files(folder)
    if actual != files:
        names = sorted({name for name in {*actual, *files} if actual.get(name) != files.get(name)})
        raise IntegrityError(
            f"{folder}: {len(names)} file(s) differ from the ledger (first: {names[0]})."
            " Delete the folder, or run again to compute it anew.",
            path=str(folder), files=names,
        )  # fmt: skip


def _flush(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
