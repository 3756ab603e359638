"""Strict YAML: what a stranger's file may not do, and what a typed schema needs."""

import pytest

from eo_causal.errors import ConfigError, ResourceLimitError
from eo_causal.run.yaml import parse_yaml, read_yaml


def test_scalars_stay_text_and_only_unquoted_nulls_are_none():
    text = (
        'country: NO\ncode: 0123\nsmall: 1e-3\nempty:\nnothing: null\nquoted: "null"\nlist: [1, ~]'
    )
    assert parse_yaml(text, "a.yaml").values == {
        "country": "NO",
        "code": "0123",
        "small": "1e-3",
        "empty": None,
        "nothing": None,
        "quoted": "null",
        "list": ["1", None],
    }


def test_duplicate_keys_are_found_at_any_depth_with_their_lines():
    document = parse_yaml("a: 1\nb:\n  c: 1\n  c: 2\na: 3\n", "a.yaml")
    assert document.duplicates == [(("b", "c"), 4), (("a",), 5)]


def test_byte_order_mark_and_windows_line_ends_are_fine(tmp_path):
    path = tmp_path / "a.yaml"
    path.write_bytes(b"\xef\xbb\xbfpipeline: x\r\nseed: 3\r\n")
    assert read_yaml(path).values == {"pipeline": "x", "seed": "3"}


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "no mapping"),
        ("- 1\n- 2", "no mapping"),
        ("a: [1, 2", "line 1"),
        ("a: 1\nb: \tc: 2", "line 2"),
        ("a: !run ls", "!run is not allowed"),
        ("a: !!python/object/apply:os.system [ls]", "python/object/apply:os.system is not"),
        ("a: &x {b: *x}", "levels"),
    ],
)
def test_what_is_no_config_is_refused(text, reason):
    with pytest.raises((ConfigError, ResourceLimitError), match=reason):
        parse_yaml(text, "a.yaml")


def test_depth_aliases_and_size_are_bounded(tmp_path):
    with pytest.raises(ResourceLimitError, match="levels"):
        parse_yaml("a: " + "[" * 40 + "]" * 40, "a.yaml")
    laughs = "a: &a [x]\nb: [" + ",".join(["*a"] * 101) + "]"
    with pytest.raises(ResourceLimitError, match="aliases"):
        parse_yaml(laughs, "a.yaml")
    rows = ["a0: &a0 [x, x]", *(f"a{i}: &a{i} [*a{i - 1}, *a{i - 1}]" for i in range(1, 30))]
    with pytest.raises(ResourceLimitError, match="expand"):
        parse_yaml("\n".join(rows), "a.yaml")
    big = tmp_path / "big.yaml"
    big.write_text("a: " + "x" * 2**20)
    with pytest.raises(ResourceLimitError, match="bytes"):
        read_yaml(big)


def test_missing_file_and_wrong_encoding_are_named(tmp_path):
    with pytest.raises(ConfigError, match="No such file"):
        read_yaml(tmp_path / "none.yaml")
    path = tmp_path / "latin.yaml"
    path.write_bytes("a: é".encode("latin-1"))
    with pytest.raises(ConfigError, match="byte 3"):
        read_yaml(path)
