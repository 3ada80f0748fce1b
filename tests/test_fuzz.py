"""What nobody meant works, or ends in an error that says something, and leaves nothing."""

import contextlib
import functools
import io
import random
import signal
import warnings
from pathlib import Path

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import scipy.sparse
import torch
from conftest import TinyNet, make_images, small
from PIL import Image
from sklearn.decomposition import PCA

from sklearn_ssl import (
    FineTunedClassifier,
    FineTunedRegressor,
    MoCo,
    RotationPrediction,
    SelfSupervisedClassifier,
    SelfSupervisedRegressor,
    SimCLR,
    VariationalAutoencoder,
    Views,
    all_estimators,
    load,
)
from sklearn_ssl.exceptions import DivergenceError
from sklearn_ssl.hub import save_pretrained
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
    verdict,
)
from sklearn_ssl.metrics import (
    alignment,
    alignment_scorer,
    alpha_req,
    alpha_req_scorer,
    lidar,
    linear_cka,
    rank_me,
    uniformity,
)
from sklearn_ssl.probes import KernelProbe, LinearProbe, NeighborsProbe

REFUSED = (ValueError, TypeError, OSError, DivergenceError, MemoryError)
LEARNERS = [SimCLR, MoCo, RotationPrediction, VariationalAutoencoder]
FORMATS = ["PNG", "JPEG", "BMP", "GIF", "TIFF", "WEBP", "PPM"]
DTYPES = ["u1", "u2", "i4", "i8", "f2", "f4", "f8", "c8", "?", "O", "U5", "M8[s]", ">f4", "V4"]
STRANGE = [
    *(None, True, -1, 0, 1, 3, 10**12, 0.5, -0.5, 1.5, 1e300, float("nan"), float("inf"), "", "x"),
    *([], (), [1, 2], (3, 3), (0, 0), (0.5, 0.1), {}, b"x", object(), int, np.float32(2), len),
    *(np.array([1, 2]), torch.tensor(1.0), Views(size=5), Views(size=0), Views(crop_scale=(2, 3))),
]


class Breaks(torch.utils.data.Dataset):
    def __init__(self, item, n):
        self.item, self.n = item, n

    def __len__(self):
        return self.n

    def __getitem__(self, row):
        if isinstance(self.item, Exception):
            raise self.item
        return self.item


def a_file(rng):
    """The bytes of an image, damaged or not."""
    image = make_images(1, rng.choice([1, 2, 8, 9]), rng.choice([1, 3, 8]))[0]
    picture = Image.fromarray(image).convert(rng.choice(["RGB", "RGB", "L", "1", "P"]))
    file = io.BytesIO()
    with contextlib.suppress(OSError, ValueError):  # not every format has every mode
        picture.save(file, rng.choice(FORMATS))
    content = bytearray(file.getvalue())
    for _ in range(rng.choice([0, 0, 1, 1, 3])):
        at = rng.randrange(len(content) + 1)
        kind = rng.randrange(4)
        if kind == 0:
            del content[at:]
        elif kind == 1:
            content[at : at + 4] = rng.randbytes(4)
        elif kind == 2:
            content[at:at] = rng.randbytes(rng.choice([1, 100]))
        elif at < len(content):
            content[at] ^= 1 << rng.randrange(8)
    return bytes(content)


def an_array(rng):
    shape = [
        rng.choice([0, 1, 2, 3, 5, 8, 8, 8, 12]) for _ in range(rng.choice([0, 1, 2, 3, 4, 4, 5]))
    ]
    shape[:1] = [rng.choice([0, 1, 6, 6, 6])] if shape else []
    drawn = np.random.default_rng(rng.randrange(10**6)).normal(size=shape)
    array = np.asarray(drawn) * rng.choice([1, 1, 100, 1e30, 1e300]) + rng.choice([0, 0, 1e9])
    array = np.asarray(array)
    with warnings.catch_warnings(action="ignore"), contextlib.suppress(TypeError, ValueError):
        array = array.astype(rng.choice(DTYPES))
    if array.size and array.dtype.kind == "f" and rng.random() < 0.3:
        array.flat[rng.randrange(array.size)] = rng.choice([np.nan, np.inf, -np.inf])
    return array


def wrapped(array, rng):
    kind = rng.randrange(10)
    with contextlib.suppress(Exception):  # what cannot be wrapped stays an array
        if kind == 0:
            return torch.from_numpy(array)
        if kind == 1:
            return array.tolist()
        if kind == 2:
            return pd.DataFrame(array)
        if kind == 3:
            return scipy.sparse.csr_matrix(array)
        if kind == 4:
            return np.ma.masked_greater(array, 0)
        if kind == 5:
            return [*array[:2], None, *array[2:]]
        if kind == 6:
            return memoryview(array)
    return array


def a_collection(rng):
    """What may stand for images in files."""
    n = rng.choice([0, 1, 6, 6])
    files = [a_file(rng) for _ in range(n)]
    kind = rng.randrange(9)
    if kind == 0:
        return Breaks(rng.choice([None, 3, "x", RuntimeError("gone"), KeyError(1), (1, 2), []]), n)
    if kind == 1:
        return pd.Series(files + [None] * rng.randrange(2))
    if kind == 2:
        return {"image": files, "label": list(range(n))}
    if kind == 3:
        return [rng.choice(STRANGE) for _ in range(n)]
    if kind == 4:
        return np.array([*files, 0][:-1] or [b""], dtype=object)
    if kind == 5:
        return [{"bytes": file, "path": None} for file in files]
    if kind == 6:
        return Breaks(make_images(1)[0], n)
    return files


def an_argument(Learner, rng):
    """One argument of the learner, or of its views, with some value."""
    names = [*Learner().get_params(deep=False), "views__size", "views__crop_scale", "views__blur"]
    left = ("encoder", "max_epochs", "time_budget", "verbose", "device")  # those that take long
    names = [name for name in names if name not in left]
    return {rng.choice(names): rng.choice(STRANGE)}


def a_case(rng):
    Learner = rng.choice(LEARNERS)
    params = {"on_error": rng.choice(["raise", "skip"]), "batch_size": None}
    kind = rng.randrange(3)
    if kind == 0:
        return Learner, params, wrapped(an_array(rng), rng)
    if kind == 1:
        return Learner, params, a_collection(rng)
    return Learner, {**params, **an_argument(Learner, rng)}, make_images(6)


@contextlib.contextmanager
def no_hang(seconds, case):
    def stop(number, frame):
        raise AssertionError(f"case {case} hangs")

    if not hasattr(signal, "SIGALRM"):
        yield
        return
    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def check(case, tmp_path):
    Learner, params, X = a_case(random.Random(case))
    if "checkpoint" in params or "decoded_cache" in params:  # folders of the test alone
        name, value = next(
            (n, v) for n, v in params.items() if n in ("checkpoint", "decoded_cache")
        )
        params[name] = tmp_path / "folder" if isinstance(value, str) else value
    learner = small(Learner)
    with no_hang(60, case), warnings.catch_warnings(action="ignore"):
        try:
            learner.set_params(**params).fit(X)
        except REFUSED as error:
            said = str(error)
            assert said, f"case {case} says nothing"
            left = [name for name in vars(learner) if name.endswith("_")]
            assert not left, f"case {case} leaves {left}"
            return False
        features = learner.transform(X)
    broken = len(learner.skipped_) if params["on_error"] == "skip" else 0
    assert np.isfinite(features).all(axis=1).sum() >= len(features) - broken, f"case {case}"
    return True


def check_all(cases, tmp_path):
    worked = [check(case, tmp_path) for case in cases]
    assert 0.05 * len(worked) < sum(worked) < 0.95 * len(worked)  # they are of both kinds


def test_some_cases(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # where folders are made whose names are drawn
    check_all(range(150), tmp_path)


@pytest.mark.slow
def test_many_cases(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    check_all(range(150, 1400), tmp_path)


# Arguments of pictures, probes and files


F = np.random.default_rng(0).normal(size=(24, 5))
Y = np.arange(24) % 3
ODD = [
    *STRANGE,
    *(10**400, -(10**400), 1e-40, "~nobody/x", "a\0b", "fit", "pandas", Path("nowhere"), range(3)),
    *(np.zeros((3, 0)), np.full((24, 5), np.nan), np.zeros((24, 5)), np.arange(24.0) + 0.5, Y, F),
    *(make_images(24), make_images(3), make_images(1)[0], make_images(24)[:0]),
    *([[1], [1, 2]], [3], [-1], [99], ["conv"], [("conv", "x")], [{}], [{"epoch": 1}], {"a": 1}),
    *(np.array([None] * 24), ["cat"] * 24, pd.DataFrame({"a": ["x"]}), scipy.sparse.eye(5)),
    *(SimCLR, SimCLR(), PCA(2)),
]


@functools.cache
def fitted(Learner):
    return small(Learner).fit(make_images(24))


def drawn(Display):
    """Calls with parameters of the class, and draws it."""
    return lambda ax=None, **arguments: Display(**arguments).plot(ax)


def probed(Probe):
    """Calls with parameters of the class and of its fit."""

    def fit(X=F, y=Y, sample_weight=None, X_unlabeled=None, **params):
        more = {} if sample_weight is None else {"sample_weight": sample_weight}
        more |= {} if X_unlabeled is None else {"X_unlabeled": X_unlabeled}
        return Probe(**params).fit(X, y, **more).predict(F)

    return fit


def semi(Estimator):
    return lambda y, **head: Estimator(small(SimCLR), **head).fit(make_images(24), y)


def tuned(Estimator):
    return lambda y, **params: Estimator(max_epochs=1, **params).fit(make_images(24), y)


def watched(Monitor):
    return lambda **params: small(SimCLR, callbacks=[Monitor(**params)]).fit(make_images(24))


def surfaces(folder):
    """Functions, and arguments that they take, of which one is exchanged."""
    ssl, images = fitted(SimCLR), make_images(24)
    small(SimCLR, encoder="small_resnet", max_epochs=0).fit(images).save(folder / "learner")
    columns = {"layer": ["conv", "out"], "pool": ["avg", 2], "accuracy": [0.1, 0.2], "error": 0.1}
    gains = {"method": ["a", "b"], "kind": "rival", "n_labels": [10, 50], "accuracy": 0.5}
    gains |= {"error": 0.1, "rival": "", "gain": 0.1, "gain_error": 0.1, "spread_fits": 0.1}
    gains |= {"spread": 0.1, "test_error": 0.1, "gain_low": 0.0, "gain_high": 0.2}
    some = {"X": images, "n_neighbors": 3, "ax": None}
    return {
        TrainingDisplay.from_estimator: {"estimator": ssl, "ax": None},
        drawn(TrainingDisplay): {"history": ssl.history_, "ax": None},
        drawn(LayersDisplay): {"report": pd.DataFrame(columns), "value": "accuracy", "ax": None},
        LabelsDisplay.from_table: {"table": pd.DataFrame(gains), "ax": None},
        FeatureMapDisplay.from_estimator: {
            "estimator": ssl, "X": images, "y": Y, "reducer": PCA(2), "ax": None,
        },
        FeatureMapDisplay.from_features: {
            "features": F, "X": images, "y": Y, "reducer": PCA(2), "ax": None,
        },
        drawn(FeatureMapDisplay): {"places": F[:, :2], "images": images / 255, "labels": Y},
        NeighborsDisplay.from_estimator: {"estimator": ssl, "queries": images[:2], **some},
        NeighborsDisplay.from_features: {"features": F, "queries": [1, 2], **some},
        drawn(NeighborsDisplay): {
            "images": np.zeros((2, 3, 8, 8, 3)), "indices": [[1, 2]] * 2, "distances": [[0, 1]] * 2,
        },
        ViewsDisplay.from_estimator: {
            "estimator": ssl, "X": images[:3], "n_views": 2, "random_state": 0, "ax": None,
        },
        ReconstructionDisplay.from_estimator: {
            "estimator": fitted(VariationalAutoencoder), "X": images[:3], "method": "reconstruct",
        },
        probed(LinearProbe): {
            **{"C": 1.0, "standardize": True, "cv": 3, "class_weight": None, "tol": 1e-3},
            **{"max_iter": 5, "device": "cpu", "sample_weight": None, "X_unlabeled": None},
        },
        probed(NeighborsProbe): {"n_neighbors": 3, "temperature": 0.1, "device": "cpu"},
        probed(KernelProbe): {"alpha": 0.1, "gamma": 0.1, "sample_weight": None},
        verdict: {"table": pd.DataFrame(gains)},
        semi(SelfSupervisedClassifier): {"head": None, "y": Y},
        semi(SelfSupervisedRegressor): {"head": None, "y": Y},
        tuned(FineTunedClassifier): {
            **{"patience": 2, "class_weight": None, "label_smoothing": 0.1, "layer_decay": 0.9},
            **{"encoder": TinyNet, "early_stopping": True, "validation_fraction": 0.2, "y": Y},
        },
        tuned(FineTunedRegressor): {"encoder": TinyNet, "early_stopping": True, "y": Y},
        watched(ProbeMonitor): {
            **{"X": images, "y": Y, "every": 1, "probe": None, "cv": 3, "layer": None},
            **{"pool": 2, "name": "probe"},
        },
        watched(MeasureMonitor): {"X": images, "measure": None, "every": 1, "name": "rank"},
        alignment: {"features": np.stack([F, F], 1), "alpha": 2.0},
        uniformity: {"features": F, "t": 2.0},
        alpha_req: {"features": F, "first": 1, "last": 4},
        lidar: {"features": np.stack([F, F + 1], 1), "delta": 1e-4, "eps": 1e-8},
        linear_cka: {"features": F, "others": F},
        rank_me: {"features": F, "eps": 1e-7},
        alignment_scorer: {"estimator": ssl, "X": images},
        alpha_req_scorer: {"estimator": ssl, "X": images},
        all_estimators: {"type_filter": "learner"},
        save_pretrained: {"learner": ssl, "folder": folder / "saved"},
        load: {"path": folder / "learner", "learner_class": None},
    }  # fmt: skip


# said of the file, of an encoder, of one split, of the user's own function, or of both
OTHERWISE_NAMED = (
    *("X", "y", "path", "folder", "learner_class", "learner", "cv", "measure", "first"),
)


def reports():
    ssl, images = fitted(SimCLR), make_images(24)
    return {
        layer_report: {
            **{"learner": ssl, "X": images, "y": Y, "layers": ["conv"], "pools": ("avg",)},
            **{"probe": LinearProbe(C=1.0), "cv": 3, "frame": "pandas"},
        },
        compare: {
            **{"transformers": {"pixels": "passthrough"}, "X": images, "y": Y, "n_labels": 6},
            **{"n_splits": 2, "n_fits": 1, "groups": None, "probe": LinearProbe(C=1.0)},
            **{"random_state": 0, "frame": "pandas"},
        },
    }


def check_surface(case, surfaces):
    """One argument of one surface is something strange: it works, or is named in the error."""
    rng = random.Random(case)
    function, arguments = rng.choice(list(surfaces.items()))
    name, value = rng.choice(list(arguments)), rng.choice(ODD)
    if name in ("n_views", "n_splits") and isinstance(value, int) and value > 9:
        return True
    said = None
    with no_hang(60, case), warnings.catch_warnings(action="ignore"):
        try:
            function(**{**arguments, name: value})
        except REFUSED as error:
            said = str(error)
    named = said is None or name in said or name in OTHERWISE_NAMED
    assert named, f"case {case}, {name}={value!r}: {said}"
    return said is None


def check_surfaces(cases, surfaces):
    mpl.use("Agg")
    worked = []
    for case in cases:
        worked.append(check_surface(case, surfaces))
        plt.close("all")
    assert 0 < sum(worked) < len(worked)


def test_some_arguments(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    check_surfaces(range(150), surfaces(tmp_path))


@pytest.mark.slow
def test_many_arguments(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    check_surfaces(range(150, 4000), surfaces(tmp_path))


@pytest.mark.slow
def test_arguments_of_reports():
    check_surfaces(range(60), reports())
