"""Every benchmark runs at a small size; answers are compared, nothing is timed."""

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPTS = sorted(Path(__file__).parent.glob("b[0-9]*.py"))


def test_there_are_benchmarks():
    assert SCRIPTS


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_answers_are_equal(script, tmp_path):
    words = [sys.executable, str(script), "--light", "--json", str(tmp_path / "rows.jsonl")]
    done = subprocess.run(words, capture_output=True, text=True, timeout=300, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "answer of" in done.stdout
