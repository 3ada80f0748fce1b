"""Trainings on several processes: two of them, on CPUs, given the views of one, equal it."""

import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import on_ranks
import pytest
import torch
from conftest import small

import sklearn_ssl
from sklearn_ssl import CheckpointFolder, SimCLR
from sklearn_ssl._utils._torch import OwnRandomNumbers
from sklearn_ssl.nn import first_own_row, gather, own_rows

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
    """Losses and gradients of the first step; then those of the default optimizer, AdamW.

    It makes large steps of small gradients, and of their rounding, too. In a network of two layers
    this hardly matters, in a deep one every layer adds to it.
    """
    for name, said in two.items():
        assert one[name]["gradients"].keys() == said["gradients"].keys()
        first = relative(said["losses"][:1], one[name]["losses"][:1])
        assert first < 2e-5, (name, first)  # DINO divides by a temperature of 0.02
        losses = relative(said["losses"], one[name]["losses"])
        assert losses < 1e-2, (name, losses)
    # where the input of a ReLU is 0 but for rounding, its gradient is there or not
    errors = errors_of_gradients(one, two)
    assert max(errors.values()) < 0.02, errors
    assert sum(error > 1e-5 for error in errors.values()) <= max(1, len(errors) // 9), errors


@pytest.mark.slow
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
    for name in ("Colorization", "SplitBrainAutoencoder"):  # averages of batches
        for key, share in one[name]["module"].items():
            if key.endswith("share"):
                assert relative(first[name]["module"][key], share) < 1e-4, (name, key)


@pytest.mark.slow
def test_weights_of_classes_are_those_of_the_whole_batch(tmp_path):
    one = on_ranks.weighted(tmp_path)["loss"]
    first, second = on_two("weighted", tmp_path)
    assert first == second
    assert relative(first["loss"], one) < 1e-4


@pytest.mark.slow
def test_a_time_budget_ends_for_all_after_the_same_step(tmp_path):
    first, second = on_two("limited", tmp_path)
    assert_same(first, second)
    assert first["seen"] > 48


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
    """Weights, averages, queues and optimizer are exact; draws continue by the ranks."""
    first, second = on_two("resumed", tmp_path)  # Ctrl-C on the first one stops both
    assert_same(first["module"], second["module"])
    assert first["epochs"] == 2
    assert_same(first["module"], CheckpointFolder(tmp_path / "checkpoints").read()["module"])
    rest = on_ranks.resumed(tmp_path)
    assert rest["epochs"] == 4
    assert_same(rest["start"], first["module"])
    assert_same(rest["optimizer"], first["trained"])


@pytest.mark.slow
def test_two_processes_with_own_draws_learn_as_much_as_one(tmp_path):
    one = on_ranks.with_own_draws(tmp_path)["scores"]
    first, second = on_two("with_own_draws", tmp_path)
    assert_same(first, second)
    two = first["scores"]
    spread = max(one.std().item(), two.std().item())
    assert abs(two.mean() - one.mean()).item() < 3 * spread * (2 / 3) ** 0.5 + 0.01, (one, two)


@pytest.mark.slow
def test_what_memory_keeps_is_taken_by_all(tmp_path):
    """But not what one process learned, whose numbers were others."""
    alone = on_ranks.remembered(tmp_path)["first"]
    first, second = on_two("remembered", tmp_path)
    assert_same(first, second)
    assert_same(first["first"], first["again"])
    assert not torch.equal(joint(first["first"]), joint(alone))


@pytest.mark.slow
def test_weights_of_the_first_process_are_those_of_all(tmp_path):
    """At the start, where networks may draw them as they like, and at the end."""
    assert_same(*on_two("strayed", tmp_path))


@pytest.mark.slow
def test_what_cannot_be_trained_together_is_refused_on_all(tmp_path):
    for said in on_two("refused", tmp_path):
        assert "give a multiple of 2" in said["batch"]
        assert "differ in values of images" in said["images"]
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


@pytest.mark.slow
def test_a_fit_without_a_launcher_passes_through_none_of_this(images):
    """Nor is the code of several processes imported."""
    script = (
        "import sys\nfrom conftest import *\nfrom sklearn_ssl import MoCo\n"
        "small(MoCo).fit(make_images()).transform(make_images())\n"
        "assert 'sklearn_ssl._utils._processes' not in sys.modules\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=SCRIPT.parent,
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_each_process_draws_numbers_of_its_own():
    """But for the first, which draws those of a single process."""
    draws = [OwnRandomNumbers(torch.device("cpu"), seed=0) for _ in range(4)]
    for rank, own in zip([0, 1, 2, 1], draws, strict=True):
        own.restart_for(rank)
    numbers = []
    for own in [*draws, OwnRandomNumbers(torch.device("cpu"), seed=0)]:
        with own:
            numbers.append(torch.rand(3).tolist())
    assert numbers[0] == numbers[4]
    assert numbers[1] == numbers[3]  # by its rank, so that it is the same in the next run
    assert len(set(map(tuple, numbers))) == 3


def test_in_one_process_rows_are_what_they_were():
    rows = torch.rand(4, 3)
    assert gather(rows) is rows
    assert own_rows(rows) is rows
    assert first_own_row(4) == 0
