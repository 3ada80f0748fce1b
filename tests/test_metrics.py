"""Measures without labels, against closed forms and naive references, and as scorers."""

import warnings

import numpy as np
import pytest
import torch
from conftest import make_images, one_of_each_kind, small
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, KFold
from sklearn.pipeline import make_pipeline

from sklearn_ssl import ExemplarCNN, InstanceDiscrimination, MultiTask, SimCLR
from sklearn_ssl.metrics import (
    alignment,
    alignment_scorer,
    alpha_req,
    alpha_req_scorer,
    feature_spread,
    lidar,
    lidar_scorer,
    linear_cka,
    pretext_loss_scorer,
    rank_me,
    rank_me_scorer,
    uniformity,
    uniformity_scorer,
)

RNG = np.random.default_rng(0)
SCORERS = [
    rank_me_scorer, alpha_req_scorer, lidar_scorer, alignment_scorer, uniformity_scorer,
    pretext_loss_scorer,
]  # fmt: skip


def of_rank(k, n=400, d=20):
    return RNG.normal(size=(n, k)) @ np.linalg.qr(RNG.normal(size=(d, k)))[0].T


# Closed forms


@pytest.mark.parametrize("k", [1, 3, 10])
def test_of_rank_k(k):
    # singular values of a Gaussian matrix differ a little
    assert rank_me(torch.from_numpy(of_rank(k))) == pytest.approx(k, rel=0.02)


def test_collapsed_features():
    same = np.ones((50, 8))
    assert rank_me(torch.from_numpy(same)) == pytest.approx(1, abs=1e-4)
    assert uniformity(same) == pytest.approx(0)
    assert alignment(np.ones((50, 2, 8))) == pytest.approx(0)
    with pytest.raises(ValueError, match="too few"):
        alpha_req(same)
    # views that differ no more than images tell nothing: what is left is the noise of means
    assert lidar(np.ones((50, 3, 8))) == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize("alpha", [0.5, 1.0, 2.0])
def test_alpha_of_a_power_law(alpha):
    columns = np.linalg.qr(RNG.normal(size=(300, 40)) - 0)[0]
    columns = np.linalg.qr(columns - columns.mean(0))[0]
    features = columns * np.arange(1, 41) ** (-alpha / 2)
    features -= features.mean(0)
    assert alpha_req(features) == pytest.approx(alpha, abs=0.02)
    assert alpha_req(features, first=5, last=30) == pytest.approx(alpha, abs=0.05)
    assert alpha_req(features * 100 + 7) == pytest.approx(alpha_req(features))


def test_alpha_of_white_noise_is_near_0():
    assert abs(alpha_req(RNG.normal(size=(5000, 20)))) < 0.1


def test_alpha_against_numpy():
    features = RNG.normal(size=(200, 12)) * np.linspace(1, 3, 12)
    values = np.sort(np.linalg.eigvalsh(np.cov(features.T)))[::-1]
    ranks = np.arange(1, 13)
    slope = np.polyfit(np.log(ranks), np.log(values), 1, w=ranks**-0.5)[0]
    assert alpha_req(features) == pytest.approx(-slope)


def naive_lidar(z, delta=1e-4, eps=1e-8):
    """The definition, term by term, less what the noise of means adds."""
    n, views, d = z.shape
    grand = z.mean((0, 1))
    between, within = np.zeros((d, d)), np.zeros((d, d))
    for i in range(n):
        mean = z[i].mean(0)
        between += np.outer(mean - grand, mean - grand) / (n - 1)
        for q in range(views):
            within += np.outer(z[i, q] - mean, z[i, q] - mean) / (n * (views - 1))
    within += delta * (np.trace(within) + np.trace(between)) / d * np.eye(d)
    values, vectors = np.linalg.eigh(within)
    root = vectors @ np.diag(values**-0.5) @ vectors.T
    found = np.linalg.eigvalsh(root @ (between - within / views) @ root)
    p = found / np.abs(found).sum() + eps
    return np.exp(-(p * np.log(p)).sum())


def test_lidar_against_its_definition():
    z = RNG.normal(size=(30, 4, 6)) + 2 * RNG.normal(size=(30, 1, 6)) * np.arange(1, 7)
    assert lidar(z) == pytest.approx(naive_lidar(z), rel=1e-6)


@pytest.mark.parametrize("k", [2, 5])
def test_lidar_counts_what_tells_images_apart(k):
    z = 1e-2 * RNG.normal(size=(500, 4, 10))
    z[..., :k] += RNG.normal(size=(500, 1, k))
    assert lidar(z) == pytest.approx(k, rel=0.05)


@pytest.mark.slow
@pytest.mark.parametrize(("d", "noise"), [(512, 0.2), (512, 1.0), (1152, 0.5)])
def test_lidar_does_not_count_noise(d, noise):
    z = noise * np.random.default_rng(0).normal(size=(1000, 4, d))
    assert lidar(z) == pytest.approx(1, abs=0.1)
    z[..., :20] += np.random.default_rng(1).normal(size=(1000, 1, 20))
    assert lidar(z) == pytest.approx(20, abs=0.5)
    assert lidar(1e-3 * z + 5) == pytest.approx(lidar(z))  # whatever the unit


def test_lidar_wants_enough_views():
    with pytest.raises(ValueError, match=r"10 images in 3 views are too few for 20 dimensions"):
        lidar(RNG.normal(size=(10, 3, 20)))


def test_alignment_and_uniformity_against_loops():
    z = RNG.normal(size=(12, 3, 5))
    unit = z / np.linalg.norm(z, axis=2, keepdims=True)
    pairs = [((a[i] - a[j]) ** 2).sum() for a in unit for i in range(3) for j in range(i + 1, 3)]
    assert alignment(z) == pytest.approx(np.mean(pairs))
    assert alignment(z, alpha=1) == pytest.approx(np.mean(np.sqrt(pairs)))
    one = unit[:, 0]
    potentials = [
        np.exp(-2 * ((a - b) ** 2).sum()) for i, a in enumerate(one) for b in one[i + 1 :]
    ]
    assert uniformity(z[:, 0]) == pytest.approx(np.log(np.mean(potentials)))


def test_uniformity_of_an_isotropic_gaussian(monkeypatch):
    """On a sphere of many dimensions all are a right angle apart, at a squared distance of 2."""
    import sklearn_ssl.metrics._alignment

    z = RNG.normal(size=(1000, 500))
    assert uniformity(z) == pytest.approx(-4, abs=0.05)
    monkeypatch.setattr(sklearn_ssl.metrics._alignment, "_PAIRS_AT_ONCE", 5000)
    assert uniformity(z) == pytest.approx(-4, abs=0.05)


def unbiased_dependence(k, m):
    """Song et al. (2012), equation 5, term by term."""
    n = len(k)
    k, m = k - np.diag(np.diag(k)), m - np.diag(np.diag(m))
    ones = np.ones(n)
    both = (ones @ k @ ones) * (ones @ m @ ones) / ((n - 1) * (n - 2))
    return (np.trace(k @ m) + both - 2 / (n - 2) * (ones @ k @ m @ ones)) / (n * (n - 3))


@pytest.mark.parametrize("d", [7, 80])
def test_alignment_of_kernels_is_that_of_gram_matrices(d):
    a, b = (RNG.normal(size=(50, d)) + 3 for d in (d, 5))
    k, m = a @ a.T, b @ b.T
    scale = (unbiased_dependence(k, k) * unbiased_dependence(m, m)) ** 0.5
    assert linear_cka(a, b) == pytest.approx(unbiased_dependence(k, m) / scale)
    turned = np.linalg.qr(RNG.normal(size=(d, d)))[0]
    assert linear_cka(a, 3 * a @ turned - 1) == pytest.approx(1)
    assert linear_cka(a, np.full((50, 2), 1.1)) == linear_cka(np.eye(6), np.eye(6)) == 0
    with pytest.raises(ValueError, match="others have 50 and 49 rows"):
        linear_cka(a, b[1:])
    with pytest.raises(ValueError, match="3 images are too few"):
        linear_cka(a[:3], b[:3])


@pytest.mark.parametrize("d", [512, 2048])
def test_independent_features_are_not_aligned(d):
    rng = np.random.default_rng(0)
    assert abs(linear_cka(rng.normal(size=(512, d)), rng.normal(size=(512, d)))) < 0.01


MEASURES = [alpha_req, feature_spread, rank_me, uniformity, lambda z: linear_cka(z, z[:, :3])]
OF_VIEWS = [lidar, alignment]


@pytest.mark.parametrize("measure", [*MEASURES, *OF_VIEWS])
def test_measures_take_arrays_and_tensors(measure):
    shape = (40, 3, 5) if measure in OF_VIEWS else (40, 5)
    features = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    found = measure(features)
    assert isinstance(found, float)
    assert found == measure(torch.from_numpy(features)) == measure(features.astype(np.float64))
    if measure in (alignment, alpha_req, feature_spread, rank_me, uniformity):
        assert found == measure(features.tolist())
    with warnings.catch_warnings(action="error"):  # as arrays of pandas are, and views
        backwards = features.astype(np.float64)[:, ::-1]
        backwards.flags.writeable = False
        assert found == measure(backwards[:, ::-1])
        measure(backwards)
    features[3] = np.nan
    with pytest.raises(ValueError, match=r"1 of 40 rows .* row 3"):
        measure(features)
    with pytest.raises(ValueError, match="of shape"):
        measure(features[:, 0, 0] if measure in OF_VIEWS else features[:, 0:0])


@pytest.mark.parametrize("measure", [lidar, alignment])
@pytest.mark.parametrize("shape", [(5, 4), (5, 1, 4)])
def test_measures_of_views_want_views(measure, shape):
    with pytest.raises(ValueError, match="n_views"):
        measure(np.zeros(shape))


# Learners


@one_of_each_kind
@pytest.mark.parametrize("scorer", SCORERS)
def test_scorers(Learner, scorer):
    X = make_images(48)
    learner = small(Learner).fit(X)
    before = {k: v.clone() for k, v in learner.net_.module_.state_dict().items()}
    keeps = (InstanceDiscrimination, ExemplarCNN)
    if scorer is pretext_loss_scorer and learner.net_.module_.task.n_images is not None:
        assert issubclass(Learner, keeps)
        with pytest.raises(ValueError, match="no loss for others"):
            scorer(learner, X)
        return
    found = scorer(learner, X)
    assert isinstance(found, float)
    assert np.isfinite(found)
    assert found == scorer(learner, X, np.zeros(48))
    after = learner.net_.module_.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)


@pytest.mark.parametrize("scorer", SCORERS)
def test_scorers_choose_in_a_search(scorer):
    X, y = make_images(48), np.arange(48) % 2
    search = GridSearchCV(small(SimCLR), {"lr": [1e-4, 1e-2]}, scoring=scorer, cv=KFold(2))
    search.fit(X)
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()
    assert len(set(search.cv_results_["mean_test_score"])) == 2
    pipe = make_pipeline(small(SimCLR), LogisticRegression()).fit(X, y)
    assert scorer(pipe, X, y) == pytest.approx(scorer(pipe[0], X))


def test_pretext_loss_is_that_of_the_task():
    X = make_images(64)
    learner = small(SimCLR, batch_size=16, precision="float32").fit(X)
    losses = {seed: learner.pretext_loss(X, random_state=seed) for seed in (0, 1)}
    assert losses[0] == learner.pretext_loss(X, random_state=0) != losses[1]
    assert losses[0] == pytest.approx(losses[1], rel=0.1)
    assert losses[0] < np.log(2 * 16 - 1)
    worst = learner.set_params(device="cpu").pretext_loss(np.zeros_like(X), random_state=0)
    assert worst == pytest.approx(np.log(2 * 16 - 1), rel=0.05)  # all views are the same
    long = small(SimCLR, batch_size=16, max_epochs=20, precision="float32").fit(X)
    assert long.pretext_loss(X, random_state=0) < losses[0]


@one_of_each_kind
def test_views_can_be_looked_at(Learner):
    X = make_images(12)
    learner = small(Learner).fit(X)
    views = learner.draw_views(X, 3, random_state=0)
    assert views.shape[:2] == (12, 3)
    assert views.dtype == np.float32
    assert 0 <= views.min() < views.max() <= 1
    np.testing.assert_array_equal(views, learner.draw_views(X, 3, random_state=0))
    assert (views != learner.draw_views(X, 3, random_state=1)).any()
    features = learner.set_params(pool="avg").transform_views(X, 3, random_state=0)
    assert features.shape == (12, 3, learner.transform(X).shape[1])
    assert (features[:, 0] != features[:, 1]).any()


def test_views_and_their_mirror_images_have_the_same_features_with_mirror():
    X = make_images(12)
    learner = small(SimCLR, precision="float32", mirror=True, pool="avg").fit(X)
    views = torch.from_numpy(learner.draw_views(X, 3, random_state=0)).permute(0, 1, 4, 2, 3)
    wanted = [(learner.encoder_.default_layer, "avg")]
    with torch.no_grad():
        seen, turned = (
            learner.encoder_.eval().features(some.flatten(0, 1), wanted)
            for some in (views, views.flip(4))
        )
    features = learner.transform_views(X, 3, random_state=0).reshape(36, -1)
    np.testing.assert_allclose(features, (seen + turned) / 2, atol=1e-5)


def test_views_of_several_tasks_are_those_of_the_first_or_its_own():
    X = make_images(12)
    tasks = [("a", SimCLR(), 1.0), ("b", SimCLR(), 1.0)]
    several = small(MultiTask, learners=tasks).fit(X)
    one = small(SimCLR).fit(X)
    np.testing.assert_array_equal(
        several.draw_views(X, random_state=0), one.draw_views(X, random_state=0)
    )
