"""Pairs: published numbers, and cases worked by hand."""

import pathlib

import numpy as np
import pytest

from hypersphere import evaluation

GOLDEN = np.load(pathlib.Path(__file__).parents[1] / "golden" / "evaluation.npz")
A, B, SAME = (GOLDEN[f"verify/{name}"] for name in ("a", "b", "same"))
FARS = GOLDEN["verify/fars"]


@pytest.fixture(scope="module")
def cosines():
    return evaluation.pair_cosines(A, B)


@pytest.fixture(scope="module")
def curve(cosines):
    return evaluation.roc(cosines, SAME)


def near(found, name):
    np.testing.assert_allclose(found, GOLDEN[f"verify/{name}"], rtol=1e-12, atol=1e-12)


def test_cosines_and_the_curve_are_those_of_scikit_learn(cosines, curve):
    near(cosines, "cosine")
    near(curve.far, "roc_fpr")
    near(curve.tar, "roc_tpr")
    near(evaluation.area_under(curve), "auc")
    near(evaluation.average_precision(cosines, SAME), "ap")


def test_equal_error_rates_have_both_conventions(curve):
    near(evaluation.equal_error_rate(curve), "eer_interpolated")
    near(evaluation.equal_error_rate(curve, method="nearest"), "eer_nearest")


def test_rates_have_three_conventions(curve):
    tar = lambda convention: evaluation.tar_at_far(curve, FARS, convention=convention)  # noqa: E731
    known = FARS * curve.different >= 1  # the golden numbers go on below
    for ours, name in (
        ("conservative", "tar_conservative"),
        ("nearest", "tar_nearest_insightface"),
    ):
        found = tar(ours)
        np.testing.assert_allclose(found[known], GOLDEN[f"verify/{name}"][known])
        assert np.isnan(found[~known]).all() and (~known).any()


def test_conventions_differ_where_points_are_few():
    # FAR 0, 1/4, 2/4, 1 with TAR 1/2, 1/2, 1, 1
    scores = [0.9, 0.8, 0.7, 0.6, 0.5, 0.4]
    same = [True, False, False, True, False, False]
    curve = evaluation.roc(scores, same)
    at = lambda far, name: float(evaluation.tar_at_far(curve, far, convention=name))  # noqa: E731
    assert at(0.45, "conservative") == 0.5
    assert at(0.45, "nearest") == 1.0
    assert at(0.5, "linear") == 1.0
    np.testing.assert_allclose(at(0.45, "linear"), 0.5 + 0.5 * 0.2 / 0.25)
    assert np.isnan(at(0.2, "conservative"))
    one = evaluation.roc([0.9, *[0.1] * 48, 0.95], [True] + [False] * 49)
    assert evaluation.tar_at_far(one, 1 / 49) == 1  # of exactly one stranger


def test_folds_have_the_published_accuracies(cosines):
    exact = evaluation.fold_accuracy(cosines, SAME)
    near(exact.accuracy, "exact_fold_accuracy")
    near(exact.thresholds, "exact_thresholds")
    near(exact.mean, "exact_mean")
    grid = evaluation.fold_accuracy(cosines, SAME, thresholds="insightface")
    near(grid.accuracy, "insightface_fold_accuracy")
    near(grid.mean, "insightface_mean")
    near(grid.deviation, "insightface_std")


def test_centred_folds_are_those_of_a_loop():
    found = evaluation.centred_fold_accuracy(A, B, SAME)
    grid = np.arange(-10_000, 10_001, 1) / 10_000
    for fold in (0, 7):
        tested = np.arange(600) // 60 == fold
        mean = np.concatenate([A[~tested], B[~tested]]).mean(axis=0)
        a, b = A - mean, B - mean
        cosine = np.sum(a * b, axis=1)
        cosine /= np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
        right = (cosine[~tested] >= grid[:, None]) == SAME[~tested]
        score = right.sum(axis=1)
        best = grid[score == score.max()].mean()
        np.testing.assert_allclose(found.thresholds[fold], best)
        truth = np.mean((cosine[tested] >= best) == SAME[tested])
        np.testing.assert_allclose(found.accuracy[fold], truth)


def test_the_detection_cost_of_a_case_worked_by_hand():
    # Thresholds accept (same, different): (0, 0), (1, 0), (1, 1), (2, 1), (2, 2).
    curve = evaluation.roc([0.9, 0.6, 0.4, 0.1], [True, False, True, False])
    # 0.1 miss + 0.9 false, over 0.1: 1, 0.5, 5, 4.5, 9.
    assert evaluation.min_dcf(curve, p_target=0.1) == 0.5
    # 0.9 miss + 0.1 false, over 0.1: 9, 4.5, 5, 0.5, 1.
    assert evaluation.min_dcf(curve, p_target=0.9) == 0.5
    # 4 * 0.5 miss + 0.5 false, over 0.5: 4, 2, 2.5, 0.5, 1.
    assert evaluation.min_dcf(curve, p_target=0.5, c_miss=4.0) == 0.5


def test_scores_are_counted_in_deviations_of_the_nearest_strangers():
    a, b = np.array([[1.0, 3.0, -5.0]]), np.array([[0.0, 4.0, -9.0]])
    # Means 2 and 2, deviations 1 and 2 of the two highest: (3 / 1 + 3 / 2) / 2.
    np.testing.assert_allclose(evaluation.as_norm([5.0], a, b, top=2), [2.25])
    with pytest.raises(ValueError, match="all alike"):
        evaluation.as_norm([5.0], np.ones((1, 3)), b)


def test_templates_are_those_of_insightface():
    arrays = {k: GOLDEN[f"templates/{k}"] for k in ("images", "template", "media")}
    pooled = evaluation.pool_templates(
        arrays["images"],
        arrays["template"],
        arrays["media"],
        weights=GOLDEN["templates/faceness"],
    )
    np.testing.assert_allclose(pooled.embeddings, GOLDEN["templates/out"], rtol=1e-12)
    assert (
        pooled.rows(pooled.names[::-1]).tolist() == list(range(len(pooled.names)))[::-1]
    )
    with pytest.raises(ValueError, match="no template 99"):
        pooled.rows([99])


def test_identification_of_a_case_worked_by_hand():
    mated = [[0.9, 0.2], [0.7, 0.6], [0.3, 0.8]]
    own = [0, 1, 1]  # the second one's own entry is not its best
    strangers = [[0.85, 0.1], [0.2, 0.5], [0.4, 0.3], [0.1, 0.1]]
    found = evaluation.identification(mated, own, strangers, [0.1, 0.25, 0.5, 1.0])
    np.testing.assert_allclose(found.thresholds, [0.85, 0.85, 0.5, 0.1])
    np.testing.assert_allclose(found.tpir, [np.nan, 1 / 3, 2 / 3, 2 / 3])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: evaluation.roc([0.1, 0.2], [True, True]), "all 2 are positive"),
        (lambda: evaluation.roc([0.1, np.nan], [True, False]), "1 of 2 are not"),
        (lambda: evaluation.roc([0.1], [True, False]), "shapes"),
        (
            lambda: evaluation.fold_accuracy([0.1, 0.2, 0.3], [1, 0, 1], folds=2),
            "divide the pairs",
        ),
        (
            lambda: evaluation.fold_accuracy([0.1, 0.2], [1, 0], thresholds="grid"),
            "'exact', 'insightface'",
        ),
        (
            lambda: evaluation.pair_cosines(np.ones((2, 3)), np.ones((2, 4))),
            "one shape",
        ),
        (lambda: evaluation.pair_cosines([[np.inf]], [[1.0]]), "1 of 1 rows are not"),
    ],
)
def test_what_cannot_be_judged_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_embeddings_of_any_length_have_cosines():
    x = np.array([[3.0, 4.0]])
    for size in (1e-300, 1e300):
        np.testing.assert_allclose(evaluation.pair_cosines(size * x, x), 1.0)
    assert evaluation.pair_cosines(np.zeros((1, 2)), x) == 0.0
