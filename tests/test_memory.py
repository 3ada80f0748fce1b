"""Pretrainings and features that are kept, and taken instead of being computed again."""

import contextlib
import importlib
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
import warnings
from pathlib import Path

import joblib
import numpy as np
import pytest
import skorch
import torch
from conftest import every_kind, make_images, small
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from torch import nn

from sklearn_ssl import BYOL, CPC, DINO, Distillation, ExemplarCNN, MoCo, SimCLR, SwAV
from sklearn_ssl._utils._storage import read_file, write_file
from sklearn_ssl.exceptions import MemoryWarning
from sklearn_ssl.images import image_digest, read_images

X = make_images(48)
y = np.arange(48) % 3


class Log(skorch.callbacks.Callback):
    """Writes a line for each training, and each epoch of it."""

    def __init__(self, path):
        self.path = path

    def on_train_begin(self, net, **kwargs):
        self.write("training")

    def on_epoch_end(self, net, **kwargs):
        self.write("epoch")

    def write(self, line):
        with open(self.path, "a") as file:
            file.write(f"{line}\n")


class LogImages(nn.Module):
    """Writes a line for each batch of images that is encoded, but for blank ones."""

    def forward(self, images):
        if not self.training and "LOG" in os.environ and not images.is_meta and images.std() > 0:
            with open(os.environ["LOG"], "a") as file:
                file.write("encoding\n")
        return images


class LoggedNet(nn.Sequential):
    def __init__(self, in_channels):
        super().__init__()
        self.log = LogImages()
        self.conv = nn.Sequential(nn.Conv2d(in_channels, 8, 3, 1, 1), nn.ReLU())
        self.out = nn.Sequential(nn.Conv2d(8, 16, 3, 2, 1), nn.ReLU())


@pytest.fixture
def log(tmp_path, monkeypatch):
    path = tmp_path / "log"
    path.touch()
    monkeypatch.setenv("LOG", str(path))
    # sizes of chunks are not compared, so that each encoding is one of images
    monkeypatch.setattr("sklearn_ssl.base._transformer._SMALL_CHUNKS", (0,))
    return path


def learner(tmp_path, Learner=SimCLR, **params):
    return small(
        Learner, memory=tmp_path / "memory", callbacks=[Log(str(tmp_path / "log"))], **params
    )


def count(log, line="training"):
    return log.read_text().split().count(line)


# One training


@every_kind
def test_what_was_learned_is_taken(Learner, tmp_path, log):
    first = learner(tmp_path, Learner, max_epochs=2).fit(X)
    again = learner(tmp_path, Learner, max_epochs=2).fit(X)
    assert count(log) == 1
    plain = small(Learner, max_epochs=2).fit(X)
    for one in (first, again):
        np.testing.assert_array_equal(one.transform(X), plain.transform(X))
    assert again.n_epochs_ == 2
    assert [row["train_loss"] for row in again.history_] == [
        row["train_loss"] for row in plain.history_
    ]
    goes_on = [one.set_params(memory=None).partial_fit(X).transform(X) for one in (again, plain)]
    np.testing.assert_array_equal(*goes_on)


@pytest.mark.parametrize(
    "params",
    [
        {"layer": "conv"}, {"pool": "max"}, {"device": "cpu"}, {"verbose": 1}, {"n_jobs": 1},
        {"callbacks": None}, {"checkpoint": "folder"}, {"warm_start": True},
    ],
)  # fmt: skip
def test_what_does_not_train_does_not_count(params, tmp_path, log, monkeypatch):
    monkeypatch.chdir(tmp_path)
    learner(tmp_path).fit(X)
    (tmp_path / "log").write_text("")
    again = learner(tmp_path).set_params(**params)
    again.callbacks = [Log(str(log))]
    again.fit(X)
    assert count(log) == 0


def crop(images):
    return images[:, :, 1:-1, 1:-1]


def crop_more(images):
    return images[:, :, 2:-2, 2:-2]


def view_of(size):
    return lambda images: images[:, :, :size, :size]


@pytest.mark.parametrize(
    ("params", "others"),
    [
        ({}, {"temperature": 0.3}),
        ({}, {"max_epochs": 2}),
        ({}, {"random_state": 1}),
        ({}, {"precision": "float32"}),
        ({}, {"encoder": LoggedNet}),
        ({}, {"views__size": 6}),
        ({"views": crop}, {"views": crop_more}),
        ({"views": view_of(6)}, {"views": view_of(7)}),
        ({"optimizer": torch.optim.Adam}, {"optimizer": torch.optim.SGD}),
    ],
)
def test_what_trains_counts(params, others, tmp_path, log):
    learner(tmp_path, **params).fit(X)
    learner(tmp_path, **params).set_params(**others).fit(X)
    assert count(log) == 2
    learner(tmp_path, **params).set_params(**others).fit(X)
    assert count(log) == 2


NOTEBOOK = """
import torch
from torch import nn
class Block(nn.Sequential):
    def __init__(self, n_in, n_out):
        super().__init__(nn.Conv2d(n_in, n_out, 3), nn.{activation}())
class Net(nn.Sequential):
    width = {width}
    def __init__(self, in_channels):
        super().__init__()
        self.conv = Block(in_channels, self.width)
        self.out = Block(self.width, 16)
"""


def test_code_that_was_typed_in_is_told_by_what_it_does(tmp_path, log):
    """Classes of a notebook have one name and no file, and what they use changes, too."""
    for activation, width in (("ReLU", 8), ("ReLU", 8), ("Tanh", 8), ("ReLU", 9), ("ReLU", 8)):
        cell = {"__name__": "__main__"}
        exec(NOTEBOOK.format(activation=activation, width=width), cell)
        learner(tmp_path, encoder=cell["Net"]).fit(X)
    assert count(log) == 3


def test_other_images_count(tmp_path, log):
    other = X.copy()
    other[20, 3, 3, 1] ^= 1
    for images in (X, other, X[::-1], X[:40], X.astype(np.int16)):
        learner(tmp_path).fit(images)
    assert count(log) == 5
    learner(tmp_path).fit(X[:24], X_unlabeled=X[24:])
    assert count(log) == 6
    learner(tmp_path).fit(np.asfortranarray(X))
    assert count(log) == 6


def test_methods_of_one_family_do_not_mix(tmp_path, log):
    for Learner in (SimCLR, BYOL, MoCo, ExemplarCNN):
        learner(tmp_path, Learner).fit(X)
    assert count(log) == 4


def test_without_a_seed_every_fit_is_another_one(tmp_path, log):
    with pytest.warns(MemoryWarning, match="give a random_state"):
        a, b = (learner(tmp_path, random_state=None).fit(X) for _ in range(2))
    assert count(log) == 2
    assert not np.array_equal(a.transform(X), b.transform(X))
    assert not list((tmp_path / "memory").rglob("epochs-*"))
    assert list((tmp_path / "memory").rglob("*-*.*"))  # features, which are told by the weights


@pytest.mark.parametrize("seed", [None, 0])
def test_a_teacher_without_a_seed(seed, tmp_path):
    """It makes every fit another one, as the student's own would."""
    teacher = small(SimCLR, random_state=seed)
    student = small(Distillation, teacher=teacher, memory=tmp_path)
    if seed is None:
        with pytest.warns(MemoryWarning, match="teacher__random_state=None"):
            student.fit(X)
    else:
        student.fit(X)
    assert len(list(tmp_path.rglob("epochs-*"))) == (seed is not None)


def test_joblibs_memory(tmp_path, log):
    for memory in (joblib.Memory(tmp_path / "memory", verbose=0), str(tmp_path / "memory")):
        learner(tmp_path).set_params(memory=memory).fit(X)
    assert count(log) == 1
    learner(tmp_path).set_params(memory=joblib.Memory(None)).fit(X)
    assert count(log) == 2
    joblib.Memory(tmp_path / "memory", verbose=0).reduce_size(bytes_limit=0)
    learner(tmp_path).fit(X)
    assert count(log) == 3


def test_another_version_is_a_miss(tmp_path, log, monkeypatch):
    import sklearn_ssl.base._cache

    learner(tmp_path).fit(X).transform(X)
    monkeypatch.setattr(sklearn_ssl.base._cache, "version", lambda name: "99.0")
    learner(tmp_path).fit(X).transform(X)
    assert count(log) == 2


def test_a_training_that_a_callback_ended_is_not_kept(tmp_path, log):
    class Stop(skorch.callbacks.Callback):
        def on_epoch_end(self, net, **kwargs):
            raise KeyboardInterrupt

    learner(tmp_path, max_epochs=3).set_params(callbacks=[Stop()]).fit(X)
    whole = learner(tmp_path, max_epochs=3).fit(X)
    assert whole.n_epochs_ == 3
    assert count(log) == 1


# Longer trainings go on from shorter ones


@pytest.mark.parametrize(
    "Learner",
    [MoCo, *(pytest.param(other, marks=pytest.mark.slow) for other in (SimCLR, BYOL, DINO, SwAV))],
)
def test_a_constant_schedule_goes_on(Learner, tmp_path, log):
    params = {"schedule": "constant", "batch_size": 16}
    for max_epochs in (1, 3, 2, 5):
        last = learner(tmp_path, Learner, max_epochs=max_epochs, **params).fit(X)
        assert last.n_epochs_ == max_epochs
    assert count(log, "epoch") == 1 + 2 + 1 + 2  # of 2, one was there; of 5, three
    once = small(Learner, max_epochs=5, **params).fit(X)
    np.testing.assert_array_equal(last.transform(X), once.transform(X))
    assert [row["lr"] for row in once.history_] == [2e-3] * 5


def test_a_cosine_does_not(tmp_path, log):
    for max_epochs in (1, 2):
        learner(tmp_path, max_epochs=max_epochs).fit(X)
    assert count(log, "epoch") == 3


def test_halving_pays_for_each_epoch_once(tmp_path, log):
    importlib.import_module("sklearn.experimental.enable_halving_search_cv")  # allows the next line
    from sklearn.model_selection import HalvingGridSearchCV

    pipe = make_pipeline(learner(tmp_path, schedule="constant"), LogisticRegression())
    grid = {"simclr__lr": [1e-3, 3e-3, 1e-2, 3e-2]}
    search = HalvingGridSearchCV(
        pipe, grid, resource="simclr__max_epochs", max_resources=4, min_resources=1, factor=2, cv=2
    ).fit(X, y)
    assert search.n_resources_ == [1, 2, 4]
    # of 2 folds: four rates for an epoch, two for one more, one for two more; and the refit
    assert count(log, "epoch") == 2 * (4 + 2 + 2) + 4


# Searches


GRID = {
    "simclr__layer": ["conv", "out", ["conv", "out"]],
    "simclr__pool": ["avg", "max", 2],
    "logisticregression__C": [0.1, 1.0],
}


@pytest.mark.parametrize("n_jobs", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_a_search_pretrains_and_encodes_once_a_fold(n_jobs, tmp_path, log):
    pipe = make_pipeline(learner(tmp_path, encoder=LoggedNet), LogisticRegression())
    search = GridSearchCV(pipe, GRID, cv=3, n_jobs=n_jobs).fit(X, y)
    assert count(log) == 3 + 1
    # 4 trainings look at their last batch; in each fold there are two layers, of the images of
    # training and test; and those of the refit
    n = 4 + 3 * 2 * 2 + 1
    if n_jobs == 1:  # workers compare the sizes of chunks
        assert count(log, "encoding") == n
    plain = make_pipeline(small(SimCLR, encoder=LoggedNet), LogisticRegression())
    plain.set_params(**search.best_params_).fit(X, y)
    np.testing.assert_array_equal(search.predict_proba(X), plain.predict_proba(X))


# Features


def test_features_are_those_that_are_computed(tmp_path, log):
    kept = learner(tmp_path, encoder=LoggedNet).fit(X)
    plain = small(SimCLR, encoder=LoggedNet).fit(X)
    log.write_text("")
    for layer in (None, "conv", ["conv", "out"], "all"):
        for pool in ("avg", "max", 1, 3, 5, None):
            for _ in range(2):
                found = kept.set_params(layer=layer, pool=pool).transform(X)
            assert found.flags.writeable
            n = count(log, "encoding")
            expected = plain.set_params(layer=layer, pool=pool).transform(X)
            np.testing.assert_array_equal(found, expected)
            log.write_text("encoding\n" * n)
    # layers "conv" and "out", each with what it mostly serves, with a grid of 5 and as it is
    assert count(log, "encoding") <= 2 * 3 + 3


def test_weights_that_changed_are_seen(tmp_path):
    ssl = learner(tmp_path).fit(X)
    before = ssl.transform(X)
    with torch.no_grad():
        ssl.encoder_.backbone.conv[0].weight.mul_(1.01)
    assert (ssl.transform(X) != before).any()


def test_networks_with_the_same_weights_are_told_apart(tmp_path):
    """Before a training, patches of any size are seen by the same weights."""
    for patch_size in (4, 2):
        params = {"max_epochs": 0, "patch_size": patch_size, "pool": "avg"}
        kept = learner(tmp_path, CPC, **params).fit(X).transform(X)
        np.testing.assert_array_equal(kept, small(CPC, **params).fit(X).transform(X))


def test_files_that_cannot_be_read_are_not_kept(tmp_path):
    from PIL import Image

    paths = [str(tmp_path / f"{i}.png") for i in range(20)]
    for path, image in zip(paths, X, strict=False):
        Image.fromarray(image).save(path)
    ssl = learner(tmp_path, on_error="skip").fit(paths)
    good = Path(paths[3]).read_bytes()
    Path(paths[3]).write_bytes(b"broken")
    with pytest.warns(UserWarning, match="NaN"):
        assert np.isnan(ssl.transform(paths)[3]).all()
    Path(paths[3]).write_bytes(good)
    assert np.isfinite(ssl.transform(paths)).all()


@pytest.mark.parametrize("folder", ["", "~"])
def test_a_file_that_changed_is_another_image(folder, tmp_path, monkeypatch):
    from PIL import Image

    for name in ("HOME", "USERPROFILE"):
        monkeypatch.setenv(name, str(tmp_path))
    path = tmp_path / "0.png"
    given = os.path.join(folder or tmp_path, "0.png")
    digests = []
    for i in (0, 0, 1):
        if not path.exists() or i:
            Image.fromarray(X[i]).save(path)
            os.utime(path, (i, i))
        digests.append(image_digest(read_images([given], estimator=SimCLR(), min_images=1)))
    assert digests[0] == digests[1] != digests[2]


def test_more_than_is_kept_is_encoded_again(tmp_path, log, monkeypatch):
    import sklearn_ssl.base._cache

    monkeypatch.setattr(sklearn_ssl.base._cache, "_BYTES_AT_MOST", 0)
    ssl = learner(tmp_path, encoder=LoggedNet).fit(X)
    log.write_text("")
    for pool in ("avg", "avg", "max", "avg"):
        ssl.set_params(pool=pool).transform(X)
    assert count(log, "encoding") == 2


# Disks, processes


def test_a_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "memory").write_text("a file")
    with pytest.raises(OSError, match="memory cannot be written"):
        learner(tmp_path).fit(X)


def test_features_do_without_a_folder(tmp_path):
    ssl = learner(tmp_path).fit(X)
    expected = ssl.transform(X)
    (tmp_path / "file").write_text("a file")
    with pytest.warns(MemoryWarning, match="not cached"):
        found = ssl.set_params(memory=tmp_path / "file").transform(X)
    np.testing.assert_array_equal(found, expected)


def test_a_damaged_entry_is_made_anew(tmp_path, log):
    learner(tmp_path).fit(X).transform(X)
    for file in (tmp_path / "memory").rglob("*.safetensors"):
        file.write_bytes(file.read_bytes()[:-10])
    with pytest.warns(MemoryWarning, match="training anew"):
        again = learner(tmp_path).fit(X)
    assert count(log) == 2
    np.testing.assert_array_equal(again.transform(X), small(SimCLR).fit(X).transform(X))
    learner(tmp_path).fit(X)
    assert count(log) == 2


@pytest.mark.parametrize(
    "damage",
    [lambda file: b"", lambda file: file[:-9], lambda file: file[:-1] + bytes([file[-1] ^ 1])],
    ids=["empty", "cut", "a bit"],
)
def test_damaged_features_are_computed_again(damage, tmp_path):
    ssl = learner(tmp_path).fit(X)
    expected = ssl.transform(X)
    files = list((tmp_path / "memory").rglob("00?-*.safetensors"))
    for file in files:
        file.write_bytes(damage(file.read_bytes()))
    with pytest.warns(MemoryWarning, match="features are computed again"):
        np.testing.assert_array_equal(ssl.transform(X), expected)
    with warnings.catch_warnings():
        warnings.simplefilter("error", MemoryWarning)
        np.testing.assert_array_equal(ssl.transform(X), expected)


def test_a_folder_in_the_place_of_an_entry(tmp_path, log):
    learner(tmp_path).fit(X)
    (path,) = (tmp_path / "memory").rglob("epochs-*")
    path.unlink()
    path.mkdir()
    with pytest.warns(MemoryWarning, match="training anew|cannot be cached"):
        learner(tmp_path).fit(X)
    assert count(log) == 2


def test_an_entry_of_other_content_is_made_anew(tmp_path, log):
    learner(tmp_path).fit(X)
    (path,) = (tmp_path / "memory").rglob("epochs-*")
    values = read_file(path)
    values["optimizer"]["state"][0]["exp_avg"] = torch.zeros(1)
    write_file(path, values)
    with pytest.warns(MemoryWarning, match="has shapes.*training anew"):
        again = learner(tmp_path).fit(X)
    assert count(log) == 2
    np.testing.assert_array_equal(again.transform(X), small(SimCLR).fit(X).transform(X))


SCRIPT = """
    import os, resource, sys, warnings
    sys.path.insert(0, {tests!r})
    import numpy as np
    from test_memory import Log, X, learner, small, SimCLR
    from pathlib import Path
    folder = Path(sys.argv[1])
"""


def start(body, *args):
    script = SCRIPT.format(tests=os.path.dirname(__file__))
    script = textwrap.dedent(script) + textwrap.dedent(body)
    return subprocess.Popen(
        [sys.executable, "-c", script, *map(str, args)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )


@pytest.mark.slow
def test_a_full_disk(tmp_path):
    body = """
        resource.setrlimit(resource.RLIMIT_FSIZE, (3_000, 3_000))
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            found = learner(folder).fit(X).transform(X)
        print(sorted({type(w.message).__name__ for w in caught if "cached" in str(w.message)}))
        print((found == small(SimCLR).fit(X).transform(X)).all())
        print([path.name for path in (folder / "memory").rglob("*") if path.is_file()][1:][1:])
    """
    said, errors = start(body, tmp_path).communicate()
    assert said.splitlines() == ["['MemoryWarning']", "True", "[]"], errors


@pytest.mark.slow
def test_two_processes_train_once(tmp_path, log):
    body = "np.save(folder / sys.argv[2], learner(folder, max_epochs=20).fit(X).transform(X))"
    racing = [start(body, tmp_path, name) for name in ("a", "b")]
    errors = [process.communicate()[1] for process in racing]
    assert not any(process.returncode for process in racing), errors
    assert count(log) == 1
    np.testing.assert_array_equal(np.load(tmp_path / "a.npy"), np.load(tmp_path / "b.npy"))


@pytest.mark.slow
def test_a_killed_process_leaves_nothing_in_the_way(tmp_path, log):
    """It is killed while it writes what it learned; another one waits for it meanwhile."""
    body = """
        import sklearn_ssl._utils._storage as storage, time
        fsync = os.fsync
        def stuck(handle):
            (folder / "writing").touch()
            time.sleep(1000)
        storage.os.fsync = stuck
        learner(folder).fit(X)
    """
    writer = start(body, tmp_path)
    while not (tmp_path / "writing").exists():
        assert writer.poll() is None, writer.communicate()
        time.sleep(0.01)
    found = []
    waiting = threading.Thread(target=lambda: found.append(learner(tmp_path).fit(X).transform(X)))
    waiting.start()
    time.sleep(0.2)
    assert waiting.is_alive()
    writer.send_signal(signal.SIGKILL)
    writer.communicate()
    waiting.join(30)
    assert count(log) == 2
    np.testing.assert_array_equal(found[0], small(SimCLR).fit(X).transform(X))
    assert not list((tmp_path / "memory").rglob("*.part"))
    with contextlib.suppress(AttributeError):
        learner(tmp_path).fit(X)
    assert count(log) == 2
