"""Dictionaries of patches."""

import pickle
import warnings

import numpy as np
import pytest
import torch
from conftest import make_images
from sklearn.cluster import KMeans
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline, make_union
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

from sklearn_ssl import PatchDictionary, load
from sklearn_ssl.exceptions import CollapseWarning, ImageShapeWarning
from sklearn_ssl.fixed._patch_dictionary import cluster


def tiny(**params):
    return PatchDictionary(**{"n_atoms": 6, "patch_size": 3, "random_state": 0, **params})


@parametrize_with_checks([tiny()])
def test_scikit_learn_check(estimator, check):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ImageShapeWarning)  # tables are taken as strips
        check(estimator)


# Against loops that nobody would wait for


def patches_of(image, size, stride):
    """Patches (rows, columns, d) of an image (h, w, c), channels first in each."""
    rows, columns = ((side - size) // stride + 1 for side in image.shape[:2])
    found = np.empty((rows, columns, image.shape[2] * size * size))
    for i in range(rows):
        for j in range(columns):
            y, x = i * stride, j * stride
            found[i, j] = image[y : y + size, x : x + size].transpose(2, 0, 1).ravel()
    return found


def responses_of(dictionary, image):
    """Responses (n_atoms, rows, columns) to an image in [0, 1], one patch after the other."""
    whitening = dictionary.encoder_.whitening.numpy().astype(float)
    atoms = dictionary.encoder_.atoms.numpy().astype(float)
    patches = patches_of(image, dictionary.patch_size, dictionary.stride)
    found = np.empty((len(atoms), *patches.shape[:2]))
    least = 10 / 255**2
    for i, j in np.ndindex(*patches.shape[:2]):
        patch = patches[i, j] - patches[i, j].mean()
        if dictionary.activation == "triangle":
            z = patch / np.sqrt(patch.var() + least) @ whitening
            distances = np.linalg.norm(atoms - z, axis=1)
            found[:, i, j] = np.maximum(distances.mean() - distances, 0)
            continue
        z = patch @ whitening
        cosines = atoms @ z / np.sqrt((z**2).sum() + len(z) * least)
        if dictionary.activation == "nearest":
            found[:, i, j] = cosines >= np.sort(cosines)[-dictionary.n_nearest]
        else:
            found[:, i, j] = np.maximum(cosines - dictionary.threshold / np.sqrt(len(z)), 0)
    return found


@pytest.mark.parametrize("activation", ["soft_threshold", "triangle", "nearest"])
@pytest.mark.parametrize(
    ("channels", "stride", "pool"), [(3, 1, 2), (1, 1, 3), (5, 2, "avg"), (3, 2, "max")]
)
def test_features_are_those_of_a_loop(activation, channels, stride, pool):
    X = make_images(10, 9, 11, channels)
    dictionary = tiny(
        activation=activation, n_nearest=2, stride=stride, pool=pool, precision="float32"
    )
    features = dictionary.fit_transform(X)
    for image, row in zip(X / 255, features, strict=True):
        maps = torch.from_numpy(responses_of(dictionary, image))
        if pool == "max":
            expected = maps.amax((1, 2))
        else:
            side = 1 if pool == "avg" else pool
            expected = torch.nn.functional.adaptive_avg_pool2d(maps, side).flatten()
        np.testing.assert_allclose(row, expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("activation", ["soft_threshold", "triangle"])
def test_gradients_pass_through(activation):
    """To see what an atom responds to; compared with a finite difference."""
    X = make_images(10, 9, 11)
    module = tiny(activation=activation, precision="float32", pool=2).fit(X).to_torch()
    images = torch.from_numpy(X[:2]).permute(0, 3, 1, 2).double() / 255
    module = module.double()
    images.requires_grad_()
    features = module.encoder(images).sum()
    (gradient,) = torch.autograd.grad(features, images)
    step = 1e-4 * gradient / gradient.abs().max()
    with torch.no_grad():
        change = module.encoder(images + step).sum() - module.encoder(images - step).sum()
    np.testing.assert_allclose(change, 2 * (gradient * step).sum(), rtol=2e-2)


@pytest.mark.parametrize("mirror", [False, True])
def test_features_are_pooled_maps(mirror, monkeypatch):
    """By products of matrices and in chunks, they are what other encoders' features are."""
    X = make_images(12)
    dictionary = tiny(mirror=mirror, precision="float32", pool=2).fit(X)
    monkeypatch.setattr("sklearn_ssl.fixed._patch_dictionary._BYTES_AT_ONCE", 1000)
    images = torch.from_numpy(X).permute(0, 3, 1, 2) / 255
    pooled = super(type(dictionary.encoder_), dictionary.encoder_).features
    expected = pooled(images, [("patches", 2)])
    if mirror:
        expected = (expected + pooled(images.flip(3), [("patches", 2)])) / 2
    np.testing.assert_allclose(dictionary.transform(X), expected, rtol=1e-4, atol=1e-5)


def test_mirror_images_have_the_same_features_with_mirror():
    X = make_images(8)
    dictionary = tiny(mirror=True, precision="float32").fit(X)
    np.testing.assert_allclose(
        dictionary.transform(X[:, :, ::-1]), dictionary.transform(X), atol=1e-6
    )


def test_bfloat16_hardly_matters():
    X = make_images(20, 16, 16)
    exact = tiny(precision="float32", n_atoms=30).fit(X)
    rounded = tiny(precision="bfloat16", n_atoms=30).fit(X)
    rounded.encoder_.load_state_dict(exact.encoder_.state_dict())
    a, b = exact.transform(X), rounded.transform(X)
    assert np.linalg.norm(a - b) < 0.03 * np.linalg.norm(a)


def test_patches_are_white():
    X = make_images(100, 16, 16, seed=1)
    rng = np.random.default_rng(0)
    X = (X * 0.5 + rng.uniform(0, 127, X.shape)).astype(np.uint8)
    dictionary = tiny(regularization=1e-6).fit(X)
    patches = np.concatenate([patches_of(x / 255, 3, 1).reshape(-1, 27) for x in X])
    patches -= patches.mean(1, keepdims=True)
    patches /= np.sqrt(patches.var(1, keepdims=True) + 10 / 255**2)
    white = patches @ dictionary.encoder_.whitening.numpy()
    values = np.linalg.eigvalsh(white.T @ white / len(white))
    np.testing.assert_allclose(values[1:], 1, atol=0.05)  # one dimension went with the mean


def test_centers_are_those_of_scikit_learn():
    patches = torch.from_numpy(np.random.default_rng(0).normal(size=(500, 6))).float()
    ours = cluster(patches, patches[:8], 50)
    theirs = KMeans(8, init=patches[:8].numpy(), n_init=1, max_iter=50, tol=0).fit(patches.numpy())
    np.testing.assert_allclose(ours, theirs.cluster_centers_, rtol=1e-3, atol=1e-4)


def test_a_center_without_patches_becomes_a_patch():
    patches = torch.randn(50, 3)
    far = torch.full((1, 3), 1e3)
    found = cluster(patches, torch.cat([patches[:2], far]), 1)
    assert (found[2] == patches).all(1).any()


# As other transformers


@pytest.mark.parametrize("shape", [(5, 5, 1), (1, 20, 1), (2, 9, 4), (12, 12, 3)])
def test_any_size_and_channels(shape):
    X = make_images(30, *shape)
    features = tiny().fit_transform(X)
    assert features.shape[0] == 30
    assert np.isfinite(features).all()


def test_the_same_bits_whatever_the_neighbors_and_the_process():
    X = make_images(40, 32, 32)
    dictionary = tiny(n_atoms=20).fit(X)
    features = dictionary.transform(X)
    np.testing.assert_array_equal(dictionary.transform(X[7:23]), features[7:23])
    np.testing.assert_array_equal(tiny(n_atoms=20).fit(X).transform(X), features)
    assert not np.array_equal(tiny(n_atoms=20, random_state=1).fit(X).transform(X), features)


def test_flat_images_have_finite_features():
    X = make_images(30)
    X[3] = 77
    assert np.isfinite(tiny().fit_transform(X)).all()


@pytest.mark.parametrize("activation", ["soft_threshold", "triangle", "nearest"])
def test_images_without_contrast_are_told(activation):
    X = make_images(20, 10, 10)
    flat = np.full_like(X, 7) + np.arange(20, dtype=np.uint8)[:, None, None, None]
    params = {"n_atoms": 9, "patch_size": 4, "n_nearest": 3, "random_state": 0}
    learned = PatchDictionary(activation=activation, **params)
    with warnings.catch_warnings():
        warnings.simplefilter("error", CollapseWarning)
        learned.fit(X).transform(np.concatenate([flat, X[:1]]))
    with pytest.warns(CollapseWarning, match="each of the 20 images is of a single color"):
        learned.transform(flat)
    with pytest.warns(CollapseWarning, match="of a single color"):
        learned.fit(flat)


def test_saved_pickled_and_exported(tmp_path):
    X = make_images(20)
    dictionary = tiny(precision="float32").fit(X)
    expected = dictionary.transform(X)
    dictionary.save(tmp_path / "a.safetensors")
    np.testing.assert_array_equal(load(tmp_path / "a.safetensors").transform(X), expected)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(dictionary)).transform(X), expected)
    module, pixels = dictionary.to_torch(), torch.from_numpy(X).permute(0, 3, 1, 2)
    program = torch.export.export(
        module, (pixels,), dynamic_shapes=({0: torch.export.Dim.DYNAMIC},)
    )
    np.testing.assert_allclose(program.module()(pixels[:7]), expected[:7], atol=1e-5)


def test_input_size():
    X = make_images(30, 20, 30)
    assert tiny(input_size=10).fit(X).encoder_layers() == {"patches": (6, 8, 13)}
    assert tiny(input_size=(7, 6)).fit(X).encoder_layers() == {"patches": (6, 5, 4)}


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"n_atoms": 3000}, r"n_atoms=3000 is more than the 720 patches"),
        ({"activation": "nearest", "n_nearest": 7}, r"n_nearest=7 is more than n_atoms=6"),
        ({"layer": "conv"}, r"layer='conv'.*PatchDictionary.*patches"),
        ({"input_size": (3,)}, r"input_size=\(3,\)"),
        ({"activation": "relu"}, r"activation"),
    ],
)
def test_what_it_refuses(params, message):
    dictionary = tiny(**params)
    with pytest.raises(ValueError, match=message):
        dictionary.fit(make_images(20))
    assert not hasattr(dictionary, "net_")


def test_it_knows_digits_better_than_pixels_do():
    X, y = load_digits(return_X_y=True)
    X = X.reshape(-1, 8, 8)
    train, test = slice(300), slice(300, None)

    def accuracy(features):
        probe = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
        return probe.fit(features[train], y[train]).score(features[test], y[test])

    dictionary = PatchDictionary(n_atoms=100, patch_size=4, random_state=0)
    assert accuracy(dictionary.fit_transform(X)) > accuracy(X.reshape(len(X), -1)) + 0.02


def test_beside_a_learner_in_a_union():
    union = make_union(tiny(), tiny(patch_size=5, random_state=1))
    assert union.fit_transform(make_images(20)).shape == (20, 2 * 6 * 9)
