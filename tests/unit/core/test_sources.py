"""The open policy refuses whatever a library would not read as a plain path or plain URL."""

import pytest

from eo_causal.core.sources import SourcePolicy, default_policy
from eo_causal.errors import UnsafeSourceError


@pytest.fixture
def policy(tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.nc").touch()
    (tmp_path / "secret.nc").touch()
    return SourcePolicy((tmp_path / "in",), ("data.example.org",), lambda host: ["93.184.216.34"])


def test_files_inside_a_root_are_resolved(policy, tmp_path):
    assert policy.check(tmp_path / "in" / "a.nc") == (tmp_path / "in" / "a.nc").resolve()


def test_files_outside_and_links_to_the_outside_are_refused(policy, tmp_path):
    (tmp_path / "in" / "link.nc").symlink_to(tmp_path / "secret.nc")
    for path in ("secret.nc", "in/../secret.nc", "in/link.nc"):
        with pytest.raises(UnsafeSourceError, match=r"data\.roots"):
            policy.check(tmp_path / path)


@pytest.mark.parametrize(
    "source",
    [
        "/vsicurl/https://data.example.org/a.tif",
        "/vsizip/a.zip/a.tif",
        'NETCDF:"a.nc":kd490',
        "HDF5:a.h5://x",
        "GTIFF_DIR:1:a.tif",
        "zip::a.zip",
        "filecache::https://data.example.org/a",
        "<VRTDataset/>",
        '{"type": "Feature"}',
        "file:///etc/passwd",
        "http://data.example.org/a.nc",
        "s3://bucket/a.nc",
        "https://other.example.org/a.nc",
        "~/a.nc",
        "a\0.nc",
    ],
)
def test_everything_but_plain_paths_and_listed_https_is_refused(policy, source):
    with pytest.raises(UnsafeSourceError):
        policy.check(source)


def test_listed_hosts_must_be_public(tmp_path, policy):
    url = "https://data.example.org/a.nc"
    assert policy.check(url) == url
    for address in ("127.0.0.1", "10.1.2.3", "169.254.1.1", "::1", "fe80::1%eth0", "0.0.0.0"):
        private = SourcePolicy((), ("data.example.org",), lambda host, found=address: [found])
        with pytest.raises(UnsafeSourceError, match="no public address"):
            private.check(url)


def test_default_policy_reads_working_run_and_data_folders(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("EO_CAUSAL_DATA", str(tmp_path.parent / "data"))
    policy = default_policy(run_folder=tmp_path.parent / "runs")
    for path in ("a.nc", tmp_path.parent / "data" / "a.nc", tmp_path.parent / "runs" / "a.nc"):
        policy.check(path)
    with pytest.raises(UnsafeSourceError):
        policy.check(tmp_path.parent / "elsewhere" / "a.nc")
