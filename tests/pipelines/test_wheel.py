"""What a user installs: the wheel carries pipelines, configs, template and schema, and works anywhere."""

import os
import subprocess
import sys
import zipfile

import pytest
from commands import ROOT

from eo_causal.run.registry import list_configs, list_pipelines


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """The unpacked wheel."""
    folder = tmp_path_factory.mktemp("wheel")
    words = ["wheel", "--no-deps", "--no-build-isolation", "--quiet", "-w", str(folder), str(ROOT)]
    subprocess.run([sys.executable, "-m", "pip", "--disable-pip-version-check", *words], check=True)
    [wheel] = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder / "site")
    return folder / "site"


def run(installed, folder, *words):
    environment = {**os.environ, "PYTHONPATH": str(installed)}
    return subprocess.run(
        [sys.executable, *words], cwd=folder, env=environment, capture_output=True, text=True, check=True
    ).stdout  # fmt: skip


def test_the_wheel_is_what_runs(installed, tmp_path):
    found = run(installed, tmp_path, "-c", "import eo_causal; print(eo_causal.__file__)")
    assert found.startswith(str(installed))


def test_it_carries_what_the_repository_has(installed):
    for name in list_pipelines():
        assert (installed / "eo_causal" / "pipelines" / f"{name}.py").is_file()
    for name in list_configs():
        assert (installed / "eo_causal" / "configs" / f"{name}.yaml").is_file()
    assert (installed / "eo_causal" / "report" / "page.html.j2").is_file()
    assert (installed / "eo_causal" / "report" / "results.schema.json").is_file()
    assert not (installed / "tests").exists()


def test_it_plans_the_demo_from_any_folder(installed, tmp_path):
    (tmp_path / "pipelines").mkdir()
    (tmp_path / "pipelines" / "water_clarity.py").write_text("raise SystemExit('a stranger')")
    assert "demo/water_clarity" in run(installed, tmp_path, "-m", "eo_causal", "configs")
    planned = run(installed, tmp_path, "-m", "eo_causal", "plan", "demo/water_clarity")
    assert planned.count("compute") >= 8
