"""What nobody meant works, or ends in an error that says something, and leaves nothing."""

import contextlib
import io
import random
import signal
import warnings

import numpy as np
import pandas as pd
import pytest
import scipy.sparse
import torch
from conftest import make_images, small
from PIL import Image

from sklearn_ssl import MoCo, RotationPrediction, SimCLR, VariationalAutoencoder, Views
from sklearn_ssl.exceptions import DivergenceError

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
