"""Features within a time budget, and what is chosen for them."""

import pickle
import shutil
import signal
import time

import numpy as np
import pandas as pd
import pytest
import torch
import torchvision
from conftest import TinyNet, make_images
from PIL import Image
from sklearn import config_context
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.svm import LinearSVC
from sklearn.utils.estimator_checks import parametrize_with_checks

from sklearn_ssl import (
    AutoFeatures,
    ColorHistogram,
    FineTunedClassifier,
    KernelProbe,
    LinearProbe,
    PatchDictionary,
    PixelFeatures,
    PretrainedEncoder,
    SelfSupervisedClassifier,
    SelfSupervisedRegressor,
    SimCLR,
    Views,
    load,
)
from sklearn_ssl.auto._plan import Speeds, measured, planned
from sklearn_ssl.auto._weighing import Labels
from sklearn_ssl.exceptions import (
    ImageReadWarning,
    InterruptionWarning,
    LittleTrainingWarning,
    MemoryWarning,
    TrainingInterrupted,
)
from sklearn_ssl.training import PretextNet

X = make_images(60)
y = np.arange(60) % 3
DIGITS = load_digits()
X_OF_DIGITS = DIGITS.images[:10]
SLOW = pytest.mark.slow
HALF = np.where(np.arange(60) % 2 == 0, y, -1)


def plan(**more):
    """A plan with a part of each kind, that takes a moment."""
    learner = SimCLR(
        encoder=TinyNet, layer=["conv", "out"], batch_size=4, time_budget=1.0, pool="avg"
    )
    parts = {
        "pixels": PixelFeatures(input_size=2),
        "dictionary": PatchDictionary(n_atoms=5, patch_size=1),
        "learner": learner,
    }
    timetable = [(0, 0.0), (3, 1.0)]
    weights = {"pixels": 0.2, "dictionary": 0.3, "learner": 0.5}
    return {"parts": parts, "seed": 0, "timetable": timetable, "weights": weights, **more}


@pytest.fixture(scope="module")
def fitted():
    return AutoFeatures(plan=plan()).fit(X)


@pytest.mark.filterwarnings("ignore")
@parametrize_with_checks(
    [AutoFeatures(plan={"parts": {"pixels": PixelFeatures(input_size=2)}, "seed": 0})]
)
def test_scikit_learn_check(estimator, check):
    check(estimator)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@parametrize_with_checks([AutoFeatures(plan=plan())])
def test_scikit_learn_check_of_all_parts(estimator, check):
    check(estimator)


# What a fit decides


@pytest.mark.parametrize(
    "labels",
    [HALF, *(pytest.param(other, marks=SLOW) for other in (None, HALF / 7, np.eye(3)[y]))],
)
def test_a_fit_by_the_clock_is_repeated_without_it(labels):
    auto = AutoFeatures(2.0, random_state=0)
    features = auto.fit_transform(X, labels)
    assert features.dtype == np.float32
    np.testing.assert_array_equal(features, auto.transform(X))
    again = AutoFeatures(plan=auto.plan_)
    np.testing.assert_array_equal(again.fit_transform(X), features)
    np.testing.assert_array_equal(clone(again).fit(X).transform(X), features)
    report = auto.report_
    assert list(report["part"]) == list(auto.plan_["parts"])
    assert ("pixels" in auto.plan_["parts"]) == (labels is not None)
    assert report["weight"].sum() == pytest.approx(1)
    assert report["score"].isna().all() == (labels is None)


def test_features_have_a_mean_variance_of_1_and_parts_have_their_weights(fitted):
    features = fitted.transform(X)
    assert features.var(0).mean() == pytest.approx(1, abs=0.01)
    names = fitted.get_feature_names_out()
    assert len(names) == features.shape[1]
    for part, weight in fitted.weights_.items():
        own = np.char.startswith(names.astype(str), part)
        share = features[:, own].var(0).sum() / features.var(0).sum()
        assert share == pytest.approx(weight, rel=0.02)


def test_a_part_that_tells_nothing_gets_no_weight():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 200)
    pixels = np.full((200, 8, 8, 1), 100.0) + 100 * labels[:, None, None, None]
    pixels += rng.normal(0, 10, pixels.shape)  # contrast, which patches see, is noise
    parts = {
        "pixels": PixelFeatures(input_size=2),
        "dictionary": PatchDictionary(n_atoms=20, patch_size=3),
    }
    auto = AutoFeatures(plan={"parts": parts, "seed": 0})
    auto.fit(pixels.clip(0, 255).astype(np.uint8), labels)
    assert auto.weights_ == {"pixels": 1.0}
    scores = dict(zip(auto.report_["part"], auto.report_["score"], strict=True))
    assert scores["pixels"] > 0.99
    assert scores["dictionary"] < 0.7


def test_colors_get_a_weight_where_they_matter():
    rng = np.random.default_rng(0)
    shape, color = rng.integers(0, 2, (2, 400))
    stripes = np.where(np.arange(8) % 2, 30, -30) + np.zeros((8, 8))
    images = np.where(shape[:, None, None], stripes, stripes.T) + 25 * color[:, None, None]
    images = (images + rng.normal(100, 10, images.shape))[..., None]
    parts = {
        "colors": ColorHistogram(n_colors=8),
        "dictionary": PatchDictionary(n_atoms=20, patch_size=3),
    }
    auto = AutoFeatures(plan={"parts": parts, "seed": 0})
    images = images.clip(0, 255).astype(np.uint8)
    auto.fit(images, np.where(np.arange(400) < 300, 2 * shape + color, -1))
    assert 0.1 <= auto.weights_["colors"] < 0.4
    assert auto.fit(images).weights_ == {"dictionary": 0.9, "colors": 0.1}


@pytest.mark.parametrize(
    ("labels", "kind"),
    [
        (None, "none"),
        (HALF, "classes"),
        (HALF / 7, "numbers"),
        (np.arange(60) ** 2 * 7, "classes"),
        (np.arange(600), "numbers"),
        (["1.5", "2.5"] * 30, "classes"),
        (np.ma.masked_array([0.5, *[1.0, 2.0] * 30], [True, *[False] * 60]), "classes"),
        ([None, "a", "b"] * 20, "classes"),
        ([None, 1.5, 2] * 20, "numbers"),
        (np.eye(3)[y], "several"),
    ],
)
def test_labels_are_classes_or_numbers(labels, kind):
    assert Labels(labels, 0 if labels is None else len(labels)).kind == kind


@pytest.mark.parametrize("labels", [np.zeros(60), np.where(np.arange(60) < 30, 1, -1) * 2])
def test_labels_of_one_class_choose_nothing(labels):
    given = plan()
    del given["weights"]
    auto = AutoFeatures(plan=given).fit(X, np.where(labels == -2, -1, labels))
    assert auto.report_["score"].isna().all()
    with pytest.raises(ValueError, match="only one class"):
        SelfSupervisedClassifier(time_budget=9.0).fit(X, np.where(labels == -2, -1, labels))


def test_digits_are_not_mirrored_and_blobs_are():
    assert not measured(DIGITS.images, {}, 60.0)[1]
    blobs = make_images(256, 16, 16)
    blobs[::2] = blobs[::2, :, ::-1]
    assert measured(blobs, {}, 60.0)[1]


def of_networks(seconds):
    """Seconds of each network that a plan may use."""
    return {"small_convnet": seconds, "wide_convnet": 3 * seconds}


@pytest.fixture
def usual_speeds(monkeypatch):
    """Plan for a machine of usual speed, whatever this one does besides."""
    speeds = Speeds((8, 8, 1), 1e-5, 1e-4, 1e-6, 1e-11, of_networks(1e-3), of_networks(1e-4))
    monkeypatch.setattr("sklearn_ssl.auto._auto_features.measured", lambda *_: (speeds, False))
    monkeypatch.setattr("sklearn_ssl.auto._plan._LEAST_SECONDS", 0.8)


def test_more_time_gives_more_parts(usual_speeds):
    few, more = (AutoFeatures(s, random_state=0).fit(DIGITS.images) for s in (0.5, 3.0))
    assert "learner" not in few.plan_["parts"]
    assert list(more.plan_["parts"]) == ["dictionary", "learner"]
    assert more.plan_["parts"]["learner"].time_budget < 3


@pytest.mark.slow
@pytest.mark.parametrize("labels", [None, y[:8]])
def test_pretrained_weights_are_a_part(labels, tmp_path, monkeypatch):
    file = tmp_path / "weights.pth"
    torch.save(torchvision.models.mobilenet_v3_small().state_dict(), file)
    params = {"encoder": "mobilenet_v3_small", "weights": file}
    speeds, _ = measured(X[:8], {}, 60.0, PretrainedEncoder(**params, pool="avg"))
    assert speeds.frozen_width == 576
    speeds.frozen = 1e-4  # there is time, whatever this machine does besides
    monkeypatch.setattr("sklearn_ssl.auto._auto_features.measured", lambda *_: (speeds, False))
    auto = AutoFeatures(1.0, **params, random_state=0).fit(X[:8], labels)
    part = auto.plan_["parts"]["frozen"]
    assert part.layer == part.fit(X[:2]).encoder_.last_layer
    assert auto.report_.set_index("part")["width"]["frozen"] == 576
    if labels is None:
        assert auto.weights_["frozen"] in (pytest.approx(0.7), 1.0)
    assert np.isfinite(auto.transform(X[:8])).all()


@pytest.mark.parametrize("most", [388, *(pytest.param(n, marks=SLOW) for n in (1000, 5000))])
def test_no_more_features_than_asked_for(most, usual_speeds):
    auto = AutoFeatures(3.0, max_features=most, random_state=0).fit(DIGITS.images, DIGITS.target)
    assert most / 2.5 < auto.report_["width"][1:].sum() <= most
    assert auto.transform(DIGITS.images[:2]).shape[1] <= most


@pytest.mark.parametrize(("counting", "is_there"), [(1e-5, True), (1e-3, False)])
def test_colors_must_not_take_the_time_of_other_parts(counting, is_there):
    speeds = Speeds((8, 8, 3), 1e-5, 1e-4, 1e-6, 1e-11, of_networks(1e-3), of_networks(1e-4))
    speeds.counting = counting
    for seconds, most in ((1000.0, 3e-3), (10.0, None)):
        parts = planned(speeds, False, seconds, 5000, 5000, True, None, None, most)
        assert ("colors" in parts) == is_there
        assert "dictionary" in parts


def test_without_labels_colors_are_counted_where_there_are_any():
    speeds = Speeds((8, 8, 3), 1e-5, 1e-4, 1e-6, 1e-11, of_networks(1e-3), of_networks(1e-4))
    speeds.counting = 1e-5
    assert "colors" in planned(speeds, False, 100.0, 5000, 5000, False, None, None, None)
    frozen = PretrainedEncoder(encoder="small_convnet", weights=None)  # sees colors itself
    assert "colors" not in planned(speeds, False, 100.0, 5000, 5000, False, frozen, None, None)
    speeds.image_shape = (8, 8, 1)
    assert "colors" not in planned(speeds, False, 100.0, 5000, 5000, False, None, None, None)


@pytest.mark.slow
def test_a_short_time_to_encode_is_kept_by_fewer_atoms(usual_speeds, monkeypatch):
    monkeypatch.setattr("sklearn_ssl.auto._plan._LEAST_SECONDS", 1e9)  # the dictionary alone
    slow, fast = (
        AutoFeatures(60.0, max_seconds_per_image=limit, random_state=0).fit(DIGITS.images)
        for limit in (None, 4e-4)
    )
    n_atoms = [auto.plan_["parts"]["dictionary"].n_atoms for auto in (slow, fast)]
    assert n_atoms[0] > n_atoms[1] == 200


@pytest.mark.parametrize(
    ("params", "part"),
    [
        ({"time_budget": 0}, "time_budget"),
        ({"max_features": 100}, "max_features=100 must be at least 388.*PCA"),
        ({"plan": {"parts": 3, "seed": 0}}, "plan_ of a fitted AutoFeatures"),
        ({"plan": {"parts": {}, "colour": 0}}, "plan has the keys"),
    ],
)
def test_bad_arguments(params, part):
    with pytest.raises(ValueError, match=part):
        AutoFeatures(**params).fit(X)


def test_several_processes_need_a_plan(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(RuntimeError, match=r"2 were started together.*plan=auto\.plan_"):
        AutoFeatures(1.0).fit(X)


def test_images_given_as_labels_are_refused():
    with pytest.raises(ValueError, match="X_unlabeled"):
        AutoFeatures(plan=plan()).fit(X, X)


# As everywhere


def test_more_images(fitted):
    auto = AutoFeatures(plan=plan()).fit(X, X_unlabeled=make_images(30, seed=1))
    assert not np.array_equal(auto.transform(X), fitted.transform(X))


def test_in_a_pipeline():
    pipe = make_pipeline(AutoFeatures(plan=plan()), LogisticRegression())
    bright = (X.mean((1, 2, 3)) > np.median(X.mean((1, 2, 3)))).astype(int)
    assert pipe.fit(X, bright).score(X, bright) > 0.9


def test_files(tmp_path):
    of_names = plan()
    of_names["parts"]["learner"].set_params(encoder="small_resnet", layer=["stem", "layer4"])
    fitted = AutoFeatures(plan=of_names).fit(X)
    fitted.save(tmp_path / "auto")
    for again in (load(tmp_path / "auto"), pickle.loads(pickle.dumps(fitted))):
        np.testing.assert_array_equal(again.transform(X), fitted.transform(X))
        assert again.weights_ == fitted.weights_
        np.testing.assert_array_equal(clone(again).fit(X).transform(X), fitted.transform(X))
        assert list(again.report_["part"]) == list(fitted.report_["part"])


def test_a_module_of_torch():
    auto = AutoFeatures(plan=plan(), precision="float32").fit(X)
    found = auto.to_torch()(torch.from_numpy(X).permute(0, 3, 1, 2)).numpy()
    np.testing.assert_allclose(found, auto.transform(X), atol=1e-3)


@pytest.mark.slow
def test_onnx(tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    auto = AutoFeatures(plan=plan(), precision="float32").fit(X)
    auto.export_onnx(tmp_path / "model.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
    found = session.run(None, {"pixels": np.ascontiguousarray(X.transpose(0, 3, 1, 2))})[0]
    np.testing.assert_allclose(found, auto.transform(X), atol=1e-2)


def test_data_frames(fitted):
    found = clone(fitted).set_output(transform="pandas").fit(X).transform(X)
    np.testing.assert_array_equal(found.to_numpy(), fitted.transform(X))
    assert list(found.columns) == list(fitted.get_feature_names_out())


def test_a_global_wish_for_data_frames(fitted):
    with config_context(transform_output="pandas"):
        found = AutoFeatures(plan=plan()).fit_transform(X, y)
        classifier = SelfSupervisedClassifier(time_budget=2.0, random_state=0).fit(X, y)
    np.testing.assert_array_equal(found.to_numpy(), fitted.transform(X))
    assert classifier.predict(X).shape == (60,)


def test_files_that_cannot_be_read(tmp_path):
    paths = [str(tmp_path / f"{i}.png") for i in range(60)]
    for path, image in zip(paths, X, strict=True):
        Image.fromarray(image).save(path)
    (tmp_path / "3.png").write_bytes(b"no image")
    auto = AutoFeatures(plan=plan(), on_error="skip")
    with pytest.warns(ImageReadWarning, match="1 of 60 images could not be read") as told:
        features = auto.fit_transform(paths, y)
    assert len(told) == 2  # in the fit, and in the result; not by each part
    assert np.isnan(features[3]).all()
    assert np.isfinite(np.delete(features, 3, axis=0)).all()


def test_an_image_that_one_part_cannot_encode_has_no_features(fitted, monkeypatch):
    transform = PatchDictionary.transform

    def broken(self, images):
        found = transform(self, images)
        found[2] = np.nan
        return found

    monkeypatch.setattr(PatchDictionary, "transform", broken)
    features = fitted.transform(X)
    assert np.isnan(features[2]).all()
    assert np.isfinite(np.delete(features, 2, axis=0)).all()


def test_ctrl_c_keeps_what_was_learned(monkeypatch):
    auto = AutoFeatures(plan=plan(timetable=[(0, 0.0), (400, 1.0)]))
    forward, calls = TinyNet.forward, []

    def interrupted(self, images):
        calls.append(len(images))
        if len(calls) == 30:
            signal.raise_signal(signal.SIGINT)
        return forward(self, images)

    monkeypatch.setattr(TinyNet, "forward", interrupted)
    with (
        pytest.warns(InterruptionWarning, match="AutoFeatures keeps"),
        pytest.raises(TrainingInterrupted),
    ):
        auto.fit(X)
    assert len(auto.plan_["timetable"]) == 2

    def limited(self, images):
        calls.append(len(images))
        assert len(calls) < 300, "the training does not end"
        return forward(self, images)

    monkeypatch.setattr(TinyNet, "forward", limited)
    again = AutoFeatures(plan=auto.plan_).fit(X)  # as many steps
    np.testing.assert_array_equal(again.transform(X), auto.transform(X))


def test_a_fit_goes_on_from_its_checkpoint(tmp_path, monkeypatch):
    """What the dictionary has learned is not learned again; the training goes on."""
    given = plan(timetable=[(0, 0.0), (8, 1.0)])
    given["parts"]["learner"].set_params(encoder="small_resnet", layer=["stem", "layer4"])
    auto = AutoFeatures(plan=given, checkpoint=tmp_path / "fit")
    whole = clone(auto).set_params(checkpoint=None).fit(X)
    learned, stopping, learn = [], [True], PatchDictionary._learn

    def interrupted(self, net, **kwargs):
        if stopping and self.progress_.done == 3:
            signal.raise_signal(signal.SIGINT)

    def counted(self, net, images):
        learned.append(len(images))
        learn(self, net, images)

    monkeypatch.setattr(PretextNet, "on_batch_end", interrupted)
    monkeypatch.setattr(PatchDictionary, "_learn", counted)
    with pytest.warns(InterruptionWarning), pytest.raises(TrainingInterrupted):
        auto.fit(X)
    assert learned == [60]
    with pytest.raises(ValueError, match="has another fit: max_features was None and is 900"):
        clone(auto).set_params(max_features=900).fit(X)
    stopping.clear()
    again = clone(auto).fit(X)
    assert learned == [60]
    np.testing.assert_array_equal(again.transform(X), whole.transform(X))


def test_a_checkpoint_of_other_images_is_refused(tmp_path):
    given = plan()
    given["parts"]["learner"].set_params(encoder="small_resnet", layer=["stem", "layer4"])
    auto = AutoFeatures(plan=given, checkpoint=tmp_path / "fit").fit(X, y)
    for images, labels, more in ((X[::-1], y, None), (X, y[::-1], None), (X, y, X)):
        with pytest.raises(ValueError, match="has another fit"):
            clone(auto).fit(images, labels, X_unlabeled=more)
    clone(auto).fit(X, y)


def test_time_until_an_interruption_counts(tmp_path, usual_speeds, monkeypatch):
    monkeypatch.setattr("sklearn_ssl.auto._plan._LEAST_SECONDS", 0.0)
    auto = AutoFeatures(4.0, checkpoint=tmp_path / "fit", random_state=0)

    def interrupted(self, net, images):
        time.sleep(2.5)
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(PatchDictionary, "_learn", interrupted)
        with pytest.raises(KeyboardInterrupt):
            auto.fit(X)
    assert auto.fit(X).plan_["parts"]["learner"].time_budget < 1.5


def test_a_fit_that_goes_on_has_the_time_that_was_left(tmp_path, usual_speeds, monkeypatch):
    monkeypatch.setattr("sklearn_ssl.auto._plan._LEAST_SECONDS", 0.0)
    auto = AutoFeatures(2.0, checkpoint=tmp_path / "fit", random_state=0).fit(X)
    again = clone(auto).fit(X)  # the time is over
    np.testing.assert_array_equal(again.transform(X), auto.transform(X))
    assert again.plan_["timetable"] == auto.plan_["timetable"]


@pytest.mark.parametrize("most_bytes", [0, 2**30])
def test_an_equal_fit_comes_from_the_cache(most_bytes, tmp_path, usual_speeds, monkeypatch):
    monkeypatch.setattr("sklearn_ssl.auto._fit_cache._MOST_BYTES", most_bytes)
    auto = AutoFeatures(1.0, memory=tmp_path, random_state=0)
    features = auto.fit_transform(X, y)

    def fitted_anew(*args):
        raise AssertionError("fitted anew")

    monkeypatch.setattr(AutoFeatures, "_fit_now", fitted_anew)
    again = clone(auto)
    again.left_over_ = "of another fit"
    np.testing.assert_array_equal(again.fit_transform(X.copy(), y), features)
    assert vars(again).keys() == vars(auto).keys()
    assert again.report_.equals(auto.report_)
    assert repr(again.plan_) == repr(auto.plan_)
    np.testing.assert_array_equal(again.transform(X), auto.transform(X))
    others = [
        (clone(auto).set_params(time_budget=2.0), X, y, None),
        (clone(auto).set_params(random_state=1), X, y, None),
        (auto, X[::-1], y, None),
        (auto, X, HALF, None),
        (auto, X, y, X),
    ]
    for other, images, labels, more in others:
        with pytest.raises(AssertionError, match="fitted anew"):
            other.fit_transform(images, labels, X_unlabeled=more)
    with pytest.raises(AssertionError, match="fitted anew"):
        auto.fit(X, y)  # another plan, as no features are asked for


def test_settings_and_names_are_not_those_of_a_cached_fit(tmp_path):
    auto = AutoFeatures(plan=plan(), memory=tmp_path)
    table = pd.DataFrame(X[..., 0].reshape(60, -1)).add_prefix("a")
    auto.set_params(plan={"parts": {"pixels": PixelFeatures(input_size=2)}, "seed": 0})
    assert isinstance(clone(auto).fit_transform(table), np.ndarray)
    as_frame = clone(auto).set_output(transform="pandas")
    assert isinstance(as_frame.fit(table).transform(table), pd.DataFrame)
    assert isinstance(clone(auto).fit(table).transform(table), np.ndarray)
    other = table.rename(columns=lambda name: name.replace("a", "b"))
    assert clone(auto).fit(other).feature_names_in_[0] == "b0"


def test_labels_and_weights_of_a_fit_are_in_its_key(tmp_path):
    auto = AutoFeatures(plan=plan(), memory=tmp_path)
    masks = [np.arange(60) % 2 == part for part in (0, 1)]
    scores = [clone(auto).fit(X, np.ma.masked_array(y, mask)).report_["score"] for mask in masks]
    assert not scores[0].equals(scores[1])
    file = tmp_path / "weights.pth"
    frozen = PretrainedEncoder(encoder=TinyNet, weights=file)
    auto.set_params(plan={"parts": {"frozen": frozen}, "seed": 0})
    found = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        torch.save(TinyNet(3).state_dict(), file)
        found.append(clone(auto).fit_transform(X))
    assert not np.array_equal(*found)


def test_a_cache_that_cannot_be_written_loses_nothing(tmp_path, monkeypatch):
    file = tmp_path / "file"
    file.write_text("not a folder")
    with pytest.warns(MemoryWarning, match="cannot be written"):
        features = AutoFeatures(plan=plan(), memory=file).fit_transform(X)
    fit_now = AutoFeatures._fit_now

    def deleted(self, *args):
        shutil.rmtree(tmp_path / "joblib")
        return fit_now(self, *args)

    monkeypatch.setattr(AutoFeatures, "_fit_now", deleted)
    with pytest.warns(MemoryWarning, match="cannot be written"):
        again = AutoFeatures(plan=plan(), memory=tmp_path).fit_transform(X)
    np.testing.assert_array_equal(again, features)


def test_a_damaged_cache_is_written_anew(tmp_path, usual_speeds):
    auto = AutoFeatures(plan=plan(), memory=tmp_path)
    features = auto.fit_transform(X)
    (file,) = tmp_path.rglob("fit.joblib")
    file.write_bytes(file.read_bytes()[:1000])
    with pytest.warns(MemoryWarning, match="cannot be read"):
        np.testing.assert_array_equal(clone(auto).fit_transform(X), features)
    np.testing.assert_array_equal(clone(auto).fit_transform(X), features)


def test_a_fit_without_a_seed_is_not_cached(tmp_path, usual_speeds):
    with pytest.warns(MemoryWarning, match="integer as random_state"):
        AutoFeatures(1.0, memory=tmp_path).fit(X)
    assert not list(tmp_path.rglob("*.joblib"))


def test_progress_is_shown(capsys):
    AutoFeatures(2.0, random_state=0, verbose=1).fit(X)
    shown = capsys.readouterr()
    assert "dictionary" in shown.err
    assert "features of 60 images" in shown.out + shown.err


# Classifiers and regressors without a learner


def test_a_classifier_finds_its_features():
    labels = np.where(np.arange(1797) < 100, DIGITS.target, -1)
    found = SelfSupervisedClassifier(time_budget=2.5, random_state=0).fit(DIGITS.images, labels)
    assert isinstance(found.learner_, AutoFeatures)
    assert isinstance(found.head_, KernelProbe)
    assert found.score(DIGITS.images[1000:], DIGITS.target[1000:]) > 0.7


@pytest.fixture(scope="module")
def tuned():
    """A classifier with a network trained on the labels, of half of the images."""
    labels = np.where(np.arange(600) % 2, -1, DIGITS.target[:600])
    classifier = SelfSupervisedClassifier(time_budget=4.0, fine_tune=True, random_state=0)
    with pytest.MonkeyPatch.context() as patched:  # on a busy machine, too
        patched.setattr(
            "sklearn_ssl.semi_supervised._self_supervised._LEAST_SHARE_LEFT", -float("inf")
        )
        return classifier.fit(DIGITS.images[:600], labels)


def test_a_network_is_trained_on_the_labels_and_averaged(tuned):
    images = DIGITS.images[1000:1200]
    network, part = tuned.network_, tuned.learner_.parts_.get("learner")
    assert network.n_labeled_ == 300
    assert (network.views.flip, network.mirror) == (0, False)  # digits are not to be mirrored
    own = tuned.head_.predict_proba(tuned.learner_.transform(images))
    weight = tuned.network_weight_
    assert 0.25 <= weight <= 1.0
    expected = (1 - weight) * own + weight * network.predict_proba(images)
    np.testing.assert_allclose(tuned.predict_proba(images), expected, atol=1e-6)
    np.testing.assert_array_equal(tuned.predict(images), expected.argmax(1))
    logs = tuned.decision_function(images)
    np.testing.assert_allclose(np.exp(logs), expected, atol=1e-5)
    assert tuned.score(images, DIGITS.target[1000:1200]) > 0.8
    assert part is None or network.learner.estimator is part


def test_a_classifier_with_a_network_is_saved_and_exported(tuned, tmp_path):
    images = DIGITS.images[1000:1010]
    tuned.save(tmp_path / "file")
    expected = tuned.predict_proba(images)
    np.testing.assert_array_equal(load(tmp_path / "file").predict_proba(images), expected)
    found = tuned.to_torch()(torch.from_numpy(images)[:, None])
    np.testing.assert_allclose(found.numpy(), expected, atol=0.05)  # bfloat16


def trained_by_epochs(self, seconds):
    """A network whose training does not depend on how busy the machine is."""
    views = Views(crop_scale=None, flip=0, jitter=None, gray=0, blur=0)
    return FineTunedClassifier(encoder=TinyNet, views=views, max_epochs=30, lr=1e-2, random_state=0)


@pytest.mark.parametrize("informed", ["features", "pixels"])
def test_a_network_has_the_weight_that_is_best_for_held_out_images(informed, monkeypatch):
    """Images tell the class and features do not, or the other way around."""
    monkeypatch.setattr(SelfSupervisedClassifier, "_make_network", trained_by_epochs)
    labels = np.arange(90) % 3
    rng = np.random.default_rng(0)
    images, features = rng.normal(100, 5, (90, 8, 8, 1)), rng.normal(size=(90, 4))
    if informed == "features":
        features[np.arange(90), labels] += 5
    else:
        images[np.arange(90), 3 * labels] += 100
    classifier = SelfSupervisedClassifier(fine_tune="auto", random_state=0)
    parts = {"pixels": PixelFeatures()}
    classifier.learner_ = AutoFeatures(4.0, plan={"parts": parts, "seed": 0})
    images = images.astype(np.uint8)
    classifier.learner_.fit(images)
    classifier.head_ = KernelProbe().fit(features, labels)
    classifier._fit_network(images, features, labels, 4.0)
    if informed == "features":
        assert not hasattr(classifier, "network_")
        classifier.fine_tune = True  # it gets some weight
        assert classifier._tried_weight(images, features, labels, 1.0, False)[0] == 0.25
    else:
        assert classifier.network_weight_ >= 0.8
        assert classifier.network_.score(images, labels) > 0.9


def test_a_network_is_tried_with_two_labels_of_each_class(monkeypatch):
    monkeypatch.setattr(SelfSupervisedClassifier, "_make_network", trained_by_epochs)
    labels = np.arange(20) // 2
    images = make_images(20)
    classifier = SelfSupervisedClassifier(fine_tune=True)
    classifier.learner_ = AutoFeatures(3.0, plan={"parts": {"pixels": PixelFeatures()}, "seed": 0})
    features = classifier.learner_.fit_transform(images)
    classifier.head_ = KernelProbe().fit(features, labels)
    classifier._fit_network(images, features, labels, 3.0)
    assert classifier.network_weight_ > 0


def test_an_interrupted_network_leaves_features_and_head(monkeypatch):
    def interrupted(*args):
        raise TrainingInterrupted

    monkeypatch.setattr(SelfSupervisedClassifier, "_fit_network", interrupted)
    classifier = SelfSupervisedClassifier(time_budget=3.0, fine_tune=True, random_state=0)
    with (
        pytest.warns(InterruptionWarning, match="the head are complete"),
        pytest.raises(TrainingInterrupted),
    ):
        classifier.fit(X, y)
    assert classifier.predict(X).shape == (60,)


def test_with_many_labels_the_network_that_is_tried_is_kept(monkeypatch):
    monkeypatch.setattr("sklearn_ssl.semi_supervised._self_supervised._ENOUGH_TO_HOLD_OUT", 240)
    labels = np.arange(240) % 3
    images = np.random.default_rng(0).normal(100, 5, (240, 8, 8, 1)).astype(np.uint8)
    images[np.arange(240), 3 * labels] += 100
    classifier = SelfSupervisedClassifier(random_state=0)
    classifier.learner_ = AutoFeatures(3.0, plan={"parts": {"pixels": PixelFeatures()}, "seed": 0})
    noise = np.random.default_rng(1).normal(size=(240, 4))
    classifier.learner_.fit(images)
    classifier.head_ = KernelProbe().fit(noise, labels)
    classifier._fit_network(images, noise, labels, 6.0)
    assert classifier.network_.n_labeled_ == 192  # of five folds, four
    assert classifier.network_weight_ >= 0.8


def test_when_a_network_is_tried():
    def share(seconds, labels, **params):
        classifier = SelfSupervisedClassifier(time_budget=seconds, **params)
        return classifier._share_of_network(labels)

    few, many = np.arange(100) % 10, np.arange(5000) % 10
    assert share(150.0, few) > 0
    assert share(140.0, few) == 0
    assert share(300.0, few[:15]) == 0
    assert share(300.0, np.r_[few, 10]) == 0  # a class with one label cannot be held out
    assert share(140.0, many) == 0
    assert share(300.0, many) > 0
    assert share(300.0, np.eye(10)[few]) == 0  # several labels per image
    for params in ({"fine_tune": False}, {"head": LinearProbe()}):
        assert share(300.0, few, **params) == 0


def test_a_network_needs_time_and_probabilities():
    probe = SelfSupervisedClassifier()
    probe.learner_ = AutoFeatures(100.0)
    with pytest.warns(
        LittleTrainingWarning, match="no network was trained.* 9.0 of 100 s are left"
    ):
        probe._fit_network(X, X, y, 9.0)
    assert not hasattr(probe, "network_")
    bad = [
        ({"fine_tune": "yes"}, y),
        ({"fine_tune": True, "head": LinearSVC()}, y),
        ({"fine_tune": True}, np.eye(3, dtype=int)[y]),
        ({"fine_tune": True, "learner": SimCLR()}, y),
    ]
    for params, targets in bad:
        with pytest.raises(ValueError, match="fine_tune"):
            SelfSupervisedClassifier(**params).fit(X, targets)


def test_a_head_that_takes_too_long_is_linear(monkeypatch):
    speeds = Speeds((8, 8, 3), 1e-5, 1e-4, 1e-6, 1e-4, of_networks(1e-3), of_networks(1e-4))  # slow
    monkeypatch.setattr("sklearn_ssl.auto._auto_features.measured", lambda *_: (speeds, False))
    found = SelfSupervisedClassifier(time_budget=2.5, random_state=0).fit(X, y)
    assert isinstance(found.head_, LinearProbe)


def test_a_regressor_finds_its_features():
    ink = DIGITS.images.sum((1, 2))
    few = np.where(np.arange(1797) < 200, ink, np.nan)
    found = SelfSupervisedRegressor(time_budget=2.5, random_state=0).fit(DIGITS.images, few)
    assert found.score(DIGITS.images[200:], ink[200:]) > 0.3


def test_time_of_a_given_learner_is_its_own():
    learner = SimCLR(views=Views(), time_budget=3.0)
    with pytest.raises(ValueError, match="time_budget=5 is for learner=None"):
        SelfSupervisedClassifier(learner, time_budget=5.0).fit(X, y)
