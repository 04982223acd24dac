"""Lists of neighbours: published numbers, loops, and very many embeddings."""

import pathlib

import numpy as np
import pytest

from hypersphere import evaluation

GOLDEN = np.load(pathlib.Path(__file__).parents[1] / "golden" / "evaluation.npz")
X, Y = GOLDEN["retrieval/x"], GOLDEN["retrieval/y"]


def test_measures_are_the_published_ones():
    found = evaluation.retrieval(X, Y, ks=(1, 2, 8, 16))
    near = lambda value, name: np.testing.assert_allclose(  # noqa: E731
        value, GOLDEN[name], rtol=1e-12, err_msg=name
    )
    for k, value in found.recall.items():
        near(value, f"retrieval_own/recall_at_{k}")
    near(found.map_at_r, "retrieval_own/map_at_r")
    near(found.r_precision, "retrieval_own/r_precision")
    near(found.mean_average_precision, "retrieval_own/map_full")
    pml = "retrieval_pml_kNone"
    near(found.mrr, f"{pml}/mean_reciprocal_rank")
    near(found.mean_average_precision, f"{pml}/mean_average_precision")
    near(found.map_at_r, f"{pml}/mean_average_precision_at_r")
    of_classes = evaluation.retrieval(X, Y, ks=(1,), class_average=True)
    near(of_classes.map_at_r, "retrieval_pml_class_average/mean_average_precision_at_r")
    near(of_classes.r_precision, "retrieval_pml_class_average/r_precision")
    near(of_classes.recall[1], "retrieval_pml_class_average/precision_at_1")


def test_images_alone_in_their_class_are_left_out_and_counted():
    found = evaluation.retrieval(X, Y, ks=(1, 8))
    counted = evaluation.retrieval(X, Y, ks=(1, 8), count_lone=True)
    lone = int(np.sum(np.bincount(Y)[Y] == 1))
    assert found.lone == counted.lone == lone > 0
    assert (found.queries, counted.queries) == (len(X) - lone, len(X))
    for k in (1, 8):
        name = f"retrieval_own/recall_at_{k}_counting_lone"
        np.testing.assert_allclose(counted.recall[k], GOLDEN[name])


def test_an_image_is_left_out_by_its_index_where_others_are_equal():
    x = np.array([[1.0, 0.0], [1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    found = evaluation.retrieval(x, [0, 1, 0, 1], ks=(1, 2))
    # 0: itself left out, then 1 (wrong), 2. 1: 0, 2, then 3. 2: 0. 3: 0, 1, 2 equal.
    assert found.recall == {1: 0.25, 2: 0.75}


@pytest.fixture(scope="module")
def many():
    random = np.random.default_rng(0)
    gallery = random.standard_normal((1000, 8)).astype(np.float32)
    gallery[[7, 500, 900]] = gallery[3]  # of equal ones the lowest index first
    queries = gallery[[3, 7, 12, 999, 64]]
    return queries, gallery, np.array([3, 7, 12, 999, 64])


@pytest.mark.parametrize(
    ("k", "block"),
    [(3, 128), (10, 999), pytest.param(70, 64, marks=pytest.mark.slow)],
)
def test_neighbours_are_those_of_a_sorted_list(many, k, block):
    queries, gallery, own = many
    unit = gallery / np.linalg.norm(gallery, axis=1, keepdims=True)
    scores = unit[own] @ unit.T
    found = evaluation.nearest(queries, gallery, k, block=block, queries_at_once=2)
    for row, (values, indices) in enumerate(zip(*found, strict=True)):
        np.testing.assert_allclose(values, np.sort(scores[row])[::-1][:k], atol=1e-6)
        np.testing.assert_allclose(scores[row][indices], values, atol=1e-6)
        assert len(set(indices)) == k
    assert found.indices[0][:3].tolist() == [3, 7, 500]


def test_one_left_out_is_not_found_and_the_rest_of_a_block_is(many):
    queries, gallery, own = many
    found = evaluation.nearest(queries, gallery, 10, block=999, own=own)
    assert not (found.indices == own[:, None]).any()
    with_it = evaluation.nearest(queries, gallery, 10, block=999)
    assert (with_it.indices[:, 0] == [3, 3, 12, 999, 64]).all()


def test_recalls_of_many_are_those_of_the_sorted_lists():
    found = evaluation.recall_of_neighbours(np.float32(X), Y, ks=(1, 2, 8))
    for k, value in found.items():
        np.testing.assert_allclose(value, GOLDEN[f"retrieval_own/recall_at_{k}"])


def test_clusters_agree_as_those_of_scikit_learn():
    metrics = pytest.importorskip("sklearn.metrics")
    labels, clusters = GOLDEN["clustering/labels"], GOLDEN["clustering/clusters"]
    nmi = metrics.normalized_mutual_info_score(labels, clusters)
    np.testing.assert_allclose(nmi, GOLDEN["clustering/nmi_arithmetic"])
    apart = np.repeat(np.eye(3), 4, axis=0) + np.arange(12)[:, None] / 1000
    found = evaluation.clustering(apart, np.repeat([0, 1, 2], 4), seeds=3)
    assert found.nmi.shape == (3,) and found.nmi.max() == found.ari.max() == 1
    chance = evaluation.clustering(X, Y, seeds=2)
    assert (chance.ami < chance.nmi).all()


def test_a_hub_is_seen_and_cured():
    # Entry 0 is near to every query, the right one only a little less.
    scores = np.eye(4)[1:] * 0.5 + np.array([0.6, 0, 0, 0])
    before = scores.argmax(axis=1)
    assert (before == 0).all() and evaluation.hubness(before[:, None], 4) > 1
    bank = np.tile([0.6, 0.05, 0.05, 0.05], (5, 1))
    cured = evaluation.dual_bank_normalization(
        scores, bank, bank, query_scale=2.0, gallery_scale=3.0
    )
    after = cured.argmax(axis=1)
    assert after.tolist() == [1, 2, 3]
    assert evaluation.hubness(after[:, None], 4) < 0
    # The published product of two inverted softmaxes, by hand.
    product = np.exp(2 * scores) / np.exp(2 * bank).sum(axis=0)
    product *= np.exp(3 * scores) / np.exp(3 * bank).sum(axis=0)
    np.testing.assert_allclose(np.exp(cured), product)


def test_parts_of_lists_without_hubs_are_the_whole_ones(monkeypatch):
    random = np.random.default_rng(0)
    x, bank = random.standard_normal((40, 3)), random.standard_normal((25, 3))
    unit = lambda v: v / np.linalg.norm(v, axis=1, keepdims=True)  # noqa: E731
    near = unit(bank) @ unit(x).T
    whole = evaluation.dual_bank_normalization(unit(x) @ unit(x).T, near, near)
    np.fill_diagonal(whole, -np.inf)
    truth = np.argsort(-whole, axis=1)[:, :5]
    monkeypatch.setattr("hypersphere.evaluation._retrieval._AT_ONCE", 300)
    np.testing.assert_array_equal(evaluation.without_hubs(x, bank, 5), truth)
    with pytest.raises(ValueError, match="1 of 25 rows are not"):
        evaluation.without_hubs(x, np.where(bank == bank[3], np.nan, bank), 5)


@pytest.mark.slow
def test_neighbours_of_many_are_those_of_faiss():
    faiss = pytest.importorskip("faiss")
    x = np.random.default_rng(0).standard_normal((20_000, 32)).astype(np.float32)
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    index = faiss.IndexFlatIP(32)
    index.add(x)
    scores, indices = index.search(x[:300], 11)
    found = evaluation.nearest(x[:300], x, 10, own=np.arange(300), block=1000)
    np.testing.assert_allclose(found.scores, scores[:, 1:], atol=2e-6)
    assert np.mean(found.indices == indices[:, 1:]) > 0.999  # but for a rounding


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: evaluation.retrieval(np.eye(2), [0, 1]), "all 2 images are alone"),
        (lambda: evaluation.nearest(np.eye(2), np.eye(3), 1), "one width"),
        (lambda: evaluation.nearest(np.eye(2), np.eye(2), 3), "1 <= k <= 2"),
        (lambda: evaluation.retrieval(np.eye(2), [0, 0], ks=(0,)), "at least 1"),
    ],
)
def test_what_cannot_be_looked_for_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
