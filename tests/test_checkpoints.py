"""Trainings that are stopped go on to the same bits, or say why they cannot."""

import contextlib
import functools
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
import skorch
import torch
from conftest import TinyNet, every_kind, make_images, small
from sklearn.base import clone

from sklearn_ssl import (
    BYOL,
    CheckpointFolder,
    FineTunedClassifier,
    InstanceDiscrimination,
    MoCo,
    MultiTask,
    SimCLR,
    Views,
)
from sklearn_ssl._utils._storage import read_file, write_file
from sklearn_ssl.exceptions import CheckpointWarning, InterruptionWarning

KEEPERS = [MoCo, BYOL, InstanceDiscrimination, MultiTask]  # queue, average, bank, several


class Breaks(skorch.callbacks.Callback):
    def __init__(self, step):
        self.step = step

    def on_batch_end(self, net, **kwargs):
        if net.progress_.done == self.step:
            raise RuntimeError("the power is off")


def brief(Learner, **params):
    return small(Learner, **{"max_epochs": 3, "batch_size": 16, **params})


def break_off(step, X, Learner=SimCLR, **params):
    with pytest.raises(RuntimeError, match="power"):
        brief(Learner, callbacks=[Breaks(step)], **params).fit(X)


@every_kind
def test_a_training_goes_on_to_the_same_bits(Learner, images, tmp_path):
    """Three epochs of three steps, broken off within two of them."""
    often = CheckpointFolder(tmp_path, every_seconds=0)
    whole = brief(Learner).fit(images)
    for step in (2, 5):
        break_off(step, images, Learner, checkpoint=often)
    resumed = brief(Learner, checkpoint=often).fit(images)
    np.testing.assert_array_equal(resumed.transform(images), whole.transform(images))
    for found, expected in zip(resumed.history_, whole.history_, strict=True):
        assert found.keys() == expected.keys()
        assert found["train_loss"] == expected["train_loss"]
    for path in tmp_path.iterdir():
        assert path.name == ".lock" or path.suffix == ".safetensors"


def test_what_is_finished_is_not_done_again(images, tmp_path):
    first = brief(SimCLR, checkpoint=tmp_path).fit(images)
    again = brief(SimCLR, checkpoint=tmp_path, callbacks=[Breaks(1)]).fit(images)
    np.testing.assert_array_equal(again.transform(images), first.transform(images))
    assert again.n_epochs_ == 3


def test_without_a_random_state_it_goes_on_with_the_first_numbers(images, tmp_path):
    break_off(8, images, random_state=None, checkpoint=tmp_path)
    one, other = (
        brief(SimCLR, random_state=None, checkpoint=tmp_path).fit(images) for _ in range(2)
    )
    np.testing.assert_array_equal(one.transform(images), other.transform(images))


def test_files_and_streams(images, tmp_path):
    from PIL import Image

    pictures = [Image.fromarray(image) for image in images]
    whole = brief(SimCLR).fit(pictures)
    break_off(5, pictures, checkpoint=tmp_path)
    resumed = brief(SimCLR, checkpoint=tmp_path).fit(pictures)
    np.testing.assert_array_equal(resumed.transform(images), whole.transform(images))
    brief(SimCLR, checkpoint=tmp_path / "none").partial_fit(images)
    assert not (tmp_path / "none").exists()


def test_a_continued_fit_goes_on_too(images, tmp_path):
    start = brief(SimCLR, warm_start=True).fit(images)

    def copy(**params):
        import pickle

        return pickle.loads(pickle.dumps(start)).set_params(**params)

    whole = copy().fit(images)
    with pytest.raises(RuntimeError, match="power"):
        copy(checkpoint=tmp_path, callbacks=[Breaks(5)]).fit(images)
    resumed = copy(checkpoint=tmp_path).fit(images)
    assert resumed.n_epochs_ == 6
    np.testing.assert_array_equal(resumed.transform(images), whole.transform(images))


# When, and how many


@pytest.mark.parametrize(
    ("often", "steps"),
    [
        ({}, [6, 9]),
        ({"keep": 9}, [0, 3, 6, 9]),
        ({"keep": 9, "every_epochs": 2}, [0, 6, 9]),
        ({"keep": 9, "every_epochs": None, "every_seconds": 1e6}, [0, 9]),
        ({"keep": 3, "every_epochs": None, "every_seconds": 0}, [7, 8, 9]),
    ],
)
def test_when_they_are_written(often, steps, images, tmp_path):
    brief(SimCLR, checkpoint=CheckpointFolder(tmp_path, **often)).fit(images)
    assert sorted(int(path.stem[5:]) for path in tmp_path.glob("step-*")) == steps


def test_its_arguments_are_those_of_an_estimator(tmp_path):
    learner = clone(SimCLR(checkpoint=CheckpointFolder(tmp_path, keep=3)))
    assert learner.set_params(checkpoint__keep=5).checkpoint.keep == 5
    with pytest.raises(ValueError, match="keep"):
        learner.set_params(checkpoint__keep=0).fit(make_images())


# Another training


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"temperature": 0.3}, r"temperature was 0\.[0-9]+ and is 0\.3"),
        ({"random_state": 1}, "seed was"),
        ({"random_state": None}, "seed was [0-9]+ and is None"),
        ({"max_epochs": 4}, "max_epochs was 3 and is 4"),
        ({"views": Views(size=6)}, "views was None and is .*'size': 6"),
        ({"optimizer": "sgd"}, "optimizer was 'adamw' and is 'sgd'"),
        ({"precision": "float32"}, "precision"),
    ],
)
def test_other_arguments_are_refused(params, message, images, tmp_path):
    break_off(5, images, checkpoint=tmp_path)
    learner = brief(SimCLR, checkpoint=tmp_path, **params)
    with pytest.raises(ValueError, match=f"from another training run: {message}"):
        learner.fit(images)
    assert not hasattr(learner, "net_")


@pytest.mark.parametrize("early_stopping", [True, False])
def test_fine_tuning_goes_on(early_stopping, images, tmp_path):
    y = np.arange(len(images)) % 2
    ssl = small(SimCLR).fit(images)

    def tune(*callbacks, **params):
        tuned = FineTunedClassifier(
            ssl, max_epochs=9, patience=3, early_stopping=early_stopping, lr=3e-3, batch_size=8,
            validation_fraction=0.3, random_state=0, callbacks=list(callbacks), **params,
        )  # fmt: skip
        return tuned.fit(images, y)

    class Die(skorch.callbacks.Callback):
        def on_epoch_begin(self, net, **kwargs):
            if len(net.history) == 4:
                raise RuntimeError("died")

    whole = tune()
    with pytest.raises(RuntimeError, match="died"):
        tune(Die(), checkpoint=tmp_path)
    resumed = tune(checkpoint=tmp_path)
    again = tune(checkpoint=tmp_path)  # at once
    for found in (resumed, again):
        np.testing.assert_array_equal(found.predict_proba(images), whole.predict_proba(images))
        assert [row["train_loss"] for row in found.history_] == [
            row["train_loss"] for row in whole.history_
        ]
    with pytest.raises(ValueError, match="another training run: targets was"):
        FineTunedClassifier(**{**whole.get_params(deep=False), "checkpoint": tmp_path}).fit(
            images, 1 - y
        )


def test_other_images_and_learners_are_refused(images, tmp_path):
    break_off(5, images, checkpoint=tmp_path)
    for X in (images[:47], images[::-1], images.astype(np.float32)):
        with pytest.raises(ValueError, match=r"images (was .* and is|have different pixels)"):
            brief(SimCLR, checkpoint=tmp_path).fit(X)
    with pytest.raises(ValueError, match="class was 'SimCLR' and is 'BYOL'"):
        brief(BYOL, checkpoint=tmp_path).fit(images)


def test_what_does_not_train_may_change(images, tmp_path):
    break_off(5, images, checkpoint=tmp_path)
    params = {"layer": "conv", "pool": 1, "verbose": 1, "n_jobs": 1}
    assert brief(SimCLR, checkpoint=tmp_path, **params).fit(images).n_epochs_ == 3


def test_a_constant_schedule_takes_more_epochs(images, tmp_path):
    params = {"schedule": "constant", "checkpoint": CheckpointFolder(tmp_path, every_seconds=0)}
    brief(MoCo, **params).fit(images)
    break_off(11, images, MoCo, max_epochs=5, **params)  # 9 steps were there
    longer = brief(MoCo, max_epochs=5, **params).fit(images)
    once = brief(MoCo, max_epochs=5, schedule="constant").fit(images)
    np.testing.assert_array_equal(longer.transform(images), once.transform(images))
    assert longer.n_epochs_ == 5
    with pytest.raises(ValueError, match="5 epochs, which is more than max_epochs=4"):
        brief(MoCo, max_epochs=4, **params).fit(images)


def test_a_training_that_a_callback_ended_is_not_made_longer(images, tmp_path):
    class Stops(skorch.callbacks.Callback):
        def on_epoch_end(self, net, **kwargs):
            raise KeyboardInterrupt

    params = {"schedule": "constant", "checkpoint": tmp_path}
    brief(SimCLR, callbacks=[Stops()], **params).fit(images)
    assert brief(SimCLR, max_epochs=5, **params).fit(images).n_epochs_ == 1


def test_digests_are_not_told_in_full(images, tmp_path):
    break_off(5, images, checkpoint=tmp_path)
    other = functools.partial(TinyNet)
    with pytest.raises(ValueError, match=r"encoder was .*[0-9a-f]{8}\.\.\..* and is") as error:
        brief(SimCLR, checkpoint=tmp_path, encoder=other).fit(images)
    assert len(str(error.value)) < 300 + len(str(tmp_path))


# Damage


def test_a_damaged_one_is_passed_over(images, tmp_path):
    whole = brief(SimCLR).fit(images)
    break_off(8, images, checkpoint=tmp_path)
    files = sorted(tmp_path.glob("step-*"))
    content = bytearray(files[-1].read_bytes())
    content[-5] ^= 1  # one bit of a weight
    files[-1].write_bytes(content)
    with pytest.warns(CheckpointWarning, match="damaged.*checksum.*resuming from step-0000000003"):
        resumed = brief(SimCLR, checkpoint=tmp_path).fit(images)
    np.testing.assert_array_equal(resumed.transform(images), whole.transform(images))
    for path in tmp_path.glob("step-*"):
        path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(ValueError, match=r"delete .* to start over"):
        brief(SimCLR, checkpoint=tmp_path).fit(images)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda v: v["optimizer"]["state"][0].update(exp_avg=torch.zeros(1)), "has shapes"),
        (lambda v: v["module"].popitem(), "Missing key"),
        (lambda v: v["epoch"]["order"].fill_(48), "order"),
        (lambda v: v["epoch"]["order"][:1].fill_(-1), "rows outside of the 48 images"),
        (lambda v: v.pop("generators"), "KeyError"),
        (lambda v: v.pop("training"), "from another training"),
    ],
)
def test_one_of_other_content_is_refused(change, message, images, tmp_path):
    break_off(2, images, checkpoint=CheckpointFolder(tmp_path, every_seconds=0, keep=1))
    (path,) = tmp_path.glob("step-*")
    values = read_file(path)
    change(values)
    write_file(path, values)
    with pytest.raises(ValueError, match=f"(?s)the checkpoints in .*{message}"):
        brief(SimCLR, checkpoint=tmp_path).fit(images)


def test_what_was_left_half_written_is_cleared_away(images, tmp_path):
    (tmp_path / ".step-0000000009.safetensors.abc.part").write_bytes(b"half")
    brief(SimCLR, checkpoint=tmp_path).fit(images)
    assert not list(tmp_path.glob(".*.part"))


def test_a_folder_that_cannot_be_written(images, tmp_path):
    (tmp_path / "file").write_text("")
    learner = brief(SimCLR, checkpoint=tmp_path / "file" / "folder")
    with pytest.raises(OSError, match="checkpoints cannot be written: Not a directory"):
        learner.fit(images)
    assert not hasattr(learner, "net_")


def test_two_trainings_in_one_folder(images, tmp_path):
    pytest.importorskip("fcntl")
    with (
        CheckpointFolder(tmp_path).opened({}, None),
        pytest.raises(OSError, match="another process trains"),
    ):
        brief(SimCLR, checkpoint=tmp_path).fit(images)


# Ctrl-C


class PressesCtrlC(skorch.callbacks.Callback):
    def on_batch_end(self, net, **kwargs):
        if net.progress_.done == 5:
            signal.raise_signal(signal.SIGINT)


@pytest.mark.parametrize("saved", [True, False])
def test_ctrl_c_leaves_what_was_learned_and_a_checkpoint(saved, images, tmp_path):
    checkpoint = tmp_path if saved else None
    learner = brief(SimCLR, callbacks=[PressesCtrlC()], checkpoint=checkpoint)
    said = "after 1 epochs.*resumes from its checkpoint" if saved else "after 1 epochs.*so far$"
    with pytest.warns(InterruptionWarning, match=said), pytest.raises(KeyboardInterrupt):
        learner.fit(images)
    untrained = small(SimCLR, max_epochs=0).fit(images).transform(images)
    assert not np.allclose(learner.transform(images), untrained)
    if saved:
        assert max(tmp_path.glob("step-*")).name == "step-0000000005.safetensors"
    resumed = learner.set_params(callbacks=None).fit(images)
    expected = brief(SimCLR).fit(images)
    np.testing.assert_array_equal(resumed.transform(images), expected.transform(images))


# Other ends


SCRIPT = """
    import os, resource, sys
    sys.path.insert(0, {tests!r})
    import numpy as np
    from conftest import make_images, small
    import sklearn_ssl
    from sklearn_ssl import CheckpointFolder
    X = make_images()
    def fit(name, folder):
        Learner = getattr(sklearn_ssl, name)
        often = CheckpointFolder(folder, every_seconds=0)
        learner = small(Learner, max_epochs=12, batch_size=16, checkpoint=often).fit(X)
        np.save(folder + ".npy", learner.transform(X))
"""


def run(body, *args):
    tests = os.path.dirname(__file__)
    script = textwrap.dedent(SCRIPT.format(tests=tests)) + textwrap.dedent(body)
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "STARTED_FOR": str(args[0])}
    return subprocess.run(
        [sys.executable, "-c", script, *map(str, args)],
        capture_output=True,
        text=True,
        env=environment,
        check=False,
    )


@pytest.mark.slow
def test_killed_ten_times(tmp_path):
    """Children of one process, each killed by SIGKILL at a random moment of the same training."""
    body = """
        import random, signal, time
        small(sklearn_ssl.SimCLR).fit(X)  # children need not import and warm up
        random.seed(0)
        for name in sys.argv[2:]:
            folder, killed = f"{sys.argv[1]}/{name}", 0
            while True:
                child = os.fork()
                if child == 0:
                    fit(name, folder)
                    os._exit(0)
                if killed < 10:
                    # within the training, not in what comes before it
                    before = set(os.listdir(folder)) if os.path.isdir(folder) else set()
                    deadline = time.monotonic() + 60
                    while time.monotonic() < deadline and os.waitpid(child, os.WNOHANG)[0] == 0:
                        now = set(os.listdir(folder)) if os.path.isdir(folder) else set()
                        if {n for n in now - before if n.endswith("safetensors")}:
                            break
                        time.sleep(0.001)
                    else:
                        break
                    time.sleep(random.uniform(0, 0.01))
                    os.kill(child, signal.SIGKILL)
                _, status = os.waitpid(child, 0)
                killed += os.WIFSIGNALED(status)
                if os.WIFEXITED(status):
                    assert os.WEXITSTATUS(status) == 0, name
                    break
            print(name, killed)
    """
    done = run(body, tmp_path, *(Learner.__name__ for Learner in KEEPERS))
    assert done.returncode == 0, done.stderr
    killed = dict(line.split() for line in done.stdout.splitlines())
    for Learner in KEEPERS:
        name = Learner.__name__
        assert int(killed[name]) == 10, killed
        learner = small(Learner, max_epochs=12, batch_size=16).fit(make_images())
        expected = learner.transform(make_images())
        np.testing.assert_array_equal(np.load(tmp_path / f"{name}.npy"), expected)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("limit", "said"),
    [("resource.RLIMIT_FSIZE, (200_000, 200_000)", "cannot be written: File too large")],
)
def test_a_full_disk(limit, said, tmp_path):
    body = f"""
        import signal
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        folder = sys.argv[1] + "/saved"
        learner = small(sklearn_ssl.MoCo, max_epochs=1, batch_size=16, checkpoint=folder).fit(X)
        resource.setrlimit({limit})
        learner = small(sklearn_ssl.MoCo, max_epochs=2, checkpoint=sys.argv[1] + "/full")
        try:
            learner.fit(X)
        except OSError as error:
            print(error)
        print(hasattr(learner, "net_"), os.listdir(sys.argv[1] + "/full"))
    """
    done = run(body, tmp_path)
    assert said in done.stdout, done.stderr
    assert done.stdout.endswith("False ['.lock']\n")


@pytest.mark.slow
def test_out_of_memory(tmp_path):
    """The address space is cut to little more than what is in use, while it trains."""
    body = """
        folder = sys.argv[1] + "/saved"
        from skorch.callbacks import Callback
        class Fill(Callback):
            def on_epoch_end(self, net, **kwargs):
                if len(net.history) == 2:
                    used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
                    resource.setrlimit(resource.RLIMIT_AS, (used + 2**20, -1))
                    self.taken = np.ones(2**30)
        learner = small(sklearn_ssl.MoCo, max_epochs=4, batch_size=16, checkpoint=folder)
        try:
            learner.set_params(callbacks=[Fill()]).fit(X)
        except MemoryError as error:
            print("MemoryError")
        resource.setrlimit(resource.RLIMIT_AS, (-1, -1))
        print(hasattr(learner, "net_"), sorted(os.listdir(folder)))
        resumed = learner.set_params(callbacks=None).fit(X)
        expected = small(sklearn_ssl.MoCo, max_epochs=4, batch_size=16).fit(X)
        print((resumed.transform(X) == expected.transform(X)).all())
    """
    done = run(body, tmp_path)
    said = done.stdout.splitlines()
    assert said[0] == "MemoryError", done.stderr
    assert said[1].startswith("False ['.lock', 'step-")
    assert "part" not in said[1]
    assert said[2] == "True"


@pytest.mark.slow
def test_a_killed_worker_leaves_its_checkpoint_and_no_other_process(tmp_path):
    body = """
        import signal, threading, time
        from joblib import Parallel, delayed
        folder = sys.argv[1] + "/saved"
        def train(folder, epochs):
            often = CheckpointFolder(folder, every_seconds=0)
            learner = small(sklearn_ssl.MoCo, max_epochs=epochs, batch_size=16, checkpoint=often)
            return learner.fit(X).transform(X)
        def shoot():
            while not any(n.endswith("safetensors") for n in os.listdir(folder)):
                time.sleep(0.01)
            for worker in open(f"/proc/self/task/{os.getpid()}/children").read().split():
                if b"loky" in open(f"/proc/{worker}/cmdline", "rb").read():
                    os.kill(int(worker), signal.SIGKILL)
        os.makedirs(folder)
        threading.Thread(target=shoot, daemon=True).start()
        try:
            Parallel(n_jobs=2)(delayed(train)(folder + str(i) * i, 2000) for i in range(2))
        except Exception as error:
            print(type(error).__name__)
        steps = max(n for n in os.listdir(folder) if n.endswith("safetensors"))
        print(steps > "step-0000000000", [n for n in os.listdir(folder) if "part" in n][1:])
    """
    done = run(body, tmp_path)
    assert done.stdout.splitlines() == ["TerminatedWorkerError", "True []"], done.stderr
    assert not started_for(tmp_path)


def started_for(folder):
    """Processes that have the folder in their environment, as ``run`` starts them."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it ended meanwhile, or is somebody else's
            if f"STARTED_FOR={folder}\0".encode() in (process / "environ").read_bytes() + b"\0":
                found.append(process.name)
    return found
