"""STAC items, item collections and static catalogs, read as files: 1.0.0-beta.1 to 1.1.

Only :func:`search_items` meets the network, and saves what it finds as files.
"""

import contextlib
import hashlib
import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from eo_causal.core.artefacts import write_atomic
from eo_causal.core.settings import Bounds, Period
from eo_causal.core.sources import SourcePolicy, without_secrets
from eo_causal.errors import (
    ConfigError,
    DataError,
    EOCausalError,
    ReadError,
    ResourceLimitError,
    UnsafeSourceError,
)
from eo_causal.ingest.scene_table import SceneRow
from eo_causal.ingest.stac_item import Document, document_rows, resolved

MAX_JSON_BYTES = 2**26
MAX_DOCUMENTS = 100_000


def read_items(
    paths: Sequence[Path], policy: SourcePolicy, wanted: tuple[str, ...] = ()
) -> list[SceneRow]:
    """Rows of all image assets of items on disk, not filtered, their files not opened.

    Parameters
    ----------
    paths : sequence of Path
        Items, item collections, catalogs or collections; links to files on disk are followed.
    policy : SourcePolicy
        Decides which linked files may be opened. Asset hrefs are not checked here.
    wanted : tuple of str
        Names of bands. An asset of another key whose only band has such a name or common name
        takes that name.

    Returns
    -------
    list of SceneRow
        ``href`` is a URL or a path, relative ones resolved against the item's folder. What cannot
        be read is a row with status refused.
    """
    return [
        row for document in _documents(paths, policy) for row in document_rows(document, wanted)
    ]


def local_files(paths: Sequence[Path], policy: SourcePolicy) -> list[Path]:
    """All files on disk that reading these items may open: item files and their assets."""
    found: dict[Path, None] = {}
    for document in _documents(paths, policy):
        found[document.path] = None
        local = [row.href for row in document_rows(document) if "://" not in row.href]
        for href in local:
            with contextlib.suppress(EOCausalError):  # a refused row when the catalog is read
                checked = Path(str(policy.check(href)))
                if checked.is_file():
                    found[checked] = None
    return list(found)


def search_items(
    url: str,
    folder: Path,
    *,
    policy: SourcePolicy,
    collections: tuple[str, ...],
    bounds: Bounds,
    period: Period,
    max_items: int = 1000,
) -> list[Path]:
    """Search a live STAC API and save its items, one file each, to be read by :func:`read_items`.

    Parameters
    ----------
    url : str
        The API; its host, and every host its pages lead to, must be allowed by ``policy``.
    folder : Path
        Where the items go.
    collections, bounds, period
        What to search for.
    max_items : int
        More than these are an error, not a silent cut.

    Raises
    ------
    ConfigError
        The extra ``stac`` is not installed, or more than ``max_items`` were found.
    UnsafeSourceError
        A host that is not allowed.
    ReadError
        The API cannot be reached or answers with an error.
    """
    try:
        import pystac_client
        from pystac_client.stac_api_io import StacApiIO
    except ImportError as error:
        raise ConfigError(
            "searching a STAC API needs pystac-client. Install it: pip install 'eo-causal[stac]'."
        ) from error
    from pystac_client.exceptions import APIError
    from requests import RequestException

    policy.check(url)

    def checked(request: Any) -> None:
        policy.check(request.url)

    connection = StacApiIO(request_modifier=checked)
    connection.session.max_redirects = 0
    try:
        client = pystac_client.Client.open(url, stac_io=connection)
        search = client.search(
            collections=list(collections), bbox=list(bounds), datetime="/".join(period),
            max_items=max_items + 1,
        )  # fmt: skip
        items = list(search.items_as_dicts())
    except (APIError, RequestException) as error:
        if isinstance(error.__context__, UnsafeSourceError):
            raise error.__context__ from None
        raise ReadError(
            f"{without_secrets(url)}: the search failed ({type(error).__name__}). Try again."
        ) from error
    if len(items) > max_items:
        raise ConfigError(
            f"the search finds more than {max_items} items. Narrow bounds or period, or raise"
            " max_items.", max_items=max_items,
        )  # fmt: skip
    return [_save_item(item, folder) for item in items]


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a file of bounded size.

    Raises
    ------
    ReadError
        Missing, not UTF-8, no JSON, or no object.
    ResourceLimitError
        Larger or deeper than any catalog.
    """
    try:
        if path.stat().st_size > MAX_JSON_BYTES:
            raise ResourceLimitError(
                f"{path}: {path.stat().st_size:,} bytes are too many for a STAC file (limit"
                f" {MAX_JSON_BYTES:,}). Split it.", path=str(path),
            )  # fmt: skip
        text = path.read_bytes().decode("utf-8-sig")
        content = json.loads(text, parse_constant=_refuse_constant)
    except OSError as error:
        raise ReadError(f"{path}: {error.strerror}. Check the path.", path=str(path)) from error
    except UnicodeDecodeError as error:
        raise ReadError(
            f"{path}: byte {error.start} is not UTF-8. Save the file as UTF-8.",
            path=str(path), offset=error.start,
        ) from error  # fmt: skip
    except ValueError as error:
        raise ReadError(f"{path}: is no JSON ({error}). Fetch it again.", path=str(path)) from error
    except RecursionError as error:
        raise ResourceLimitError(
            f"{path}: is nested too deeply for a STAC file.", path=str(path)
        ) from error
    if not isinstance(content, dict):
        raise ReadError(f"{path}: holds no JSON object, so no STAC.", path=str(path))
    return content


def _refuse_constant(text: str) -> float:
    raise ValueError(f"{text} is no JSON number")


def _documents(paths: Sequence[Path], policy: SourcePolicy) -> Iterator[Document]:
    """Every item that the files hold or lead to, each file once."""
    waiting = list(reversed(paths))
    seen: set[Path] = set()
    while waiting:
        path = waiting.pop()
        try:
            real = Path(str(policy.check(path)))
            if real in seen:
                continue
            seen.add(real)
            content = read_json(real)
            kind = content.get("type")
            if kind == "Feature":
                yield Document(real, str(real), content)
            elif kind == "FeatureCollection":
                yield from _features(real, content)
            else:
                local, remote = _linked(real, content)
                waiting += reversed(local)
                yield from remote
        except EOCausalError as error:
            yield Document(path, str(path), {}, error)
        if len(seen) > MAX_DOCUMENTS:
            raise ResourceLimitError(
                f"{paths[0]}: leads to more than {MAX_DOCUMENTS:,} files. Split the catalog.",
                path=str(paths[0]),
            )


def _features(path: Path, content: dict[str, Any]) -> Iterator[Document]:
    features = content.get("features")
    if not isinstance(features, list):
        raise ReadError(f"{path}: a FeatureCollection without features.", path=str(path))
    for number, feature in enumerate(features):
        source = f"{path}#{number}"
        if isinstance(feature, dict):
            yield Document(path, source, feature)
        else:
            error = DataError(f"{path}: feature {number} is no STAC item.", path=str(path))
            yield Document(path, source, {}, error)


def _linked(path: Path, content: dict[str, Any]) -> tuple[list[Path], list[Document]]:
    """Files on disk that a catalog or collection links to, and refusals of those elsewhere."""
    links = content.get("links")
    if not isinstance(links, list) or "stac_version" not in content:
        raise ReadError(
            f"{path}: type {content.get('type')!r} is no STAC item, item collection or catalog.",
            path=str(path),
        )  # fmt: skip
    hrefs = [
        str(link.get("href"))
        for link in links
        if isinstance(link, dict) and link.get("rel") in ("item", "child")
    ]
    if not hrefs:
        raise DataError(
            f"{path}: a {content.get('type', 'catalog')} that links to no item on disk. Save its items"
            " beside it.", path=str(path),
        )  # fmt: skip
    local = [Path(resolved(href, path.parent)) for href in hrefs if "://" not in href]
    remote = [" ".join(without_secrets(href).split()) for href in hrefs if "://" in href]
    return local, [
        Document(
            path, href, {}, DataError(f"{path}: links to {href}, which is not on disk. Save it.")
        )
        for href in remote
    ]


def _save_item(item: dict[str, Any], folder: Path) -> Path:
    name = str(item.get("id", ""))
    digest = hashlib.sha256(name.encode()).hexdigest()[:8]
    path = folder / f"{re.sub(r'[^A-Za-z0-9._-]', '_', name)[:100]}-{digest}.json"
    write_atomic(path, json.dumps(item, sort_keys=True).encode())
    return path
