"""Classes of pixels from scribbles, and maps of anomalies."""

import copy

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from conftest import small
from PIL import Image
from sklearn.base import clone
from sklearn.ensemble import RandomForestClassifier
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.svm import LinearSVC

import sklearn_ssl
from sklearn_ssl import DenseClassifier, PatchCore, PatchDictionary, SimCLR
from sklearn_ssl.dense._dense_classifier import _drawn
from sklearn_ssl.dense._patch_core import core_set
from sklearn_ssl.exceptions import ImageReadWarning

SIDE = 16


def stripes(n, seed=0):
    """Images of two textures, with a border anywhere, and the classes of their pixels."""
    rng = np.random.default_rng(seed)
    across = np.tile([[0], [255]], (SIDE // 2, SIDE))
    images = rng.integers(0, 40, (n, SIDE, SIDE, 3))
    masks = np.zeros((n, SIDE, SIDE), int)
    for image, mask in zip(images, masks, strict=True):
        border = rng.integers(5, 12)
        mask[:, border:] = 1
        image += 3 * np.where(mask, across, across.T)[..., None] // 4
    return images.astype(np.uint8), masks


def scribbles(masks, n, seed=0):
    """A few pixels of the first images."""
    rng = np.random.default_rng(seed)
    kept = rng.random(masks.shape) < 0.1
    kept[n:] = False
    return np.where(kept, masks, -1)


@pytest.fixture(scope="module")
def scenes():
    return stripes(24)


@pytest.fixture(scope="module")
def learner(scenes):
    return small(SimCLR, layer=["conv", "out"], precision="float32").fit(scenes[0])


# Maps


@pytest.mark.parametrize("mirror", [False, True])
def test_feature_maps_are_those_of_the_layers(scenes, learner, mirror):
    X, encoder = scenes[0][:5], learner.encoder_
    found = clone_with(learner, mirror=mirror).feature_maps(X)
    images = torch.from_numpy(X).permute(0, 3, 1, 2) / 255
    with torch.no_grad():
        expected = encoder.maps(images, "conv", "out")
        if mirror:
            turned = encoder.maps(images.flip(3), "conv", "out")
            expected = [(a + b.flip(3)) / 2 for a, b in zip(expected, turned, strict=True)]
    rows, columns = expected[0].shape[2:]
    assert found.shape == (5, rows, columns, sum(m.shape[1] for m in expected))
    assert found.dtype == np.float32
    depth = expected[0].shape[1]
    torch.testing.assert_close(
        torch.from_numpy(found[..., :depth]).permute(0, 3, 1, 2), expected[0], atol=1e-4, rtol=1e-3
    )
    enlarged = F.interpolate(expected[1], (rows, columns), mode="bilinear")
    torch.testing.assert_close(
        torch.from_numpy(found[..., depth:]).permute(0, 3, 1, 2), enlarged, atol=1e-4, rtol=1e-3
    )


def clone_with(learner, **params):
    return copy.copy(learner).set_params(**params)


def test_a_map_is_what_pool_none_flattens(scenes, learner):
    one = clone_with(learner, layer="out", pool=None)
    flat = one.transform(scenes[0][:3])
    maps = one.feature_maps(scenes[0][:3])
    np.testing.assert_array_equal(maps.transpose(0, 3, 1, 2).reshape(3, -1), flat)


def test_maps_of_files_that_cannot_be_read_are_nan(scenes, learner):
    X = [Image.fromarray(image) for image in scenes[0][:2]] + [b"no image"]
    one = clone_with(learner, on_error="skip")
    with pytest.warns(ImageReadWarning):
        maps = one.feature_maps(X)
    assert np.isfinite(maps[:2]).all()
    assert np.isnan(maps[2]).all()


# Classes of pixels


@pytest.fixture(scope="module")
def classifier(scenes, learner):
    X, masks = scenes
    return DenseClassifier(FrozenEstimator(learner), random_state=0).fit(X, scribbles(masks, 8))


def test_scribbles_classify_all_pixels(classifier):
    X, masks = stripes(12, seed=1)
    predicted = classifier.predict(X)
    assert predicted.shape == masks.shape
    assert (predicted == masks).mean() > 0.9
    assert classifier.score(X, masks) > 0.8
    assert classifier.n_labeled_ == (scribbles(stripes(24)[1], 8) >= 0).sum()
    assert classifier.classes_.tolist() == [0, 1]


def test_features_of_labeled_pixels_are_where_they_lie(scenes, learner):
    """The head gets the bilinearly enlarged features, pixel by pixel."""
    X, masks = scenes
    y = scribbles(masks, 8)
    seen = []

    class Head(LogisticRegression):
        def fit(self, X, y):
            seen.append((X, y))
            return super().fit(X, y)

    DenseClassifier(FrozenEstimator(learner), Head(max_iter=10)).fit(X, y)
    maps = torch.from_numpy(learner.feature_maps(X)).permute(0, 3, 1, 2)
    whole = F.interpolate(maps, (SIDE, SIDE), mode="bilinear").permute(0, 2, 3, 1).numpy()
    np.testing.assert_allclose(seen[0][0], whole[y >= 0], atol=1e-5)
    np.testing.assert_array_equal(seen[0][1], y[y >= 0])


def test_probabilities_sum_to_1_and_agree_with_predictions(scenes, classifier):
    shares = classifier.predict_proba(scenes[0][:4])
    assert shares.shape == (4, SIDE, SIDE, 2)
    np.testing.assert_allclose(shares.sum(3), 1, atol=1e-4)
    np.testing.assert_array_equal(shares.argmax(3), classifier.predict(scenes[0][:4]))


def test_images_that_cannot_be_read_are_left_out(scenes, learner):
    """Even if the only pixels of a class are in them."""
    X = [Image.fromarray(image) for image in scenes[0][:10]] + [b"no image"]
    y = scribbles(scenes[1], 8)[:11]
    y[10, 0, 0] = 2
    dense = DenseClassifier(FrozenEstimator(clone_with(learner, on_error="skip")))
    with pytest.warns(ImageReadWarning):
        dense.fit(X, y)
    with pytest.warns(ImageReadWarning):
        predicted = dense.predict(X)
    with pytest.warns(ImageReadWarning):
        score = dense.score(X, np.concatenate([scenes[1][:10], scenes[1][:1]]))
    assert dense.classes_.tolist() == [0, 1]
    assert (predicted[10] == -1).all()
    assert score == pytest.approx(dense.score(X[:10], scenes[1][:10]))
    with pytest.raises(ValueError, match="no labeled pixel"):
        dense.score(X[:2], np.full((2, SIDE, SIDE), -1))


def test_score_is_the_mean_intersection_over_union(scenes, classifier):
    X, masks = scenes[0][:4], scenes[1][:4].copy()
    masks[0] = -1
    predicted = classifier.predict(X)
    known = masks >= 0
    shares = [
        ((predicted == c) & (masks == c) & known).sum()
        / (((predicted == c) | (masks == c)) & known).sum()
        for c in (0, 1)
    ]
    assert classifier.score(X, masks) == pytest.approx(np.mean(shares))


def test_other_heads_learners_and_classes(scenes):
    X, masks = scenes
    y = np.where(scribbles(masks, 8) < 0, -1, 3 + 4 * masks)
    learner = PatchDictionary(n_atoms=20, random_state=0)
    dense = DenseClassifier(learner, RandomForestClassifier(20, random_state=0)).fit(X, y)
    assert set(np.unique(dense.predict(X))) == {3, 7}
    assert not hasattr(learner, "net_")  # the argument stays as it was
    assert clone(dense).get_params()["learner__n_atoms"] == 20


def test_labels_of_another_size_are_of_the_same_image(scenes, learner):
    X, masks = scenes
    double = scribbles(masks, 8).repeat(2, 1).repeat(2, 2)
    dense = DenseClassifier(FrozenEstimator(learner)).fit(X, double)
    assert (dense.predict(X) == masks).mean() > 0.9


def test_a_failed_refit_leaves_it_as_it_was(scenes, learner):
    X, masks = scenes
    dense = DenseClassifier(FrozenEstimator(learner)).fit(X, scribbles(masks, 8))
    before, given = dict(vars(dense)), dense.predict(X[:3])
    for images, labels in ((X, np.minimum(scribbles(masks, 8), 0)), (X[:, 1:], masks[:, 1:])):
        with pytest.raises(ValueError, match=r"classes|proportions"):
            dense.fit(images, labels)
        assert vars(dense) == before
    np.testing.assert_array_equal(dense.predict(X[:3]), given)


def test_saved_and_loaded(scenes, classifier, tmp_path):
    classifier.save(tmp_path / "dense.st")
    loaded = sklearn_ssl.load(tmp_path / "dense.st", learner=classifier.learner)
    np.testing.assert_array_equal(
        loaded.predict_proba(scenes[0][:2]), classifier.predict_proba(scenes[0][:2])
    )


def test_drawn_pixels_are_balanced():
    codes = np.array([0] * 90 + [1] * 8 + [2] * 2)
    rows = _drawn(codes, 20, np.random.RandomState(0))
    assert np.bincount(codes[rows]).tolist() == [10, 8, 2]
    assert len(np.unique(rows)) == 20
    assert _drawn(codes, 100, None).tolist() == list(range(100))


@pytest.mark.parametrize(
    ("params", "change", "error", "message"),
    [
        ({}, lambda y: y[:, 0], ValueError, r"must be \(n, height, width\) for 24 images"),
        ({}, lambda y: y[:5], ValueError, "for 24 images"),
        ({}, lambda y: y + 0.5, ValueError, "must be integers"),
        ({}, lambda y: np.minimum(y, 0), ValueError, "pixels of 1 classes"),
        ({}, lambda y: np.full_like(y, -1), ValueError, "pixels of 0 classes"),
        ({"max_pixels": 1}, lambda y: y, ValueError, "are drawn of 1 classes"),
        ({}, lambda y: y.repeat(2, 1), ValueError, "resize='squash', or labels of the same"),
        ({"head": LinearSVC()}, lambda y: y, TypeError, "with predict_proba"),
        ({"learner": LogisticRegression()}, lambda y: y, TypeError, "has no feature maps"),
        ({"max_pixels": 0}, lambda y: y, ValueError, "max_pixels"),
    ],
)
def test_unusable_arguments(scenes, learner, params, change, error, message):
    X, masks = scenes
    dense = DenseClassifier(**{"learner": FrozenEstimator(learner), **params})
    with pytest.raises(error, match=message):
        dense.fit(X, change(scribbles(masks, 8)))
    assert not hasattr(dense, "head_")


# Anomalies


@pytest.fixture(scope="module")
def spotted():
    """Images with a spot of another texture in half of them, and where it is."""
    images = np.repeat(stripes(1)[0][:, :, :1], SIDE, 2).repeat(40, 0).astype(int)
    images = np.clip(images + np.random.default_rng(0).integers(-15, 16, images.shape), 0, 255)
    spots = np.zeros((40, SIDE, SIDE), bool)
    for row in range(20, 40):
        top, left = np.random.default_rng(row).integers(2, 9, 2)
        spots[row, top : top + 5, left : left + 5] = True
    images[spots] = np.random.default_rng(1).integers(0, 256, images[spots].shape)
    return images.astype(np.uint8), spots


@pytest.fixture(scope="module")
def detector(spotted):
    learner = small(SimCLR, layer=["conv", "out"])
    return PatchCore(learner, n_patches=100, random_state=0).fit(spotted[0][:20])


def test_spots_are_found(spotted, detector):
    X, spots = spotted
    assert roc_auc_score(spots.any((1, 2)), -detector.score_samples(X)) > 0.95
    maps = detector.anomaly_maps(X)
    assert maps.shape == (40, SIDE, SIDE)
    assert roc_auc_score(spots[20:].ravel(), maps[20:].ravel()) > 0.85
    assert (detector.predict(X[20:]) == -1).mean() > 0.9
    np.testing.assert_array_equal(detector.predict(X), np.sign(detector.decision_function(X)))


def test_scores_against_a_naive_loop(spotted, detector):
    """Roth et al. (2022), equations 6 and 7."""
    X = spotted[0][18:22]
    maps = detector.learner_.feature_maps(X)
    rows, columns, d = maps.shape[1:]
    bank = detector.bank_.astype(np.float64)
    for one, score, found in zip(
        maps, detector.score_samples(X), detector.anomaly_maps(X), strict=True
    ):
        distances = np.zeros((rows, columns))
        best = (-1.0, None)
        for r in range(rows):
            for c in range(columns):
                around = one[max(r - 1, 0) : r + 2, max(c - 1, 0) : c + 2].reshape(-1, d)
                patch = around.mean(0) / detector.scale_
                apart = np.linalg.norm(bank - patch, axis=1)
                distances[r, c] = apart.min()
                if apart.min() > best[0]:
                    best = (apart.min(), apart)
        apart = best[1]
        nearest = apart.argmin()
        near = np.argsort(np.linalg.norm(bank - bank[nearest], axis=1))[:9]
        weight = 1 - np.exp(best[0]) / np.exp(apart[near]).sum()
        assert score == pytest.approx(-weight * best[0], rel=1e-3)
        whole = F.interpolate(
            torch.from_numpy(distances)[None, None], (SIDE, SIDE), mode="bilinear"
        )
        np.testing.assert_allclose(found, whole[0, 0].numpy(), atol=1e-3)


def test_the_threshold_is_that_of_images_whose_own_patches_do_not_count(spotted):
    """Otherwise every training image would look normal, even with all patches in the bank."""
    learner = small(SimCLR, layer="conv")
    X = spotted[0][:20]
    detector = PatchCore(learner, n_patches=10**6, contamination=0.2, random_state=0).fit(X)
    assert (detector.anomaly_maps(X).max((1, 2)) < 1e-2).all()
    assert detector.offset_ < -0.01
    assert (PatchCore(learner, contamination=0.2, random_state=0).fit_predict(X) == -1).sum() == 4
    assert (detector.predict(X) == 1).all()


def test_own_scores_are_those_of_a_bank_without_the_image(spotted, detector):
    X = spotted[0][:20]
    others = copy.copy(detector)
    kept = detector.bank_images_ != 3
    others.bank_, others.bank_images_ = detector.bank_[kept], detector.bank_images_[kept]
    assert detector._own_scores[3] == pytest.approx(others.score_samples(X[3:4])[0], rel=1e-5)
    assert not kept.all()


def test_core_set_against_a_naive_loop():
    points = np.random.default_rng(0).normal(size=(60, 3))
    chosen = [7]
    for _ in range(9):
        apart = [min(np.linalg.norm(p - points[c]) for c in chosen) for p in points]
        chosen.append(int(np.argmax(apart)))
    assert core_set(torch.from_numpy(points), 10, 7).tolist() == chosen
    assert len(core_set(torch.from_numpy(points), 100, 0)) == 60


def test_detector_saved_and_repeated(spotted, detector, tmp_path):
    X = spotted[0]
    detector.save(tmp_path / "core.st")
    loaded = sklearn_ssl.load(tmp_path / "core.st", learner=detector.learner)
    np.testing.assert_array_equal(loaded.anomaly_maps(X[:3]), detector.anomaly_maps(X[:3]))
    again = clone(detector).fit(X[:20])
    np.testing.assert_array_equal(again.bank_, detector.bank_)
    assert again.offset_ == detector.offset_


def test_one_image_is_not_enough_to_judge_by(spotted):
    learner = FrozenEstimator(small(SimCLR).fit(spotted[0]))
    detector = PatchCore(learner, n_patches=5)
    with pytest.raises(ValueError, match="at least two images"):
        detector.fit(spotted[0][:1])
    assert not hasattr(detector, "bank_")
