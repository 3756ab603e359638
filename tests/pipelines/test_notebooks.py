"""Every notebook runs from top to bottom on the demo's run folder, and is stored without outputs."""

import nbformat
import pytest
from commands import ROOT
from nbclient import NotebookClient

NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


def test_there_are_notebooks():
    assert NOTEBOOKS


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_stored_without_outputs(path):
    cells = [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]
    assert cells
    assert all(cell.outputs == [] and cell.execution_count is None for cell in cells)


@pytest.mark.parametrize(
    ("name", "variable", "run", "n_pictures"),
    [
        ("water_clarity", "EO_CAUSAL_RUN", "demo_run", 4),
        ("chips_and_embeddings", "EO_CAUSAL_EMBED_RUN", "embed_run", 2),
        ("image_confounding", "EO_CAUSAL_CONFOUNDING_RUN", "confounding_run", 3),
        ("rct_heterogeneity", "EO_CAUSAL_HETEROGENEITY_RUN", "programme_run", 2),
        ("wealth_map", "EO_CAUSAL_WEALTH_RUN", "wealth_run", 3),
    ],
)
def test_notebooks_run(name, variable, run, n_pictures, request, tmp_path, monkeypatch):
    monkeypatch.setenv(variable, str(request.getfixturevalue(run)))
    monkeypatch.setenv("PYTHONWARNINGS", "error::UserWarning")
    notebook = nbformat.read(ROOT / "notebooks" / f"{name}.ipynb", as_version=4)
    resources = {"metadata": {"path": str(tmp_path)}}
    NotebookClient(notebook, timeout=120, kernel_name="python3", resources=resources).execute()
    kinds = [
        kind
        for cell in notebook.cells
        if cell.cell_type == "code"
        for output in cell.outputs
        for kind in output.get("data", {output.output_type: None})
    ]
    assert kinds.count("image/png") == n_pictures
    assert "error" not in kinds
