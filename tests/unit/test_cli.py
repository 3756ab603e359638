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
