"""The calibration card: one fit, many trials, on disk and back."""

import json
from dataclasses import fields

import numpy as np
import pytest
from pydantic import ValidationError

from eo_causal.core.storage import read_value, write_value
from eo_causal.debias.card import CalibrationCard, CardSettings
from eo_causal.debias.card_files import read_card, write_card
from eo_causal.debias.card_fit import fit_card
from eo_causal.debias.linear import LinearCalibration
from eo_causal.debias.tweedie import TweedieCorrection
from eo_causal.errors import DataError, EOCausalWarning, IntegrityError, LeakageError

QUICK = CardSettings(n_replicates=20)


def drawn(n=400, seed=0):
    random = np.random.default_rng(seed)
    truth = random.normal(size=n)
    return truth, 0.5 * (truth + random.normal(size=n))


def card_of(n_folds=1, settings=QUICK, n=400, **more):
    truth, prediction = drawn(n)
    fold = np.arange(n) % n_folds
    return fit_card(
        truth,
        prediction,
        fold,
        unit_ids=np.arange(n),
        settings=settings,
        units="sd",
        seed=5,
        **more,
    )


def test_twenty_trials_on_one_card_equal_twenty_fits():
    """M3: 1e-10, for both correctors."""
    truth, prediction = drawn()
    card = card_of()
    for trial in range(20):
        new = np.random.default_rng(trial).normal(size=50)
        for method, corrector in (("lcc", LinearCalibration()), ("tweedie", TweedieCorrection())):
            expected = corrector.fit(truth, prediction).correct(new)
            assert card.corrected(new, method=method) == pytest.approx(expected, abs=1e-10)


def test_each_row_is_corrected_by_its_own_fold():
    truth, prediction = drawn()
    card, fold = card_of(3), np.arange(400) % 3
    found = card.corrected(prediction, fold, "tweedie")
    own = TweedieCorrection().fit(truth[fold == 1], prediction[fold == 1])
    assert found[fold == 1] == pytest.approx(own.correct(prediction[fold == 1]))
    assert card.corrected(prediction[fold == 1], 1, "tweedie") == pytest.approx(found[fold == 1])
    assert card.replicates(prediction, fold, "tweedie").shape == (20, 400)


def test_a_column_for_each_model_gives_the_mean_of_their_corrections():
    card = card_of(2)
    both = np.random.default_rng(1).normal(size=(30, 2))
    parts = [card.corrected(both[:, k], k) for k in range(2)]
    assert card.corrected(both) == pytest.approx(np.mean(parts, axis=0))
    assert card.replicates(both).shape == (20, 30)
    errors = np.array([card.std_error(both[:, k], k) for k in range(2)])
    joined = card.std_error(both)
    assert (joined < errors.max(axis=0)).all()


def test_replicates_are_corrections_of_resampled_pairs():
    """Their spread is that of the slope: delta method, within the error of 200 draws."""
    truth, prediction = drawn(2000)
    card = card_of(n=2000, settings=CardSettings(n_replicates=200))
    fit = LinearCalibration().fit(truth, prediction)
    slopes = np.diff(card.replicates([0.0, 1.0], method="lcc"), axis=1).ravel()
    by_hand = fit.facts_.slope_error / fit.slope_**2
    assert slopes.std(ddof=1) == pytest.approx(by_hand, rel=0.2)
    drawn_curves = card.replicates(np.linspace(-1, 1, 9), method="tweedie")
    middle = card.corrected(np.linspace(-1, 1, 9), method="tweedie")
    assert np.abs(drawn_curves.mean(axis=0) - middle).max() < 0.05


def test_whole_clusters_are_resampled():
    """Pairs repeated 4 times in clusters are no news: errors as without the copies."""
    truth, prediction = drawn(300)
    settings = CardSettings(n_replicates=200, corrector="lcc")
    common = {"settings": settings, "units": "sd", "seed": 1}
    single = fit_card(truth, prediction, np.zeros(300), unit_ids=np.arange(300), **common)
    jitter = 1e-6 * np.random.default_rng(0).normal(size=1200)
    copies = fit_card(
        np.repeat(truth, 4), np.repeat(prediction, 4) + jitter, np.zeros(1200),
        unit_ids=np.arange(1200), cluster=np.repeat(np.arange(300), 4), **common,
    )  # fmt: skip
    spread = [np.diff(card.replicates([0.0, 1.0])).std() for card in (single, copies)]
    assert spread[1] == pytest.approx(spread[0], rel=0.2)


def test_averages_of_node_weights_give_replicates_of_averages():
    """Footprints need not be read again: one matrix product, support and tails alike."""
    card = card_of()
    pixels = np.random.default_rng(2).normal(size=1000)  # some beyond the support
    weights = card.node_weights(pixels).mean(axis=0)
    found = np.asarray(weights @ card.replicate_table().T).ravel()
    assert found == pytest.approx(card.replicates(pixels, method="tweedie").mean(axis=1))
    assert np.asarray(weights).ravel()[512] > 0


@pytest.mark.parametrize("method", ["lcc", "tweedie"])
def test_the_error_of_a_place_joins_parameters_and_noise(method):
    card = card_of()
    places = np.array([-0.5, 0.0, 0.7, 6.0])
    noise = card.folds[f"held_out_rms_{method}"].iloc[0]
    expected = np.sqrt(card.replicates(places, method=method).var(axis=0, ddof=1) + noise**2)
    assert card.std_error(places, method=method) == pytest.approx(expected, rel=1e-3)


def test_rasters_stay_float32_and_missing_pixels_missing():
    card = card_of()
    tile = np.array([0.1, np.nan, 9], dtype=np.float32)
    for method in ("lcc", "tweedie"):
        found = card.corrected(tile, method=method)
        assert found.dtype == np.float32
        assert np.isnan(found).tolist() == [False, True, False]


def test_a_card_comes_back_as_it_was_written(tmp_path):
    """M3: at most 10 MB."""
    card = card_of(5, CardSettings(), n=600)
    digest = write_card(card, tmp_path / "card.json")
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) < 10e6
    back = read_card(tmp_path / "card.json", digest)
    for field in fields(CalibrationCard):
        first, second = getattr(card, field.name), getattr(back, field.name)
        if field.name in ("folds", "choice"):
            assert first.equals(second)
        elif field.name == "curves":
            assert first.identical(second)
        else:
            assert first == second
    new, fold = drawn(50, 1)[1], np.arange(50) % 5
    assert np.array_equal(back.corrected(new, fold), card.corrected(new, fold))
    assert np.array_equal(back.replicates(new, fold), card.replicates(new, fold))


def test_a_card_can_be_the_value_of_a_stage(tmp_path):
    card = card_of(2)
    write_value(card, CalibrationCard, tmp_path)
    back = read_value(CalibrationCard, tmp_path)
    new, fold = drawn(50, 1)[1], np.arange(50) % 2
    assert np.array_equal(back.corrected(new, fold), card.corrected(new, fold))
    assert np.array_equal(back.std_error(new, fold), card.std_error(new, fold))


@pytest.mark.parametrize("tampered", ["number", "curves", "other map", "no json", "no curves"])
def test_a_tampered_card_is_refused(tmp_path, tampered):
    path = tmp_path / "card.json"
    digest = write_card(card_of(), path)
    if tampered == "number":
        content = json.loads(path.read_text())
        content["folds"]["slope"][0] += 1e-9
        path.write_text(json.dumps(content))
    elif tampered == "curves":
        raw = bytearray(path.with_suffix(".nc").read_bytes())
        raw[-100] ^= 1
        path.with_suffix(".nc").write_bytes(raw)
    elif tampered == "other map":
        digest = "0" * 64
    elif tampered == "no json":
        path.write_text("[]")
    else:
        path.with_suffix(".nc").unlink()
    with pytest.raises(IntegrityError, match="card"):
        read_card(path, digest)


def test_a_model_that_learned_from_its_calibration_pairs_is_refused():
    """T7: ids overlap."""
    card = card_of(2, training_ids={0: [-1, -2], 1: [-3]})
    assert card.training_hash is not None
    with pytest.raises(LeakageError, match="used in training"):
        card_of(2, training_ids={0: [-1], 1: [7]})


def test_flags_are_warned_of_and_kept():
    with pytest.warns(EOCausalWarning, match="50 calibration pairs"):
        card = card_of(n=50)
    assert "small_calibration_sample" in card.flags
    assert card.method == "lcc"
    with pytest.warns(EOCausalWarning, match="sigma 0.4 comes from training residuals"):
        trained = card_of(settings=CardSettings(n_replicates=20, sigma=0.4, sigma_source="train"))
    assert trained.sigma_source == "train"
    assert "sigma_source_train" in trained.flags


def test_a_corrector_can_be_demanded():
    assert card_of(settings=CardSettings(n_replicates=20, corrector="tweedie")).method == "tweedie"
    with pytest.raises(ValidationError):
        CardSettings(corrector="naive")


def test_hashes_name_units_and_folds():
    first, other = card_of(), card_of(2)
    assert first.calibration_hash == other.calibration_hash
    assert first.folds_hash != other.folds_hash
    assert first.map_hash is None


def test_calls_that_name_no_model_are_refused():
    card = card_of(2)
    with pytest.raises(DataError, match="fold is None"):
        card.corrected([0.0, 1])
    with pytest.raises(DataError, match="fold is 7"):
        card.corrected([0.0, 1], 7)
    with pytest.raises(DataError, match="folds of shape"):
        card.corrected([0.0, 1], [0])
    with pytest.raises(DataError, match="have shape"):
        card.corrected(np.zeros((4, 3)))
    with pytest.raises(DataError, match="one value a row"):
        fit_card(*drawn(), np.zeros(3), unit_ids=np.arange(400), settings=QUICK, units="sd", seed=1)


def test_a_fold_with_too_few_pairs_is_refused():
    truth, prediction = drawn(100)
    with pytest.raises(DataError, match="20 calibration pairs"):
        fit_card(
            truth, prediction, np.arange(100) >= 80, unit_ids=np.arange(100), settings=QUICK,
            units="sd", seed=1,
        )  # fmt: skip
