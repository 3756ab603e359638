"""Starting is cheap: help and import stay light, and heavy libraries wait until they are needed."""

import json
import resource
import subprocess
import sys

FACTS = """
import json, sys, psutil
used, memory = psutil.Process().cpu_times(), psutil.Process().memory_info()
heavy = ("torch", "torchvision", "pymc", "pytensor", "arviz", "rasterio", "xarray", "dask", "geopandas")
print(json.dumps({"seconds": used.user + used.system, "megabytes": memory.rss / 2**20,
                  "heavy": [name for name in heavy if name in sys.modules]}))
"""


def facts(code):
    """CPU seconds, peak memory and heavy modules of a fresh interpreter that ran ``code``."""
    done = subprocess.run(
        [sys.executable, "-c", code + FACTS], capture_output=True, text=True, check=True
    )
    return json.loads(done.stdout.splitlines()[-1])


def cpu_seconds(*words):
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, *words], capture_output=True, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def test_import_is_light():
    found = min((facts("import eo_causal") for _ in range(3)), key=lambda item: item["seconds"])
    assert found["seconds"] <= 0.3
    assert found["megabytes"] < 120
    assert found["heavy"] == []


def test_help_is_fast(measured):
    seconds = min(cpu_seconds("-m", "eo_causal", "--help") for _ in range(3))
    measured("cpu_seconds", seconds)
    assert seconds <= 0.5


def test_ingestion_needs_neither_torch_nor_pymc():
    code = "import eo_causal.ingest.water, eo_causal.ingest.ocean_color, eo_causal.ingest.zonal"
    assert not {"torch", "torchvision", "pymc", "pytensor", "arviz"} & set(facts(code)["heavy"])


def test_impact_statistics_need_no_sampler():
    code = "import eo_causal.impact.estimate, eo_causal.impact.checks, eo_causal.impact.exact"
    assert not {"pymc", "pytensor", "arviz", "torch"} & set(facts(code)["heavy"])
