"""The attentive probe against naive loops, and on maps where only one position matters."""

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from sklearn.pipeline import make_pipeline

import sklearn_ssl
from sklearn_ssl import AttentiveProbe, LinearProbe, SimCLR


def marked(n, seed=0, side=5, width=12):
    """Maps of noise in which the feature at the one marked position tells the class."""
    rng = np.random.default_rng(seed)
    maps = rng.normal(size=(n, side, side, width), scale=0.6).astype(np.float32)
    y = rng.integers(0, 3, n)
    for one, label, place in zip(maps, y, rng.integers(0, side * side, n), strict=True):
        mark = one.reshape(-1, width)[place]
        mark[:] = 0
        mark[0], mark[1 + label] = 6, 3
    return maps, y


@pytest.fixture(scope="module")
def fitted():
    maps, y = marked(800)
    return AttentiveProbe(n_queries=5, weight_decay=0.1, max_epochs=25).fit(maps, y)


def test_it_finds_the_position_that_matters(fitted):
    maps, y = marked(300, seed=1)
    averaged = LinearProbe().fit(*(part[:150] for part in (maps.mean((1, 2)), y)))
    assert fitted.score(maps, y) > 0.9
    assert averaged.score(maps.mean((1, 2))[150:], y[150:]) < 0.8


def test_attention_is_on_the_mark(fitted):
    maps, _ = marked(50, seed=2)
    shares = fitted.attention(maps)
    assert shares.shape == (50, 5, 25)
    np.testing.assert_allclose(shares.sum(2), 1, rtol=1e-5)
    marks = maps.reshape(50, 25, -1)[..., 0].argmax(1)
    assert (shares.max(1).argmax(1) == marks).mean() > 0.9


def test_probabilities_against_a_naive_loop(fitted):
    """Psomas et al. (2025): queries attend to inputs as keys; each has a slice of the values."""
    maps, _ = marked(4, seed=3)
    w = {name: value.astype(np.float64) for name, value in fitted.weights_.items()}
    found = fitted.predict_proba(maps)
    for one, shares in zip(maps, found, strict=True):
        tokens = (one.reshape(25, -1) - w["mean"]) / w["scale"]
        values = tokens @ w["values.weight"].T  # 5 queries need 15 dimensions for 12 features
        assert values.shape == (25, 15)
        pooled = []
        for number, query in enumerate(w["queries"]):
            logits = tokens @ query / np.sqrt(12)
            attention = np.exp(logits) / np.exp(logits).sum()
            pooled.append(attention @ values[:, 3 * number : 3 * number + 3])
        scores = w["classes.weight"] @ np.concatenate(pooled) + w["classes.bias"]
        expected = np.exp(scores) / np.exp(scores).sum()
        np.testing.assert_allclose(shares, expected, atol=1e-5)


def test_rows_are_maps_channel_by_channel(fitted):
    """As transform returns them with pool=None."""
    maps, y = marked(120)
    rows = maps.transpose(0, 3, 1, 2).reshape(120, -1)
    params = {"n_queries": 4, "weight_decay": 0.1, "max_epochs": 2}
    of_rows = AttentiveProbe(n_channels=12, **params).fit(rows, y)
    of_maps = AttentiveProbe(**params).fit(maps, y)
    np.testing.assert_array_equal(of_rows.predict_proba(rows), of_maps.predict_proba(maps))
    of_positions = AttentiveProbe(**params).fit(maps.reshape(120, 25, 12), y)
    np.testing.assert_array_equal(of_positions.predict_proba(maps), of_maps.predict_proba(maps))


def test_in_a_pipeline():
    X, y = load_digits(return_X_y=True)
    ssl = SimCLR(max_epochs=2, layer="layer2", pool=None, random_state=0)
    pipe = make_pipeline(ssl, AttentiveProbe(n_channels=64)).fit(X[:400], y[:400])
    assert pipe.score(X[1000:], y[1000:]) > 0.75


def test_weight_decay_is_chosen_by_held_out_samples():
    """Noise needs much; a class with one sample leaves nothing to hold out."""
    maps, y = marked(200)
    noise = AttentiveProbe(max_epochs=40).fit(maps, np.random.default_rng(0).permutation(y))
    assert noise.weight_decay_ == 1.0
    y = np.arange(60)
    assert AttentiveProbe(max_epochs=1).fit(maps[:60], y).weight_decay_ == 1.0


def test_class_weights_and_missing_labels():
    _, y = marked(600)
    maps = np.random.default_rng(5).normal(size=(600, 2, 2, 3))  # tell nothing about the class
    rare = np.where(y == 0, np.arange(600) % 10, 1)  # few of class 0
    y = np.where((y == 0) & (rare > 0), -1, y)
    plain, balanced = (
        AttentiveProbe(weight_decay=1.0, max_epochs=40, class_weight=weight).fit(maps, y)
        for weight in (None, "balanced")
    )
    assert plain.classes_.tolist() == [0, 1, 2]
    of_rare = [probe.predict_proba(maps)[:, 0].mean() for probe in (plain, balanced)]
    assert of_rare[0] < 0.15
    assert of_rare[1] == pytest.approx(1 / 3, abs=0.1)


def test_saved_exported_and_repeated(fitted, tmp_path):
    maps, y = marked(800)
    fitted.save(tmp_path / "probe.st")
    loaded = sklearn_ssl.load(tmp_path / "probe.st")
    np.testing.assert_array_equal(loaded.predict_proba(maps), fitted.predict_proba(maps))
    again = sklearn_ssl.AttentiveProbe(**fitted.get_params()).fit(maps, y)
    np.testing.assert_array_equal(again.predict_proba(maps), fitted.predict_proba(maps))
    module = fitted.to_torch()
    tokens = torch.from_numpy(maps.reshape(800, 25, -1))
    np.testing.assert_allclose(module(tokens).numpy(), fitted.predict_proba(maps), atol=1e-5)


@pytest.mark.parametrize(
    ("params", "change", "message"),
    [
        ({"n_channels": 7}, lambda maps: maps.reshape(60, -1), "does not divide the 300 features"),
        ({}, lambda maps: np.where(maps > 3, np.nan, maps), "NaN"),
        ({}, lambda maps: maps[:50], "50 rows, but y has 60"),
        ({"lr": 0}, lambda maps: maps, "lr"),
        ({"n_channels": 6}, lambda maps: maps, "12 features at each position, but 6"),
    ],
)
def test_unusable_input(params, change, message):
    maps, y = marked(60)
    probe = AttentiveProbe(**params)
    with pytest.raises(ValueError, match=message):
        probe.fit(change(maps), y)
    assert not hasattr(probe, "weights_")


def test_a_probe_of_maps_is_exported(fitted, tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    fitted.export_onnx(tmp_path / "probe.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "probe.onnx")
    maps, _ = marked(7)
    (found,) = session.run(["scores"], {session.get_inputs()[0].name: maps.reshape(7, 25, -1)})
    np.testing.assert_allclose(found, fitted.predict_proba(maps), atol=1e-5)


def test_maps_of_another_size_are_refused(fitted):
    with pytest.raises(ValueError, match="3 features at each position, but 12"):
        fitted.predict(np.zeros((2, 100, 3)))
    with pytest.raises(ValueError, match="expecting 300 features"):
        fitted.predict(marked(5, side=4)[0])
