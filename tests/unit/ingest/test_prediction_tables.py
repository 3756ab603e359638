"""Tables of published predictions: columns by name, refusals."""

import pandas as pd
import pytest

from eo_causal.core.sources import InputFiles
from eo_causal.errors import DataError, TableError
from eo_causal.ingest.prediction_tables import PredictionSettings, read_predictions

ROWS = {"lat": [1.0, 2.0], "lon": [30.0, 31.0], "label": [0.5, -1.0], "CNN NL": [0.3, -0.4],
        "country": ["uganda", "kenya"]}  # fmt: skip


@pytest.fixture
def read(tmp_path):
    def run(rows, **settings):
        path = tmp_path / "table.csv"
        pd.DataFrame(rows).to_csv(path, index=False)
        named = {"outcome": "label", "prediction": "CNN NL", "longitude": "lon", "latitude": "lat"}
        chosen = PredictionSettings(file="table.csv", **named | settings)
        return read_predictions(InputFiles((str(path),), ("0",)), chosen)

    return run


def test_columns_get_their_roles(read):
    found = read(ROWS, group="country")
    assert found.columns.tolist() == [
        "unit_id", "outcome", "prediction", "longitude", "latitude", "group",
    ]  # fmt: skip
    assert found.iloc[1].tolist() == ["1", -1.0, -0.4, 31.0, 2.0, "kenya"]
    assert set(read(ROWS)["group"]) == {""}


def test_a_column_that_is_not_there_is_named_with_those_that_are(read):
    with pytest.raises(TableError, match="no column CNN; it has lat, lon, label, CNN NL, country"):
        read(ROWS, prediction="CNN")


def test_missing_values_and_words_are_counted(read):
    with pytest.raises(DataError, match=r"label \(1\), CNN NL \(2\)"):
        read(ROWS | {"label": [0.5, None], "CNN NL": ["x", None]})
