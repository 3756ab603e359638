"""Effects change units as one and print what they mean."""

from eo_causal.core.effect import Effect

EFFECT = Effect(0.0079, 0.0016, (0.0049, 0.0111), 0.95, "exact", 68, None, "m-1", 0.001)


def test_scaling_moves_estimate_error_and_interval_together():
    scaled = EFFECT.scaled(100, "1e-2 m-1")
    assert (scaled.estimate, scaled.units) == (0.79, "1e-2 m-1")
    assert scaled.interval == (0.49, 1.11)
    assert scaled.std_error == 0.16
    assert scaled.p_value == EFFECT.p_value


def test_a_negative_factor_keeps_the_interval_in_order():
    assert EFFECT.scaled(-1, "m-1").interval == (-0.0111, -0.0049)
    assert EFFECT.scaled(-1, "m-1").std_error == 0.0016


def test_text_and_table():
    assert str(EFFECT) == "0.0079 [0.0049, 0.0111] m-1 (95%, exact)"
    row = EFFECT.to_frame().iloc[0]
    assert (row["lower"], row["upper"], row["n"]) == (0.0049, 0.0111, 68)
    none = Effect(1.0, None, None, 0.95, "raw", 3)
    assert str(none) == "1 (95%, raw)"
    assert none.to_frame()["lower"].isna().all()
