"""Learners in files, as modules of torch, as ONNX models, and as weights for other libraries."""

import contextlib
import functools
import importlib.util
import json
import os
import pickle
import random
import subprocess
import sys
import textwrap
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import TinyNet, every_kind, make_images, small
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load as load_tensors, save_file
from sklearn.base import clone, is_classifier
from sklearn.decomposition import PCA
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import Lasso, LogisticRegression, PoissonRegressor, RidgeClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler, Normalizer, StandardScaler
from sklearn.tree import DecisionTreeClassifier
from torch import nn

from sklearn_ssl import (
    CPC,
    CheckpointFolder,
    FineTunedClassifier,
    FineTunedRegressor,
    KernelProbe,
    KernelRegressor,
    LinearProbe,
    NeighborsProbe,
    PatchDictionary,
    SelfSupervisedClassifier,
    SelfSupervisedRegressor,
    SimCLR,
    Views,
    load,
)
from sklearn_ssl._utils._storage import read_file, write_file
from sklearn_ssl.base import PretextLearner
from sklearn_ssl.base._persistence import NoLargerThan
from sklearn_ssl.exceptions import FileFormatWarning
from sklearn_ssl.fine_tuning._fine_tuned import FineTuned
from sklearn_ssl.hub import from_pretrained, save_pretrained


@pytest.fixture(scope="module")
def fitted():
    return SimCLR(encoder="small_resnet", layer="layer1", pool=1, max_epochs=1, random_state=0).fit(
        make_images()
    )


@pytest.fixture
def saved(fitted, tmp_path):
    fitted.save(tmp_path / "learner.safetensors")
    return tmp_path / "learner.safetensors"


# save and load


@every_kind
def test_it_comes_back_as_it_was(Learner, images, tmp_path):
    learner = small(Learner, warm_start=True).fit(images)
    learner.save(tmp_path / "file")
    code = {"teacher": learner.teacher} if hasattr(learner, "teacher") else {}
    again = load(tmp_path / "file", encoder=learner.encoder, **code)
    assert type(again) is Learner
    np.testing.assert_array_equal(again.transform(images), learner.transform(images))
    assert again.history_ == learner.history_
    learner.fit(images)  # goes on with the optimizer's state
    np.testing.assert_array_equal(again.fit(images).transform(images), learner.transform(images))


@pytest.mark.parametrize(
    "params",
    [
        {"encoder": "small_vit"},
        pytest.param({"encoder": "resnet18"}, marks=pytest.mark.slow),
        pytest.param({"encoder": "timm/resnet18.a1_in1k"}, marks=pytest.mark.slow),
        {"encoder": "small_resnet", "views": Views(size=6, jitter=None)},
        {"encoder": "small_resnet", "batch_size": np.int64(8), "random_state": None},
        {"encoder": "small_resnet", "optimizer": "lars", "device": torch.device("cpu")},
        {"encoder": "small_resnet", "precision": "float32", "layer": "stem", "pool": "max"},
    ],
)
def test_arguments_come_back(params, images, tmp_path):
    learner = small(SimCLR, **params).fit(images.astype(np.float64) * 1e3 + 1e7)
    learner.save(tmp_path / "file")
    again = load(tmp_path / "file")
    X = images[:5].astype(np.float64) * 1e3 + 1e7
    np.testing.assert_array_equal(again.transform(X), learner.transform(X))
    for name, value in learner.get_params(deep=False).items():
        found = getattr(again, name)
        assert repr(found) == repr(value) or found == str(value) or found == value, name


def test_names_of_columns_come_back(images, tmp_path):
    frame = pytest.importorskip("pandas").DataFrame(images.reshape(len(images), -1))
    frame = frame.add_prefix("pixel")
    learner = small(SimCLR, encoder="small_resnet").fit(frame)
    learner.save(tmp_path / "file")
    again = load(tmp_path / "file")
    np.testing.assert_array_equal(again.transform(frame), learner.transform(frame))
    assert list(again.feature_names_in_) == list(frame.columns)


def test_code_is_given_again(images, tmp_path):
    build = functools.partial(TinyNet)
    learner = small(SimCLR, encoder=build, optimizer=torch.optim.SGD, lr=0.1).fit(images)
    learner.save(tmp_path / "file")
    message = r"encoder= \(functools.partial\(conftest.TinyNet.*optimizer= \(torch.optim.sgd.SGD\)"
    with pytest.raises(ValueError, match=message):
        load(tmp_path / "file")
    again = load(tmp_path / "file", encoder=build, optimizer=torch.optim.SGD, pool=1)
    np.testing.assert_array_equal(
        again.transform(images), learner.set_params(pool=1).transform(images)
    )
    with pytest.raises(ValueError, match="temperature cannot be changed"):
        load(tmp_path / "file", encoder=build, optimizer=torch.optim.SGD, temperature=0.2)


class NeedsValues(torch.optim.SGD):
    """Cannot be made of parameters without values."""

    def __init__(self, params, **options):
        groups = list(params)
        self.total = sum(float(p.sum()) for group in groups for p in group["params"])
        super().__init__(groups, **options)


def test_an_optimizer_that_needs_values(images, tmp_path):
    learner = small(SimCLR, encoder="small_resnet", optimizer=NeedsValues).fit(images)
    learner.save(tmp_path / "file")
    again = load(tmp_path / "file", optimizer=NeedsValues).partial_fit(images)
    np.testing.assert_array_equal(
        again.transform(images), learner.partial_fit(images).transform(images)
    )


def test_a_file_has_no_others_written(images, tmp_path):
    """Folders to write to are not in it, and not taken from a file that has them."""
    folders = {
        "memory": str(tmp_path / "memory"),
        "checkpoint": CheckpointFolder(tmp_path / "checkpoint"),
        "decoded_cache": str(tmp_path / "cache"),
    }
    small(SimCLR, encoder="small_resnet").set_params(**folders).fit(images).save(tmp_path / "file")
    values = read_file(tmp_path / "file")
    assert not folders.keys() & values["arguments"].keys()
    values["arguments"] |= {name: str(tmp_path / "tampered") for name in folders}
    write_file(tmp_path / "tampered file", values)
    for file in ("file", "tampered file"):
        learner = load(tmp_path / file)
        assert [getattr(learner, name) for name in folders] == [None] * 3
    learner = load(tmp_path / "file", memory=tmp_path / "mine")
    learner.transform(images)
    assert (tmp_path / "mine").exists()
    dictionary = PatchDictionary(n_atoms=10, patch_size=4, memory=folders["memory"]).fit(images)
    dictionary.save(tmp_path / "dictionary")
    assert load(tmp_path / "dictionary").memory is None


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("HOME", "USERPROFILE"):
        monkeypatch.setenv(name, str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.mark.slow
def test_the_home_directory_is_meant_by_its_sign(fitted, images, home):
    """And folders that are missing are made."""
    expected = fitted.transform(images)
    fitted.save("~/models/learner")
    save_pretrained(fitted, "~/pretrained")
    for again in (load("~/models/learner"), from_pretrained("~/pretrained")):
        np.testing.assert_array_equal(again.transform(images), expected)
    torch.save(fitted.backbone_state_dict(), home / "models" / "weights.pth")
    small(SimCLR, encoder="small_resnet", weights="~/models/weights.pth").fit(images)
    if importlib.util.find_spec("onnxscript"):
        fitted.export_onnx("~/onnx/learner.onnx")
        assert (home / "onnx" / "learner.onnx").exists()
    Image.fromarray(images[0]).save(home / "one.png")
    some = ["~/one.png", Path("~/one.png")]
    np.testing.assert_allclose(fitted.transform(some), expected[[0, 0]], atol=1e-5)
    assert os.listdir(home.parent) == ["home"]


def test_paths_that_cannot_be_written(fitted, images, home):
    for place in (".", home.parent):
        with pytest.raises(IsADirectoryError, match="give the name of a file"):
            fitted.save(place)
    for call in (fitted.save, load, from_pretrained, lambda path: save_pretrained(fitted, path)):
        with pytest.raises(FileNotFoundError, match="names a home directory that does not exist"):
            call("~nobody-of-this-name/x")
    for argument in ("memory", "checkpoint", "weights"):
        with pytest.raises(FileNotFoundError, match=f"{argument} names a home directory"):
            small(SimCLR).set_params(**{argument: "~nobody-of-this-name/x"}).fit(images)
    assert os.listdir(home.parent) == []


@pytest.mark.parametrize("name", ["x.pkl", "x.PT", "x.onnx", "x.safetensors", "x.model", "x"])
def test_names_of_another_format_are_warned_of(name, fitted, images, tmp_path):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        fitted.save(tmp_path / name)
    said = [str(w.message) for w in caught if w.category is FileFormatWarning]
    assert len(said) == (name in ("x.pkl", "x.PT", "x.onnx"))
    assert all("in safetensors format" in text and "name it x.safetensors" in text for text in said)
    assert load(tmp_path / name).n_epochs_ == fitted.n_epochs_


class Mine(SimCLR):
    """A learner of the user's."""


def test_a_learner_of_ones_own(images, tmp_path):
    learner = small(Mine, encoder="small_resnet").fit(images)
    learner.save(tmp_path / "file")
    with pytest.raises(ValueError, match=r"holds a Mine.*learner_class"):
        load(tmp_path / "file")
    again = load(tmp_path / "file", learner_class=Mine)
    assert isinstance(again, Mine)
    np.testing.assert_array_equal(again.transform(images), learner.transform(images))


@pytest.mark.slow
def test_in_another_process(saved, fitted, images, tmp_path):
    script = """
        import sys, numpy as np
        from sklearn_ssl import load
        np.save(sys.argv[3], load(sys.argv[1]).transform(np.load(sys.argv[2])))
    """
    np.save(tmp_path / "X.npy", images)
    paths = [saved, tmp_path / "X.npy", tmp_path / "F.npy"]
    command = [sys.executable, "-c", textwrap.dedent(script), *map(str, paths)]
    subprocess.run(command, check=True)
    np.testing.assert_allclose(np.load(paths[2]), fitted.transform(images), atol=1e-4)


def test_what_was_not_fitted_is_not_saved(tmp_path):
    for method in (lambda learner: learner.save(tmp_path / "file"), SimCLR.to_torch):
        with pytest.raises(ValueError, match="not fitted"):
            method(SimCLR())


def test_skops(fitted, images):
    skops = pytest.importorskip("skops.io")
    content = skops.dumps(fitted)
    types = skops.get_untrusted_types(data=content)
    again = skops.loads(content, trusted=types)
    np.testing.assert_array_equal(again.transform(images), fitted.transform(images))


def test_nothing_is_in_it_twice(images, tmp_path):
    """Weights and the optimizer's two moments of them, and a little beside."""
    learner = SimCLR(encoder="resnet18", max_epochs=1, random_state=0).fit(images[:8])
    learner.save(tmp_path / "file")
    weights = sum(p.nbytes for p in learner.net_.module_.parameters())
    assert os.path.getsize(tmp_path / "file") < 3.02 * weights
    assert len(pickle.dumps(learner)) < 3.02 * weights


# Classifiers and regressors

IMAGES = make_images(30)
NAMES = np.array(["ant", "bee", "cat"])[np.arange(30) % 3]
BRIGHTNESS = IMAGES.mean((1, 2, 3)).astype(float)
BRIEF = {"max_epochs": 1, "random_state": 0}
OF_FEATURES = [
    LinearProbe(),
    LinearProbe(C=[0.1, 1.0], class_weight={"ant": 1.0, "bee": 2.0, "cat": 1}, cv=2),
    KernelProbe(),
    KernelRegressor(),
    NeighborsProbe(5),
]
OF_IMAGES = [
    SelfSupervisedClassifier(small(SimCLR)),
    SelfSupervisedClassifier(small(SimCLR), make_pipeline(StandardScaler(), KernelProbe())),
    SelfSupervisedClassifier(make_pipeline(small(SimCLR), MinMaxScaler()), NeighborsProbe(5)),
    SelfSupervisedClassifier(PatchDictionary(n_atoms=4, patch_size=3, random_state=0)),
    FineTunedClassifier(encoder=TinyNet, **BRIEF),
    FineTunedClassifier(small(SimCLR), **BRIEF),
    FineTunedClassifier(FrozenEstimator(small(SimCLR).fit(IMAGES)), early_stopping=True, **BRIEF),
    SelfSupervisedRegressor(small(SimCLR)),
    FineTunedRegressor(encoder=TinyNet, **BRIEF),
]


@pytest.mark.parametrize("estimator", OF_FEATURES + OF_IMAGES, ids=str)
def test_classifiers_and_regressors_come_back(estimator, tmp_path):
    X = IMAGES.reshape(30, -1) / 255 if estimator in OF_FEATURES else IMAGES
    y = NAMES if is_classifier(estimator) else BRIGHTNESS
    estimator = clone(estimator).fit(X, y)
    estimator.save(tmp_path / "file")
    code = {name: getattr(estimator, name) for name in read_file(tmp_path / "file")["code"]}
    again = load(tmp_path / "file", **code)
    assert type(again) is type(estimator)
    assert vars(again).keys() == vars(estimator).keys()
    for method in ("predict", "predict_proba", "decision_function"):
        if hasattr(estimator, method):
            np.testing.assert_array_equal(getattr(again, method)(X), getattr(estimator, method)(X))
    assert again.score(X, y) == estimator.score(X, y)
    assert str(again.set_params(**code)) == str(estimator)


@pytest.mark.parametrize("estimator", OF_IMAGES, ids=str)
def test_classifiers_and_regressors_by_skops_and_pickle(estimator):
    skops = pytest.importorskip("skops.io")
    estimator = clone(estimator).fit(IMAGES, NAMES if is_classifier(estimator) else BRIGHTNESS)
    content = skops.dumps(estimator)
    by_skops = skops.loads(content, trusted=skops.get_untrusted_types(data=content))
    for again in (by_skops, pickle.loads(pickle.dumps(estimator))):
        np.testing.assert_array_equal(again.predict(IMAGES), estimator.predict(IMAGES))


def test_a_file_with_a_class_that_is_code_says_so(tmp_path):
    SelfSupervisedClassifier(small(SimCLR)).fit(IMAGES, NAMES).save(tmp_path / "file")
    with pytest.raises(ValueError, match=r"learner= \(sklearn_ssl.*SimCLR\)"):
        load(tmp_path / "file")


def test_a_head_that_is_no_arrays_is_not_saved(tmp_path):
    found = SelfSupervisedClassifier(small(SimCLR), DecisionTreeClassifier()).fit(IMAGES, NAMES)
    with pytest.raises(TypeError, match=r"Tree object .* cannot be saved.*or skops"):
        found.save(tmp_path / "file")
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda v: v["attributes"].update(predict=1), "'predict' is not a learned attribute"),
        (lambda v: v["attributes"].update(a_={"sklearn": ("os.system", {"dict": []})}), "not a s"),
        (
            lambda v: v["attributes"].update(a_={"sklearn": ("sklearn.base.clone", {"dict": []})}),
            "not a scikit-learn estimator",
        ),
        (lambda v: v["attributes"].update(a_={"array": ([1], "V8", False)}), "array: V8"),
        (lambda v: v["attributes"].update(a_={"code": 1}), "unknown kind of value: 'code'"),
        (lambda v: v["attributes"].update(a_={}), "inconsistent|not enough values"),
        (lambda v: v["arguments"].update(cv={"sklearn": "os.system", "arguments": {}}), "not a s"),
    ],
)
def test_other_content_of_probes_is_refused(change, message, tmp_path):
    KernelProbe().fit(IMAGES.reshape(30, -1), NAMES).save(tmp_path / "file")
    changed(tmp_path / "file", change)
    with pytest.raises(ValueError, match=message):
        load(tmp_path / "file")


def test_fine_tuned_files_hold_no_targets(tmp_path):
    found = FineTunedClassifier(encoder=TinyNet, **BRIEF).fit(IMAGES, NAMES)
    found.save(tmp_path / "file")
    assert len(read_file(tmp_path / "file")["learner"]["module"]["task.targets"]) == 0


# Files that are not what they should be


def test_errors_of_the_file_system(fitted, tmp_path):
    with pytest.raises(FileNotFoundError):
        load(tmp_path / "missing")
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="the folder of path cannot be created"):
        fitted.save(tmp_path / "file" / "learner")
    with pytest.raises(IsADirectoryError):
        load(tmp_path)


def test_a_full_disk_leaves_what_was_there(saved, fitted):
    resource = pytest.importorskip("resource")
    import signal

    before = saved.read_bytes()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, limits[1]))
        with pytest.raises(OSError, match="File too large"):
            fitted.save(saved)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert saved.read_bytes() == before
    assert os.listdir(saved.parent) == [saved.name]


def changed(path, change):
    values = read_file(path)
    change(values)
    write_file(path, values)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda v: v.update(format=99, version="9.0"), r"sklearn-ssl 9\.0, which is newer"),
        (lambda v: v.pop("format"), "holds no learner"),
        (lambda v: v.update({"class": "os.system"}), "os.system, which is not part of this"),
        (lambda v: v["arguments"].update(temperature=-1.0), "inconsistent|temperature"),
        (lambda v: v["arguments"].update(nonsense=1), "inconsistent contents.*nonsense"),
        (lambda v: v["arguments"].update(projection_dim=32), r"(?s)inconsistent.*size mismatch"),
        (lambda v: v["module"].popitem(), r"(?s)inconsistent.*Missing key"),
        (lambda v: v.pop("pixels"), "inconsistent contents: KeyError: 'pixels'"),
        (lambda v: v["pixels"].update(dtype="object"), "not a numeric dtype"),
        (lambda v: v["attributes"].update(image_shape_=(8, 8)), "inconsistent contents"),
        (lambda v: v["attributes"].update(image_shape_=(8, 8, 2**40)), "other channels"),
        (lambda v: v["attributes"].update(image_shape_=(30_000, 30_000, 3)), "images of up to"),
        (
            lambda v: v["optimizer"]["state"][0].update(exp_avg=torch.zeros(1)),
            r"has shapes.*\(1,\)",
        ),
        (lambda v: v["optimizer"]["state"][0].update(step=torch.zeros(0)), r"has shapes.*\(0,\)"),
        (lambda v: v["optimizer"]["state"][0].pop("exp_avg"), "has shapes"),
        (lambda v: v["optimizer"]["param_groups"][0]["params"].reverse(), "other parameters"),
        (lambda v: v["optimizer"]["param_groups"][0].pop("betas"), "another optimizer"),
        (lambda v: v["arguments"].update(hidden_dim=2**30), "larger than the one in the file"),
        (lambda v: v["arguments"].update(encoder="timm/hf-hub:a/b"), "lead to a hub.* encoder="),
    ],
)
def test_other_content_is_refused(change, message, saved):
    changed(saved, change)
    with pytest.raises(ValueError, match=message):
        load(saved)


HUB = "timm/hf-hub:a/b"


def named_in_arguments(values):
    """In the file of a classifier: another argument, and what would have its encoder from that."""
    values["arguments"]["classifier"] = {"class": "SimCLR", "arguments": {"encoder": HUB}}
    values["attributes"]["learner_"]["estimator"]["arguments"]["encoder"] = HUB


@pytest.mark.parametrize(
    ("classifier", "change", "needed"),
    [
        ("tuned", lambda v: v["arguments"].update(learner=HUB), "learner"),
        ("few", lambda v: v["arguments"]["learner"]["arguments"].update(encoder=HUB), "learner"),
        ("few", named_in_arguments, "classifier"),
    ],
)
def test_no_argument_of_a_file_leads_to_a_hub(
    classifier, change, needed, images, tmp_path, monkeypatch
):
    def connect(*_args, **_kwargs):
        raise AssertionError("load connects to a hub")

    made = {
        "tuned": FineTunedClassifier(encoder="small_resnet", max_epochs=1, random_state=0),
        "few": SelfSupervisedClassifier(SimCLR(max_epochs=1, random_state=0)),
    }[classifier]
    made.fit(images, np.arange(48) % 2).save(tmp_path / "file")
    changed(tmp_path / "file", change)
    monkeypatch.setattr("socket.getaddrinfo", connect)
    with pytest.raises(ValueError, match=f"lead to a hub.* {needed}= \\({HUB}"):
        load(tmp_path / "file")


@pytest.mark.parametrize("fitted", [False, True])
def test_a_fine_tuned_learner_comes_back(fitted, images, tmp_path):
    learner = SimCLR(max_epochs=1, random_state=0)
    tuned = FineTunedClassifier(learner.fit(images) if fitted else learner, max_epochs=1)
    tuned.set_params(random_state=0).fit(images, np.arange(48) % 2).save(tmp_path / "file")
    loaded = load(tmp_path / "file")
    np.testing.assert_array_equal(loaded.predict_proba(images), tuned.predict_proba(images))
    assert loaded.learner_.image_shape == tuned.learner_.image_shape


@pytest.mark.slow
@pytest.mark.parametrize("frozen", [False, True])
@pytest.mark.parametrize("Estimator", [FineTunedClassifier, SelfSupervisedClassifier])
def test_classifiers_of_networks_that_timm_reads_from_elsewhere(Estimator, frozen, tmp_path):
    pytest.importorskip("timm")
    (tmp_path / "config.json").write_text('{"architecture": "resnet10t", "num_classes": 0}')
    images, y = make_images(16, 32, 32), np.arange(16) % 2
    learner = SimCLR(encoder=f"timm/local-dir:{tmp_path}", max_epochs=1, random_state=0)
    with warnings.catch_warnings(action="ignore"):
        given = FrozenEstimator(clone(learner).fit(images)) if frozen else learner
        fitted = Estimator(given)
        if Estimator is FineTunedClassifier:
            fitted.set_params(max_epochs=1)
        fitted.fit(images, y)
    fitted.save(tmp_path / "file")
    with pytest.raises(ValueError, match=r"lead to a hub.* learner="):
        load(tmp_path / "file")
    loaded = load(tmp_path / "file", learner=learner)
    np.testing.assert_array_equal(loaded.predict_proba(images), fitted.predict_proba(images))


def test_networks_are_no_larger_than_the_file():
    with NoLargerThan([torch.zeros(10)], image=3) as bounded:
        bounded.left = 200  # instead of what any network may have
        nn.Linear(10, 10)
        nn.BatchNorm1d(10)
        with pytest.raises(ValueError, match="larger"):
            nn.Linear(10, 10)
    nn.Linear(10, 10)


def test_a_file_may_change_after_it_was_loaded(saved, fitted, images):
    loaded = load(saved)
    with open(saved, "r+b") as file:  # in place
        file.write(bytes(saved.stat().st_size))
    loaded.save(saved)
    np.testing.assert_array_equal(load(saved).transform(images), fitted.transform(images))
    both = (pickle.loads(pickle.dumps(one)).partial_fit(images) for one in (loaded, fitted))
    np.testing.assert_array_equal(*(one.transform(images) for one in both))


def test_a_file_of_something_else(tmp_path):
    save_file({"weight": torch.ones(3)}, tmp_path / "file")
    with pytest.raises(ValueError, match="not a file of sklearn_ssl"):
        load(tmp_path / "file")
    (tmp_path / "file").write_bytes(pickle.dumps([1]))
    with pytest.raises(ValueError, match="not a file of sklearn_ssl"):
        load(tmp_path / "file")


STRANGE = [None, True, -1, 10**30, 1e300, "", "x" * 1000, [], {}, [[]] * 5, {"class": "SimCLR"}]


def mutate(content, metadata, tensors, rng):
    """Bytes of a file that somebody damaged, or edited with some knowledge of the format."""
    kind = rng.randrange(7)
    if kind < 4:
        content = bytearray(content)
        at = rng.randrange(len(content) if rng.random() < 0.5 else 3000)
        if kind == 0:
            for _ in range(rng.choice([1, 1, 3, 50])):
                content[min(at + rng.randrange(50), len(content) - 1)] ^= 1 << rng.randrange(8)
        elif kind == 1:
            del content[at:]
        elif kind == 2:
            del content[at : at + rng.choice([1, 8, 1000])]
        else:
            content[at:at] = rng.randbytes(rng.choice([1, 8, 1000]))
        return bytes(content)
    values = json.loads(metadata["sklearn_ssl"])
    places = []

    def walk(node):
        for key, value in node.items() if isinstance(node, dict) else enumerate(node):
            places.append((node, key))
            if isinstance(value, (dict, list)):
                walk(value)

    walk(values)
    for _ in range(rng.choice([1, 1, 3])):
        node, key = rng.choice(places)
        if kind == 4 and isinstance(node, dict):
            node.pop(key, None)
        elif kind == 5:
            node[key] = rng.choice(STRANGE)
        else:
            other, its = rng.choice(places)
            node[key] = other.get(its) if isinstance(other, dict) else other[its]
    try:
        return json.dumps(values)
    except (ValueError, RecursionError):  # it holds itself
        return "{}"


def check_mutated(n, fitted, tmp_path):
    """Each loads a learner that gives the same features, or says by an error what is wrong."""
    from sklearn_ssl._utils._storage import _CHECKSUM, _KEY, _checksum

    path = tmp_path / "file"
    fitted.save(path)
    content = path.read_bytes()
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata()
    tensors = load_tensors(content)
    X = make_images()[:4]
    expected, rng = fitted.transform(X), random.Random(0)
    n_loaded = 0
    for _ in range(n):
        new = mutate(content, metadata, tensors, rng)
        if isinstance(new, bytes):
            path.write_bytes(new)
        else:  # with a checksum that is right
            text = {_KEY: new, _CHECKSUM: _checksum(new, tensors)}
            save_file(tensors, path, metadata=text)
        with contextlib.suppress(ValueError, OSError):
            learner = load(path)
            n_loaded += 1
            features = learner.transform(X)
            if isinstance(new, bytes):
                np.testing.assert_array_equal(features, expected)
    assert n_loaded < n


@pytest.fixture(scope="module")
def tiny():
    return SimCLR(
        encoder="small_resnet", max_epochs=0, projection_dim=8, hidden_dim=8, random_state=0
    ).fit(make_images(8))


def test_mutated_files(tiny, tmp_path):
    check_mutated(60, tiny, tmp_path)


@pytest.mark.slow
def test_many_mutated_files(tiny, tmp_path):
    check_mutated(1000, tiny, tmp_path)


# Modules of torch


@pytest.mark.parametrize("offset", [None, 0.0, 1e7])
@every_kind
def test_a_module_gives_the_features(Learner, offset, images, tmp_path):
    X = images if offset is None else images.astype(np.float64) + offset
    learner = small(Learner, max_epochs=0, precision="float32").fit(X)
    module = learner.to_torch()
    pixels = torch.from_numpy(X).permute(0, 3, 1, 2)
    expected = learner.transform(X)
    np.testing.assert_allclose(module(pixels), expected, rtol=1e-4, atol=1e-4)
    assert not module.training
    assert not any(p.requires_grad for p in module.parameters())
    torch.save(module, tmp_path / "module.pt")
    again = torch.load(tmp_path / "module.pt", weights_only=False)
    torch.testing.assert_close(again(pixels), module(pixels))


EXACT = small(SimCLR, precision="float32")
PREDICTING = [
    LinearProbe(),
    KernelProbe(),
    KernelRegressor(),
    NeighborsProbe(5),
    SelfSupervisedClassifier(EXACT),
    SelfSupervisedClassifier(
        EXACT, make_pipeline(PCA(5, whiten=True), Normalizer(), LinearProbe())
    ),
    SelfSupervisedClassifier(make_pipeline(EXACT, MinMaxScaler(clip=True)), RidgeClassifier()),
    SelfSupervisedClassifier(EXACT, make_pipeline(StandardScaler(), LogisticRegression())),
    FineTunedClassifier(encoder=TinyNet, precision="float32", **BRIEF),
    SelfSupervisedRegressor(EXACT),
    SelfSupervisedRegressor(EXACT, Lasso(0.1)),
    FineTunedRegressor(encoder=TinyNet, precision="float32", **BRIEF),
]


@pytest.mark.parametrize("estimator", PREDICTING, ids=str)
@pytest.mark.parametrize("n_classes", [2, 3])
def test_a_module_predicts(estimator, n_classes):
    of_images = not hasattr(estimator, "device") or isinstance(estimator, FineTuned)
    X = IMAGES if of_images else IMAGES.reshape(30, -1).astype(np.float32)
    names = NAMES if n_classes == 3 else NAMES == "bee"
    estimator = clone(estimator).fit(X, names if is_classifier(estimator) else BRIGHTNESS)
    module = estimator.to_torch()
    assert not module.training
    given = torch.from_numpy(X)
    found = module(given.permute(0, 3, 1, 2) if of_images else given).numpy()
    if is_classifier(estimator):
        np.testing.assert_array_equal(estimator.classes_[found.argmax(1)], estimator.predict(X))
        assert found.shape == (30, n_classes)
    if hasattr(estimator, "predict_proba"):
        np.testing.assert_allclose(found, estimator.predict_proba(X), atol=1e-5)
    if not is_classifier(estimator):
        np.testing.assert_allclose(found, estimator.predict(X), rtol=1e-4)
    assert not any(p.requires_grad for p in module.parameters())


@pytest.mark.parametrize(
    "estimator",
    [
        SelfSupervisedClassifier(EXACT),
        SelfSupervisedClassifier(EXACT, KernelProbe()),
        FineTunedClassifier(encoder=TinyNet, precision="float32", **BRIEF),
    ],
    ids=str,
)
def test_a_module_of_several_labels(estimator, tmp_path):
    several = np.stack([NAMES == "bee", NAMES != "cat"], 1).astype(int)
    estimator = clone(estimator).fit(IMAGES, several)
    found = estimator.to_torch()(torch.from_numpy(IMAGES).permute(0, 3, 1, 2)).numpy()
    np.testing.assert_allclose(found, estimator.predict_proba(IMAGES), atol=1e-5)
    assert estimator._class_names() is None
    estimator.save(tmp_path / "file")
    given = {name: getattr(estimator, name) for name in read_file(tmp_path / "file")["code"]}
    again = load(tmp_path / "file", **given)
    np.testing.assert_array_equal(again.predict(IMAGES), estimator.predict(IMAGES))


@pytest.mark.filterwarnings("ignore:Label 1 is present")
def test_a_module_of_a_class_that_all_images_are_of():
    several = np.stack([NAMES == "bee", np.ones(30)], 1).astype(int)
    estimator = SelfSupervisedClassifier(EXACT).fit(IMAGES, several)
    found = estimator.to_torch()(torch.from_numpy(IMAGES).permute(0, 3, 1, 2)).numpy()
    np.testing.assert_allclose(found, estimator.predict_proba(IMAGES), atol=1e-5)


def test_what_cannot_be_a_module_says_so():
    found = SelfSupervisedClassifier(small(SimCLR), DecisionTreeClassifier()).fit(IMAGES, NAMES)
    with pytest.raises(TypeError, match="DecisionTreeClassifier cannot be converted"):
        found.to_torch()
    found = SelfSupervisedRegressor(small(SimCLR), PoissonRegressor()).fit(IMAGES, BRIGHTNESS)
    with pytest.raises(TypeError, match="PoissonRegressor cannot be converted"):
        found.to_torch()


@pytest.mark.parametrize(
    "estimator",
    [
        *(PREDICTING[i] for i in (1, -4)),
        *(pytest.param(PREDICTING[i], marks=pytest.mark.slow) for i in (2, 3, 4, -1)),
    ],
    ids=str,
)
def test_classifiers_and_regressors_in_onnx(estimator, tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    of_features = isinstance(estimator, (KernelProbe, KernelRegressor, NeighborsProbe))
    X = IMAGES.reshape(30, -1).astype(np.float32) if of_features else IMAGES
    estimator = clone(estimator).fit(X, NAMES if is_classifier(estimator) else BRIGHTNESS)
    estimator.export_onnx(tmp_path / "model.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
    name = "features" if of_features else "pixels"
    given = X if of_features else np.ascontiguousarray(X.transpose(0, 3, 1, 2))
    for n in (1, 30):
        found = session.run(None, {name: given[:n]})
        if is_classifier(estimator):
            classes = json.loads(session.get_modelmeta().custom_metadata_map["classes"])
            assert [classes[i] for i in found[0]] == estimator.predict(X[:n]).tolist()
            np.testing.assert_allclose(found[1], estimator.predict_proba(X[:n]), atol=1e-3)
        else:
            np.testing.assert_allclose(found[0], estimator.predict(X[:n]), rtol=1e-3)


ENCODERS = [
    pytest.param("small_resnet", 12),
    pytest.param("small_vit", 16, marks=pytest.mark.slow),
    pytest.param("resnet18", 32, marks=pytest.mark.slow),
    pytest.param("timm/resnet18", 32, marks=pytest.mark.slow),
]


@pytest.mark.parametrize(("encoder", "side"), ENCODERS)
def test_exports(encoder, side, tmp_path):
    """torch.export, torch.jit.trace and ONNX, with other numbers of images than at the export."""
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    X = make_images(5, side, side)
    learner = SimCLR(encoder=encoder, max_epochs=0, random_state=0, precision="float32").fit(X)
    expected, module = learner.transform(X), learner.to_torch()
    pixels = torch.from_numpy(X).permute(0, 3, 1, 2)
    dynamic = ({0: torch.export.Dim.DYNAMIC},)
    exported = torch.export.export(module, (pixels[:2],), dynamic_shapes=dynamic).module()
    traced = torch.jit.trace(module, (pixels[:2],))
    for made in (exported, traced):
        np.testing.assert_allclose(made(pixels), expected, rtol=1e-4, atol=1e-4)
    learner.export_onnx(tmp_path / "model.onnx")
    assert os.listdir(tmp_path) == ["model.onnx"]
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
    for n in (1, 5):
        (features,) = session.run(["features"], {"pixels": pixels[:n].numpy()})
        np.testing.assert_allclose(features, expected[:n], rtol=1e-3, atol=1e-3)


def test_onnx_without_its_libraries(fitted, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(ImportError, match=r"sklearn-ssl\[onnx\]"):
        fitted.export_onnx(tmp_path / "model.onnx")


# Weights for other libraries


HEADS = {"resnet18": "fc", "mobilenet_v2": "classifier", "vit_b_32": "heads", "swin_t": "head"}
SLOW = pytest.mark.slow


@pytest.mark.parametrize(
    ("name", "side", "layer"),
    [
        ("resnet18", 128, "layer4"),
        pytest.param("mobilenet_v2", 32, "features.18", marks=SLOW),
        pytest.param("vit_b_32", 64, "encoder.ln", marks=SLOW),
        pytest.param("convnext_tiny", 32, "features.7", marks=SLOW),
    ],
)
def test_weights_load_into_torchvision(name, side, layer):
    from torchvision import models

    X = make_images(2, side, side)
    learner = SimCLR(encoder=name, max_epochs=0, random_state=0, precision="float32").fit(X)
    options = {"image_size": side} if name.startswith("vit") else {}
    model = models.get_model(name, weights=None, **options)
    setattr(model, HEADS.get(name, "classifier"), nn.Identity())
    model.load_state_dict(learner.backbone_state_dict(), strict=True)
    seen = []
    model.eval().get_submodule(layer).register_forward_hook(lambda m, i, out: seen.append(out))
    encoder = learner.to_torch().encoder
    images = torch.from_numpy(X).permute(0, 3, 1, 2) / 255
    model(encoder.prepare(images))
    found = encoder._as_map(seen[0], images.shape[2:], encoder.last_layer)
    torch.testing.assert_close(found, encoder(images), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", ["resnet18", pytest.param("vit_tiny_patch16_224", marks=SLOW)])
def test_weights_load_into_timm(name):
    timm = pytest.importorskip("timm")
    X = make_images(2, 32, 32)
    learner = SimCLR(encoder=f"timm/{name}", max_epochs=0, random_state=0).fit(X)
    options = {"img_size": (32, 32)} if "vit" in name else {}
    model = timm.create_model(name, num_classes=0, **options)
    model.load_state_dict(learner.backbone_state_dict(), strict=True)
    images = torch.rand(2, 3, 32, 32)
    backbone = learner.to_torch().encoder.backbone
    torch.testing.assert_close(model.eval()(images), backbone(images))


def test_encoders_of_several_networks_have_no_one_state(images):
    with pytest.raises(ValueError, match="PatchEncoder"):
        small(CPC, max_epochs=0).fit(images).backbone_state_dict()


def test_own_methods_can_be_saved():
    assert PretextLearner.save is SimCLR.save


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_a_module_of_half_precision(dtype):
    images = make_images(20)
    module = small(SimCLR).fit(images).to_torch()
    pixels = torch.from_numpy(images).permute(0, 3, 1, 2)
    expected = module(pixels)
    found = module.to(dtype)(pixels)
    assert found.dtype == torch.float32
    assert 0 < (found - expected).abs().max() < 0.05 * expected.abs().max()
