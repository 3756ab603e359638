"""The one open policy: what a run may read, decided before anything is opened."""

import ipaddress
import os
import re
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from eo_causal.errors import UnsafeSourceError

Resolver = Callable[[str], Sequence[str]]


_SECRETS = (
    (re.compile(r"(\w+://)[^\s/?#'\"@]*@"), r"\1"),
    (re.compile(r"(\w+://[^\s?#'\"]*)[?#][^\s'\"]*"), r"\1"),
    (re.compile(r"(?i)\b(authorization|bearer)\b[:= ]+(bearer |basic )?\S+"), r"\1 ..."),
)


def without_secrets(text: str) -> str:
    """Text with every URL cut down to host and path, and without credentials.

    >>> without_secrets("GET https://me:pass@data.org/a.tif?sig=0a1b failed")
    'GET https://data.org/a.tif failed'
    """
    for pattern, kept in _SECRETS:
        text = pattern.sub(kept, text)
    return text


def resolve_host(host: str) -> list[str]:
    """All addresses a host name stands for."""
    try:
        return [str(info[4][0]) for info in socket.getaddrinfo(host, 443)]
    except OSError as error:
        raise UnsafeSourceError(
            f"{host}: the name cannot be resolved ({error}). Check the URL.", host=host
        ) from error


@dataclass(frozen=True)
class SourcePolicy:
    """Which files and hosts may be opened.

    Parameters
    ----------
    roots : tuple of Path
        Folders that local paths must lie in, after links are resolved.
    hosts : tuple of str
        Host names that https URLs may name.
    resolver : callable
        Host name to addresses; every one must be public.
    """

    roots: tuple[Path, ...]
    hosts: tuple[str, ...] = ()
    resolver: Resolver = resolve_host

    def check(self, source: str | Path) -> Path | str:
        """Return the resolved path, or the URL, when it may be opened.

        Raises
        ------
        UnsafeSourceError
            Anything a library would read as other than a plain path or a plain https URL, a path
            outside the roots, or a host that is not listed or not public.
        """
        text = str(source)
        if "://" in text and not text.startswith("<"):
            return self._check_url(text)
        refused = (
            text.startswith(("/vsi", "<", "{", "~"))
            or "::" in text
            or re.match(r"[A-Za-z][A-Za-z0-9_]{1,}:", text) is not None
            or "\0" in text
            or "\n" in text
        )
        if refused:
            raise UnsafeSourceError(
                f"{text[:80]!r} is not a plain path. Give the file's own path.", source=text
            )
        return self._check_path(Path(text))

    def _check_path(self, path: Path) -> Path:
        try:
            real = path.resolve()
        except (OSError, RuntimeError) as error:
            raise UnsafeSourceError(
                f"{path.name[:80]}: cannot be followed to a file ({error}). Give the file's own path.",
                source=str(path),
            ) from error
        if not any(real.is_relative_to(root.resolve()) for root in self.roots):
            allowed = ", ".join(str(root) for root in self.roots)
            raise UnsafeSourceError(
                f"{path} lies outside the folders a run may read ({allowed}). Add its folder to"
                " data.roots.", source=str(path),
            )  # fmt: skip
        for item in real.rglob("*") if os.path.isdir(real) else ():
            if item.is_symlink() and not Path(os.path.realpath(item)).is_relative_to(real):
                raise UnsafeSourceError(
                    f"{item}: a link that leaves its store. Put the file itself there.",
                    source=str(item),
                )
        return real

    def _check_url(self, url: str) -> str:
        parts = urlsplit(url)
        host = parts.hostname or ""
        if parts.scheme != "https" or "::" in url:
            raise UnsafeSourceError(
                f"{parts.scheme}://{host}: only plain https URLs are opened.", source=host
            )
        if host not in self.hosts:
            raise UnsafeSourceError(
                f"{host} is not among the allowed hosts. Add it to data.hosts.", source=host
            )
        for address in self.resolver(host):
            if not ipaddress.ip_address(address.split("%")[0]).is_global:
                raise UnsafeSourceError(
                    f"{host} resolves to {address}, which is no public address.", source=host
                )
        return url


@dataclass(frozen=True)
class InputFiles:
    """Checked input files with their hashes; what a reading stage depends on."""

    paths: tuple[str, ...]
    sha256: tuple[str, ...]


def user_cache() -> Path:
    """Folder for downloaded data sets: ``$EO_CAUSAL_CACHE``, else the user's cache folder."""
    import pooch

    return Path(os.environ.get("EO_CAUSAL_CACHE") or pooch.os_cache("eo_causal"))


def default_policy(
    run_folder: Path | None = None, extra_roots: tuple[Path, ...] = ()
) -> SourcePolicy:
    """The working folder, the run folder, ``$EO_CAUSAL_DATA``, the cache, and ``extra_roots``."""
    roots = [Path.cwd(), *([run_folder] if run_folder else []), *extra_roots, user_cache()]
    if os.environ.get("EO_CAUSAL_DATA"):
        roots.append(Path(os.environ["EO_CAUSAL_DATA"]))
    return SourcePolicy(tuple(Path(root).resolve() for root in roots))
