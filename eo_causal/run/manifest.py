"""What ran, on what, with which versions: the facts beside a result."""

import importlib.metadata
import json
import os
import platform
import subprocess
from pathlib import Path
from typing import Any

import eo_causal
from eo_causal.core.artefacts import sha256_json, write_atomic
from eo_causal.run.config import PipelineConfig, study_settings
from eo_causal.run.stage import Stages

_LIBRARIES = (
    "numpy", "scipy", "pandas", "xarray", "zarr", "dask", "rasterio", "netCDF4", "geopandas",
    "exactextract", "statsmodels", "ruptures", "pymc", "nutpie", "arviz", "torch", "torchvision",
)  # fmt: skip


def versions() -> dict[str, str]:
    """Versions of Python, this package and the libraries its numbers depend on."""
    found = {"python": platform.python_version(), "eo_causal": eo_causal.__version__}
    for name in _LIBRARIES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found


def commit() -> str | None:
    """The git commit of the package's own checkout, or None when it is not one."""
    folder = Path(eo_causal.__file__).parent
    command = ["git", "-C", str(folder), "rev-parse", "HEAD"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip() or None


def run_id(config: PipelineConfig, stage: Stages) -> str:
    """A hash of settings and inputs, no clock: the same run has the same name."""
    hashes = sorted(stage.inputs_read.values())
    return sha256_json({"settings": study_settings(config), "inputs": hashes})[:12]


def provenance(config: PipelineConfig, stage: Stages) -> dict[str, Any]:
    """What the report prints about the run: id, versions and input hashes; no clock, no paths."""
    inputs = {Path(name).name: digest for name, digest in stage.inputs_read.items()}
    return {
        "run_id": run_id(config, stage),
        "pipeline": config.pipeline,
        "mode": config.mode,
        "seed": config.seed,
        "versions": versions(),
        "inputs": inputs,
    }


def write_manifest(
    folder: Path, config: PipelineConfig, stage: Stages, *, status: str, error: str | None,
    outputs: dict[str, str], started: str, seconds: float,
) -> None:  # fmt: skip
    """Write ``manifest.json`` atomically, for finished and failed runs alike."""
    manifest = {
        "status": status,
        "error": error,
        **provenance(config, stage),
        "commit": commit(),
        "started": started,
        "seconds": round(seconds, 2),
        "inputs": {os.path.basename(name): digest for name, digest in stage.inputs_read.items()},
        "stages": [
            {
                "name": record.name,
                "key": record.key,
                "cached": record.cached,
                "seconds": round(record.seconds, 3),
                "counts": record.counts,
            }
            for record in stage.records
        ],
        "warnings": stage.warnings(),
        "outputs": outputs,
    }
    text = json.dumps(manifest, indent=1, allow_nan=False)
    write_atomic(folder / "manifest.json", text.encode())
