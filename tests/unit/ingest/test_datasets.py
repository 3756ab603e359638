"""Named data sets: found, verified, and never a reason to fail for a background."""

import pytest

from eo_causal.errors import ConfigError, DataError, EOCausalWarning, IntegrityError
from eo_causal.ingest import datasets
from eo_causal.ingest.datasets import DataSet, dataset_path, fetch, find_dataset, verify_dataset
from eo_causal.ingest.water import coastline_path

EMPTY = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


@pytest.fixture
def places(tmp_path, monkeypatch):
    """A data folder and a user cache, both empty, and one small data set without an address."""
    monkeypatch.setenv("EO_CAUSAL_DATA", str(tmp_path / "data"))
    monkeypatch.setattr(datasets, "user_cache", lambda: tmp_path / "cache")
    entry = DataSet("small", "a/b", {"one.csv": EMPTY, "two.csv": EMPTY}, None, "free", "nobody")
    monkeypatch.setitem(datasets.REGISTRY, "small", entry)
    return tmp_path


def put(folder, *names):
    folder.mkdir(parents=True)
    for name in names:
        (folder / name).touch()
    return folder


def test_the_data_folder_comes_before_the_cache(places):
    cached = put(places / "cache" / "a" / "b", "one.csv", "two.csv")
    assert dataset_path("small") == cached
    own = put(places / "data" / "a" / "b", "one.csv")
    assert dataset_path("small") == cached  # incomplete is not there
    assert dataset_path("small", "one.csv") == own / "one.csv"


def test_absent_sets_say_how_to_get_them(places):
    with pytest.raises(DataError, match="it cannot be downloaded"):
        dataset_path("small")
    with pytest.raises(DataError, match="it cannot be downloaded"):
        fetch("small")
    with pytest.raises(DataError, match="data fetch morowali"):
        dataset_path("morowali", "Impact_Zone_Kd490_Temp_Sal.csv")
    with pytest.raises(ConfigError, match=r"known: .*morowali"):
        find_dataset("marowali")


def test_a_changed_file_is_found(places):
    folder = put(places / "data" / "a" / "b", "one.csv", "two.csv")
    assert verify_dataset("small") == 2
    (folder / "two.csv").write_text("x")
    with pytest.raises(IntegrityError, match=r"two\.csv"):
        verify_dataset("small")


def test_a_missing_map_background_is_a_warning(places):
    with pytest.warns(EOCausalWarning, match="Maps are drawn without it") as caught:
        assert coastline_path("ne_10m_land_sulawesi_banda.geojson") is None
    assert caught[0].message.code == "MapWarning"


def test_every_present_data_set_is_what_the_registry_says(data_folder):
    found = [entry for entry in datasets.list_datasets() if (data_folder / entry.folder).is_dir()]
    assert found
    assert all(verify_dataset(entry.name) == len(entry.files) for entry in found)
