"""What is fitted to features, and to images of which few have labels."""

import copy
import pickle
import warnings

import numpy as np
import pandas as pd
import pytest
import torch
import torch.nn.functional as F
from conftest import TinyNet, WholeNet, make_images, small
from joblib import Parallel, delayed
from PIL import Image
from scipy.special import log_softmax, softmax
from scipy.stats import norm
from skimage.feature import hog
from sklearn import config_context
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.datasets import (
    load_breast_cancer,
    load_diabetes,
    load_digits,
    load_iris,
    load_wine,
    make_classification,
)
from sklearn.decomposition import PCA
from sklearn.frozen import FrozenEstimator
from sklearn.kernel_ridge import KernelRidge
from sklearn.linear_model import LogisticRegression, LogisticRegressionCV, Ridge, RidgeCV
from sklearn.metrics import log_loss, r2_score, roc_auc_score
from sklearn.metrics.pairwise import euclidean_distances
from sklearn.model_selection import (
    GridSearchCV,
    KFold,
    cross_val_score,
    cross_validate,
    train_test_split,
)
from sklearn.multioutput import MultiOutputRegressor
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import (
    FunctionTransformer,
    StandardScaler,
    label_binarize,
    normalize,
)
from sklearn.utils import compute_sample_weight
from sklearn.utils.estimator_checks import parametrize_with_checks

from sklearn_ssl import (
    CPC,
    AttentiveProbe,
    FineTunedClassifier,
    FineTunedRegressor,
    KernelProbe,
    KernelRegressor,
    LinearProbe,
    MoCo,
    NeighborsProbe,
    PatchDictionary,
    SelfSupervisedClassifier,
    SelfSupervisedRegressor,
    SimCLR,
    Views,
    load,
)
from sklearn_ssl._labeled._leave_one_out import leave_one_out
from sklearn_ssl.exceptions import CrossValidationWarning, DivergenceError, LabelWarning
from sklearn_ssl.inspection import ProbeMonitor
from sklearn_ssl.training._loop import layer_of_parameters

STILL = Views(crop_scale=None, flip=0, jitter=None, gray=0, blur=0)
X = make_images(60)
y = np.arange(60) % 3
DIGITS = load_digits()


def tuned(Tuned, learner=None, **params):
    usual = {"max_epochs": 30, "lr": 1e-2, "views": STILL, "random_state": 0}
    if learner is None:
        usual["encoder"] = WholeNet
    return Tuned(learner, **{**usual, **params})


@pytest.mark.filterwarnings("ignore")
@parametrize_with_checks(
    [
        LinearProbe(),
        KernelProbe(),
        NeighborsProbe(n_neighbors=5),
    ]
)
def test_scikit_learn_check(estimator, check):
    check(estimator)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@parametrize_with_checks(
    [
        KernelRegressor(),
        AttentiveProbe(weight_decay=0.01, batch_size=16, max_epochs=20, lr=0.01),
        SelfSupervisedClassifier(small(SimCLR)),
        LinearProbe(C=[0.1, 1.0], cv=2),
        KernelProbe(alpha=0.1, gamma=1.0, class_weight="balanced"),
        SelfSupervisedRegressor(small(SimCLR)),
        tuned(FineTunedClassifier),
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


@pytest.mark.parametrize("cv", [None, 2])
def test_a_path_with_classes_rarer_than_folds(cv):
    features = np.random.default_rng(0).normal(size=(42, 5))
    labels = np.r_[np.arange(40) % 2, 2, 3]
    features[:, 0] += 4 * labels
    with pytest.warns(LabelWarning, match="1 of 4 classes have no label in the training part"):
        probe = LinearProbe(C=[1e-3, 1.0], cv=cv).fit(features, labels)
    assert probe.scores_.shape == (cv or 5, 2)
    assert probe.scores_.min() > 0.7
    assert probe.predict_proba(features).shape == (42, 4)
    few = LinearProbe(C=[1e-3, 1.0], cv=cv).fit(features[:4], labels[:4])  # two labels a class
    assert few.scores_.shape == (2, 2)
    with pytest.warns(LabelWarning, match="none can be held out"):
        one = LinearProbe(C=[1e-3, 1.0, 1e3], cv=cv).fit(features[39:], labels[39:])
    assert one.C_ == 1.0


def test_bad_arguments_of_the_linear_probe():
    features, labels = SETS["iris"]
    for params in ({"C": 0.0}, {"C": [1.0, -1.0]}, {"max_iter": 0}, {"class_weight": "some"}):
        with pytest.raises(ValueError, match=next(iter(params))):
            LinearProbe(**params).fit(features, labels)
    with pytest.warns(UserWarning, match="did not converge"):
        LinearProbe(max_iter=1).fit(features, labels)


def features_of_digits():
    """Six kinds of features, and which rows may be learned from."""
    images = DIGITS.images
    rest, test = train_test_split(np.arange(1797), test_size=449, random_state=0)
    rows = DIGITS.data
    gradients = np.stack([hog(x, pixels_per_cell=(2, 2), cells_per_block=(2, 2)) for x in images])
    views = Views(flip=0, crop_scale=(0.3, 1.0))
    transformers = {
        "random encoder": SimCLR(max_epochs=0, random_state=0),
        "SimCLR": SimCLR(views=views, max_epochs=4, random_state=0),
        "dictionary": PatchDictionary(n_atoms=200, random_state=0),
    }
    features = {"pixels": rows, "PCA": PCA(30).fit(rows[rest]).transform(rows), "HOG": gradients}
    features |= {name: t.fit(images[rest]).transform(images) for name, t in transformers.items()}
    return features, rest, test


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_the_usual_probe_is_nearly_as_good_as_the_best_fixed_one_for_all_features():
    features, rest, test = features_of_digits()
    y = DIGITS.target
    for name, values in features.items():
        values = values.astype(np.float64)
        off = values - values[rest].mean(0)
        variance = off[rest].var(0)
        deviation = np.sqrt(variance + 0.01 * variance.mean())
        scaled = [off / np.sqrt(variance.sum())]
        scaled.append(off / deviation / np.sqrt((variance / deviation**2).sum()))
        for n, n_draws in ((10, 10), (50, 10), (250, 2), (1000, 1)):
            found, probed = {}, []
            for seed in range(n_draws):
                order = np.random.default_rng(seed).permutation(rest)
                _, first = np.unique(y[order], return_index=True)
                some = np.concatenate([order[first], np.delete(order, first)])[:n]
                probe = LinearProbe().fit(values[some], y[some], X_unlabeled=values[rest])
                probed.append(probe.score(values[test], y[test]))
                for i, each in enumerate(scaled):
                    known, others = in_span(each[some], each[test])
                    for C in (1, 1e2, 1e4):
                        model = LogisticRegression(C=C, max_iter=200).fit(known, y[some])
                        found.setdefault((i, C), []).append(model.score(others, y[test]))
            best = max(np.mean(scores) for scores in found.values())
            assert np.mean(probed) > best - 0.03, (name, n)


def in_span(known, others):
    """The same inner products in fewer dimensions, where regression is quicker."""
    values, vectors = np.linalg.eigh(known @ known.T)
    there = values > 1e-12 * values[-1]
    values, vectors = values[there], vectors[:, there]
    return vectors * np.sqrt(values), others @ known.T @ (vectors / np.sqrt(values))


def test_more_features_than_samples_give_the_same_solution():
    features, labels = DIGITS.data[:40], DIGITS.target[:40]
    probe = LinearProbe(C=0.1, tol=1e-9, max_iter=10_000).fit(features, labels)
    known = LogisticRegression(C=0.1, tol=1e-9, max_iter=10_000).fit(features, labels)
    np.testing.assert_allclose(probe.coef_, known.coef_, atol=1e-3 * np.abs(known.coef_).max())
    np.testing.assert_allclose(
        probe.decision_function(DIGITS.data), known.decision_function(DIGITS.data), atol=1e-2
    )


@pytest.mark.parametrize("standardize", [True, "auto"])
def test_the_usual_probe_does_not_depend_on_scale_and_place(standardize):
    features, labels = DIGITS.data[:200], DIGITS.target[:200]
    probe = LinearProbe(standardize=standardize).fit(features, labels)
    moved = LinearProbe(standardize=standardize).fit(1e6 * features + 1e7, labels)
    assert probe.standardized_ == moved.standardized_
    assert pytest.approx(probe.C_ * (1.0 if probe.standardized_ else 1e-12)) == moved.C_
    rest = DIGITS.data[200:]
    agree = probe.predict(rest) == moved.predict(1e6 * rest + 1e7)
    assert agree.mean() > 0.99


def test_with_one_label_a_class_nothing_depends_on_the_number_of_features():
    order = np.random.default_rng(0).permutation(1797)
    _, first = np.unique(DIGITS.target[order], return_index=True)
    features, labels = DIGITS.data[order[first]], DIGITS.target[order[first]]
    options = {"X_unlabeled": DIGITS.data}
    probe = LinearProbe().fit(features, labels, **options)
    variance = np.concatenate([features, DIGITS.data]).var(0).sum()
    assert pytest.approx(1 / variance) == probe.C_
    assert not probe.standardized_
    thrice = LinearProbe().fit(np.tile(features, 3), labels, X_unlabeled=np.tile(DIGITS.data, 3))
    np.testing.assert_allclose(
        thrice.predict_proba(np.tile(DIGITS.data, 3)), probe.predict_proba(DIGITS.data), atol=1e-3
    )


def test_features_that_do_not_vary_give_how_frequent_classes_are():
    labels = np.arange(20) % 4 // 3  # 15 and 5
    for width in (5, 50):
        probe = LinearProbe().fit(np.full((20, width), 0.5), labels)
        np.testing.assert_allclose(
            probe.predict_proba(np.ones((1, width))), [[0.75, 0.25]], atol=0.01
        )


def test_labels_of_no_weight_are_refused():
    with pytest.raises(ValueError, match="sample_weight must be finite, and not 0"):
        LinearProbe().fit(DIGITS.data[:3], [0, 1, -1], sample_weight=[0, 0, 1])


def test_one_label_a_class_needs_no_cross_validation():
    features, labels = DIGITS.data[:10], DIGITS.target[:10]
    usual = LinearProbe().fit(features, labels)
    np.testing.assert_array_equal(LinearProbe(cv=2).fit(features, labels).coef_, usual.coef_)


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


@pytest.mark.parametrize("intercept", [True, False])
@pytest.mark.parametrize("weighted", [True, False])
def test_leaving_one_out_is_fitting_without_it(weighted, intercept):
    rng = np.random.default_rng(0)
    features, targets = rng.normal(size=(12, 4)) + 3, rng.normal(size=(12, 2))
    weights = rng.uniform(0.5, 2, 12) if weighted else np.ones(12)
    vectors, values, _ = np.linalg.svd(weights[:, None] ** 0.5 * features, full_matrices=False)
    found = leave_one_out(
        *map(torch.from_numpy, (values**2, vectors, targets)), [0.1, 2.0],
        weights=torch.from_numpy(weights) if weighted else None, intercept=intercept,
    )  # fmt: skip
    for alpha, predicted in zip([0.1, 2.0], found.numpy(), strict=True):
        for i in range(12):
            others = np.arange(12) != i
            ridge = Ridge(alpha=alpha, fit_intercept=intercept)
            ridge.fit(features[others], targets[others], weights[others])
            np.testing.assert_allclose(predicted[i], ridge.predict(features[[i]])[0])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_kernel_probe_is_the_kernel_ridge_regression_of_scikit_learn(monkeypatch, dtype):
    import sklearn_ssl.probes._kernel

    monkeypatch.setattr(sklearn_ssl.probes._kernel, "_PAIRS_AT_ONCE", 5000)
    features, labels = DIGITS.data.astype(dtype), DIGITS.target
    weights = np.random.default_rng(0).uniform(0.5, 2, 1000)
    probe = KernelProbe(alpha=0.1, gamma=2.0).fit(features[:1000], labels[:1000], weights)
    distances = euclidean_distances(features[:1000].astype(float), squared=True)
    pairs = np.outer(weights, weights) * (1 - np.eye(1000))
    known = KernelRidge(alpha=0.1, kernel="rbf", gamma=2.0 / np.average(distances, weights=pairs))
    signs = label_binarize(labels[:1000], classes=range(10)) * 2 - 1
    known.fit(features[:1000].astype(float), signs, weights)
    expected = known.predict(features[1000:].astype(float))
    tolerance = 1e-4 if dtype == np.float32 else 1e-10
    np.testing.assert_allclose(probe.decision_function(features[1000:]), expected, atol=tolerance)
    assert (probe.predict(features[1000:]) == expected.argmax(1)).mean() > 0.999


@pytest.mark.parametrize(("offset", "unit"), [(100, 1), (0, 1e20), (0, 1e37), (0, 1e-20), (1e4, 1)])
def test_offset_and_unit_of_features_do_not_matter_to_a_kernel_probe(offset, unit):
    rng = np.random.default_rng(0)
    features = rng.normal(size=(300, 16)).astype(np.float32)
    labels = (features[:, 0] * features[:, 1] > 0).astype(int)
    other = (features + np.float32(offset)) * np.float32(unit)
    expected = KernelProbe().fit(features[:200], labels[:200]).decision_function(features[200:])
    found = KernelProbe().fit(other[:200], labels[:200]).decision_function(other[200:])
    np.testing.assert_allclose(found, expected, atol=1e-2 if offset == 1e4 else 1e-3)


def test_alpha_and_gamma_are_those_of_the_best_predictions_with_one_left_out():
    features, labels = DIGITS.data[:60], DIGITS.target[:60] % 3
    probe = KernelProbe().fit(features, labels)
    wanted = (60 * np.eye(3)[labels] + 1 / 3) / 61  # one sample more, of all classes
    errors = {}
    for alpha, gamma in [(probe.alpha_, probe.gamma_), (0.03, 0.5), (10.0, 4.0), (1e-4, 0.125)]:
        scores = np.stack(
            [
                KernelProbe(alpha=alpha, gamma=gamma * _change_of_scale(features, i))
                .fit(np.delete(features, i, 0), np.delete(labels, i))
                .decision_function(features[[i]])[0]
                for i in range(60)
            ]
        )
        own = scores[np.arange(60), labels]
        scores_of_others = np.where(np.eye(3)[labels] == 1, -np.inf, scores)
        margins = own - scores_of_others.max(1)
        errors[alpha, gamma] = norm.cdf(-margins / (margins.std() / 4)).mean()
        if (alpha, gamma) == (probe.alpha_, probe.gamma_):
            _, temperature = min(
                (-(wanted * log_softmax(scores / t, axis=1)).sum(), t)
                for t in np.geomspace(0.02, 2, 200)
            )
            assert probe.temperature_ == pytest.approx(temperature, rel=0.05)
    assert min(errors, key=errors.get) == (probe.alpha_, probe.gamma_)
    assert KernelProbe(gamma=1.0).fit(features, labels).gamma_ == 1.0


def _change_of_scale(features, i):
    """Mean squared distance without a sample to that with it."""
    return np.delete(features, i, 0).var(0, ddof=1).sum() / features.var(0, ddof=1).sum()


def test_a_kernel_probe_chooses_well_for_labels_that_are_wrong():
    rng = np.random.default_rng(0)
    wrong = np.where(rng.random(400) < 0.3, rng.integers(0, 10, 400), DIGITS.target[:400])
    test = DIGITS.data[1000:], DIGITS.target[1000:]
    fixed, chosen = (
        KernelProbe(**params).fit(DIGITS.data[:400], wrong).score(*test)
        for params in ({"alpha": 0.03, "gamma": 0.5}, {})
    )
    assert chosen > fixed + 0.05


@pytest.mark.parametrize("n", [50, 250])
def test_probabilities_of_a_kernel_probe_are_calibrated(n):
    test = DIGITS.data[1000:], DIGITS.target[1000:]
    probe = KernelProbe().fit(DIGITS.data[:n], DIGITS.target[:n])
    logistic = make_pipeline(StandardScaler(), LogisticRegression(C=0.1))
    logistic.fit(DIGITS.data[:n], DIGITS.target[:n])
    found = probe.predict_proba(test[0])
    np.testing.assert_allclose(found.sum(1), 1)
    assert log_loss(test[1], found) < log_loss(test[1], logistic.predict_proba(test[0]))
    assert abs(found.max(1).mean() - probe.score(*test)) < 0.15


def test_one_label_a_class_leaves_nothing_to_choose_by():
    features, labels = DIGITS.data[:10], DIGITS.target[:10]
    assert len(np.unique(labels)) == 10
    probe = KernelProbe().fit(features, labels)
    assert (probe.alpha_, probe.gamma_, probe.temperature_) == (0.03, 0.5, 0.3)
    assert KernelProbe(alpha=0.1).fit(features, labels).alpha_ == 0.1


def test_many_samples_choose_by_some_of_each_class(monkeypatch):
    import sklearn_ssl.probes._kernel

    monkeypatch.setattr(sklearn_ssl.probes._kernel, "_CHOOSE_BY", 200)
    order = np.argsort(DIGITS.target[:1000], kind="stable")  # sorted by class
    probe = KernelProbe().fit(DIGITS.data[order], DIGITS.target[order])
    test = DIGITS.data[1000:], DIGITS.target[1000:]
    assert probe.score(*test) > 0.96
    assert log_loss(test[1], probe.predict_proba(test[0])) < 0.2


def test_copies_of_a_sample_do_not_tell_its_label():
    rng = np.random.default_rng(0)
    features, labels = rng.normal(size=(40, 5)), rng.integers(0, 2, 40)  # nothing to learn
    once = KernelProbe().fit(features, labels, np.full(40, 2.0))
    twice = KernelProbe().fit(np.tile(features, (2, 1)), np.tile(labels, 2))
    assert twice.alpha_ == once.alpha_ > 1e-4
    np.testing.assert_allclose(twice.decision_function(features), once.decision_function(features))


def test_a_linear_probe_chooses_by_some_of_many_samples(monkeypatch):
    """And by all of a class that is rare."""
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(3000, 8)), np.zeros(3000, int)
    y[:6] = 1
    X[:6, 0] += 6
    everything = LinearProbe().fit(X, y)
    monkeypatch.setattr("sklearn_ssl.probes._linear._CHOSEN_BY", 500)
    seen = []
    choose = LinearProbe._choose

    def watched(self, candidates, y):
        seen.append(y)
        return choose(self, candidates, y)

    monkeypatch.setattr(LinearProbe, "_choose", watched)
    some = LinearProbe().fit(X, y)
    assert [(len(each), each.sum()) for each in seen] == [(500, 6)]
    assert roc_auc_score(y, some.decision_function(X)) > 0.99
    assert roc_auc_score(y, everything.decision_function(X)) > 0.99
    LinearProbe(cv=2).fit(X, y)
    assert len(seen[1]) == 3000


@pytest.mark.parametrize("n_features", [5, 120])
def test_samples_of_weight_0_do_not_matter(n_features):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(61, n_features))
    X[:20, 0] += 2
    X[60] *= 1e6
    y, weights = (np.arange(61) < 20).astype(int), np.ones(61)
    weights[60] = 0
    probe, same = LinearProbe().fit(X, y, weights), LinearProbe().fit(X[:60], y[:60])
    np.testing.assert_array_equal(probe.coef_, same.coef_)


def test_linear_probes_in_threads_give_the_same_bits():
    def fitted(C):
        return LinearProbe(C=C).fit(DIGITS.data[:200], DIGITS.target[:200]).coef_

    strengths = (1e-3, 1.0, 1e-2, 1e-1)
    together = Parallel(2, prefer="threads")(delayed(fitted)(C) for C in strengths)
    for C, coef in zip(strengths, together, strict=True):
        np.testing.assert_array_equal(coef, fitted(C))


@pytest.mark.parametrize("most", [4096, 600])
def test_a_kernel_probe_of_many_samples_chooses_alpha_for_all_of_them(most, monkeypatch):
    from sklearn_ssl.probes import _kernel

    errors, solved = {}, _kernel._solved

    def watched(kernel, wanted, root, alpha, some, intercept):
        found = solved(kernel, wanted, root, alpha, some, intercept)
        assert len(some) == 200
        if len(kernel) > most:  # the solution that is kept
            return found
        assert len(kernel) == min(most, 1000)
        is_wrong = found.left_out.argmax(1) != wanted[some].numpy().argmax(1)
        errors[round(float(np.log10(alpha)), 3)] = is_wrong.mean()
        return found

    monkeypatch.setattr(_kernel, "_CHOOSE_BY", 200)
    monkeypatch.setattr(_kernel, "_ADJUST_BY", most)
    monkeypatch.setattr(_kernel, "_solved", watched)
    probe = KernelProbe().fit(DIGITS.data[:1000], DIGITS.target[:1000])
    taken = round(float(np.log10(probe.alpha_)), 3)
    assert {taken - 0.5, taken + 0.5} & errors.keys()  # it stopped where more was worse
    assert errors[taken] <= min(errors.values()) + 0.02
    assert probe.score(DIGITS.data[1000:], DIGITS.target[1000:]) > 0.95


@pytest.mark.parametrize(
    ("Probe", "alpha"),
    [(KernelProbe, "auto"), (KernelProbe, 1e-5), (KernelRegressor, 0.03)],
)
def test_single_precision_gives_the_same_predictions(Probe, alpha, monkeypatch):
    """With weights, and refined; a small penalty needs double precision all the same."""
    X, y = load_digits(return_X_y=True)
    X, weights = X.astype(np.float32), np.random.default_rng(0).uniform(0.5, 2, 1797)
    monkeypatch.setattr("sklearn_ssl.probes._kernel._CHOOSE_BY", 200)
    found = []
    for most in (2048, 100):
        monkeypatch.setattr("sklearn_ssl.probes._kernel._MOST_IN_DOUBLE", most)
        probe = Probe(alpha=alpha).fit(X[:1000], y[:1000], sample_weight=weights[:1000])
        found.append(probe._predicted(X[1000:]))
    np.testing.assert_allclose(found[1], found[0], atol=2e-4)


def test_solutions_in_single_precision_are_refined(monkeypatch):
    from sklearn_ssl.probes import _kernel

    monkeypatch.setattr(_kernel, "_MOST_IN_DOUBLE", 100)
    samples = torch.randn(300, 5, generator=torch.Generator().manual_seed(0))
    root, wanted = torch.ones(300, 1).double(), samples[:, :2].sign().double()
    kernel = _kernel._kernel_of_samples(samples, 0.1, root)
    assert kernel.dtype == torch.float32
    found = _kernel._solved(kernel, wanted, root, 0.01, np.arange(3), intercept=False)
    dual, _ = found.refined(kernel, wanted, root)
    rest = kernel.double() @ dual + 0.01 * dual - wanted
    assert rest.norm() < 1e-9 * wanted.norm()


@pytest.mark.parametrize("Probe", [KernelProbe, KernelRegressor])
def test_a_kernel_machine_does_not_depend_on_the_unit_of_weights(Probe):
    features, labels = DIGITS.data[:200], DIGITS.target[:200]
    weights = np.random.default_rng(0).uniform(0.5, 2.0, len(features))
    targets = labels if Probe is KernelProbe else labels.astype(float)
    once, more = (Probe().fit(features, targets, unit * weights) for unit in (1, 1e6))
    assert more.alpha_ == pytest.approx(1e6 * once.alpha_)
    np.testing.assert_allclose(more.dual_coef_, once.dual_coef_, rtol=1e-3, atol=1e-6)


def test_class_weights_are_sample_weights():
    features, labels = make_classification(
        300, 5, n_informative=3, n_redundant=0, weights=[0.9], flip_y=0.1, random_state=0
    )
    probe = KernelProbe(class_weight="balanced").fit(features, labels)
    same = KernelProbe().fit(features, labels, compute_sample_weight("balanced", labels))
    np.testing.assert_allclose(probe.predict_proba(features), same.predict_proba(features))
    plain = KernelProbe().fit(features, labels)
    assert probe.predict(features).sum() > plain.predict(features).sum()  # more of the rare class


def test_a_kernel_probe_of_several_labels():
    features = DIGITS.data
    labels = np.stack([DIGITS.target % 2, DIGITS.target > 4, DIGITS.target == 3], 1).astype(int)
    probe = KernelProbe().fit(features[:600], labels[:600])
    found = probe.predict_proba(features[600:])
    np.testing.assert_array_equal(probe.predict(features[600:]), found > 0.5)
    assert probe.score(features[600:], labels[600:]) > 0.9
    assert roc_auc_score(labels[600:], found) > 0.99
    assert log_loss(labels[600:, 2], found[:, 2]) < 0.1
    with pytest.raises(ValueError, match="class_weight"):
        KernelProbe(class_weight="balanced").fit(features, labels)


@pytest.mark.parametrize("scoring", ["roc_auc_ovr", "neg_log_loss", "roc_auc_ovr_weighted"])
def test_a_kernel_probe_is_scored_as_other_classifiers(scoring):
    features, labels = DIGITS.data[:300], DIGITS.target[:300]
    scores = cross_val_score(KernelProbe(), features, labels, scoring=scoring, cv=3)
    known = cross_val_score(KNeighborsClassifier(), features, labels, scoring=scoring, cv=3)
    assert (scores >= known - 0.03).all()
    halves = cross_val_score(KernelProbe(), features, labels > 4, scoring="roc_auc", cv=3)
    assert (halves > 0.95).all()


def test_a_kernel_regressor():
    features, target = load_diabetes(return_X_y=True)
    one = KernelRegressor().fit(features[:300], target[:300])
    known = RidgeCV(np.geomspace(1e-3, 10, 9)).fit(features[:300], target[:300])
    score = known.score(features[300:], target[300:])
    assert one.score(features[300:], target[300:]) > score - 0.02
    two = KernelRegressor().fit(features[:300], np.stack([target, 1000 - 5 * target], 1)[:300])
    found = two.predict(features)
    np.testing.assert_allclose(found[:, 0], one.predict(features))
    np.testing.assert_allclose(found[:, 1], 1000 - 5 * found[:, 0])
    np.testing.assert_allclose(KernelRegressor().fit(features, target * 0 + 3).predict(features), 3)


def test_a_failed_fit_leaves_a_kernel_probe_as_it_was():
    features, labels = SETS["iris"]
    probe = KernelProbe().fit(features, labels)
    before = probe.predict(features)
    with pytest.raises(ValueError, match="one class"):
        probe.fit(features[:40, :2], labels[:40])
    with pytest.raises(ValueError, match="alpha=1e-300 is too small"):
        probe.set_params(alpha=1e-300, gamma=1e-9).fit(features[:, :2], labels)
    np.testing.assert_array_equal(probe.predict(features), before)


# Few labels


def test_what_has_no_label_is_pretrained_on_and_ignored():
    few = np.where(np.arange(60) < 20, y, -1)
    found = SelfSupervisedClassifier(small(SimCLR)).fit(X, few)
    ssl = small(SimCLR).fit(X)
    head = LinearProbe().fit(ssl.transform(X[:20]), y[:20], X_unlabeled=ssl.transform(X[20:]))
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
    with pytest.raises(ValueError, match="y has no label"):
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


@pytest.mark.parametrize("n_more", [60, 61])
def test_unlabeled_images_that_a_cross_validation_cuts(n_more):
    with config_context(enable_metadata_routing=True):
        learner = small(SimCLR, max_epochs=0).set_fit_request(X_unlabeled=True)
        pipe = make_pipeline(learner, LogisticRegression())
        more = {"X_unlabeled": make_images(n_more, seed=5)}
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            cross_validate(pipe, X, y, cv=2, params=more)
            pipe.fit(X, y, **more)  # that is whole
    found = [str(w.message) for w in caught if w.category is CrossValidationWarning]
    assert len(found) == (2 if n_more == len(X) else 0)
    assert all("both have 30 images" in message for message in found)


def test_fine_tuning_in_a_cross_validation_starts_from_a_fitted_learner():
    ssl = small(SimCLR, max_epochs=0).fit(X)
    for learner, n_warnings in ((ssl, 2), (FrozenEstimator(ssl), 0)):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            cross_validate(tuned(FineTunedClassifier, learner, max_epochs=1), X, y, cv=2)
        found = [str(w.message) for w in caught if w.category is CrossValidationWarning]
        assert len(found) == n_warnings
        assert all("give FrozenEstimator(learner)" in message for message in found)


@pytest.mark.slow
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
    with pytest.warns(LabelWarning, match="two classes"):
        found = SelfSupervisedClassifier(small(SimCLR)).fit(X, labels)
    assert found.n_labeled_ == 60
    assert found.score(X, labels) == (found.predict(X) == labels).mean()


# All that takes labels

WITH_LABELS = {
    "linear": LinearProbe(),
    "kernel": KernelProbe(),
    "neighbors": NeighborsProbe(5),
    "attentive": AttentiveProbe(max_epochs=2),
    "few": SelfSupervisedClassifier(small(SimCLR)),
    "fine-tuned": tuned(FineTunedClassifier, max_epochs=2),
}
WITH_TARGETS = {
    "few": SelfSupervisedRegressor(small(SimCLR)),
    "fine-tuned": tuned(FineTunedRegressor, max_epochs=2),
}
ROWS = X.reshape(60, -1)


MARKS_OF_NO_LABEL = {
    "-1": lambda y, has: np.where(has, y, -1),
    "None": lambda y, has: [one if there else None for one, there in zip(y, has, strict=True)],
    "NaN": lambda y, has: np.where(has, y, np.nan),
    "text": lambda y, has: np.where(has, np.array(["a", "b", "c"])[y], "-1"),
    "category": lambda y, has: pd.Series(np.array(["a", "b", "c"])[y], dtype="category").where(has),
    "nullable": lambda y, has: pd.Series(y, dtype="Int64").where(has),
}


@pytest.mark.parametrize(
    ("name", "hide"),
    [
        pytest.param(
            name, hide, id=f"{name}-{mark}",
            marks=() if name == "neighbors" or mark in ("-1", "text") else pytest.mark.slow,
        )
        for name in WITH_LABELS
        for mark, hide in MARKS_OF_NO_LABEL.items()
    ],
)  # fmt: skip
def test_what_has_no_label_is_left_out(name, hide):
    has = np.arange(60) % 4 > 0
    labels = hide(y, has)
    found = clone(WITH_LABELS[name]).fit(ROWS, labels)
    assert len(found.classes_) == 3
    known = clone(WITH_LABELS[name]).set_params(
        **({"learner": FrozenEstimator(small(SimCLR).fit(ROWS))} if name == "few" else {})
    )
    known.fit(ROWS[has], np.asarray(labels)[has].tolist())
    np.testing.assert_array_equal(found.predict(ROWS), known.predict(ROWS))
    expected = known.score(ROWS[has], np.asarray(labels)[has].tolist())
    assert found.score(ROWS, labels) == expected
    weights = np.arange(60.0)
    of_weights = known.score(ROWS[has], np.asarray(labels)[has].tolist(), weights[has])
    assert found.score(ROWS, labels, weights) == of_weights


@pytest.mark.parametrize("name", WITH_TARGETS)
def test_what_has_no_target_is_left_out(name):
    target = X.mean((1, 2, 3)).astype(float) - X.mean()
    has = np.arange(60) % 4 > 0
    few = [value if there else None for value, there in zip(target, has, strict=True)]
    few[1] = -1.0
    found = clone(WITH_TARGETS[name]).fit(X, few)
    assert found.n_labeled_ == has.sum()
    assert found.score(X, few) == found.score(X[has], [value for value in few if value is not None])


@pytest.mark.parametrize("n", [40, 80])
@pytest.mark.parametrize("estimator", [*WITH_LABELS.values(), *WITH_TARGETS.values()])
def test_labels_and_images_have_the_same_number(estimator, n, monkeypatch):
    labels = np.where(np.arange(n) % 4, np.arange(n) % 3, np.nan)
    fitted = clone(estimator).fit(ROWS, y)
    monkeypatch.setattr(SimCLR, "_fit", lambda *_, **__: pytest.fail("was trained"))
    for fit in (clone(estimator).fit, fitted.score):
        with pytest.raises(ValueError, match=f"60 rows, but y has {n}"):
            fit(ROWS, labels)


def test_labels_and_images_in_a_folder_have_the_same_number(tmp_path):
    for i, image in enumerate(X[:20]):
        Image.fromarray(image).save(tmp_path / f"{i:02}.png")
    for estimator in (
        SelfSupervisedClassifier(small(SimCLR)),
        tuned(FineTunedClassifier, small(SimCLR)),
    ):
        with pytest.raises(ValueError, match="20 rows, but y has 60"):
            estimator.fit(str(tmp_path), y)
    monitor = ProbeMonitor(X[:20], y)
    with pytest.raises(ValueError, match="20 rows, but y has 60"):
        small(SimCLR, callbacks=[monitor]).fit(X)


def test_a_monitor_leaves_out_what_has_no_label():
    has = np.arange(60) % 4 > 0
    callbacks = [
        ProbeMonitor(X, np.where(has, y, -1)),
        ProbeMonitor(X[has], y[has], name="known"),
    ]
    row = small(SimCLR, callbacks=callbacks).fit(X).history_[0]
    assert row["probe"] == row["known"]


def test_several_targets_with_few_of_them():
    targets = np.stack([X.mean((1, 2, 3)), X[:, 0, 0, 0]], 1).astype(float)
    few = np.where(np.arange(60)[:, None] < [30, 40], targets, np.nan)
    found = SelfSupervisedRegressor(small(SimCLR)).fit(X, few)
    assert found.n_labeled_ == 30
    assert found.predict(X).shape == (60, 2)
    assert found.score(X, few) == r2_score(targets[:30], found.predict(X[:30]))
    one = SelfSupervisedRegressor(small(SimCLR), RidgeCV()).fit(X, few[:, 0])
    assert one.predict(X).shape == (60,)


def test_several_labels_with_few_of_them():
    labels = np.stack([y == 0, y < 2, X.mean((1, 2, 3)) > X.mean()], 1).astype(int)
    few = np.where(np.arange(60)[:, None] < 40, labels, -1)
    found = SelfSupervisedClassifier(small(SimCLR)).fit(X, few)
    assert found.n_labeled_ == 40
    assert found.predict(X).shape == found.predict_proba(X).shape == (60, 3)
    assert found.score(X, few) == (found.predict(X[:40]) == labels[:40]).all(1).mean()
    assert found.score(X, few) > 0.2
    fine = tuned(FineTunedClassifier, early_stopping=True, max_epochs=60).fit(X, few)
    assert fine.n_labeled_ == 40
    assert fine.predict(X).shape == fine.predict_proba(X).shape == (60, 3)
    np.testing.assert_array_equal(fine.predict(X), fine.decision_function(X) > 0)
    assert fine.score(X, few) > 0.3
    with pytest.raises(ValueError, match="class_weight"):
        tuned(FineTunedClassifier, class_weight="balanced").fit(X, few)
    neighbors = SelfSupervisedClassifier(small(SimCLR), KNeighborsClassifier(3)).fit(X, few)
    assert neighbors.predict(X).shape == (60, 3)


def test_labels_of_one_class_are_refused_before_anything_is_trained(monkeypatch):
    monkeypatch.setattr(SimCLR, "_fit", lambda *_, **__: pytest.fail("was trained"))
    for estimator in (SelfSupervisedClassifier, FineTunedClassifier):
        with pytest.raises(ValueError, match="one class"):
            estimator(small(SimCLR)).fit(X, np.where(y == 0, 0, -1))


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
    one = tuned(FineTunedClassifier, encoder="small_resnet", lr=5e-3, max_epochs=12)
    one.fit(images[:400], labels[:400])
    assert one.score(images[400:], labels[400:]) > 0.8
    short = [clone(one).set_params(max_epochs=1).fit(images[:99], labels[:99]) for _ in range(2)]
    np.testing.assert_array_equal(*(each.predict_proba(images) for each in short))
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
    with pytest.warns(LabelWarning, match="holds out only 6 images, of . of 10 classes"):
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
    with pytest.raises(ValueError, match="10 images of 10 classes are too few"):
        tuned(FineTunedClassifier, early_stopping=True).fit(X[:10], targets[:10])
    with pytest.raises(ValueError, match="2 images are too few"):
        tuned(FineTunedRegressor, early_stopping=True).fit(X[:2], [0.0, 1.0])


def test_a_failed_fine_tuning_leaves_everything_as_it_was():
    state = np.random.RandomState(3)
    found = tuned(FineTunedClassifier, max_epochs=1, early_stopping=True, random_state=state)
    found.fit(X, y)
    before, drawn = found.predict_proba(X), state.get_state()[1].copy()
    with pytest.raises(DivergenceError):
        found.set_params(lr=1e39).fit(X, y)
    np.testing.assert_array_equal(found.predict_proba(X), before)
    np.testing.assert_array_equal(state.get_state()[1], drawn)


def test_images_are_predicted_at_the_size_of_the_views_that_were_trained_on():
    views = Views(size=8, crop_scale=None, flip=0, jitter=None, gray=0, blur=0)
    images = make_images(30, 24, 24)
    classifier = tuned(FineTunedClassifier, encoder=TinyNet, views=views, max_epochs=1)
    classifier.fit(images, np.arange(30) % 3)
    task = classifier.learner_.net_.module_.task
    pixels = torch.from_numpy(images).permute(0, 3, 1, 2)
    small_ones = F.interpolate(pixels / 255, (8, 8), mode="bilinear", antialias=True)
    with torch.no_grad():
        known = task.eval().outputs(small_ones).softmax(1).numpy()
    np.testing.assert_allclose(classifier.predict_proba(images), known, atol=0.02)
    np.testing.assert_allclose(classifier.to_torch()(pixels).numpy(), known, atol=0.02)


def test_outputs_are_averaged_over_mirror_images():
    once = tuned(FineTunedClassifier, small(SimCLR, precision="float32"), max_epochs=2).fit(X, y)
    both = copy.copy(once).set_params(mirror=True)
    turned = np.ascontiguousarray(X[:, :, ::-1])
    shares = both.predict_proba(X)
    np.testing.assert_allclose(both.predict_proba(turned), shares, atol=1e-5)
    logs = [np.log(once.predict_proba(images)) for images in (X, turned)]
    np.testing.assert_allclose(softmax((logs[0] + logs[1]) / 2, axis=1), shares, atol=1e-4)
    module = both.to_torch()(torch.from_numpy(X).permute(0, 3, 1, 2))
    np.testing.assert_allclose(module.numpy(), shares, atol=1e-3)


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
    with pytest.raises(ValueError, match="y has no label"):
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


@pytest.mark.parametrize("bad", [3, "resnet18", object()])
def test_what_is_no_learner(bad):
    with pytest.raises(TypeError, match="learner"):
        tuned(FineTunedClassifier, bad).fit(X, y)
    with pytest.raises(TypeError, match="learner"):
        SelfSupervisedClassifier(bad).fit(X, y)


@pytest.mark.parametrize(
    ("views", "size"),
    [
        (None, (40, 36)),
        (Views(flip=0), (40, 36)),
        (Views(size=20), (20, 20)),
        ("flip", (40, 36)),
    ],
)
def test_fine_tuning_sees_whole_images(views, size, tmp_path):
    images, labels = make_images(8, 40, 36), [0, 1] * 4
    found = FineTunedClassifier(max_epochs=1, random_state=0)
    found.set_params(**({"views__flip": 0.0} if views == "flip" else {"views": views}))
    found.fit(images, labels)
    found.save(tmp_path / "file")
    for each in (found, load(tmp_path / "file")):
        task = each.learner_.net_.module_.task
        assert task.size == size
        assert task.views(torch.zeros(2, 3, 40, 36)).shape[2:] == size


def test_fine_tuning_takes_the_size_of_the_learner_that_it_starts_from():
    """Images of several sizes are read at it, as the learner read them."""
    images = [make_images(1, 12 + i, 12)[0] for i in range(8)]
    ssl = small(SimCLR, image_shape=(12, 12)).fit(images)
    tuned = FineTunedClassifier(ssl, max_epochs=1, random_state=0).fit(images, [0, 1] * 4)
    assert tuned.learner_.image_shape_ == (12, 12, 3)


def test_fine_tuning_starts_from_a_learner_or_from_a_network():
    images, labels = make_images(8), [0, 1] * 4
    with pytest.raises(TypeError, match=r"learner='resnet18' is not a pretext learner.*encoder="):
        FineTunedClassifier("resnet18").fit(images, labels)
    with pytest.raises(ValueError, match=r"brings its own encoder.*give one of them"):
        FineTunedClassifier(small(SimCLR), encoder="resnet18").fit(images, labels)
