"""Run the command line as a user would."""

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
CONFIGS = ROOT / "configs"
DEMO = CONFIGS / "demo" / "water_clarity.yaml"
CONFOUNDING = CONFIGS / "demo" / "image_confounding.yaml"
PROGRAMME = CONFIGS / "demo" / "rct_heterogeneity.yaml"
WEALTH = CONFIGS / "demo" / "wealth_map.yaml"
EMBED = CONFIGS / "demo" / "chips_and_embeddings.yaml"


@dataclass(frozen=True)
class Finished:
    """A command that has ended."""

    code: int
    out: str
    err: str


def command(*words: str | Path, folder: Path, timeout: int = 300) -> Finished:
    """Run ``eo-causal`` as a user would, in ``folder``."""
    environment = {**os.environ, "PYTHONWARNINGS": "error::UserWarning"}
    done = subprocess.run(
        [sys.executable, "-m", "eo_causal", *map(str, words)], cwd=folder, timeout=timeout,
        capture_output=True, text=True, env=environment,
    )  # fmt: skip
    return Finished(done.returncode, done.stdout, done.stderr)
