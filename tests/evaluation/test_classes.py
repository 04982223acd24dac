"""Classes, calibration, what is unknown, and worse images."""

import pathlib

import numpy as np
import pytest
from scipy import special

from hypersphere import evaluation

GOLDEN = np.load(pathlib.Path(__file__).parents[1] / "golden" / "evaluation.npz")
LOGITS, LABELS = GOLDEN["calibration/logits"], GOLDEN["calibration/y"]
P = special.softmax(LOGITS, axis=1)
KNOWN, UNKNOWN = GOLDEN["openset/known"], GOLDEN["openset/unknown"]


def near(found, name, rtol=1e-9):
    np.testing.assert_allclose(found, GOLDEN[name], rtol=rtol, err_msg=name)


def test_calibration_errors_are_the_published_ones():
    error = lambda **options: evaluation.calibration_error(P, LABELS, **options)  # noqa: E731
    near(error(), "calibration/ece15")
    near(error(bins=10), "calibration/ece10")
    near(error(binning="mass"), "calibration/adaptive_ece15")
    for norm, name in (("l1", "l1"), ("l2", "l2"), ("max", "max")):
        near(error(norm=norm), f"calibration/torchmetrics_{name}_15", rtol=1e-6)
    near(evaluation.brier_score(P, LABELS), "calibration/brier")
    near(evaluation.negative_log_likelihood(LOGITS, LABELS), "calibration/nll")


def test_the_error_of_classes_is_that_of_a_loop():
    slow = []
    for label in range(5):
        bins = np.ceil(P[:, label] * 15).astype(int)
        apart = [P[bins == b, label] - (LABELS[bins == b] == label) for b in range(16)]
        slow.append(sum(abs(gap.sum()) for gap in apart) / len(P))
    found = evaluation.classwise_calibration_error(P, LABELS)
    np.testing.assert_allclose(found, np.mean(slow))


def test_the_temperature_is_the_most_likely_one():
    found = evaluation.fit_temperature(LOGITS, LABELS)
    near(found, "calibration/temperature", rtol=1e-5)
    at = evaluation.negative_log_likelihood(LOGITS / found, LABELS)
    near(at, "calibration/nll_at_temperature")


def test_the_first_places_and_the_confusion_are_those_of_a_loop():
    random = np.random.default_rng(0)
    scores = random.integers(0, 4, (200, 6)) / 4  # with ties
    labels = random.integers(0, 6, 200)
    order = np.argsort(-scores, axis=1, kind="stable")
    for k in (1, 2, 6):
        hits = [label in row[:k] for label, row in zip(labels, order, strict=True)]
        found = evaluation.top_k_accuracy(scores, labels, k=k)
        np.testing.assert_allclose(found, np.mean(hits))
    confusion = evaluation.confusion_matrix(order[:, 0], labels, num_classes=7)
    slow = np.zeros((7, 7), int)
    for truth, guess in zip(labels, order[:, 0], strict=True):
        slow[truth, guess] += 1
    np.testing.assert_array_equal(confusion, slow)
    recall = evaluation.per_class_accuracy(confusion)
    assert np.isnan(recall[6])
    np.testing.assert_allclose(recall[2], np.mean(order[labels == 2, 0] == 2))


def test_detection_is_that_of_the_published_scripts():
    found = evaluation.detection(KNOWN, UNKNOWN)
    near(found.auroc, "openset/auroc")
    near(found.fpr_at_95, "openset/fpr_at_95_first")
    steps = evaluation.detection([4.0, 3.0, 2.0, 1.0], [2.5, 0.5], fpr="linear")
    np.testing.assert_allclose(steps.fpr_at_95, 0.5)  # nothing new on the last step
    near(found.aupr_known, "openset/aupr_known")
    near(found.aupr_unknown, "openset/aupr_unknown")
    near(found.error, "openset/detection_error")


def test_open_set_classification_of_a_case_worked_by_hand():
    known, right, unknown = [0.9, 0.7, 0.5, 0.3], [1, 0, 1, 1], [0.8, 0.4]
    # Thresholds from the top: FPR 0 0 .5 .5 .5 1 1; CCR 0 .25 .25 .25 .5 .5 .75.
    assert evaluation.oscr(known, right, unknown) == 0.5 * 0.25 + 0.5 * 0.5
    at = evaluation.ccr_at_fpr(known, right, unknown, [0.4, 0.5, 1.0])
    np.testing.assert_allclose(at, [np.nan, 0.5, 0.75])


def test_scores_of_features_tell_far_ones_from_near_ones():
    random = np.random.default_rng(0)
    centres = np.eye(5)[:2]
    labels = np.repeat([0, 1], 50)
    train = centres[labels] + 0.1 * random.standard_normal((100, 5))
    near_ones = centres[labels] + 0.1 * random.standard_normal((100, 5))
    far_ones = np.eye(5)[3] + 0.1 * random.standard_normal((100, 5))
    means, classes = evaluation.class_means(train, labels)
    assert classes.tolist() == [0, 1]
    for score in (
        lambda x: evaluation.cosine_score(x, means),
        lambda x: evaluation.mahalanobis_score(x, train, labels),
        lambda x: evaluation.knn_score(x, train, k=10),
        lambda x: evaluation.energy_score(5 * x @ means.T),
    ):
        found = evaluation.detection(score(near_ones), score(far_ones))
        assert found.auroc == 1 and found.fpr_at_95 == 0


def test_mahalanobis_distances_are_those_of_the_inverse():
    random = np.random.default_rng(1)
    train, labels = random.standard_normal((60, 3)), np.arange(60) % 2
    found = evaluation.mahalanobis_score(train, train, labels)
    unit = train / np.linalg.norm(train, axis=1, keepdims=True)
    means = np.stack([unit[labels == k].mean(axis=0) for k in (0, 1)])
    apart = unit - means[labels]
    inverse = np.linalg.inv(apart.T @ apart / 60)
    each = [[(x - m) @ inverse @ (x - m) for m in means] for x in unit]
    np.testing.assert_allclose(found, -np.min(each, axis=1), atol=1e-9)


def test_novel_classes_are_judged_among_all_and_alone():
    means, x = np.eye(3), np.eye(3)[[0, 0, 1, 2, 2, 2]]
    labels = np.array([0, 1, 1, 2, 2, 0])
    found = evaluation.novel_classes(x, labels, means, [0, 1, 2], novel=[2])
    # Known: 0 right, 1 wrong, 1 right, the last 0 taken for 2: 2 of 4. Novel: 2 of 2.
    assert found == (0.5, 1.0, pytest.approx(2 / 3))
    with pytest.raises(ValueError, match="all images are known"):
        evaluation.novel_classes(x[:3], labels[:3], means, [0, 1, 2], novel=[2])
    with pytest.raises(ValueError, match="there is none for 2"):
        evaluation.novel_classes(x, labels, means[:2], [0, 1], novel=[1])


def test_worse_images_are_those_of_the_table():
    images = np.random.default_rng(0).integers(60, 190, (2, 6, 5, 3)).astype(np.uint8)
    x = images / 255
    mean = x.mean(axis=(1, 2, 3), keepdims=True)
    for name, truth in (
        ("contrast", mean + 0.4 * (x - mean)),
        ("brightness", np.minimum(x + 0.3, 1)),
        ("scale", 0.6 * x),
    ):
        found = evaluation.corrupted(images, name, 3)
        np.testing.assert_allclose(found, 255 * truth, atol=0.51, err_msg=name)
    noise = (evaluation.corrupted(images.repeat(50, axis=0), "noise", 2) / 255) - (
        images.repeat(50, axis=0) / 255
    )
    assert abs(noise.std() - 0.08) < 0.002 and abs(noise.mean()) < 0.002
    both = evaluation.corrupted(images, "noise", 2)
    np.testing.assert_array_equal(both, evaluation.corrupted(images, "noise", 2))
    second = evaluation.corrupted(images[1:], "noise", 2, first=1)
    np.testing.assert_array_equal(second, both[1:])  # whatever the batch
    alike = evaluation.corrupted(images[[0, 0]], "noise", 2)
    assert (alike[0] != alike[1]).any()
    blurred = evaluation.corrupted(images, "blur", 5)
    assert blurred.std() < 0.5 * images.std()
    for name, strength in (("fog", 1), ("blur", 6)):
        with pytest.raises(ValueError, match=r"`corrupted` (knows|needs)"):
            evaluation.corrupted(images, name, strength)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: evaluation.brier_score(P, LABELS[:-1]), "labels of shape"),
        (lambda: evaluation.brier_score(P, LABELS + 5), "labels from 0 to 4"),
        (lambda: evaluation.calibration_error(P, LABELS, norm="l3"), "'l1', 'l2'"),
        (lambda: evaluation.top_k_accuracy(P, LABELS, k=6), "1 <= k <= 5"),
        (lambda: evaluation.detection(KNOWN, []), "all 400 are positive"),
    ],
)
def test_what_has_no_measure_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
