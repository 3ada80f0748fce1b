"""Features within a time budget, and what is chosen for them."""

import pickle
import signal

import numpy as np
import pytest
import torch
from conftest import TinyNet, make_images
from PIL import Image
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.utils.estimator_checks import parametrize_with_checks

from sklearn_ssl import (
    AutoFeatures,
    KernelProbe,
    PatchDictionary,
    PixelFeatures,
    SelfSupervisedClassifier,
    SelfSupervisedRegressor,
    SimCLR,
    Views,
    load,
)
from sklearn_ssl.exceptions import ImageReadWarning, InterruptionWarning, TrainingInterrupted
from sklearn_ssl.training import PretextNet

X = make_images(60)
y = np.arange(60) % 3
DIGITS = load_digits()
X_OF_DIGITS = DIGITS.images[:10]
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
@parametrize_with_checks([AutoFeatures(plan=plan())])
def test_scikit_learn_check(estimator, check):
    check(estimator)


# What a fit decides


@pytest.mark.parametrize("labels", [None, HALF, HALF / 7, np.eye(3)[y]])
def test_a_fit_by_the_clock_is_repeated_without_it(labels):
    auto = AutoFeatures(3.0, random_state=0)
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


def test_digits_are_not_mirrored_and_blobs_are():
    assert (
        not AutoFeatures(4.0, random_state=0).fit(DIGITS.images).plan_["parts"]["dictionary"].mirror
    )
    blobs = make_images(256, 16, 16)
    blobs[::2] = blobs[::2, :, ::-1]
    auto = AutoFeatures(4.0, random_state=0).fit(blobs)
    assert all(part.mirror for part in auto.plan_["parts"].values())


def test_more_time_gives_more_parts():
    few, more = (AutoFeatures(s, random_state=0).fit(DIGITS.images) for s in (1.0, 9.0))
    assert "learner" not in few.plan_["parts"]
    assert list(more.plan_["parts"]) == ["dictionary", "learner"]
    assert more.plan_["parts"]["learner"].time_budget < 9


@pytest.mark.parametrize("most", [548, 1000, 5000])
def test_no_more_features_than_asked_for(most):
    auto = AutoFeatures(9.0, max_features=most, random_state=0).fit(DIGITS.images)
    assert most / 2.5 < auto.transform(DIGITS.images[:2]).shape[1] <= most


def test_a_short_time_to_encode_is_kept_by_fewer_atoms():
    slow, fast = (
        AutoFeatures(3.0, max_seconds_per_image=limit, random_state=0).fit(DIGITS.images)
        for limit in (None, 1e-4)
    )
    n_atoms = [auto.plan_["parts"].get("dictionary") for auto in (slow, fast)]
    assert n_atoms[1] is None or n_atoms[1].n_atoms < n_atoms[0].n_atoms


@pytest.mark.parametrize(
    ("params", "part"),
    [
        ({"time_budget": 0}, "time_budget"),
        ({"max_features": 100}, "max_features=100 must be at least 548.*PCA"),
        ({"plan": {"parts": 3, "seed": 0}}, "plan_ of a fitted AutoFeatures"),
        ({"plan": {"parts": {}, "colour": 0}}, "plan has the keys"),
    ],
)
def test_bad_arguments(params, part):
    with pytest.raises(ValueError, match=part):
        AutoFeatures(**params).fit(X)


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
    assert np.isfinite(auto.transform(X)).all()


def test_a_fit_goes_on_from_its_checkpoint(tmp_path, monkeypatch):
    """What the dictionary has learned is not learned again, and the time that is left is used."""
    monkeypatch.setattr("sklearn_ssl.auto._plan._LEAST_SECONDS", 0.0)
    auto = AutoFeatures(8.0, checkpoint=tmp_path / "fit", random_state=0)
    train, learn, calls = SimCLR._train, PatchDictionary._learn, []

    def interrupted(self, fit, net, epochs):
        if self.checkpoint is not None and calls.count("dictionary") == 3:  # two to measure with
            calls.append("interrupted")
            net.interrupt_at = 3
        train(self, fit, net, epochs)

    def learned(self, net, images):
        calls.append("dictionary")
        learn(self, net, images)

    def stopped(self, **kwargs):
        if getattr(self, "interrupt_at", None) == self.progress_.done:
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(SimCLR, "_train", interrupted)
    monkeypatch.setattr(PatchDictionary, "_learn", learned)
    monkeypatch.setattr(PretextNet, "on_batch_end", lambda self, net, **kw: stopped(self))
    with pytest.warns(InterruptionWarning), pytest.raises(TrainingInterrupted):
        auto.fit(DIGITS.images)
    assert calls == ["dictionary"] * 3 + ["interrupted"]
    with pytest.raises(ValueError, match=r"has another fit: time_budget was 8.0 and is 9"):
        clone(auto).set_params(time_budget=9).fit(DIGITS.images)
    calls[:] = []
    again = clone(auto).fit(DIGITS.images)
    assert calls == []
    legs = again.plan_["timetable"]
    assert legs[: len(auto.plan_["timetable"]) - 1] == auto.plan_["timetable"][:-1]
    assert legs[-1][1] == 1
    same = AutoFeatures(plan=again.plan_).fit(DIGITS.images)
    np.testing.assert_array_equal(same.transform(X_OF_DIGITS), again.transform(X_OF_DIGITS))


def test_progress_is_shown(capsys):
    AutoFeatures(2.0, random_state=0, verbose=1).fit(X)
    shown = capsys.readouterr()
    assert "dictionary" in shown.err
    assert "features of 60 images" in shown.out + shown.err


# Classifiers and regressors without a learner


def test_a_classifier_finds_its_features():
    labels = np.where(np.arange(1797) < 100, DIGITS.target, -1)
    found = SelfSupervisedClassifier(time_budget=4.0, random_state=0).fit(DIGITS.images, labels)
    assert isinstance(found.learner_, AutoFeatures)
    assert isinstance(found.head_, KernelProbe)
    assert found.score(DIGITS.images[1000:], DIGITS.target[1000:]) > 0.7


def test_a_regressor_finds_its_features():
    ink = DIGITS.images.sum((1, 2))
    few = np.where(np.arange(1797) < 200, ink, np.nan)
    found = SelfSupervisedRegressor(time_budget=4.0, random_state=0).fit(DIGITS.images, few)
    assert found.score(DIGITS.images[200:], ink[200:]) > 0.3


def test_time_of_a_given_learner_is_its_own():
    learner = SimCLR(views=Views(), time_budget=3.0)
    with pytest.raises(ValueError, match="time_budget=5 is for learner=None"):
        SelfSupervisedClassifier(learner, time_budget=5.0).fit(X, y)
