"""Reports, comparisons, pictures, and monitors of a training."""

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from conftest import make_images, small
from sklearn.base import clone
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from skorch.callbacks import EarlyStopping, TensorBoard

from sklearn_ssl import Autoencoder, Colorization, ContextEncoder, SimCLR
from sklearn_ssl.inspection import (
    FeatureMapDisplay,
    LabelsDisplay,
    LayersDisplay,
    MeasureMonitor,
    NeighborsDisplay,
    ProbeMonitor,
    ReconstructionDisplay,
    TrainingDisplay,
    ViewsDisplay,
    compare,
    layer_report,
)
from sklearn_ssl.metrics import alpha_req, feature_spread, rank_me, uniformity

X = make_images(60)
y = np.arange(60) % 3


@pytest.fixture(autouse=True)
def no_screen():
    mpl.use("Agg")
    yield
    plt.close("all")


@pytest.fixture(scope="module")
def ssl():
    return small(SimCLR, max_epochs=2).fit(X)


# Reports


@pytest.mark.parametrize("frame", ["pandas", "polars"])
def test_layer_report_says_what_each_layer_says(frame, ssl):
    report = layer_report(ssl, X, y, pools=("avg", 2), frame=frame)
    assert type(report).__module__.startswith(frame)
    columns = {name: list(report[name]) for name in report.columns}
    assert list(zip(columns["layer"], map(str, columns["pool"]), strict=True)) == [
        (layer, pool) for layer in ("conv", "out") for pool in ("avg", "2")
    ]
    one = clone(ssl).set_params(layer="out", pool=2).fit(X)
    features = one.transform(X)
    assert columns["width"][3] == features.shape[1]
    probe = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=1000))
    scores = cross_val_score(probe, features, y, cv=3)
    assert columns["accuracy"][3] == pytest.approx(scores.mean())
    assert columns["spread"][3] == pytest.approx(scores.std())
    assert columns["rank_me"][3] == pytest.approx(rank_me(torch.from_numpy(features)))
    assert columns["alpha_req"][3] == pytest.approx(alpha_req(features))
    assert columns["uniformity"][3] == pytest.approx(uniformity(features))
    assert ssl.layer is None


def test_layer_report_encodes_once(ssl, monkeypatch):
    import sklearn_ssl.base._features

    passes, apply = [], sklearn_ssl.base._features.apply

    def counted(*args, **kwargs):
        passes.append(1)
        return apply(*args, **kwargs)

    monkeypatch.setattr(sklearn_ssl.base._features, "apply", counted)
    report = layer_report(ssl, X, layers=["conv", "out"], pools=("avg", "max", 2))
    assert len(report) == 6
    assert "accuracy" not in report
    assert len(passes) == 1


def test_compare_gives_images_to_functions_and_rows_to_the_rest():
    seen = {}

    def watching(name):
        def watch(X):
            seen[name] = X.shape[1:]
            return np.reshape(X, (len(X), -1))

        return FunctionTransformer(watch)

    rivals = {
        "function": watching("function"),
        "pipeline": make_pipeline(StandardScaler(), watching("after rows")),
    }
    images = make_images(60)
    table = compare(rivals, images, np.arange(60) % 3, n_labels=(9,), n_splits=1)
    assert seen == {"function": images.shape[1:], "after rows": (images[0].size,)}
    assert table["width"].tolist() == [images[0].size] * 2


def test_compare_fits_each_once_and_never_sees_the_test_part():
    seen = []

    class Watching(PCA):
        def fit(self, X, y=None):
            seen.append(len(X))
            assert y is None
            return super().fit(X)

    images, labels = make_images(120), np.arange(120) % 3
    rivals = {"pixels": "passthrough", "watch": Watching(4), "ssl": small(SimCLR)}
    few = np.where(np.arange(120) < 100, labels, -1)
    table = compare(rivals, images, few, n_labels=(2, 9, 30, 10_000), n_splits=2)
    assert table["method"].tolist() == [name for name in rivals for _ in range(3)]
    assert table["n_labels"].tolist() == [2, 9, 30] * 3
    assert seen == [120 - 25]
    assert table["accuracy"].between(0, 1).all()
    again = compare(rivals, images, few, n_labels=(2, 9, 30, 10_000), n_splits=2)
    assert table["accuracy"].equals(again["accuracy"])
    with pytest.raises(ValueError, match="more than the 75 labels"):
        compare(rivals, images, few, n_labels=(1000,))


# Pictures


def check(display):
    display.figure_.canvas.draw()
    pixels = np.asarray(display.figure_.canvas.buffer_rgba())
    assert len(np.unique(pixels)) > 20
    assert display.ax_ is not None


def test_curves(ssl):
    display = TrainingDisplay.from_estimator(ssl)
    check(display)
    assert [ax.get_title() for ax in display.ax_] == ["train loss", "lr", "feature spread"]
    line = display.ax_[0].lines[0]
    assert line.get_ydata().tolist() == [row["train_loss"] for row in ssl.history_]


def test_layers(ssl):
    for labels, name in ((y, "accuracy"), (None, "rank me")):
        display = LayersDisplay.from_estimator(ssl, X, labels)
        check(display)
        assert display.ax_.get_xlabel() == name
        assert [t.get_text() for t in display.ax_.get_yticklabels()] == ["conv", "out"]
    _, ax = plt.subplots()
    assert LayersDisplay.from_estimator(ssl, X, y, ax=ax).ax_ is ax


def test_labels():
    rivals = {"pixels": "passthrough", "PCA": PCA(3)}
    display = LabelsDisplay.from_table(compare(rivals, X, y, n_labels=(6, 20)))
    check(display)
    assert [t.get_text() for t in display.ax_.get_legend().get_texts()] == list(rivals)


def test_galleries(ssl):
    check(FeatureMapDisplay.from_estimator(ssl, X[:20]))
    check(FeatureMapDisplay.from_estimator(ssl, X, reducer=PCA(2)))
    near = NeighborsDisplay.from_estimator(ssl, X, X[:3], n_neighbors=4)
    check(near)
    assert near.images.shape == (3, 5, 8, 8, 3)
    assert (np.abs(near.images[:, :1] - near.images[:, 1:]).max((2, 3, 4)) > 0).all()
    views = ViewsDisplay.from_estimator(ssl, X[:3], n_views=4)
    check(views)
    np.testing.assert_allclose(views.images[:, 0], X[:3] / 255, atol=1e-6)


@pytest.mark.parametrize("Learner", [Autoencoder, ContextEncoder, Colorization])
def test_reconstructions(Learner):
    display = ReconstructionDisplay.from_estimator(small(Learner).fit(X), X[:4])
    check(display)
    assert display.images.shape == (2, 4, 8, 8, 3)
    with pytest.raises(ValueError, match="makes no images"):
        ReconstructionDisplay.from_estimator(small(SimCLR).fit(X), X)


# Monitors


def test_monitors_write_into_the_history():
    callbacks = [
        ProbeMonitor(X[:30], y[:30], every=2),
        ProbeMonitor(X[:30], y[:30], probe=LogisticRegression(), name="linear"),
        MeasureMonitor(X[:30], every=3),
        MeasureMonitor(X[:30], alpha_req, name="alpha", layer="conv", pool="avg"),
        MeasureMonitor(X[:30], rank_me, name="rank"),
        MeasureMonitor(X[:30], feature_spread, name="spread"),
    ]
    ssl = small(SimCLR, max_epochs=5, callbacks=callbacks).fit(X)
    having = {
        name: [i for i, row in enumerate(ssl.history_, 1) if name in row]
        for name in ("probe", "linear", "rank_me", "alpha")
    }
    assert having == {
        "probe": [2, 4, 5], "linear": [1, 2, 3, 4, 5], "rank_me": [3, 5], "alpha": [1, 2, 3, 4, 5],
    }  # fmt: skip
    assert ssl.history_[-1]["rank_me"] == pytest.approx(ssl.score(X[:30]))
    assert ssl.history_[-1]["rank_me"] == ssl.history_[-1]["rank"]
    assert 0 < ssl.history_[-1]["spread"] < 2
    again = clone(ssl).fit(X)
    assert again.history_[-1]["alpha"] == ssl.history_[-1]["alpha"]


def test_labels_never_reach_the_encoder():
    plain = small(SimCLR, max_epochs=3).fit(X).transform(X)
    for labels in (y[:30], y[:30][::-1].copy()):
        ssl = small(SimCLR, max_epochs=3, callbacks=[ProbeMonitor(X[:30], labels)]).fit(X)
        np.testing.assert_array_equal(ssl.transform(X), plain)


def test_early_stopping_on_a_measure():
    monitor = MeasureMonitor(X[:30], lambda features: 1.0, name="same")
    stop = EarlyStopping(monitor="same", patience=2, lower_is_better=False)
    ssl = small(SimCLR, max_epochs=9, callbacks=[monitor, stop]).fit(X)
    assert len(ssl.history_) == 3


def test_tensorboard(tmp_path):
    class Writer:
        def __init__(self):
            self.scalars = {}

        def add_scalar(self, tag, scalar_value, global_step, **kwargs):
            self.scalars.setdefault(tag, []).append(scalar_value)

        def flush(self):
            pass

        def close(self):
            pass

    writer = Writer()
    callbacks = [MeasureMonitor(X[:30]), TensorBoard(writer)]
    ssl = small(SimCLR, max_epochs=2, callbacks=callbacks).fit(X)
    assert writer.scalars["Loss/train_loss"] == [row["train_loss"] for row in ssl.history_]
    assert writer.scalars["rank_me"] == [row["rank_me"] for row in ssl.history_]


def test_a_file_of_tensorboard(tmp_path):
    tensorboard = pytest.importorskip("torch.utils.tensorboard")
    with tensorboard.SummaryWriter(tmp_path) as writer:
        small(SimCLR, callbacks=[TensorBoard(writer)]).fit(X)
    assert list(tmp_path.glob("events*"))


def test_a_layer_that_is_not_there():
    with pytest.raises(ValueError, match="layer"):
        small(SimCLR, callbacks=[MeasureMonitor(X[:30], layer="none")]).fit(X)
