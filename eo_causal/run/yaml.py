"""Strict YAML: scalars stay text for the schema to type, duplicates are found, size is bounded."""

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from eo_causal.errors import ConfigError, ResourceLimitError

MAX_BYTES = 2**20
MAX_DEPTH = 32
MAX_ALIASES = 100
MAX_NODES = 20_000
_NULLS = {"", "~", "null", "Null", "NULL"}
_NO_TEXT = re.compile("[\0\ud800-\udfff]")


@dataclass
class Document:
    """A parsed YAML file: its values, the line of every key, and the keys written twice."""

    path: str
    values: dict[str, Any]
    lines: dict[tuple[str | int, ...], int] = field(default_factory=dict)
    duplicates: list[tuple[tuple[str | int, ...], int]] = field(default_factory=list)
    n_nodes: int = 0


def read_yaml(path: Path) -> Document:
    """Read a config file.

    Only plain mappings, lists and scalars are understood; an unquoted ``null`` or an empty value
    is None, every other scalar stays text, so that ``NO`` stays a country and ``0123`` a code.

    Raises
    ------
    ConfigError
        The file is missing, empty, no mapping, not UTF-8, or not valid YAML.
    ResourceLimitError
        More than 1 MiB, 32 levels or 100 aliases.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ConfigError(
            f"{path}: {error.strerror}. Give the path of a YAML file; `eo-causal configs` lists"
            " those that come with the package.", path=str(path),
        ) from error  # fmt: skip
    if len(data) > MAX_BYTES:
        raise ResourceLimitError(
            f"{path}: {len(data)} bytes, more than the {MAX_BYTES} a config may have.",
            path=str(path), n_bytes=len(data),
        )  # fmt: skip
    try:
        return parse_yaml(data.decode("utf-8-sig"), str(path))
    except UnicodeDecodeError as error:
        raise ConfigError(
            f"{path}: not UTF-8 at byte {error.start}. Save the file as UTF-8.",
            path=str(path), byte=error.start,
        ) from error  # fmt: skip


def parse_yaml(text: str, path: str) -> Document:
    """Parse config text; see :func:`read_yaml`."""
    try:
        _check_limits(text, path)
        root = yaml.compose(text, Loader=yaml.SafeLoader)
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        mark = getattr(error, "problem_mark", None)
        line = mark.line + 1 if mark else 1
        problem = getattr(error, "problem", None) or "cannot be parsed"
        raise ConfigError(f"{path}: line {line}: {problem}.", path=path, line=line) from error
    if not isinstance(root, yaml.MappingNode):
        raise ConfigError(
            f"{path}: holds no mapping at its top level. Begin with `pipeline: NAME`.", path=path
        )
    document = Document(path, {})
    document.values = _build(root, (), document)
    return document


def _check_limits(text: str, path: str) -> None:
    depth = aliases = 0
    for number, event in enumerate(yaml.parse(text, Loader=yaml.SafeLoader)):
        if isinstance(event, yaml.events.CollectionStartEvent):
            depth += 1
        elif isinstance(event, yaml.events.CollectionEndEvent):
            depth -= 1
        elif isinstance(event, yaml.events.AliasEvent):
            aliases += 1
        if depth > MAX_DEPTH or aliases > MAX_ALIASES or number > 2 * MAX_NODES:
            raise ResourceLimitError(
                f"{path}: line {_line(event)}: more than {MAX_DEPTH} levels, {MAX_ALIASES} aliases"
                f" or {MAX_NODES} values. Shorten the file.", path=path, line=_line(event),
            )  # fmt: skip


def _build(node: yaml.Node, location: tuple[str | int, ...], document: Document) -> Any:
    document.n_nodes += 1
    if len(location) > MAX_DEPTH or document.n_nodes > MAX_NODES:
        raise ResourceLimitError(
            f"{document.path}: line {_line(node)}: aliases expand to more than {MAX_NODES} values"
            f" or {MAX_DEPTH} levels. Write them out.", path=document.path, line=_line(node),
        )  # fmt: skip
    if not re.fullmatch(r"tag:yaml\.org,2002:[a-z]+", node.tag):
        line = _line(node)
        raise ConfigError(
            f"{document.path}: line {line}: the tag {node.tag} is not allowed. Write plain values.",
            path=document.path, line=line,
        )  # fmt: skip
    if isinstance(node, yaml.SequenceNode):
        return [_build(item, (*location, i), document) for i, item in enumerate(node.value)]
    if isinstance(node, yaml.MappingNode):
        return _build_mapping(node, location, document)
    if _NO_TEXT.search(node.value):
        raise ConfigError(
            f"{document.path}: line {_line(node)}: {node.value[:40]!r} holds a character that is no"
            " text. Remove it.", path=document.path, line=_line(node),
        )  # fmt: skip
    plain = getattr(node, "style", None) is None
    return None if plain and node.value in _NULLS else node.value


def _build_mapping(
    node: yaml.MappingNode, location: tuple[str | int, ...], document: Document
) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for key_node, value_node in node.value:
        line = _line(key_node)
        if not isinstance(key_node, yaml.ScalarNode) or _NO_TEXT.search(key_node.value):
            raise ConfigError(
                f"{document.path}: line {line}: a key is no plain text. Write `key: value`.",
                path=document.path, line=line,
            )  # fmt: skip
        key = str(key_node.value)
        here = (*location, key)
        if key in values:
            document.duplicates.append((here, line))
        document.lines[here] = line
        values[key] = _build(value_node, here, document)
    return values


def _line(item: yaml.Node | yaml.Event) -> int:
    mark: Any = item.start_mark
    return int(mark.line) + 1 if mark else 1
