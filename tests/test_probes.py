"""What is fitted to features, and to images of which few have labels."""

import pickle
import warnings

import numpy as np
import pytest
import torch
from conftest import WholeNet, make_images, small
from sklearn import config_context
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.datasets import (
    load_breast_cancer,
    load_digits,
    load_iris,
    load_wine,
    make_classification,
)
from sklearn.frozen import FrozenEstimator
from sklearn.kernel_ridge import KernelRidge
from sklearn.linear_model import LogisticRegression, LogisticRegressionCV
from sklearn.metrics.pairwise import euclidean_distances
from sklearn.model_selection import GridSearchCV, KFold, cross_val_score, cross_validate
from sklearn.multioutput import MultiOutputRegressor
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import (
    FunctionTransformer,
    MinMaxScaler,
    StandardScaler,
    label_binarize,
    normalize,
)
from sklearn.utils.estimator_checks import parametrize_with_checks

from sklearn_ssl import (
    CPC,
    FineTunedClassifier,
    FineTunedRegressor,
    KernelProbe,
    LinearProbe,
    MoCo,
    NeighborsProbe,
    SelfSupervisedClassifier,
    SelfSupervisedRegressor,
    SimCLR,
    Views,
)
from sklearn_ssl.exceptions import DivergenceError, LabelWarning
from sklearn_ssl.training._freezing import layer_of_parameters

STILL = Views(crop_scale=None, flip=0, jitter=None, gray=0, blur=0)
X = make_images(60)
y = np.arange(60) % 3
DIGITS = load_digits()


def tuned(Tuned, learner=WholeNet, **params):
    usual = {"max_epochs": 30, "lr": 1e-2, "views": STILL, "random_state": 0}
    return Tuned(learner, **{**usual, **params})


@pytest.mark.filterwarnings("ignore")
@parametrize_with_checks(
    [
        LinearProbe(),
        KernelProbe(),
        NeighborsProbe(n_neighbors=5),
        SelfSupervisedClassifier(small(SimCLR)),
        tuned(FineTunedClassifier),
    ]
)
def test_scikit_learn_check(estimator, check):
    check(estimator)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@parametrize_with_checks(
    [
        LinearProbe(C=[0.1, 1.0], cv=2),
        SelfSupervisedRegressor(small(SimCLR)),
        tuned(FineTunedRegressor),
    ]
)
def test_scikit_learn_check_of_the_others(estimator, check):
    check(estimator)


# LinearProbe

SETS = {
    "iris": load_iris(return_X_y=True),
    "wine": load_wine(return_X_y=True),
    "cancer": load_breast_cancer(return_X_y=True),
    "digits": (DIGITS.data[:600], DIGITS.target[:600]),
    "made": make_classification(
        300, 40, n_informative=10, n_classes=4, weights=[0.5, 0.3, 0.1], random_state=0
    ),
}


@pytest.mark.parametrize("intercept", [True, False])
@pytest.mark.parametrize("C", [0.01, 1.0])
@pytest.mark.parametrize("name", SETS)
def test_coefficients_are_those_of_scikit_learn(name, C, intercept):
    features, labels = SETS[name]
    features = StandardScaler().fit_transform(features)
    weights = np.random.default_rng(0).uniform(0.5, 2, len(labels))
    options = {"C": C, "fit_intercept": intercept, "class_weight": "balanced", "tol": 1e-8}
    probe = LinearProbe(max_iter=10_000, **options).fit(features, labels, weights)
    known = LogisticRegression(max_iter=10_000, **options).fit(features, labels, weights)
    scale = np.abs(known.coef_).max()
    np.testing.assert_allclose(probe.coef_, known.coef_, atol=1e-3 * scale)
    np.testing.assert_allclose(probe.intercept_, known.intercept_, atol=1e-3 * scale)
    np.testing.assert_allclose(
        probe.predict_proba(features), known.predict_proba(features), atol=1e-3
    )
    np.testing.assert_array_equal(probe.predict(features), known.predict(features))
    assert probe.decision_function(features).shape == known.decision_function(features).shape


def test_batches_do_not_change_it(monkeypatch):
    import sklearn_ssl.probes._linear

    features, labels = SETS["made"]
    whole = LinearProbe(tol=1e-8).fit(features, labels).coef_
    monkeypatch.setattr(sklearn_ssl.probes._linear, "_VALUES_AT_ONCE", 1000)
    parts = LinearProbe(tol=1e-8).fit(features.astype(np.float32), labels).coef_
    np.testing.assert_allclose(parts, whole, atol=1e-3)


def test_path_is_that_of_scikit_learn():
    features, labels = SETS["made"]
    features = StandardScaler().fit_transform(features)
    path = [1e-3, 1e-2, 1e-1, 1.0]
    probe = LinearProbe(C=path, cv=KFold(3), tol=1e-8).fit(features, labels)
    with warnings.catch_warnings(action="ignore"):
        known = LogisticRegressionCV(Cs=path, cv=KFold(3), max_iter=2000).fit(features, labels)
    np.testing.assert_allclose(
        probe.scores_.mean(0), np.mean(next(iter(known.scores_.values())), axis=0), atol=0.011
    )
    assert path[int(probe.scores_.mean(0).argmax())] == probe.C_
    once = LinearProbe(C=probe.C_, tol=1e-8).fit(features, labels)
    np.testing.assert_allclose(probe.coef_, once.coef_, atol=1e-3)


def test_bad_arguments_of_the_linear_probe():
    features, labels = SETS["iris"]
    for params in ({"C": 0.0}, {"C": [1.0, -1.0]}, {"max_iter": 0}, {"class_weight": "some"}):
        with pytest.raises(ValueError, match=next(iter(params))):
            LinearProbe(**params).fit(features, labels)
    with pytest.warns(UserWarning, match="did not converge"):
        LinearProbe(max_iter=1).fit(features, labels)


# NeighborsProbe


def test_neighbors_are_those_of_scikit_learn(monkeypatch):
    import sklearn_ssl.probes._neighbors

    monkeypatch.setattr(sklearn_ssl.probes._neighbors, "_PAIRS_AT_ONCE", 5000)
    features, labels = DIGITS.data, DIGITS.target
    probe = NeighborsProbe(n_neighbors=20).fit(features[:1000], labels[:1000])

    def weights(distances):  # squared distance of unit vectors is 2 - 2 cosine
        return np.exp((1 - distances**2 / 2) / 0.07)

    known = KNeighborsClassifier(20, weights=weights).fit(normalize(features[:1000]), labels[:1000])
    np.testing.assert_allclose(
        probe.predict_proba(features[1000:]),
        known.predict_proba(normalize(features[1000:])),
        atol=1e-4,
    )


# KernelProbe


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_kernel_probe_is_the_kernel_ridge_regression_of_scikit_learn(monkeypatch, dtype):
    import sklearn_ssl.probes._kernel

    monkeypatch.setattr(sklearn_ssl.probes._kernel, "_PAIRS_AT_ONCE", 5000)
    features, labels = DIGITS.data.astype(dtype), DIGITS.target
    probe = KernelProbe(alpha=0.1, gamma=2.0).fit(features[:1000], labels[:1000])
    distances = euclidean_distances(features[:1000].astype(float), squared=True)
    mean = distances.sum() / (1000 * 999)
    known = KernelRidge(alpha=0.1, kernel="rbf", gamma=2.0 / mean)
    known.fit(
        features[:1000].astype(float), label_binarize(labels[:1000], classes=range(10)) * 2 - 1
    )
    expected = known.predict(features[1000:].astype(float))
    tolerance = 1e-3 if dtype == np.float32 else 1e-10
    np.testing.assert_allclose(probe.decision_function(features[1000:]), expected, atol=tolerance)
    assert (probe.predict(features[1000:]) == expected.argmax(1)).mean() > 0.999


# Few labels


def test_what_has_no_label_is_pretrained_on_and_ignored():
    few = np.where(np.arange(60) < 20, y, -1)
    found = SelfSupervisedClassifier(small(SimCLR)).fit(X, few)
    ssl = small(SimCLR).fit(X)
    head = make_pipeline(
        MinMaxScaler(clip=True), StandardScaler(), LogisticRegression(max_iter=1000)
    )
    head.fit(ssl.transform(X[:20]), y[:20])
    np.testing.assert_array_equal(found.predict_proba(X), head.predict_proba(ssl.transform(X)))
    assert found.n_labeled_ == 20
    np.testing.assert_array_equal(found.classes_, [0, 1, 2])
    assert found.score(X, few) == head.score(ssl.transform(X[:20]), y[:20])
    again = pickle.loads(pickle.dumps(found))
    np.testing.assert_array_equal(again.predict(X), found.predict(X))


def test_regression_with_few_targets():
    target = X.mean((1, 2, 3)).astype(float)
    few = np.where(np.arange(60) < 30, target, np.nan)
    found = SelfSupervisedRegressor(small(SimCLR)).fit(X, few)
    assert found.n_labeled_ == 30
    assert found.score(X, few) == pytest.approx(found.score(X[:30], target[:30]))
    with pytest.raises(ValueError, match="no image has a label"):
        SelfSupervisedRegressor(small(SimCLR)).fit(X, np.full(60, np.nan))


def test_what_hardly_varies_among_few_targets_does_not_decide_about_others():
    features = np.random.default_rng(0).normal(size=(400, 30))
    target = features[:, :3].sum(1)
    features[:50, -1] *= 1e-4
    few = np.where(np.arange(400) < 50, target, np.nan)
    found = SelfSupervisedRegressor(FunctionTransformer()).fit(features, few)
    assert found.score(features[50:], target[50:]) > 0.9
    classes = np.where(np.arange(400) < 50, target > 0, -1)
    found = SelfSupervisedClassifier(FunctionTransformer()).fit(features, classes)
    assert found.score(features[50:], target[50:] > 0) > 0.7


def test_more_images_by_routing():
    with config_context(enable_metadata_routing=True):
        classifier = SelfSupervisedClassifier(small(SimCLR)).set_fit_request(X_unlabeled=True)
        more = make_images(31, seed=5)
        scores = cross_validate(
            classifier, X, y, cv=3, params={"X_unlabeled": more}, return_estimator=True,
            return_indices=True,
        )  # fmt: skip
        for one, train in zip(scores["estimator"], scores["indices"]["train"], strict=True):
            ssl = small(SimCLR).fit(X[train], X_unlabeled=more)
            np.testing.assert_array_equal(one.learner_.transform(X), ssl.transform(X))
        search = GridSearchCV(classifier, {"learner__layer": ["conv", "out"]}, cv=2)
        search.fit(X, y, X_unlabeled=more)
        assert search.best_estimator_.learner_.layer in ("conv", "out")


def test_no_leak():
    """Labels, and images of the test part, never reach the features of a fold."""
    few = np.where(np.arange(60) % 2, y, -1)
    shuffled = np.where(few == -1, -1, (few + 1) % 3)
    a, b = (SelfSupervisedClassifier(small(SimCLR)).fit(X, labels) for labels in (few, shuffled))
    np.testing.assert_array_equal(a.learner_.transform(X), b.learner_.transform(X))
    other = X.copy()
    other[40:] = 0
    folds = [(np.arange(40), np.arange(40, 60))]
    for images in (X, other):
        result = cross_validate(
            SelfSupervisedClassifier(small(SimCLR)), images, y, cv=folds, return_estimator=True
        )
        features = result["estimator"][0].learner_.transform(X[:40])
        np.testing.assert_array_equal(features, small(SimCLR).fit(X[:40]).transform(X[:40]))


def test_minus_one_and_one_are_two_classes_with_a_warning():
    labels = np.where(np.arange(60) % 2, 1, -1)
    with pytest.warns(UserWarning, match="two classes"):
        found = SelfSupervisedClassifier(small(SimCLR)).fit(X, labels)
    assert found.n_labeled_ == 60
    names = np.where(np.arange(60) % 2, "a", "-1")
    assert SelfSupervisedClassifier(small(SimCLR)).fit(X, names).n_labeled_ == 60


def test_other_heads():
    found = SelfSupervisedClassifier(small(SimCLR), NeighborsProbe(5)).fit(X, y)
    assert found.predict_proba(X).shape == (60, 3)
    assert not hasattr(found, "decision_function")
    calibrated = CalibratedClassifierCV(SelfSupervisedClassifier(small(SimCLR)), cv=2).fit(X, y)
    assert calibrated.predict_proba(X).shape == (60, 3)


# Fine-tuning


def test_starts_from_a_fitted_learner():
    ssl = small(SimCLR).fit(X)
    frozen = tuned(FineTunedClassifier, ssl, max_epochs=2, frozen_epochs=2).fit(X, y)
    np.testing.assert_array_equal(frozen.learner_.transform(X), ssl.transform(X))
    trained = tuned(FineTunedClassifier, ssl, max_epochs=2).fit(X, y)
    assert (trained.learner_.transform(X) != ssl.transform(X)).any()
    np.testing.assert_array_equal(ssl.transform(X), small(SimCLR).fit(X).transform(X))
    with pytest.raises(ValueError, match="images of shape"):
        tuned(FineTunedClassifier, ssl).fit(X[:, 1:], y)
    with pytest.raises(ValueError, match="encoder of its own kind"):
        tuned(FineTunedClassifier, small(CPC)).fit(X, y)


def test_an_unfitted_learner_is_pretrained_first_and_a_frozen_one_is_not():
    first = tuned(FineTunedClassifier, small(SimCLR), max_epochs=1).fit(X, y)
    second = tuned(FineTunedClassifier, small(SimCLR).fit(X), max_epochs=1).fit(X, y)
    np.testing.assert_array_equal(first.predict_proba(X), second.predict_proba(X))
    kept = FrozenEstimator(small(SimCLR).fit(make_images(60, seed=3)))
    third = clone(tuned(FineTunedClassifier, kept, max_epochs=1, frozen_epochs=1)).fit(X, y)
    np.testing.assert_array_equal(third.learner_.transform(X), kept.transform(X))


def test_learns_and_is_the_same_again():
    images, labels = DIGITS.images[:600], DIGITS.target[:600]
    one = tuned(FineTunedClassifier, "small_resnet", lr=5e-3, max_epochs=12)
    one.fit(images[:400], labels[:400])
    assert one.score(images[400:], labels[400:]) > 0.8
    again = clone(one).fit(images[:400], labels[:400])
    np.testing.assert_array_equal(one.predict_proba(images), again.predict_proba(images))
    loaded = pickle.loads(pickle.dumps(one))
    np.testing.assert_array_equal(one.predict_proba(images), loaded.predict_proba(images))


def test_early_stopping_keeps_the_best():
    found = tuned(FineTunedClassifier, early_stopping=True, patience=2, max_epochs=40)
    found.fit(X, y)
    scores = [row["valid_score"] for row in found.history_]
    assert len(scores) < 40
    assert len(scores) - 1 - int(np.argmax(scores)) == 2


def test_the_held_out_part_follows_the_random_state_and_keeps_classes():
    targets = np.arange(60) % 10
    with pytest.warns(LabelWarning, match="early_stopping judges by 6 images, of . of 10 classes"):
        found = tuned(FineTunedClassifier, early_stopping=True, max_epochs=1).fit(X, targets)
    assert found.predict_proba(X).shape == (60, 10)
    for labels in (targets, y):
        parts = []
        for seed in (0, 0, 1, np.random.RandomState(0)):
            estimator = tuned(FineTunedClassifier, random_state=seed)
            with warnings.catch_warnings(action="ignore", category=LabelWarning):
                rows, held_out = estimator._split(labels)
            assert sorted([*rows, *held_out]) == list(range(60))
            assert len(held_out) == 6
            assert set(labels[rows]) == set(labels)
            parts.append(held_out.tolist())
        assert parts[0] == parts[1] == parts[3] != parts[2]
    with pytest.raises(ValueError, match="images to hold out, and 10 images of 10 classes"):
        tuned(FineTunedClassifier, early_stopping=True).fit(X[:10], targets[:10])


def test_a_failed_fine_tuning_leaves_everything_as_it_was():
    state = np.random.RandomState(3)
    found = tuned(FineTunedClassifier, max_epochs=1, early_stopping=True, random_state=state)
    found.fit(X, y)
    before, drawn = found.predict_proba(X), state.get_state()[1].copy()
    with pytest.raises(DivergenceError):
        found.set_params(lr=1e39).fit(X, y)
    np.testing.assert_array_equal(found.predict_proba(X), before)
    np.testing.assert_array_equal(state.get_state()[1], drawn)


def test_layers_learn_at_their_rate():
    found = tuned(FineTunedClassifier, small(SimCLR), layer_decay=0.5, max_epochs=1).fit(X, y)
    net = found.learner_.net_
    layers, n_layers = layer_of_parameters(net.encoder)
    assert n_layers == 2
    scales = {id(p): g["lr_scale"] for g in net.optimizer_.param_groups for p in g["params"]}
    assert len(layers) == sum(1 for _ in net.encoder.parameters())
    for parameter, layer in layers.items():
        assert scales[id(parameter)] == 0.5 ** (2 - layer)
    assert scales[id(net.module_.task.head.weight)] == 1


@pytest.mark.parametrize("Learner", [SimCLR, MoCo])
def test_layers_that_are_held(Learner):
    ssl = small(Learner, max_epochs=1, warm_start=True).fit(X)
    before = {name: v.clone() for name, v in ssl.encoder_.state_dict().items()}
    ssl.set_params(trainable_layers=1, max_epochs=2).fit(X)
    after = ssl.encoder_.state_dict()
    for name, value in before.items():
        same = torch.equal(value, after[name])
        assert same == ("backbone.out" not in name), name
    assert all(p.requires_grad for p in ssl.encoder_.parameters())
    ssl.set_params(trainable_layers=None, max_epochs=1).fit(X)
    moved = ssl.encoder_.state_dict()["backbone.conv.0.weight"]
    assert not torch.equal(moved, before["backbone.conv.0.weight"])


def test_statistics_that_are_held():
    ssl = small(SimCLR, max_epochs=1, warm_start=True).fit(X)
    before = {name: v.clone() for name, v in ssl.encoder_.state_dict().items()}
    ssl.set_params(frozen_batch_norm=True, max_epochs=2).fit(X)
    for name, value in ssl.encoder_.state_dict().items():
        trained = name.endswith((".weight", ".bias"))
        assert torch.equal(value, before[name]) != trained, name
    ssl.set_params(frozen_batch_norm=False, max_epochs=1).fit(X)
    name = "backbone.conv.1.running_mean"
    assert not torch.equal(ssl.encoder_.state_dict()[name], before[name])


def test_targets_of_several_values():
    targets = np.stack([X.mean((1, 2, 3)), X[:, 0, 0, 0]], 1).astype(float)
    found = tuned(FineTunedRegressor, lr=3e-3).fit(X, targets)
    assert found.predict(X).shape == (60, 2)
    assert found.score(X, targets) > 0.5
    several = MultiOutputRegressor(tuned(FineTunedRegressor, max_epochs=1)).fit(X, targets)
    assert several.predict(X).shape == (60, 2)
    with pytest.raises(ValueError, match="NaN"):
        tuned(FineTunedRegressor).fit(X, np.full(60, np.nan))


def test_class_weights_and_smoothing_move_it():
    plain = tuned(FineTunedClassifier, max_epochs=2).fit(X, y).predict_proba(X)
    heavy = tuned(FineTunedClassifier, max_epochs=2, class_weight={0: 20, 1: 1, 2: 1})
    assert heavy.fit(X, y).predict_proba(X)[:, 0].mean() > plain[:, 0].mean()
    smooth = tuned(FineTunedClassifier, max_epochs=30, label_smoothing=0.5).fit(X, y)
    sharp = tuned(FineTunedClassifier, max_epochs=30).fit(X, y)
    assert smooth.predict_proba(X).max(1).mean() < sharp.predict_proba(X).max(1).mean()


def test_in_cross_validation():
    scores = cross_val_score(tuned(FineTunedClassifier, max_epochs=1), X, y, cv=2)
    assert np.isfinite(scores).all()
    search = GridSearchCV(
        tuned(FineTunedClassifier, max_epochs=1), {"views__flip": [0, 0.5], "lr": [1e-3]}, cv=2
    )
    assert search.fit(X, y).best_estimator_.views.flip in (0, 0.5)


@pytest.mark.parametrize("bad", [3, None, object()])
def test_what_is_no_learner(bad):
    with pytest.raises(TypeError, match="learner"):
        tuned(FineTunedClassifier, bad).fit(X, y)
    with pytest.raises(TypeError, match="learner"):
        SelfSupervisedClassifier(bad).fit(X, y)
