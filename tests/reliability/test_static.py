"""What the source must not contain, and what outputs must not hold."""

import ast
import re

import numpy as np
import pytest
from commands import ROOT
from reliability.faults import SEED, attributes, water

from eo_causal import cli
from eo_causal.core.sources import without_secrets

SOURCES = sorted([*(ROOT / "eo_causal").rglob("*.py"), *(ROOT / "pipelines").glob("*.py")])
FORBIDDEN_MODULES = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "marshal", "shelve"}
FORBIDDEN_CALLS = {"eval", "exec", "yaml.load", "yaml.unsafe_load", "os.system", "os.popen"}
OPENERS = {
    "rasterio.open", "netCDF4.Dataset", "xr.open_dataset", "xr.open_mfdataset", "xr.open_dataarray",
    "xr.open_zarr", "zarr.open", "zarr.open_group", "zarr.open_array", "h5py.File",
}  # fmt: skip
MAY_OPEN = {
    "eo_causal/ingest/read.py": "the one loader",
    "eo_causal/ingest/image_files.py": "the loader, for GeoTIFF and JPEG 2000",
    "eo_causal/core/storage.py": "the package's own checksummed stores",
    "eo_causal/report/impact_report.py": "writes posterior.nc",
    "eo_causal/report/wealth_maps.py": "the maps it wrote, with their hashes",
    "eo_causal/debias/card_files.py": "calibration cards, with their hashes",
    "eo_causal/simulate/scene_files.py": "writes simulated scenes",
    "eo_causal/simulate/programme.py": "writes a simulated map of land cover",
}


def calls(path):
    """Dotted name of every call with its node."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func), node


def imports(path):
    """First part of every imported module."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield (node.module or "").split(".")[0]


def keyword(node, name):
    """Source text of a keyword argument."""
    return next((ast.unparse(item.value) for item in node.keywords if item.arg == name), None)


def test_the_scan_sees_the_source():
    assert len(SOURCES) > 50
    names = {name for path in SOURCES for name, _ in calls(path)}
    assert names >= {"netCDF4.Dataset", "zarr.open_group", "yaml.compose"}


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_nothing_in_the_source_runs_what_a_file_says(path):
    assert not FORBIDDEN_MODULES & set(imports(path))
    for name, node in calls(path):
        where = f"{path}:{node.lineno}: {name}"
        assert name not in FORBIDDEN_CALLS, where
        assert keyword(node, "shell") in (None, "False"), where
        assert keyword(node, "allow_pickle") in (None, "False"), where
        if name.endswith("torch.load"):
            assert keyword(node, "weights_only") == "True", where
        if name.endswith((".extractall", ".extract")):
            assert keyword(node, "filter") == "'data'", where
        if name.endswith("gather"):
            assert keyword(node, "errors") in (None, "'raise'"), where
        if name.endswith("Environment") and "jinja2" in name:
            assert keyword(node, "autoescape") == "True", where


def test_only_the_loader_opens_rasters():
    opening = {
        path.relative_to(ROOT).as_posix()
        for path in SOURCES
        for name, _ in calls(path)
        if name in OPENERS
    }
    assert opening == set(MAY_OPEN)


SIGNED = "https://me:pass@store.example.org/a.nc?X-Amz-Signature=0a1b2c&sig=3d"


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        (f"GET {SIGNED} failed", "GET https://store.example.org/a.nc failed"),
        (f"'{SIGNED}' matches no file", "'https://store.example.org/a.nc' matches no file"),
        (f"/vsicurl/{SIGNED}", "/vsicurl/https://store.example.org/a.nc"),
        ("https://a.org/b#token=1", "https://a.org/b"),
        ("Authorization: Bearer 0a1b2c", "Authorization ..."),
        ("plain? yes: a.nc, 5 m-1 @ noon", "plain? yes: a.nc, 5 m-1 @ noon"),
        ("https://a.org/b and c", "https://a.org/b and c"),
    ],
)
def test_secrets_leave_text(text, kept):
    assert without_secrets(text) == kept


SECRET = re.compile(rb"0a1b2c|me:pass|X-Amz-Signature")


@pytest.mark.parametrize(
    "words",
    [("inspect", SIGNED), ("inspect", f"/vsicurl/{SIGNED}"), ("inspect", f"<x>{SIGNED}"),
     ("run", "study.yaml", "--set", f"data.files=['{SIGNED}']")],
)  # fmt: skip
def test_signed_urls_are_not_shown(words, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    attributes(water(np.random.default_rng(SEED)))
    assert cli._guarded(list(words), debug=False) in (2, 4)
    assert not SECRET.search("".join(capsys.readouterr()).encode())
