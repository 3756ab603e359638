"""Named public data sets: where they are, what they must hash to, under which licence."""

import json
import os
from dataclasses import dataclass, field
from pathlib import Path

from eo_causal.core.artefacts import sha256_file
from eo_causal.core.sources import user_cache
from eo_causal.errors import ConfigError, DataError, IntegrityError


@dataclass(frozen=True)
class DataSet:
    """One entry of the registry.

    Attributes
    ----------
    name : str
        What configs call it.
    folder : str
        Its folder below ``$EO_CAUSAL_DATA`` and below the cache.
    files : dict
        File name -> SHA-256.
    base_url : str or None
        The files' address without their name; None where only ``$EO_CAUSAL_DATA`` has them.
    licence, citation : str
        Terms, and what to cite.
    sources : dict
        File name -> path below ``base_url``, where it differs from the name.
    """

    name: str
    folder: str
    files: dict[str, str]
    base_url: str | None
    licence: str
    citation: str
    sources: dict[str, str] = field(default_factory=dict)


def _registered() -> dict[str, DataSet]:
    """The entries of ``datasets.json``, which lies beside this module."""
    text = Path(__file__).with_name("datasets.json").read_text(encoding="utf-8")
    return {name: DataSet(name, **entry) for name, entry in json.loads(text).items()}


REGISTRY = _registered()


def list_datasets() -> list[DataSet]:
    """All named data sets."""
    return list(REGISTRY.values())


def find_dataset(name: str) -> DataSet:
    """The registry entry of a name.

    Raises
    ------
    ConfigError
        Unknown name; lists the known ones.
    """
    if name not in REGISTRY:
        known = ", ".join(REGISTRY)
        raise ConfigError(f"data set {name!r} is not known; known: {known}.", name=name)
    return REGISTRY[name]


def dataset_path(name: str, file: str | None = None) -> Path:
    """Folder of a data set that is present, or the path of one of its files.

    Looks in ``$EO_CAUSAL_DATA``, then in the user cache.

    Raises
    ------
    DataError
        Not present; says how to get it.
    """
    entry = find_dataset(name)
    wanted = [file] if file else list(entry.files)
    for root in _roots():
        folder = root / entry.folder
        if all((folder / item).is_file() for item in wanted):
            return folder / file if file else folder
    missing = f"{name}/{file}" if file else name
    how = (
        f"Run `eo-causal data fetch {name}`, or set EO_CAUSAL_DATA to a folder that holds it."
        if entry.base_url
        else "Set EO_CAUSAL_DATA to a folder that holds it; it cannot be downloaded."
    )
    raise DataError(f"data set {missing} is not on this computer. {how}", name=name, file=file)


def fetch(name: str) -> Path:
    """Download what is missing of a data set into the cache, hashes checked; returns its folder.

    Raises
    ------
    DataError
        The data set has no public address, or the download failed.
    IntegrityError
        A downloaded file has another hash.
    """
    import pooch
    import requests

    entry = find_dataset(name)
    try:
        return dataset_path(name)
    except DataError:
        if entry.base_url is None:
            raise
    folder = user_cache() / entry.folder
    for file, digest in entry.files.items():
        url = entry.base_url + entry.sources.get(file, file)
        try:
            pooch.retrieve(url, known_hash=f"sha256:{digest}", fname=file, path=folder)
        except requests.RequestException as error:
            raise DataError(
                f"{name}/{file}: the download failed ({type(error).__name__}). Try again, or set"
                " EO_CAUSAL_DATA.", name=name, file=file,
            ) from error  # fmt: skip
        except ValueError as error:
            raise IntegrityError(
                f"{name}/{file}: the download has another sha256 than expected.", name=name
            ) from error
    return folder


def verify_dataset(name: str) -> int:
    """Check every file's hash; returns their number.

    Raises
    ------
    IntegrityError
        A file differs.
    """
    entry = find_dataset(name)
    folder = dataset_path(name)
    for file, digest in entry.files.items():
        if sha256_file(folder / file) != digest:
            raise IntegrityError(
                f"{folder / file}: its sha256 is not the registered one.", file=file
            )
    return len(entry.files)


def _roots() -> list[Path]:
    named = os.environ.get("EO_CAUSAL_DATA")
    return [*([Path(named)] if named else []), user_cache()]
