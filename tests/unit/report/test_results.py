"""results.json: plain numbers, absent is null, and nothing that is not a number."""

import json

import jsonschema
import numpy as np
import pytest

from eo_causal.core.effect import Effect
from eo_causal.errors import DegenerateError
from eo_causal.report.results import quantity, read_schema, write_results

EFFECT = Effect(0.5, 0.1, (0.3, 0.7), 0.95, "exact", 68, None, "m-1")


def test_a_quantity_holds_what_is_known():
    found = quantity(EFFECT)
    assert found == {
        "estimate": 0.5, "interval": [0.3, 0.7], "units": "m-1", "level": 0.95,
        "method": "exact", "std_error": 0.1,
    }  # fmt: skip
    assert quantity(None) is None


def test_numpy_numbers_become_plain_ones(tmp_path):
    path = write_results(tmp_path, {"a": np.float64(0.5), "b": (np.int64(3), None), "c": np.True_})
    assert json.loads(path.read_text()) == {"a": 0.5, "b": [3, None], "c": True}


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, np.float32("nan")])
def test_what_is_no_number_is_named_and_nothing_is_written(tmp_path, value):
    with pytest.raises(DegenerateError, match=r"results\.effect\.average\.1"):
        write_results(tmp_path, {"effect": {"average": [1.0, value]}})
    assert not (tmp_path / "results.json").exists()


def test_the_schema_itself_is_valid_and_refuses_a_bare_number():
    schema = read_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    good = {"pipeline": "water_clarity", "mode": "default", "run_id": "0" * 12, "headline": ["x"]}
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(good | {"effect": {"average": 0.5}}, schema)
