"""One self-contained page: no script, no external load, everything from data escaped."""

import base64
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import pandas as pd

from eo_causal.report.tables import html_table

TEMPLATE = Path(__file__).with_name("page.html.j2")
Level = Literal["pass", "fail", "open", "info", "warning"]


@dataclass(frozen=True)
class Paragraph:
    """Running text."""

    text: str


@dataclass(frozen=True)
class Callout:
    """A sentence with a level: pass, fail, open, info or warning."""

    level: Level
    title: str
    text: str


@dataclass(frozen=True)
class Table:
    """A table with a caption."""

    table: pd.DataFrame
    caption: str = ""

    @property
    def html(self) -> str:
        """Escaped markup."""
        return html_table(self.table)


@dataclass(frozen=True)
class Picture:
    """An SVG or PNG file, inlined."""

    path: Path
    caption: str

    @property
    def source(self) -> str:
        """Data URI."""
        kind = "svg+xml" if self.path.suffix == ".svg" else "png"
        data = base64.b64encode(self.path.read_bytes()).decode("ascii")
        return f"data:image/{kind};base64,{data}"


@dataclass(frozen=True)
class Code:
    """Preformatted text."""

    text: str


Block = Paragraph | Callout | Table | Picture | Code


@dataclass(frozen=True)
class Section:
    """A heading with its blocks."""

    title: str
    blocks: list[Block]

    @property
    def anchor(self) -> str:
        """Target of the table of contents."""
        return "".join(c if c.isalnum() else "-" for c in self.title.lower())


@dataclass(frozen=True)
class KeyNumber:
    """A number at the top of the page."""

    label: str
    value: str
    note: str = ""


@dataclass(frozen=True)
class Page:
    """What the template shows."""

    title: str
    question: str
    answer: list[str]
    numbers: list[KeyNumber]
    sections: list[Section]
    footer: str
    callouts: list[Callout] = field(default_factory=list)


def render(page: Page) -> str:
    """The page as HTML; same page, same bytes."""
    import jinja2

    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["kind"] = lambda block: type(block).__name__
    template = environment.from_string(TEMPLATE.read_text(encoding="utf-8"))
    return template.render(page=page)
