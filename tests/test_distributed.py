"""Trainings on several processes: two of them, on CPUs, equal one at the same batch."""

import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import on_ranks
import pytest
import torch
from conftest import make_images, small

import sklearn_ssl
from sklearn_ssl import Checkpoint, SimCLR, Views
from sklearn_ssl._utils._ranks import Ranks, joined
from sklearn_ssl.views import functional

pytest.importorskip("accelerate")

SCRIPT = Path(__file__).parent / "on_ranks.py"
PACKAGE = str(Path(sklearn_ssl.__file__).parents[1])
TORCHRUN = ("torch.distributed.run", "--nproc-per-node", "2", "--master-port")
ACCELERATE = (  # without GPUs, too, it then starts several processes
    *("accelerate.commands.launch", "--multi_gpu", "--num_machines", "1", "--num_processes", "2"),
    *("--mixed_precision", "no", "--dynamo_backend", "no", "--main_process_port"),
)


def environment(**more):
    path = os.pathsep.join([PACKAGE, os.environ.get("PYTHONPATH", "")])
    return {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", **more}


def free_port():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return str(found.getsockname()[1])


def on_two(function, folder, launcher=TORCHRUN):
    """What a function of on_ranks.py gives on each of two processes."""
    command = [sys.executable, "-m", *launcher, free_port(), SCRIPT, function, folder]
    done = subprocess.run(
        command, env=environment(), capture_output=True, text=True, timeout=500, check=False
    )
    assert done.returncode == 0, done.stderr
    return [torch.load(folder / f"{rank}.pt", weights_only=False) for rank in (0, 1)]


def assert_same(first, second):
    """All bits, as they lie in nested dictionaries."""
    assert first.keys() == second.keys()
    for name, value in first.items():
        if isinstance(value, dict):
            assert_same(value, second[name])
        else:
            assert torch.equal(torch.as_tensor(value), torch.as_tensor(second[name])), name


def joint(gradients):
    return torch.cat([g.flatten() for g in gradients.values()])


def relative(found, expected):
    """Length of the difference, relative to that of what is expected."""
    return ((found - expected).norm() / expected.norm()).item()


def errors_of_gradients(one, two):
    """Relative to the length of the gradient of all parameters; for each learner."""
    errors = {}
    for name, said in two.items():
        errors[name] = relative(joint(said["gradients"]), joint(one[name]["gradients"]))
    return errors


def assert_equal_but_for_rounding(one, two):
    """After four steps of the default optimizer, AdamW.

    It makes large steps of small gradients, and of their rounding, too. In a network of two layers
    this hardly matters, in a deep one every layer adds to it.
    """
    for name, said in two.items():
        assert one[name]["gradients"].keys() == said["gradients"].keys()
        deep = name == "deep"
        losses = relative(said["losses"], one[name]["losses"])
        assert losses < (1e-2 if deep else 1e-4), (name, losses)
        expected = one[name]["features"]
        features = relative(said["features"] - expected.mean(0), expected - expected.mean(0))
        assert features < (0.1 if deep else 1e-3), (name, features)
    # where the input of a ReLU is 0 but for rounding, its gradient is there or not
    errors = errors_of_gradients(one, two)
    assert max(errors.values()) < 0.02, errors
    assert sum(error > 1e-4 for error in errors.values()) <= len(errors) // 9, errors


def test_two_processes_learn_what_one_does(tmp_path):
    one = on_ranks.kinds(tmp_path)
    first, second = on_two("kinds", tmp_path)
    assert_same(first, second)
    assert_equal_but_for_rounding(one, first)


@pytest.mark.slow
def test_every_learner_learns_on_two_processes_what_it_does_on_one(tmp_path):
    one = on_ranks.every_learner(tmp_path)
    first, second = on_two("every_learner", tmp_path, ACCELERATE)
    assert first.keys() == one.keys()
    assert_same(first, second)
    assert_equal_but_for_rounding(one, first)


@pytest.mark.gpu
def test_two_processes_on_a_gpu_learn_what_one_does(tmp_path):
    one = on_ranks.on_one_gpu(tmp_path)
    first, second = on_two("on_one_gpu", tmp_path)
    assert_same(first, second)
    said, expected = first["SimCLR"], one["SimCLR"]
    torch.testing.assert_close(said["losses"], expected["losses"], rtol=1e-4, atol=1e-4)
    # as above, of inputs of a ReLU that are 0 but for rounding
    assert max(errors_of_gradients(one, {"SimCLR": said}).values()) < 0.02


@pytest.mark.slow
def test_a_training_goes_on_with_another_number_of_processes(tmp_path):
    first, second = on_two("resumed", tmp_path)  # Ctrl-C on the first one stops both
    assert_same(first, second)
    assert first["epochs"] == 2
    assert_same(first["module"], Checkpoint(tmp_path / "checkpoints").read()["module"])
    rest = on_ranks.resumed(tmp_path)
    assert rest["epochs"] == 4
    assert_same(rest["start"], first["module"])
    whole = small(SimCLR, batch_size=24, **on_ranks.EXACT).set_params(max_epochs=4)
    whole = whole.fit(make_images()).net_.module_.state_dict()
    for name, value in rest["module"].items():
        torch.testing.assert_close(value, whole[name], rtol=1e-3, atol=1e-5)


@pytest.mark.slow
def test_what_memory_keeps_is_taken_by_all(tmp_path):
    first, second = on_two("remembered", tmp_path)
    assert_same(first, second)
    assert_same(first["first"], first["again"])


@pytest.mark.slow
def test_what_cannot_be_trained_together_is_refused_on_all(tmp_path):
    for said in on_two("refused", tmp_path):
        assert "give a multiple of 2" in said["batch"]
        assert "differ in images" in said["images"]
        assert "differ in temperature" in said["arguments"]
        assert "n_jobs=1" in said["threads"]


@pytest.mark.slow
def test_a_killed_process_ends_the_others(tmp_path):
    """Without a launcher, which would end them itself."""
    shared = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": free_port(), "WORLD_SIZE": "2"}
    command = [sys.executable, SCRIPT, "killed", tmp_path]
    first, second = (
        subprocess.Popen(
            command,
            env=environment(**shared, RANK=rank, LOCAL_RANK=rank),
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in "01"
    )
    second.communicate(timeout=200)
    assert second.returncode == -9
    began = time.monotonic()
    _, said = first.communicate(timeout=60)
    assert time.monotonic() - began < 60
    assert first.returncode == 1
    assert "ProcessLostError: the connection to another process" in said


def test_several_processes_need_accelerate(images, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setitem(sys.modules, "accelerate", None)
    with pytest.raises(ImportError, match=r"sklearn-ssl\[distributed\]"):
        small(SimCLR).fit(images)


def test_views_are_shared_out(monkeypatch):
    ranks, seen = Ranks(0, 2), []
    monkeypatch.setattr(ranks, "whole", lambda part: torch.cat([part, part]))
    crop_resize = functional.crop_resize

    def spy(images, *args):
        seen.append(len(images))
        return crop_resize(images, *args)

    monkeypatch.setattr(functional, "crop_resize", spy)
    with ranks.splitting():
        assert len(Views(size=8)(torch.rand(6, 3, 12, 12))) == 6
    assert seen == [3]


def test_alone_nothing_is_shared_out():
    with joined(torch.device("cpu")) as ranks:
        assert (ranks.rank, ranks.size) == (0, 1)
    x = torch.rand(3, 2)
    assert torch.equal(Ranks().whole(Ranks().part(x)), x)
