"""The commands beside ``run``, as a user types them."""

import json

import jsonschema
import pytest
import yaml

from eo_causal import cli
from eo_causal.ingest.datasets import REGISTRY
from eo_causal.run.registry import list_configs, list_pipelines


@pytest.fixture
def typed(tmp_path, monkeypatch, capsys):
    """Run a command in an empty folder; returns exit code, output, messages."""
    monkeypatch.chdir(tmp_path)

    def run(*words):
        code = cli._guarded(list(words), debug=False)
        shown = capsys.readouterr()
        return code, shown.out, shown.err

    return run


def test_every_config_is_listed_with_what_it_is_about(typed):
    code, out, _ = typed("configs")
    assert code == 0
    lines = dict(line.split(maxsplit=1) for line in out.splitlines())
    assert set(lines) == set(list_configs())
    assert "demo/water_clarity" in lines
    assert all(len(text) > 20 for text in lines.values())


@pytest.mark.parametrize("pipeline", list_pipelines())
def test_the_schema_accepts_every_config_of_its_pipeline_and_no_typo(typed, pipeline):
    code, out, _ = typed("schema", pipeline)
    assert code == 0
    schema = json.loads(out)
    jsonschema.Draft202012Validator.check_schema(schema)
    assert schema["additionalProperties"] is False
    own = [yaml.safe_load(path.read_text()) for path in list_configs().values()]
    own = [values for values in own if values["pipeline"] == pipeline]
    assert own
    assert all(set(values) <= set(schema["properties"]) for values in own)


def test_a_new_study_starts_from_a_case_study_and_is_never_overwritten(typed, tmp_path):
    assert typed("init", "mine", "--from", "morowali")[0] == 0
    made = tmp_path / "mine.yaml"
    assert made.read_bytes() == list_configs()["morowali"].read_bytes()
    made.write_text("pipeline: water_clarity\n")
    code, _, err = typed("init", "mine", "--from", "morowali")
    assert (code, made.read_text()) == (2, "pipeline: water_clarity\n")
    assert "mine.yaml exists already" in err


def test_a_config_nobody_knows_lists_those_there_are(typed):
    code, _, err = typed("plan", "marowali")
    assert code == 2
    assert "marowali" in err
    assert "morowali" in err


def test_plan_of_the_demo_computes_and_writes_nothing(typed, tmp_path):
    code, out, _ = typed("plan", "demo/water_clarity", "--out", str(tmp_path / "run"))
    assert code == 0
    assert "valid" in out
    assert out.count("compute") >= 8
    assert not list(tmp_path.rglob("*.zarr"))


@pytest.fixture
def study(typed, tmp_path):
    """The demo's config, in a folder of its own."""
    typed("init", "study", "--from", "demo/water_clarity")
    return tmp_path / "study.yaml"


def test_freeze_registers_a_design_once(typed, study, tmp_path):
    code, out, _ = typed("freeze", "study.yaml")
    frozen = tmp_path / "registry" / "study-1.json"
    assert code == 0
    assert json.loads(frozen.read_text())["hash"] in out
    before = frozen.read_bytes()
    code, _, err = typed("freeze", "study.yaml", "--set", "impact.intervention=2019-06")
    assert (code, frozen.read_bytes()) == (5, before)
    assert "Raise design.version" in err
    assert typed("freeze", "study.yaml", "--set", "design.version=2")[0] == 0


def test_plan_says_whether_the_design_is_frozen(typed, study):
    assert "Registration: not run. Not frozen" in typed("plan", "study.yaml")[1]
    typed("freeze", "study.yaml")
    assert "Registration: pass. As registered: study, version 1" in typed("plan", "study.yaml")[1]
    assert "Registration" not in typed("plan", "demo/chips_and_embeddings")[1]


def test_a_run_whose_design_changed_after_it_was_frozen_is_refused_before_it_reads(
    typed, study, tmp_path
):
    typed("freeze", "study.yaml")
    for command in ("plan", "run"):
        code, _, err = typed(command, "study.yaml", "--set", "impact.intervention=2019-06")
        assert code == 5
        assert 'design_specific.intervention_date: "2019-05" -> "2019-06"' in err
        assert "design.allow_change: true" in err
    assert not list((tmp_path / "runs" / "study" / "stages").iterdir())
    assert typed("plan", "study.yaml", "--set", "depth.average=monthly")[0] == 0
    changed = ("--set", "impact.intervention=2019-06", "--set", "design.allow_change=true")
    assert typed("plan", "study.yaml", *changed)[0] == 0


def test_a_design_that_contradicts_itself_is_named_by_plan(typed, study):
    code, _, err = typed("plan", "study.yaml", "--set", "design.exclusion_buffer_km=100")
    assert code == 2
    assert err.startswith("DesignError: design.design_specific.controls is 'control'")


def test_what_makes_no_causal_claim_has_no_design_to_freeze(typed):
    code, _, err = typed("freeze", "demo/chips_and_embeddings")
    assert code == 2
    assert "makes no causal claim" in err


def test_data_sets_are_listed_with_licence_and_citation(typed):
    code, out, _ = typed("data", "list")
    assert code == 0
    assert [line.split()[0] for line in out.splitlines()] == list(REGISTRY)


@pytest.mark.parametrize("words", [("path", "atlantis"), ("steal", "morowali"), ("path",)])
def test_data_says_what_it_can_do(typed, words):
    code, _, err = typed("data", *words)
    assert code == 2
    assert err.startswith("ConfigError")


def test_an_absent_data_set_says_how_to_get_it(typed, monkeypatch, tmp_path):
    monkeypatch.setenv("EO_CAUSAL_DATA", str(tmp_path / "nothing"))
    monkeypatch.setattr("eo_causal.ingest.datasets.user_cache", lambda: tmp_path / "cache")
    code, _, err = typed("data", "path", "morowali")
    assert code == 3
    assert "eo-causal data fetch morowali" in err


def test_doctor_names_versions_and_is_content(typed):
    code, out, _ = typed("doctor")
    assert code == 0
    assert "BAD" not in out
    for word in ("python", "rasterio", "pymc", "torch", "cores", "free disk"):
        assert word in out


@pytest.mark.parametrize("name", ["demo/image_confounding", "demo/chips_and_embeddings"])
def test_a_plan_needs_nothing_that_only_a_run_would_write(name, typed, tmp_path):
    code, out, err = typed("plan", name, "--out", str(tmp_path / "run"))
    assert code == 0, err
    assert "Reads 0 file(s)" in out
    assert out.count("compute") >= 5
    assert out.rstrip().splitlines()[-1].split()[1] == "report"
