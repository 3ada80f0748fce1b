"""Reports, comparisons, pictures, and monitors of a training."""

import json

import joblib
import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from conftest import TinyNet, make_images, small
from PIL import Image
from scipy.stats import t as student
from sklearn.base import clone
from sklearn.decomposition import PCA
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.metrics.pairwise import cosine_distances
from sklearn.model_selection import ShuffleSplit, cross_val_score, train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from sklearn.tree import DecisionTreeClassifier
from skorch.callbacks import Callback, EarlyStopping, TensorBoard

from sklearn_ssl import (
    Autoencoder,
    AutoFeatures,
    Colorization,
    ContextEncoder,
    FineTunedClassifier,
    LinearProbe,
    PixelFeatures,
    SelfSupervisedClassifier,
    SimCLR,
    Views,
    inspection,
)
from sklearn_ssl.exceptions import ImageReadWarning, LabelWarning, PixelRangeWarning
from sklearn_ssl.inspection import (
    FeatureMapDisplay,
    LabelsDisplay,
    LayersDisplay,
    MeasureMonitor,
    NeighborsDisplay,
    PartsDisplay,
    ProbeMonitor,
    ReconstructionDisplay,
    TrainingDisplay,
    ViewsDisplay,
    compare,
    layer_report,
    verdict,
)
from sklearn_ssl.inspection._compare import (
    _from_scratch,
    _gain,
    _is_random,
    _is_trained,
    _named,
    _Result,
    _rows,
    _sizes,
    _usual_rivals,
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


@pytest.mark.slow
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
    scores = cross_val_score(LinearProbe(), features, y, cv=3)
    assert columns["accuracy"][3] == pytest.approx(scores.mean())
    assert columns["spread"][3] == pytest.approx(scores.std(ddof=1))
    error = np.sqrt(scores.mean() * (1 - scores.mean()) / 60)
    assert columns["error"][3] == pytest.approx(error)
    assert columns["rank_me"][3] == pytest.approx(rank_me(torch.from_numpy(features)))
    assert columns["alpha_req"][3] == pytest.approx(alpha_req(features))
    assert columns["uniformity"][3] == pytest.approx(uniformity(features))
    assert ssl.layer is None


def test_layer_report_encodes_once(ssl, monkeypatch):
    import sklearn_ssl.base._transformer

    passes, apply = [], sklearn_ssl.base._transformer.apply

    def counted(*args, **kwargs):
        passes.append(1)
        return apply(*args, **kwargs)

    monkeypatch.setattr(sklearn_ssl.base._transformer, "apply", counted)
    report = layer_report(ssl, X, layers=["conv", "out"], pools=("avg", "max", 2))
    assert len(report) == 6
    assert "accuracy" not in report
    assert len(passes) == 1


@pytest.mark.slow
def test_layer_report_leaves_out_what_has_no_label_or_cannot_be_read(tmp_path):
    for i, image in enumerate(X):
        Image.fromarray(image).save(tmp_path / f"{i:02}.png")
    (tmp_path / "05.png").write_bytes(b"broken")
    paths = [str(path) for path in sorted(tmp_path.glob("*.png"))]
    learner = small(SimCLR, on_error="skip")
    with pytest.warns(ImageReadWarning):
        learner.fit(paths)
    with pytest.warns(ImageReadWarning):
        report = layer_report(learner, paths, [*y[:50], *[None] * 10])
    known = np.delete(np.arange(60), 5)
    expected = layer_report(learner, X[known], np.where(known < 50, y[known], -1))
    assert report["accuracy"].tolist() == pytest.approx(expected["accuracy"].tolist())
    assert report["rank_me"].tolist() == pytest.approx(expected["rank_me"].tolist())


def test_layers_have_the_same_folds_and_errors_of_what_was_tested_on(ssl):
    seen = []

    class Watching(LinearProbe):
        def predict(self, X):
            seen.append(len(X))
            return super().predict(X)

    folds = ShuffleSplit(1, test_size=12)  # draws others each time that it is asked
    report = layer_report(
        ssl, X, y, layers=["out"], pools=("avg", "avg"), probe=Watching(), cv=folds
    )
    assert seen == [12, 12]
    assert report["accuracy"][0] == report["accuracy"][1]
    accuracy = report["accuracy"][0]
    assert report["error"][0] == pytest.approx(np.sqrt(accuracy * (1 - accuracy) / 12))
    assert np.isnan(report["spread"][0])
    with pytest.raises(ValueError, match="no column 'error'"):
        LayersDisplay(report.drop(columns="error")).plot()


# Comparisons


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
    table = compare(rivals, images, np.arange(60) % 3, n_labels=9, n_splits=1)
    assert seen == {"function": images.shape[1:], "after rows": (images[0].size,)}
    assert table["width"].tolist() == [images[0].size] * 2


@pytest.mark.slow
def test_compare_fits_with_several_seeds_and_never_sees_the_test_part():
    seen = []

    class Watching(PCA):
        def fit(self, X, y=None):
            seen.append((len(X), self.random_state))
            assert y is None
            return super().fit(X)

    images, labels = make_images(120), np.arange(120) % 3
    methods = {
        "pixels": "passthrough",
        "watch": Watching(4, random_state=5),
        "ssl": small(SimCLR),
        "untrained": small(SimCLR, max_epochs=0),
    }
    few = np.where(np.arange(120) < 100, labels, -1)
    options = {"n_labels": (2, 9, 30, 10_000), "n_splits": 2, "n_fits": 2}
    with pytest.warns(LabelWarning, match="are left out"):
        table = compare(methods, images, few, **options)
    assert table["method"].tolist() == [name for name in methods for _ in range(3)]
    assert table["n_labels"].tolist() == [2, 9, 30] * 4
    assert table["kind"].tolist() == ["rival"] * 6 + ["learner"] * 3 + ["rival"] * 3
    assert [n for n, _ in seen] == [120 - 25] * 2
    assert seen[0][1] == 5 != seen[1][1]  # as given, then another seed
    assert table["accuracy"].between(0, 1).all()
    assert table["spread_fits"].isna().tolist() == [True] * 3 + [False] * 9
    with pytest.warns(LabelWarning, match="are left out"):
        again = compare(methods, images, few, **options)
    assert table.drop(columns="seconds").equals(again.drop(columns="seconds"))
    with pytest.raises(ValueError, match="more than the 75 labels"):
        compare(methods, images, few, n_labels=1000)


def test_errors_of_a_comparison_are_those_of_a_plain_computation():
    images, labels = make_images(200, channels=1), np.arange(200) % 2
    images[labels == 1, 0] += 60
    first = {"a": "passthrough", "b": FunctionTransformer(lambda X: X[:, :2].reshape(len(X), -1))}

    right = {name: [] for name in first}

    class Recording(LinearProbe):
        def predict(self, X):
            found = super().predict(X)
            right["a" if X.shape[1] == 64 else "b"].append(found)
            return found

    table = compare(first, images, labels, n_labels=20, n_splits=4, probe=Recording())
    rng = np.random.RandomState(0)
    _, test = train_test_split(np.arange(200), test_size=50, stratify=labels, random_state=rng)
    a, b = (np.array(right[name]) == labels[np.sort(test)] for name in "ab")
    assert table["accuracy"].tolist() == pytest.approx([a.mean(), b.mean()])
    assert table["spread"].tolist() == pytest.approx([a.mean(1).std(ddof=1), b.mean(1).std(ddof=1)])
    test_error = a.mean(0).std(ddof=1) / np.sqrt(50)
    assert table["test_error"][0] == pytest.approx(test_error)
    assert table["error"][0] == pytest.approx(np.hypot(test_error, table["spread"][0] / 2))
    gain = a.astype(float) - b
    assert table["gain"].tolist() == pytest.approx([gain.mean(), -gain.mean()])
    error = np.hypot(gain.mean(0).std(ddof=1) / np.sqrt(50), gain.mean(1).std(ddof=1) / 2)
    assert table["gain_error"].tolist() == pytest.approx([error, error])
    # Welch and Satterthwaite: four draws and 50 images
    of_images, of_draws = gain.mean(0).std(ddof=1) / np.sqrt(50), gain.mean(1).std(ddof=1) / 2
    freedom = error**4 / (of_images**4 / 49 + of_draws**4 / 3)
    half = error * student.ppf(0.975, freedom)
    assert table["gain_low"].tolist() == pytest.approx([gain.mean() - half, -gain.mean() - half])
    assert table["gain_high"].tolist() == pytest.approx([gain.mean() + half, -gain.mean() + half])
    assert table["rival"].tolist() == ["b", "a"]


def test_intervals_hold_with_few_groups():
    """Two methods that are equal: 95 % of the intervals hold 0."""
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(3), 30)
    outside = 0
    for _ in range(400):
        shares = 0.5 + rng.uniform(-0.3, 0.3, (2, 3))[:, groups]  # each is better in some groups
        a, b = rng.random((2, 1, 1, 90)) < shares[:, None, None]
        gain, _, half = _gain(a, b, groups)
        outside += abs(gain) > half
    assert 5 <= outside <= 40  # 95 % of 400 within; as if by many groups it would be about 80


def test_a_supervised_rival_has_as_many_fits_where_all_labels_are_one_draw():
    images, labels = make_images(60, 8, 8), np.arange(60) % 2
    supervised = FineTunedClassifier(encoder=TinyNet, max_epochs=1, random_state=0)
    methods = {"supervised": supervised, "pixels": "passthrough"}
    table = compare(methods, images, labels, n_labels=[20, 45], n_splits=3, n_fits=3)
    rows = table[table["method"] == "supervised"].set_index("n_labels")
    assert np.isnan(rows.loc[20, "spread_fits"])  # each draw has another seed
    assert np.isnan(rows.loc[45, "spread"])
    assert rows.loc[45, "spread_fits"] >= 0
    assert compare(methods, images, labels, n_splits=1, n_fits=1)["n_labels"].tolist() == [45, 45]


def test_each_number_of_labels_counts_once():
    assert _sizes(None, 250) == [50, 250]
    assert _sizes(None, 60) == [50, 60]


def test_a_learner_alone_is_compared_with_its_usual_rivals():
    images = make_images(64, 16, 16)
    labels = (images.mean((1, 2, 3)) > np.median(images.mean((1, 2, 3)))).astype(int)
    table = compare(small(SimCLR), images, labels, n_splits=1, n_fits=1)
    names = ["pixels", "PCA", "HOG", "patches", "random encoder", "supervised", "SimCLR"]
    assert table["method"].tolist() == names
    assert table["n_labels"].unique().tolist() == [48]  # all that are there
    lines = verdict(table).splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("With 48 labels, SimCLR")
    assert "(one fit, so that ± has no spread over fits; one draw of labels, so" in lines[0]
    display = LabelsDisplay.from_table(table)
    check(display)
    assert "SimCLR" in display.ax_.get_title(loc="left")


def test_auto_features_is_a_learner_with_a_fast_supervised_rival(monkeypatch):
    images = make_images(64, 16, 16)
    labels = (images.mean((1, 2, 3)) > np.median(images.mean((1, 2, 3)))).astype(int)
    made = []
    monkeypatch.setattr(FineTunedClassifier, "fit", lambda self, *args: made.append(self))
    monkeypatch.setattr(FineTunedClassifier, "predict", lambda self, X: np.zeros(len(X)))
    table = compare(AutoFeatures(2.0, random_state=0), images, labels, n_splits=1, n_fits=1)
    assert table["method"].tolist()[-2:] == ["supervised", "AutoFeatures"]
    assert table["kind"].tolist() == ["rival"] * (len(table) - 1) + ["learner"]
    (network,) = made
    assert network.encoder == "small_convnet"
    assert network.optimizer == "muon"
    assert network.time_budget == max(1.0, table["seconds"].iloc[-1])
    names = [name for name, _ in _named(AutoFeatures(weights="a file"), images)]
    assert "frozen weights" in names


def test_a_classifier_that_finds_its_features_is_a_learner_and_a_plan_is_fitted_once():
    assert _is_trained(SelfSupervisedClassifier(time_budget=30.0))
    assert not _is_random(AutoFeatures(plan={"parts": {}, "seed": 0}))
    assert _is_random(AutoFeatures())


def test_a_comparison_shows_its_progress(capsys):
    images, labels = make_images(60, 8, 8), np.arange(60) % 2
    supervised = FineTunedClassifier(encoder=TinyNet, max_epochs=1, random_state=0)
    methods = {"network": supervised, "pixels": "passthrough", "ssl": small(SimCLR)}
    compare(methods, images, labels, n_labels=[20, 45], n_splits=2, n_fits=3, verbose=1)
    shown = capsys.readouterr().err
    assert "compare: network" in shown
    assert "9/9" in shown  # 2 draws and all labels 3 times, pixels once, 3 seeds


@pytest.mark.parametrize(
    ("learner", "encoder", "flip"),
    [
        (None, "small_convnet", 0.5),
        (SimCLR(views=Views(flip=0)), "small_convnet", 0),
        (SimCLR(encoder=TinyNet, views=Views(flip=0)), TinyNet, 0),
    ],
)
def test_a_supervised_network_is_that_of_the_learner_or_a_faster_one(learner, encoder, flip):
    network = _from_scratch(learner, 5.0)
    assert network.encoder is encoder or network.encoder == encoder
    assert network.views.flip == flip
    assert network.time_budget == 5.0


def test_files_are_compared_as_the_images_that_learners_read(tmp_path):
    images, labels = make_images(40), np.array(["a", "b"])[np.arange(40) % 2]
    for i, image in enumerate(images):
        Image.fromarray(image).save(tmp_path / f"{i:02}.png")
    methods = {
        "pixels": "passthrough",
        "PCA": PCA(4),
        "means": FunctionTransformer(lambda X: X.mean((1, 2))),
        "ssl": small(SimCLR),
    }
    options = {"n_labels": 20, "n_splits": 2, "n_fits": 1}
    table = compare(methods, tmp_path, labels, **options)
    known = compare(methods, images, labels, **options)
    assert table.drop(columns="seconds").equals(known.drop(columns="seconds"))


def test_files_that_cannot_be_read_are_left_out_of_a_comparison(tmp_path):
    images, labels = make_images(40), np.arange(40) % 2
    for i, image in enumerate(images):
        Image.fromarray(image).save(tmp_path / f"{i:02}.png")
    (tmp_path / "07.png").write_bytes(b"broken")
    methods = {"pixels": "passthrough", "ssl": small(SimCLR, on_error="skip")}
    options = {"n_labels": 20, "n_splits": 1, "n_fits": 1}
    with pytest.warns(ImageReadWarning):
        table = compare(methods, tmp_path, labels, **options)
    kept = np.delete(np.arange(40), 7)
    known = compare(methods, images[kept], labels[kept], **options)
    assert table.drop(columns="seconds").equals(known.drop(columns="seconds"))


def test_groups_are_on_one_side():
    seen = []

    class Watching(PCA):
        def fit(self, X, y=None):
            seen.append(X)
            return super().fit(X)

        def transform(self, X):
            seen.append(X)
            return super().transform(X)

    images = make_images(80)
    groups = np.arange(80) // 4
    images[:, 0, 0, 0] = groups
    options = {"n_labels": 20, "n_splits": 1, "n_fits": 1, "groups": groups}
    compare({"w": Watching(3)}, images, np.arange(80) % 2, **options)
    fitted, _, test = ({int(row[0]) for row in rows} for rows in seen)
    assert len(fitted) == 15
    assert not fitted & test
    with pytest.raises(ValueError, match="groups has 40"):
        compare({"w": PCA(3)}, images, np.arange(80) % 2, groups=groups[:40])


@pytest.mark.parametrize("table", [None, 3, "table", {}, np.zeros((2, 2))])
def test_a_verdict_wants_a_table(table):
    with pytest.raises(TypeError, match=r"table is .*; give a data frame"):
        verdict(table)


def test_a_verdict_says_what_the_table_says():
    import pandas

    row = {"method": "SimCLR", "kind": "learner", "n_labels": 50, "accuracy": 0.9, "rival": "PCA"}
    row |= {"spread": 0.02, "spread_fits": 0.02, "test_error": 0.01}
    said = {
        (0.08, 0.01, 0.02): "SimCLR is 8.0 ± 1.0 points above the best rival, PCA: worth it.",
        (-0.08, 0.01, 0.02): "SimCLR is 8.0 ± 1.0 points below the best rival, PCA: not worth it.",
        (0.01, 0.02, 0.04): "do not differ measurably (+1.0 ± 2.0 points): no gain shown.",
        # two fits say little: the interval is wider than twice the error
        (0.08, 0.01, 0.12): "do not differ measurably (+8.0 ± 1.0 points): no gain shown.",
        (0.0, 0.0, 0.0): "do not differ measurably (+0.0 ± 0.0 points): no gain shown.",
    }
    for (gain, error, half), ending in said.items():
        found = {"gain": gain, "gain_error": error}
        found |= {"gain_low": gain - half, "gain_high": gain + half}
        assert verdict(pandas.DataFrame([{**row, **found}])).endswith(ending)
    with pytest.raises(ValueError, match="gain_low"):
        verdict(pandas.DataFrame([row]))


def test_a_verdict_says_what_its_error_leaves_out():
    import pandas

    row = {"method": "SimCLR", "kind": "learner", "n_labels": 50, "accuracy": 0.9, "gain": 0.08}
    row |= {"gain_error": 0.01, "spread_fits": 0.01, "spread": 0.01, "test_error": 0.01}
    row |= {"gain_low": 0.06, "gain_high": 0.1}
    rival = {**row, "method": "PCA", "kind": "rival", "rival": "SimCLR", "spread_fits": np.nan}
    row["rival"] = "PCA"

    def said(change, of_rival):
        return verdict(pandas.DataFrame([{**row, **change}, {**rival, **of_rival}]))

    assert said({}, {}).endswith("PCA: worth it.")
    assert "one draw" in said({}, {"spread": np.nan})
    assert "one draw" in said({"spread": np.nan}, {})
    assert "one group to test on" in said({"test_error": np.nan}, {})
    # being above another learner does not say that learning was worth it
    assert said({}, {"kind": "learner"}).endswith("above the best rival, PCA.")


def test_one_group_to_test_on_has_no_error():
    images, groups = make_images(80), np.arange(80) % 4
    methods = {"a": "passthrough", "b": PCA(2, random_state=0)}
    once = compare(
        methods, images, np.arange(80) // 40, n_labels=20, n_splits=1, n_fits=1, groups=groups
    )
    assert once[["error", "gain_error", "gain_low", "gain_high"]].isna().all(axis=None)
    assert "points): no gain shown" in verdict(once.assign(kind=["rival", "learner"]))
    table = compare(methods, images, np.arange(80) // 40, n_labels=20, groups=groups)
    assert table["test_error"].isna().all()
    assert "(one group to test on, so that ± has no sampling error)" in verdict(table)


def test_numbers_of_labels_count_once_and_those_left_out_are_named():
    images, methods = make_images(80), {"a": "passthrough", "b": PCA(2, random_state=0)}
    options = {"n_splits": 2, "n_fits": 2}
    known = compare(methods, images, np.arange(80) % 2, n_labels=20, **options)
    with pytest.warns(LabelWarning, match=r"n_labels=\(61, 500\) are more than the 60 labels"):
        table = compare(methods, images, np.arange(80) % 2, n_labels=(20, 61, 20, 500), **options)
    assert table.drop(columns="seconds").equals(known.drop(columns="seconds"))


def test_the_best_rival_is_the_one_on_the_draws_that_both_have():
    right = np.zeros((1, 3, 20), bool)
    learner = _Result("learner", True, right={9: right.copy()})
    often, once = _Result("often", False), _Result("once", False)
    learner.right[9][:, 0] = True  # the first draw is an easy one
    often.right[9], once.right[9] = right.copy(), right[:, :1].copy()
    often.right[9][:, :, :6] = True
    once.right[9][:, :, :15] = True
    (row,) = _rows(learner, [learner, often, once], None)
    assert (row["rival"], row["gain"]) == ("often", pytest.approx(1 / 3 - 0.3))


@pytest.mark.slow
def test_what_was_trained_before_has_the_seconds_of_its_training(tmp_path):
    images, labels = make_images(60), np.arange(60) % 2
    ssl = small(SimCLR, max_epochs=30, memory=str(tmp_path / "memory"))
    options = {"n_labels": 20, "n_splits": 1, "n_fits": 1}
    first, again = (compare({"ssl": ssl}, images, labels, **options) for _ in range(2))
    assert again["seconds"][0] > first["seconds"][0] / 2
    fitted = small(SimCLR, max_epochs=30).fit(images)
    frozen = compare({"ssl": FrozenEstimator(fitted)}, images, labels, **options)
    assert frozen["seconds"][0] >= sum(epoch["seconds"] for epoch in fitted.history_)


def test_checkpoints_of_a_learner_do_not_end_a_comparison(tmp_path):
    images, labels = make_images(40), np.arange(40) % 2
    learner = small(SimCLR, checkpoint=str(tmp_path / "kept"))
    table = compare({"ssl": learner}, images, labels, n_labels=20, n_splits=1, n_fits=2)
    assert not (tmp_path / "kept").exists()
    assert table["spread_fits"].notna().all()


def test_classifiers_that_pretrain_get_images_without_labels():
    seen = []

    class Watching(SelfSupervisedClassifier):
        def fit(self, X, y):
            seen.append((len(X), int((np.asarray(y) >= 0).sum())))
            return super().fit(X, y)

    images, labels = make_images(60), np.arange(60) % 2
    methods = {"semi": Watching(small(SimCLR)), "rows": DecisionTreeClassifier(random_state=0)}
    compare(methods, images, labels, n_labels=20, n_splits=1, n_fits=1)
    assert seen == [(45, 20)]


@pytest.mark.slow
def test_the_usual_dictionary_reads_files_as_the_learner_does(tmp_path):
    for i, image in enumerate(make_images(40)):
        Image.fromarray(image).save(tmp_path / f"{i:02}.png")
    learner = small(SimCLR, image_shape=(8, 8, 1), on_error="skip")
    rivals = dict(_usual_rivals(learner, str(tmp_path)))
    assert rivals["patches"].image_shape == (8, 8, 1)
    assert rivals["patches"].on_error == "skip"
    table = compare({"PCA": rivals["PCA"], "s": learner}, tmp_path, np.arange(40) % 2, n_labels=9)
    assert table["width"][0] <= 64


def test_bad_arguments_of_a_comparison():
    methods = {"pixels": "passthrough"}
    wrong = [
        ({"transformers": {}}, "give at least one"),
        ({"transformers": {"a": "nothing"}}, "must be 'passthrough', 'supervised'"),
        ({"transformers": {"a": 3}}, "neither a transformer"),
        ({"transformers": [("a", PCA()), ("a", PCA())]}, "names must differ"),
        ({"transformers": 3}, "give a learner"),
        ({"y": np.arange(30) % 3}, "y has 30"),
        ({"y": np.full(60, -1)}, "no label"),
        ({"n_splits": 0}, "n_splits"),
        ({"n_labels": []}, "n_labels"),
        ({"n_labels": [1.5]}, "n_labels"),
        ({"frame": "other"}, "frame"),
    ]
    for change, message in wrong:
        given = {"transformers": methods, "X": X, "y": y, **change}
        with pytest.raises((ValueError, TypeError), match=message):
            compare(**given)


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


@pytest.mark.slow
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


def test_parts():
    parts = {name: PixelFeatures(input_size=side) for name, side in (("pixels", 2), ("more", 4))}
    plan = {"parts": parts, "seed": 0, "weights": {"pixels": 1.0}}
    auto = AutoFeatures(plan=plan).fit(X, y)
    display = PartsDisplay.from_estimator(auto)
    check(display)
    assert [t.get_text() for t in display.ax_.get_yticklabels()] == ["pixels", "more"]
    said = [text.get_text() for text in display.ax_.texts]
    score = auto.report_["score"][0]
    assert said[0] == f"12 features, weight 1.00, score {score:.2f} alone"
    assert said[1].startswith("48 features, not used")
    of_learner = SelfSupervisedClassifier(auto).fit(X, y)
    assert PartsDisplay.from_estimator(of_learner).report.equals(of_learner.learner_.report_)
    for wrong in (PixelFeatures().fit(X), AutoFeatures, None):
        with pytest.raises(TypeError, match="has no report_; give a fitted AutoFeatures"):
            PartsDisplay.from_estimator(wrong)
    with pytest.raises(NotFittedError):
        PartsDisplay.from_estimator(AutoFeatures())


def test_galleries(ssl):
    check(FeatureMapDisplay.from_estimator(ssl, X[:20]))
    check(FeatureMapDisplay.from_estimator(ssl, X, reducer=PCA(2)))
    views = ViewsDisplay.from_estimator(ssl, X[:3], n_views=4)
    check(views)
    np.testing.assert_allclose(views.images[:, 0], X[:3] / 255, atol=1e-6)


def test_neighbors_are_the_nearest(ssl):
    by_images = NeighborsDisplay.from_estimator(ssl, X, X[[5, 3, 9]], n_neighbors=4)
    by_rows = NeighborsDisplay.from_features(ssl.transform(X), X, [5, 3, 9], n_neighbors=4)
    distances = cosine_distances(ssl.transform(X))[[5, 3, 9]]
    distances[range(3), [5, 3, 9]] = np.inf  # themselves
    for display in (by_images, by_rows):
        check(display)
        np.testing.assert_array_equal(display.indices, distances.argsort(1)[:, :4])
        np.testing.assert_allclose(display.distances, np.sort(distances, 1)[:, :4], atol=1e-6)
        assert display.images.shape == (3, 5, 8, 8, 3)
        np.testing.assert_allclose(display.images[:, 0], X[[5, 3, 9]] / 255, atol=1e-6)
        np.testing.assert_allclose(display.images[:, 1:], X[display.indices] / 255, atol=1e-6)


def test_another_copy_of_the_query_is_a_neighbor(ssl):
    twice = np.concatenate([X[:9], X[:1]])
    for display in (
        NeighborsDisplay.from_estimator(ssl, twice, X[:1], n_neighbors=2),
        NeighborsDisplay.from_features(ssl.transform(twice), twice, [0], n_neighbors=2),
    ):
        assert display.distances[0, 0] < 1e-6 < display.distances[0, 1]
    others = NeighborsDisplay.from_estimator(ssl, X[1:9], X[:1], n_neighbors=7)  # it is not there
    assert others.distances.min() > 1e-6


def legend(display):
    return [text.get_text() for text in display.ax_.get_legend().get_texts()]


def test_a_map_has_the_colors_of_labels(ssl):
    names = np.array(["cat", "dog", "emu"], dtype=object)[y]
    names[:2] = None
    by_estimator = FeatureMapDisplay.from_estimator(ssl, X, names, reducer=PCA(2))
    by_features = FeatureMapDisplay.from_features(ssl.transform(X), X, names, reducer=PCA(2))
    for display in (by_estimator, by_features):
        check(display)
        assert legend(display) == ["cat", "dog", "emu", "no label"]
        colors = [patch.get_edgecolor() for patch in display.ax_.patches]
        assert len(colors) == 60
        assert colors[0] == colors[1]
        assert len(set(colors[2:])) == 3
        assert all(colors[i] == colors[i + 3] for i in range(2, 57))
    np.testing.assert_array_equal(by_estimator.places, by_features.places)
    np.testing.assert_allclose(by_estimator.images, by_features.images, atol=1e-6)
    integers = FeatureMapDisplay.from_features(ssl.transform(X), None, y - 1, reducer=PCA(2))
    assert legend(integers) == ["0", "1", "no label"]


def test_a_map_has_a_color_bar_of_numbers(ssl):
    ages = np.where(y == 0, np.nan, y + 0.5)
    display = FeatureMapDisplay.from_features(ssl.transform(X), None, ages, reducer=PCA(2))
    check(display)
    assert len(display.figure_.axes) == 2  # the other one is the bar
    low, high = display.figure_.axes[1].get_ylim()
    assert (low, high) == (1.5, 2.5)


@pytest.mark.parametrize("shape", [(1, 5), (2, 5), (3, 3), (4, 5), (9, 1), (9, 2)])
def test_a_map_of_few_images_or_features(shape):
    features = np.random.default_rng(0).normal(size=shape)
    assert FeatureMapDisplay.from_features(features).places.shape == (shape[0], 2)


@pytest.mark.filterwarnings("ignore::sklearn_ssl.exceptions.ImageReadWarning")
def test_files_that_are_skipped_are_left_out(tmp_path):
    paths = []
    for row, image in enumerate(X[:12]):
        paths.append(tmp_path / f"{row}.png")
        Image.fromarray(image).save(paths[-1])
    paths[3].write_bytes(b"no image")
    ssl = small(SimCLR, on_error="skip").fit(paths)
    features = ssl.transform(paths)
    shown = FeatureMapDisplay.from_estimator(ssl, paths, y[:12], reducer=PCA(2))
    near = NeighborsDisplay.from_estimator(ssl, paths, paths[2:5], n_neighbors=10)
    left = np.delete(np.arange(12), 3)
    again = FeatureMapDisplay.from_features(features, paths, y[:12], reducer=PCA(2))
    for display in (shown, again):
        np.testing.assert_array_equal(display.rows, left)
        np.testing.assert_array_equal(display.labels, y[left])
        np.testing.assert_allclose(display.images, X[left] / 255, atol=1e-6)
    by_rows = NeighborsDisplay.from_features(features, paths, [2, 3, 4], n_neighbors=10)
    np.testing.assert_array_equal(near.rows, [0, 2])
    np.testing.assert_array_equal(by_rows.rows, [2, 4])
    for display in (near, by_rows):
        assert not np.isnan(display.images).any()
        np.testing.assert_array_equal(np.sort(display.indices[0]), np.delete(left, 2))
    with pytest.raises(ValueError, match=r"n_neighbors=11 .* 11"):
        NeighborsDisplay.from_features(features, paths, [2], n_neighbors=11)
    with pytest.raises(ValueError, match=r"y has shape \(12, 2\); give one label for each"):
        FeatureMapDisplay.from_features(features, paths, np.full((12, 2), 0.5), reducer=PCA(2))


@pytest.mark.parametrize("Learner", [Autoencoder, ContextEncoder, Colorization])
def test_reconstructions(Learner):
    display = ReconstructionDisplay.from_estimator(small(Learner).fit(X), X[:4])
    check(display)
    assert display.images.shape == (2, 4, 8, 8, 3)
    with pytest.raises(ValueError, match="SimCLR cannot reconstruct images"):
        ReconstructionDisplay.from_estimator(small(SimCLR).fit(X), X)


def test_what_a_display_hides_is_what_is_painted():
    ssl = small(ContextEncoder).fit(X)
    left = np.zeros((8, 8), bool)
    left[:, :4] = True
    display = ReconstructionDisplay.from_estimator(ssl, X[:2], mask=left.tolist())
    np.testing.assert_array_equal(display.images[0, :, :, :4], 0.5)
    np.testing.assert_array_equal(display.images[0, :, :, 4:], display.images[1, :, :, 4:])
    with pytest.raises(ValueError, match=r"mask has shape \(3, 3\)"):
        ReconstructionDisplay.from_estimator(ssl, X[:2], mask=np.ones((3, 3), bool))


# No picture and no report changes what it looks at

_LOOKS = {
    "layer_report": lambda ssl: layer_report(ssl, X, y),
    "compare": lambda ssl: compare({"it": ssl}, X, y, n_labels=(6,)),
    "TrainingDisplay": TrainingDisplay.from_estimator,
    "LayersDisplay": lambda ssl: LayersDisplay.from_estimator(ssl, X, y),
    "FeatureMapDisplay": lambda ssl: FeatureMapDisplay.from_estimator(ssl, X[:9]),
    "NeighborsDisplay": lambda ssl: NeighborsDisplay.from_estimator(ssl, X, X[:3]),
    "ViewsDisplay": lambda ssl: ViewsDisplay.from_estimator(ssl, X[:3]),
    "ReconstructionDisplay": lambda ssl: ReconstructionDisplay.from_estimator(ssl, X[:3]),
}


def test_all_ways_to_look_are_above():
    # take none
    others = {"LabelsDisplay", "MeasureMonitor", "PartsDisplay", "ProbeMonitor", "verdict"}
    assert set(inspection.__all__) - others == set(_LOOKS)


def _saved(ssl, path):
    """What is in the file: the header, whose keys come in any order, and the bits of tensors."""
    ssl.save(path)
    content = path.read_bytes()
    end = 8 + int.from_bytes(content[:8], "little")
    return json.loads(content[8:end]), content[end:]


@pytest.mark.slow
@pytest.mark.parametrize("look", _LOOKS.values(), ids=_LOOKS)
def test_looking_changes_nothing(look, tmp_path):
    ssl = small(Autoencoder, random_state=None).fit(X)
    saved, hashed = _saved(ssl, tmp_path / "ssl"), joblib.hash(ssl)
    look(ssl)
    assert _saved(ssl, tmp_path / "ssl") == saved
    assert joblib.hash(ssl) == hashed


@pytest.mark.parametrize("method", ["fit", "fit_transform", "partial_fit", "transform", "save"])
def test_a_display_calls_nothing_but_what_makes_images(method):
    ssl = small(Autoencoder, random_state=None).fit(X)
    before = joblib.hash(ssl)
    with pytest.raises(ValueError, match=f"method='{method}' must be None or .*'reconstruct'"):
        ReconstructionDisplay.from_estimator(ssl, X[:9], method=method)
    assert joblib.hash(ssl) == before


def test_a_reducer_is_fitted_as_a_clone(ssl):
    reducer = PCA(2)
    FeatureMapDisplay.from_estimator(ssl, X[:9], reducer=reducer)
    assert not hasattr(reducer, "components_")


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
    assert all({"probe", "linear", "rank_me", "alpha"} <= row.keys() for row in ssl.history_)
    assert ssl.history_[-1]["rank_me"] == pytest.approx(ssl.score(X[:30]))
    assert ssl.history_[-1]["rank_me"] == ssl.history_[-1]["rank"]
    assert 0 < ssl.history_[-1]["spread"] < 2
    again = clone(ssl).fit(X)
    assert again.history_[-1]["alpha"] == ssl.history_[-1]["alpha"]


def test_an_epoch_without_a_measurement_has_the_last_value():
    values = iter([3.0, 2.0, 1.0, 0.0])
    monitor = MeasureMonitor(X[:30], lambda features: next(values), every=2, name="fell")
    stop = EarlyStopping(monitor="fell", patience=3)
    ssl = small(SimCLR, max_epochs=5, callbacks=[monitor, stop]).fit(X)
    assert [row["fell"] for row in ssl.history_] == [3.0, 2.0, 2.0, 1.0, 0.0]


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["same", "same"], "several that record name='same'"),
        (["lr"], "name='lr', which the history already has"),
    ],
)
def test_a_name_of_two_values_is_an_error(names, message):
    monitors = [MeasureMonitor(X[:30], name=name) for name in names]
    with pytest.raises(ValueError, match=message):
        small(SimCLR, callbacks=monitors).fit(X)


@pytest.mark.parametrize(
    ("callbacks", "message"),
    [
        (
            [EarlyStopping(monitor="rank_me"), MeasureMonitor(X)],
            "before the MeasureMonitor that records it",
        ),
        ([MeasureMonitor(X, layer="conf")], r"layer='conf' .* Did you mean 'conv'"),
        (
            [ProbeMonitor(X[:4], np.arange(4))],
            "cv=3 needs 3 labels of a class, but y has at most 1",
        ),
    ],
    ids=["order", "layer", "rare"],
)
def test_monitors_are_checked_before_anything_is_trained(callbacks, message):
    with pytest.raises(ValueError, match=message):
        small(SimCLR, callbacks=[*callbacks, Untrained()]).fit(X)


class Untrained(Callback):
    def on_batch_begin(self, net, **kwargs):
        raise AssertionError("it is trained")


def test_a_report_with_fewer_labels_than_folds():
    with pytest.raises(ValueError, match="cv=3 needs 3 labels of a class, but y has at most 2"):
        layer_report(small(SimCLR).fit(X), X[:8], np.arange(8) % 4)


def test_a_comparison_of_what_has_gaps():
    images = make_images(40).astype(float)
    images[5, 2, 2] = np.nan
    with pytest.raises(ValueError, match="contains NaN or infinity, first in row 5"):
        compare({"pixels": "passthrough"}, images, np.arange(40) % 2)
    groups = [*"abc", None, *"d" * 36]
    with pytest.raises(ValueError, match="groups has no group in row 3"):
        compare({"pixels": "passthrough"}, images, np.arange(40) % 2, groups=groups)


def test_monitors_warn_of_images_in_another_range():
    floats = X / 255.0
    with pytest.warns(PixelRangeWarning):
        small(SimCLR, callbacks=[MeasureMonitor(200 * floats[:30])]).fit(floats)


def test_monitors_read_images_as_the_learner_does():
    planes = np.ascontiguousarray(X.transpose(0, 3, 1, 2))
    ssl = small(SimCLR, channel_order="first", callbacks=[MeasureMonitor(planes[:30])]).fit(planes)
    assert ssl.history_[-1]["rank_me"] == pytest.approx(ssl.score(planes[:30]))


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
