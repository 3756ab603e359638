"""Placebos: ranks and their floor, blocks of the same shape elsewhere, negative controls."""

import numpy as np
import pytest

from eo_causal.audit.placebo import (
    PlaceboSettings,
    negative_controls,
    placebo_in_space,
    placebo_rank,
    pseudo_treatments,
)
from eo_causal.core.effect import Effect
from eo_causal.errors import DataError


def test_rank_by_hand():
    report = placebo_rank(-2.0, [0.5, -2.0, 3.0, *[0.1] * 36])
    assert report.table["p_value"][0] == pytest.approx(3 / 40)
    assert report.table["smallest_p_value"][0] == pytest.approx(1 / 40)
    assert (report.status, report.flags) == ("warn", ())
    assert "smallest that so many can give is 0.025" in report.text
    assert placebo_rank(5.0, [0.1] * 19).status == "pass"


def test_too_few_placebos_refuse_the_claim():
    report = placebo_rank(100.0, [0.1] * 9)
    assert (report.status, report.flags) == ("warn", ("placebo_floor",))
    assert report.table["p_value"][0] == pytest.approx(0.1)
    assert "A claim at 5% is refused: it needs 19" in report.text
    assert placebo_rank(100.0, [0.1] * 19).flags == ()
    assert placebo_rank(100.0, [0.1] * 9, alpha=0.1).flags == ()
    assert placebo_rank(100.0, []).table["p_value"][0] == 1.0


def test_a_failed_placebo_or_effect_counts_against_the_claim():
    assert placebo_rank(5.0, [np.nan] + [0.1] * 18).table["p_value"][0] == pytest.approx(0.1)
    assert placebo_rank(np.nan, [0.1] * 19).table["p_value"][0] == 1.0


def grid(side=30, step=1000.0):
    return np.stack(np.meshgrid(np.arange(side), np.arange(side)), -1).reshape(-1, 2) * step


def treated_squares(places, corners, width=3000.0):
    """1 inside squares with these lower left corners."""
    found = np.zeros(len(places))
    for corner in corners:
        found[((places >= corner) & (places < np.add(corner, width))).all(axis=1)] = 1
    return found


SETTINGS = PlaceboSettings(n_placebos=20, buffer_km=3, block_km=1.5)


def test_pseudo_blocks_are_elsewhere_and_as_many():
    places = grid()
    treatment = treated_squares(places, [(2000, 2000), (20_000, 9000)])
    used, drawn = pseudo_treatments(treatment, places, SETTINGS, seed=1)
    real = places[treatment == 1]
    apart = np.hypot(*(places[used][:, None] - real[None]).transpose(2, 0, 1)).min(axis=1)
    assert apart.min() >= 3000
    assert (treatment[used] == 0).all()
    assert set(np.unique(drawn)) == {0.0, 1.0}
    assert (drawn.sum(axis=1) == treatment.sum()).all()
    assert len(np.unique(drawn, axis=0)) == 20


def test_pseudo_blocks_keep_their_shape():
    """Nine units in a square stay nine units close together; nine loners stay apart."""
    places = grid()
    square = treated_squares(places, [(14_000, 14_000)])
    lonely = np.isin(np.arange(900), np.arange(30, 900, 97)).astype(float)
    spread = {}
    for name, treatment in (("square", square), ("lonely", lonely)):
        used, drawn = pseudo_treatments(treatment, places, SETTINGS, seed=2)
        spread[name] = [places[used][row == 1].std(axis=0).max() for row in drawn]
    assert np.median(spread["square"]) < 1500
    assert np.median(spread["lonely"]) > 5000


def test_pseudo_treatments_depend_on_the_seed_only():
    places = grid()
    treatment = treated_squares(places, [(2000, 2000)])
    first, again, other = (
        pseudo_treatments(treatment, places, SETTINGS, seed=s)[1] for s in (1, 1, 2)
    )
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)
    more = SETTINGS.model_copy(update={"n_placebos": 25})
    np.testing.assert_array_equal(pseudo_treatments(treatment, places, more, seed=1)[1][:20], first)


def test_an_effect_of_blocks_stands_out_and_none_does_not():
    places = grid()
    treatment = treated_squares(places, [(2000, 2000), (20_000, 9000), (9000, 21_000)])
    noise = np.random.default_rng(3).normal(size=900)
    settings = SETTINGS.model_copy(update={"n_placebos": 39})
    for effect, status in ((2.0, "pass"), (0.0, "warn")):
        outcome = noise + effect * treatment

        def estimator(positions, pseudo, outcome=outcome):
            own = outcome[positions]
            return own[pseudo == 1].mean() - own[pseudo == 0].mean()

        found = estimator(np.arange(900), treatment)
        report = placebo_in_space(found, estimator, treatment, places, settings, seed=1)
        assert report.status == status
        assert len(report.table) == 40
        placebos = report.table["statistic"][1:]
        assert abs(placebos.mean()) < 0.2
        assert placebos.std() == pytest.approx(1 / np.sqrt(27), rel=0.4)


def test_units_at_one_place_are_enough():
    places = np.repeat(grid(5, 10_000), 20, axis=0)
    treatment = np.zeros(500)
    treatment[:20] = 1
    _, drawn = pseudo_treatments(treatment, places, SETTINGS, seed=1)
    assert (drawn.sum(axis=1) == 20).all()


def test_too_few_untreated_units_are_refused():
    places = grid(10)
    treatment = treated_squares(places, [(3000, 3000)], 4000)
    wide = SETTINGS.model_copy(update={"buffer_km": 4.0})
    with pytest.raises(DataError, match=r"\d+ never-treated units lie 4 km .* 16 treated"):
        pseudo_treatments(treatment, places, wide, seed=1)
    with pytest.raises(DataError, match="need treated units"):
        pseudo_treatments(np.zeros(100), places, SETTINGS, seed=1)
    with pytest.raises(DataError, match="a place for every unit"):
        pseudo_treatments(treatment, np.full((100, 2), np.nan), SETTINGS, seed=1)


def effect(estimate, std_error):
    return Effect(estimate, std_error, None, 0.95, "AIPW", 100)


def test_negative_controls_pass_fail_and_lack_an_error():
    still = negative_controls({"elevation": effect(0.1, 0.1), "lights 2000": effect(-0.19, 0.1)})
    assert (still.status, still.flags) == ("pass", ())
    assert still.table["t"].tolist() == pytest.approx([1, -1.9])
    moved = negative_controls({"elevation": effect(-0.21, 0.1), "slope": effect(0, 1)})
    assert (moved.status, moved.flags) == ("fail", ("negative_control_moves",))
    assert "elevation (t = -2.10)" in moved.text
    for error in (None, 0.0, float("nan")):
        assert negative_controls({"elevation": effect(0.1, error)}).status == "fail"
    with pytest.raises(DataError, match="No negative-control outcome"):
        negative_controls({})
