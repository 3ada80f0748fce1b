"""Histograms of colors."""

import numpy as np
import pytest
import torch
from conftest import make_images
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.utils.estimator_checks import parametrize_with_checks

from sklearn_ssl import ColorHistogram, PatchDictionary, load


@pytest.mark.filterwarnings("ignore")
@parametrize_with_checks([ColorHistogram(n_colors=4, random_state=0)])
def test_scikit_learn_check(estimator, check):
    check(estimator)


def cells(n, parts):
    """Slices of ``parts`` cells, which may overlap, as torch's adaptive pooling has them."""
    return [slice(i * n // parts, -(-(i + 1) * n // parts)) for i in range(parts)]


@pytest.mark.parametrize("channels", [1, 3, 5])
@pytest.mark.parametrize("pool", [1, "avg", 2, "max", None])
def test_features_are_those_of_a_loop(channels, pool):
    X = make_images(20, 6, 7, channels)
    histogram = ColorHistogram(n_colors=5, pool=pool, random_state=0).fit(X)
    palette = histogram.encoder_.palette.double().numpy()
    nearest = ((X[..., None, :] / 255.0 - palette) ** 2).sum(-1).argmin(-1)
    expected = []
    for image in nearest:
        row = []
        rows, columns = (6, 7) if pool is None else 2 * (1 if isinstance(pool, str) else pool,)
        for color in range(5):
            for up in cells(6, rows):
                for left in cells(7, columns):
                    cell = image[up, left] == color
                    row.append(cell.max() if pool == "max" else cell.mean() ** 0.5)
        expected.append(row)
    np.testing.assert_allclose(histogram.transform(X), expected, atol=1e-6)


def test_the_palette_is_made_of_the_images_colors():
    rng = np.random.default_rng(0)
    colors = np.array([[250, 10, 10], [10, 250, 10], [20, 20, 240], [128, 128, 128]], np.uint8)
    drawn = rng.integers(0, 4, (50, 8, 8))
    histogram = ColorHistogram(n_colors=30, random_state=0).fit(colors[drawn])
    palette = (histogram.encoder_.palette.numpy() * 255).round()
    assert {tuple(color) for color in palette} == {tuple(color) for color in colors}
    found = histogram.transform(colors[drawn]) ** 2
    shares = [np.bincount(each.ravel(), minlength=4) / 64 for each in drawn]
    for color in range(4):  # however many copies of it the palette has
        same = (palette == colors[color]).all(1)
        np.testing.assert_allclose(found[:, same].sum(1), np.array(shares)[:, color], atol=1e-6)


def test_it_tells_brightness_that_patches_ignore():
    rng = np.random.default_rng(0)
    y = rng.integers(0, 2, 200)
    X = (rng.normal(100, 20, (200, 8, 8, 1)) + 30 * y[:, None, None, None]).astype(np.uint8)
    scores = [
        LogisticRegression().fit(found[:100], y[:100]).score(found[100:], y[100:])
        for found in (
            ColorHistogram(n_colors=8, random_state=0).fit_transform(X),
            PatchDictionary(n_atoms=8, patch_size=3, random_state=0).fit_transform(X),
        )
    ]
    assert scores[0] > 0.95
    assert scores[1] < 0.7


def test_the_same_bits_whatever_the_neighbors():
    X = load_digits().images
    histogram = ColorHistogram(random_state=0).fit(X)
    alone = np.concatenate([histogram.transform(X[i : i + 1]) for i in range(5)])
    np.testing.assert_array_equal(alone, histogram.transform(X)[:5])
    again = ColorHistogram(random_state=0).fit(X)
    np.testing.assert_array_equal(again.transform(X), histogram.transform(X))
    other = ColorHistogram(random_state=1).fit(X)
    assert not torch.equal(other.encoder_.palette, histogram.encoder_.palette)


@pytest.mark.parametrize("pool", [1, 2])
def test_saved_and_exported(pool, tmp_path):
    X = make_images(20)
    histogram = ColorHistogram(n_colors=6, pool=pool, random_state=0).fit(X)
    expected = histogram.transform(X)
    histogram.save(tmp_path / "a.safetensors")
    np.testing.assert_array_equal(load(tmp_path / "a.safetensors").transform(X), expected)
    module, pixels = histogram.to_torch(), torch.from_numpy(X).permute(0, 3, 1, 2)
    shapes = ({0: torch.export.Dim.DYNAMIC},)
    program = torch.export.export(module, (pixels,), dynamic_shapes=shapes)
    np.testing.assert_allclose(program.module()(pixels[:7]), expected[:7], atol=1e-6)
    assert histogram.feature_maps(X).shape == (20, 8, 8, 6)


def test_large_images_are_counted_in_small_copies():
    X = make_images(5, 70, 100)
    assert ColorHistogram(random_state=0).fit(X).encoder_layers() == {"colors": (64, 32, 46)}
