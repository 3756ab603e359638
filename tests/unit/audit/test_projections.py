"""Projections: algebra, what they remove, what they refuse (AU-D4)."""

import numpy as np
import pytest

from eo_causal.audit.projections import NullspaceProjection, TemporalDifferenceProjection
from eo_causal.errors import ConfigError, DataError, EOCausalWarning
from eo_causal.simulate.leakage import leaking_images

FOLDS = [(np.arange(300, 600), np.arange(300)), (np.arange(300), np.arange(300, 600))]


def world(seed=0, **kwargs):
    return leaking_images(seed, **({"n": 600, "share_of_pairs": 1.0} | kwargs))


def temporal(study, rank=1):
    fitted = TemporalDifferenceProjection(rank)
    return fitted.fit(study.known_pre, study.z_post, study.treatment)


def check_projector(matrix, n_removed):
    np.testing.assert_allclose(matrix, matrix.T, atol=1e-10)
    np.testing.assert_allclose(matrix @ matrix, matrix, atol=1e-10)
    assert np.linalg.matrix_rank(matrix, tol=1e-8) == len(matrix) - n_removed


@pytest.mark.parametrize("k", [1, 2, 5])
def test_projections_are_symmetric_idempotent_and_of_rank_d_less_k(k):
    study = world()
    check_projector(temporal(study, k).matrix_, k)
    nullspace = NullspaceProjection(k).fit(study.z_post, study.treatment, FOLDS)
    check_projector(nullspace.matrix_, k)
    assert len(nullspace.auc_) == k + 1


def test_embeddings_of_32_bits_give_projections_of_64():
    study = world()
    fitted = TemporalDifferenceProjection().fit(
        study.z_pre.astype(np.float32), study.z_post.astype(np.float32), study.treatment
    )
    check_projector(fitted.matrix_, 1)
    z = study.z_post.astype(np.float32)
    check_projector(NullspaceProjection(2).fit(z, study.treatment, FOLDS).matrix_, 2)


def test_rank_one_is_the_formula_and_removes_the_leak_direction():
    study = world()
    fitted = temporal(study)
    change, w = study.z_post - study.z_pre, study.treatment == 1
    delta = change[w].mean(axis=0) - change[~w].mean(axis=0)
    expected = np.eye(20) - np.outer(delta, delta) / (delta @ delta)
    np.testing.assert_allclose(fitted.matrix_, expected, atol=1e-12)
    assert fitted.direction_ @ study.leak_direction > 0.99
    np.testing.assert_allclose(fitted.transform(study.z_post) @ delta, 0, atol=1e-9)


def test_a_second_direction_is_where_treated_places_change_unevenly():
    study = world()
    random = np.random.default_rng(1)
    hidden = np.linalg.qr(np.column_stack([study.leak_direction, random.standard_normal(20)]))[0]
    uneven = 4 * study.treatment * random.choice([-1, 1], 600)
    z_post = study.z_post + uneven[:, None] * hidden[:, 1]
    fitted = TemporalDifferenceProjection(2).fit(study.z_pre, z_post, study.treatment)
    assert np.linalg.norm(fitted.matrix_ @ hidden[:, 1]) < 0.1
    alone = TemporalDifferenceProjection(1).fit(study.z_pre, z_post, study.treatment)
    assert np.linalg.norm(alone.matrix_ @ hidden[:, 1]) > 0.9


def test_only_units_with_both_images_are_learnt_from():
    study = world(share_of_pairs=0.5)
    fitted = temporal(study)
    assert sum(fitted.n_pairs_) == 300
    pairs = study.paired
    alone = TemporalDifferenceProjection().fit(
        study.z_pre[pairs], study.z_post[pairs], study.treatment[pairs]
    )
    np.testing.assert_array_equal(alone.matrix_, fitted.matrix_)


@pytest.mark.parametrize(("cosine", "flags"), [(0.95, ("td_confounder_overlap",)), (0.3, ())])
def test_a_change_that_looks_like_the_confounder_is_announced(cosine, flags):
    study = world(n=4000, cosine=cosine)
    if flags:
        with pytest.warns(EOCausalWarning, match="looks like what led to it"):
            fitted = temporal(study)
    else:
        fitted = temporal(study)
    assert fitted.flags_ == flags
    assert fitted.cosine_ == pytest.approx(cosine, abs=0.03)


def test_a_rank_that_removes_the_confounder_too_is_announced():
    with pytest.warns(EOCausalWarning, match="looks like what led to it"):
        fitted = temporal(world(), 19)
    check_projector(fitted.matrix_, 19)
    assert fitted.flags_ == ("td_confounder_overlap",)


def test_pairs_that_are_unlike_the_rest_are_announced():
    study = world(n=1000, share_of_pairs=0.5)
    study.z_post[study.paired, 4] += 1
    with pytest.warns(EOCausalWarning, match="500 units with and 500 without .* in feature 4"):
        temporal(study)


def test_few_pairs_with_many_features_are_no_reason_for_a_warning():
    temporal(world(n=200, n_features=150, share_of_pairs=0.3))


def test_too_few_pairs_are_an_error():
    study = world(share_of_pairs=0.05)
    with pytest.raises(DataError, match="the projection needs 20 each"):
        temporal(study)


def test_bad_input_is_named():
    study = world()
    with pytest.raises(ConfigError, match=r"rank is 0; .* 1 to 19"):
        temporal(study, 0)
    with pytest.raises(ConfigError, match="n_directions is 20"):
        NullspaceProjection(20).fit(study.z_post, study.treatment, FOLDS)
    with pytest.raises(DataError, match="the same"):
        TemporalDifferenceProjection().fit(study.z_pre, study.z_pre, study.treatment)
    with pytest.raises(DataError, match="missing values"):
        NullspaceProjection(1).fit(study.known_pre * np.nan, study.treatment, FOLDS)


def test_nullspace_projection_stops_at_the_auc_of_the_earlier_image():
    study = world()
    reference = NullspaceProjection(1).fit(study.z_pre, study.treatment, FOLDS).auc_[0]
    fitted = NullspaceProjection(10, auc_pre=reference).fit(study.z_post, study.treatment, FOLDS)
    assert fitted.auc_[-1] <= reference + 0.01 < fitted.auc_[-2]
    assert len(fitted.auc_) < 6
    kept = NullspaceProjection(10, auc_pre=1.0).fit(study.z_post, study.treatment, FOLDS)
    np.testing.assert_array_equal(kept.transform(study.z_post), study.z_post)
