"""Every fault is refused with its error, exit code and facts and leaves nothing, or handled."""

import contextlib
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import reliability.fault_texts
import reliability.fault_values  # noqa: F401
from reliability.faults import HANDLED, REFUSED, SEED

from eo_causal import cli
from eo_causal.errors import EOCausalError, EOCausalWarning
from eo_causal.ingest.ocean_color import OceanColorSettings, read_kd490
from eo_causal.report.html import KeyNumber, Page, Paragraph, Section, Table, render
from eo_causal.report.tables import write_table


@pytest.fixture
def chance(tmp_path, monkeypatch):
    """Fresh numbers, and an empty working folder inside an empty world."""
    print(f"repeat with EO_CAUSAL_FAULT_SEED={SEED}")
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    return np.random.default_rng(SEED)


@pytest.fixture
def raised(monkeypatch):
    """Every error of ours that is made, in order."""
    made: list[EOCausalError] = []
    begin = EOCausalError.__init__

    def remember(self, *words, **facts):
        begin(self, *words, **facts)
        made.append(self)

    monkeypatch.setattr(EOCausalError, "__init__", remember)
    return made


def everything(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name, chance, raised, tmp_path, capsys):
    expected = REFUSED[name](chance)
    before = everything(tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", EOCausalWarning)
        code = cli._guarded(list(expected.command), debug=False)
    shown = capsys.readouterr().err
    assert code == expected.error.exit_code, shown
    error = raised[-1]
    assert isinstance(error, expected.error), shown
    assert "Traceback" not in shown
    assert shown.rstrip().endswith(cli.without_secrets(f"{type(error).__name__}: {error.message}"))
    assert len(error.message.splitlines()) == 1 or code == 2  # a config lists all its mistakes
    for word in expected.words:
        assert word in error.message, shown
    assert error.facts
    for key, value in expected.facts.items():
        assert str(error.facts[key]) == str(value)
    new = everything(tmp_path) - before
    run_folder = {"work/runs", "work/runs/study", *(f"work/runs/study/{name}" for name in (
        "config.yaml", "manifest.json", "stages", "stages/ledger.jsonl"))}  # fmt: skip
    assert new <= run_folder


@pytest.mark.parametrize("name", HANDLED)
def test_handled(name, chance):
    expected = HANDLED[name](chance)
    code = expected.warning
    caution = pytest.warns(EOCausalWarning) if code else contextlib.nullcontext()
    with caution as caught:
        found = read_kd490(expected.paths, OceanColorSettings(**expected.settings))
    assert code is None or code in {item.message.code for item in caught}
    np.testing.assert_allclose(found, expected.truth, rtol=0, atol=expected.tolerance)
    for axis in ("latitude", "longitude"):
        np.testing.assert_allclose(found[axis], expected.truth[axis], atol=1e-9)
    assert found.indexes["time"].equals(expected.truth.indexes["time"])


HOSTILE = (
    "<script>alert(1)</script>", "<img src=x onerror=alert(1)>", '"><svg onload=alert(1)>',
    "{{ 7 * 7 }}", "{% raw %}", "&lt;b&gt;",
)  # fmt: skip


@pytest.mark.parametrize("text", HOSTILE)
def test_names_from_files_are_text_in_a_page(text):
    frame = pd.DataFrame({text: [text, "plain"], "n": [1, 2]})
    page = Page(
        title=text, question=text, answer=[text], numbers=[KeyNumber(text, text, text)],
        sections=[Section(text, [Paragraph(text), Table(frame, text)])], footer=text,
    )  # fmt: skip
    html = render(page)
    body = html[html.index("</style>") :]
    for begin in ("<script", "<img src=x", "<svg onload"):
        assert begin not in body
    assert "49" not in body
    assert "default-src 'none'" in html


@pytest.mark.parametrize("cell", ["=1+1", "+1", "-1", "@SUM(A1)", "\tx", "=cmd|' /C calc'!A0"])
def test_cells_a_spreadsheet_would_run_get_a_leading_quote(tmp_path, cell):
    frame = pd.DataFrame({"zone": [cell, "sea"], "value": [-1.5, 2.0]})
    write_table(tmp_path, "zones", frame)
    lines = (tmp_path / "zones.csv").read_text().splitlines()
    assert lines[1].lstrip('"').startswith("'")
    assert lines[1].endswith(",-1.5")
    assert pd.read_parquet(tmp_path / "zones.parquet")["zone"][0] == cell
