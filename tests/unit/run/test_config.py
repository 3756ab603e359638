"""A config's mistakes are all named at once, with file, line, key and what to do."""

from types import SimpleNamespace

import pytest
from pydantic import Field

from eo_causal.core.settings import Month, Settings
from eo_causal.errors import ConfigError
from eo_causal.run import config as config_module
from eo_causal.run.config import PipelineConfig, config_yaml, load_config
from eo_causal.run.yaml import parse_yaml


class Impact(Settings):
    intervention: Month
    level: float = Field(default=0.95, gt=0, lt=1)
    draws: int = 1000


class Exact(Settings):
    nodes: int = 48


class Config(PipelineConfig):
    impact: Impact
    engine: Exact | None = None
    zones: dict[str, Exact] = Field(default={})


@pytest.fixture(autouse=True)
def toy_pipeline(monkeypatch):
    monkeypatch.setattr(config_module, "find_pipeline", lambda name: SimpleNamespace(Config=Config))


def write(tmp_path, text):
    path = tmp_path / "study.yaml"
    path.write_text(text)
    return path


def test_values_are_typed_by_the_schema(tmp_path):
    path = write(tmp_path, "pipeline: toy\nseed: 7\nimpact: {intervention: 2019-05, level: 9e-1}")
    config = load_config(path)
    assert (config.seed, config.impact.intervention, config.impact.level) == (7, "2019-05", 0.9)


def test_five_mistakes_are_all_listed_with_line_and_key(tmp_path):
    text = (
        "pipeline: toy\n"
        "impact:\n"
        "  intervension: 2019-05\n"
        "  level: 1.5\n"
        "  draws: many\n"
        "engine: {nodes: 4}\n"
        "engine: {nods: 4}\n"
    )
    path = write(tmp_path, text)
    with pytest.raises(ConfigError) as caught:
        load_config(path)
    message = caught.value.message
    assert message.startswith(f"{path}: 6 mistakes")
    expected = [
        "- line 3: impact.intervension is not a known key; did you mean impact.intervention?",
        "- line 2: impact.intervention is missing",
        "- line 4: impact.level: Input should be less than 1 (got '1.5')",
        "- line 5: impact.draws: Input should be a valid integer",
        "- line 7: engine is written twice",
        "- line 7: engine.nods is not a known key; did you mean engine.nodes?",
    ]
    for line in expected:
        assert line in message
    assert len(caught.value.facts["mistakes"]) == 6


def test_unknown_keys_without_a_near_name_list_the_known_ones(tmp_path):
    path = write(tmp_path, "pipeline: toy\nimpact: {intervention: 2019-05, zzz: 1}")
    with pytest.raises(ConfigError, match="known here: intervention, level, draws"):
        load_config(path)


def test_overrides_apply_on_top_of_the_file(tmp_path):
    path = write(tmp_path, "pipeline: toy\nimpact: {intervention: 2019-05}")
    config = load_config(path, ["impact.level=0.9", "engine.nodes=12", "title=a: b"][:2])
    assert config.impact.level == 0.9
    assert config.engine == Exact(nodes=12)
    with pytest.raises(ConfigError, match="key=value"):
        load_config(path, ["impact.level"])
    with pytest.raises(ConfigError, match=r"did you mean impact\.level"):
        load_config(path, ["impact.levle=0.9"])
    with pytest.raises(ConfigError, match="no block"):
        load_config(path, ["pipeline.name.deep=1"])


def test_missing_pipeline_is_explained(tmp_path):
    with pytest.raises(ConfigError, match="`pipeline` is missing"):
        load_config(write(tmp_path, "seed: 1"))


def test_resolved_config_reads_back_equal(tmp_path):
    path = write(tmp_path, "pipeline: toy\nimpact: {intervention: 2019-05}\nzones: {a: {nodes: 3}}")
    config = load_config(path)
    again = parse_yaml(config_yaml(config), "again")
    assert config_module.validate(again, Config) == config
