"""The stage cache: nothing finished is recomputed, nothing stale or damaged is used."""

import warnings
from pathlib import Path

import pandas as pd
import pytest
import xarray as xr

from eo_causal.core.progress import count
from eo_causal.core.settings import Settings
from eo_causal.core.sources import InputFiles, SourcePolicy
from eo_causal.errors import EOCausalWarning
from eo_causal.run import stage as stage_module
from eo_causal.run.plan import Plan
from eo_causal.run.stage import Stages

CALLS: list[str] = []


class Scale(Settings):
    factor: float = 2.0


def load(files: InputFiles) -> xr.DataArray:
    CALLS.append("load")
    values = [float(word) for word in Path(files.paths[0]).read_text().split()]
    count(values_read=len(values))
    return xr.DataArray(values, dims="time", name="kd490")


def scale(cube: xr.DataArray, settings: Scale) -> pd.DataFrame:
    CALLS.append("scale")
    warnings.warn(EOCausalWarning("values are large", code="UnitsWarning"), stacklevel=2)
    return (cube * settings.factor).to_dataframe()


def shuffle(table: pd.DataFrame, *, seed: int) -> dict[str, float]:
    CALLS.append("shuffle")
    return {"total": float(table["kd490"].sum()) + seed}


def broken(table: pd.DataFrame) -> dict[str, float]:
    raise ValueError("no")


def report(total: dict[str, float], *, folder) -> None:
    (folder / "results.json").write_text(str(total["total"]))


@pytest.fixture
def source(tmp_path):
    CALLS.clear()
    path = tmp_path / "input.txt"
    path.write_text("1 2 3")
    return path


def run(tmp_path, source, factor=2.0, seed=0, stages=Stages):
    stage = stages(tmp_path / "run", seed, SourcePolicy(roots=(tmp_path,)))
    files = stage.inputs([source])
    cube = stage("load", load, files)
    table = stage("scale", scale, cube, Scale(factor=factor))
    total = stage("shuffle", shuffle, table)
    folder = stage("report", report, total)
    return stage, total, folder


def test_a_second_run_computes_nothing_and_answers_the_same(tmp_path, source):
    _, total, _ = run(tmp_path, source)
    assert CALLS == ["load", "scale", "shuffle"]
    stage, again, folder = run(tmp_path, source)
    assert CALLS == ["load", "scale", "shuffle"]
    assert total == again == {"total": 12.0}
    assert all(record.cached for record in stage.records)
    assert (folder / "results.json").read_text() == "12.0"


def test_counts_and_warnings_of_cached_stages_are_kept(tmp_path, source):
    run(tmp_path, source)
    stage, _, _ = run(tmp_path, source)
    assert stage.ledger().values.tolist() == [["load", "values read", 3]]
    assert stage.warnings() == [
        {"stage": "scale", "code": "UnitsWarning", "message": "values are large"}
    ]


@pytest.mark.parametrize(
    ("change", "recomputed"),
    [
        ({"factor": 3.0}, ["scale", "shuffle"]),
        ({"seed": 1}, ["shuffle"]),
        ({"content": "1 2 4"}, ["load", "scale", "shuffle"]),
        ({"touch": True}, []),
    ],
)
def test_a_change_recomputes_only_what_depends_on_it(tmp_path, source, change, recomputed):
    run(tmp_path, source)
    CALLS.clear()
    if "content" in change:
        source.write_text(change.pop("content"))
    if change.pop("touch", False):
        source.touch()
    run(tmp_path, source, **change)
    assert recomputed == CALLS


def test_changed_code_recomputes(tmp_path, source, monkeypatch):
    run(tmp_path, source)
    CALLS.clear()
    monkeypatch.setattr(stage_module, "code_version", lambda module: "new")
    run(tmp_path, source)
    assert CALLS == ["load", "scale", "shuffle"]


def test_a_damaged_artefact_is_reported_and_computed_again(tmp_path, source):
    run(tmp_path, source)
    CALLS.clear()
    [table] = (tmp_path / "run" / "stages").glob("scale-*/table.parquet")
    data = bytearray(table.read_bytes())
    data[50] ^= 1
    table.write_bytes(bytes(data))
    with pytest.warns(EOCausalWarning, match="computed again"):
        _, total, _ = run(tmp_path, source)
    assert CALLS == ["scale"]
    assert total == {"total": 12.0}


def test_an_artefact_without_its_ledger_record_does_not_exist(tmp_path, source):
    run(tmp_path, source)
    CALLS.clear()
    ledger = tmp_path / "run" / "stages" / "ledger.jsonl"
    lines = ledger.read_text().splitlines(keepends=True)
    ledger.write_text("".join(line for line in lines if '"stage": "load"' not in line))
    run(tmp_path, source)
    assert CALLS == ["load"]


def test_a_failing_stage_leaves_no_artefact(tmp_path, source):
    stage, _, _ = run(tmp_path, source)
    table = stage("scale", scale, stage("load", load, stage.inputs([source])), Scale())
    with pytest.raises(ValueError, match="no"):
        stage("broken", broken, table)
    assert not [path for path in stage.folder.iterdir() if "broken" in path.name]


def test_untracked_values_are_refused(tmp_path, source):
    stage = Stages(tmp_path / "run", 0, SourcePolicy(roots=(tmp_path,)))
    with pytest.raises(TypeError, match="neither settings nor a stage output"):
        stage("scale", scale, xr.DataArray([1.0]), Scale())


def test_plan_computes_nothing_and_knows_what_is_cached(tmp_path, source):
    plan, _, _ = run(tmp_path, source, stages=Plan)
    assert CALLS == []
    assert [item.cached for item in plan.planned] == [False] * 4
    run(tmp_path, source)
    plan, _, _ = run(tmp_path, source, factor=5.0, stages=Plan)
    assert [(item.name, item.cached) for item in plan.planned] == [
        ("load", True), ("scale", False), ("shuffle", False), ("report", False),
    ]  # fmt: skip
    assert plan.files == [source.resolve()]


def test_prune_removes_only_what_the_run_did_not_use(tmp_path, source):
    run(tmp_path, source)
    stage, _, _ = run(tmp_path, source, factor=3.0)
    assert len(list(stage.folder.glob("scale-*"))) == 2
    stage.prune()
    assert len(list(stage.folder.glob("scale-*"))) == 1
    CALLS.clear()
    run(tmp_path, source, factor=3.0)
    assert CALLS == []
