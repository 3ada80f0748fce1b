"""The loop: on any device, without syncs, and honest about failures."""

import os
import re
import subprocess
import sys
import time
import warnings
from inspect import getmodule, getsource
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import skorch
import torch
from conftest import (
    LEARNERS,
    Constant,
    TinyNet,
    Transpose,
    every_kind,
    every_learner,
    make_images,
    small,
)
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning
from sklearn.preprocessing import FunctionTransformer
from torch import nn

from sklearn_ssl import BYOL, DINO, IJEPA, Distillation, MoCo, MultiTask, SimCLR
from sklearn_ssl._utils._torch import (
    OwnRandomNumbers,
    autocast,
    bfloat16_is_native,
    isolated,
    own_settings,
    resolve_device,
    synchronize,
)
from sklearn_ssl.exceptions import (
    BusyMachineWarning,
    CollapseWarning,
    DivergenceError,
    LittleTrainingWarning,
)
from sklearn_ssl.nn import LARS, MomentumCopy, Muon
from sklearn_ssl.training import Progress


@every_learner
@pytest.mark.parametrize(
    ("encoder", "channels"),
    [
        (TinyNet, 3),
        *((pytest.param(TinyNet, channels, marks=pytest.mark.slow)) for channels in (1, 5)),
        *(
            pytest.param(encoder, 3, marks=pytest.mark.slow)
            for encoder in ("small_resnet", "small_vit", "resnet18")
        ),
    ],
)
def test_step_on_the_meta_device(Learner, encoder, channels):
    """A step there shows that no CPU tensor slipped in and that nothing is read back."""
    X = make_images(n=8, height=16, width=16, channels=channels)
    net = small(Learner, encoder=encoder, max_epochs=0).fit(X).net_
    net.move_to(torch.device("meta"))
    net.progress_, net.constant_lr_ = Progress(2), False
    net._set_training(True)
    pixels = torch.empty(8, channels, 16, 16, dtype=torch.uint8, device="meta")
    index = torch.empty(8, dtype=torch.int64, device="meta")
    net.draws_ = OwnRandomNumbers(torch.device("meta"), seed=0)
    with own_settings(torch.device("meta")):
        for _ in range(2):
            net._schedule_lr()
            terms = net.train_step((pixels, index))["terms"]
    assert all(term.device.type == "meta" for term in terms.values())
    with torch.no_grad():
        assert net.encoder(net.module_.pixels(pixels)).device.type == "meta"


def test_meta_device_catches_a_value_that_is_read(images):
    net = small(SimCLR, max_epochs=0).fit(images).net_
    net.move_to(torch.device("meta"))
    with pytest.raises(RuntimeError, match="meta"):
        net.module_.pixels.offset.sum().item()


@every_kind
def test_values_are_read_once_an_epoch(Learner, images, monkeypatch):
    """Reads must not grow with the number of steps."""
    reads = []
    item = torch.Tensor.item

    def counting(self):
        reads.append(1)
        return item(self)

    monkeypatch.setattr(torch.Tensor, "item", counting)
    counts = []
    for batch_size in (24, 6):  # 2 and 8 steps
        reads.clear()
        small(Learner, batch_size=batch_size).fit(images)
        counts.append(len(reads))
    # fused AdamW on a CPU reads its own step counter; it is not a tensor of the device
    assert counts[0] == counts[1]


def test_an_epoch_ends_when_its_device_has_done_all(images, monkeypatch):
    """A device that takes steps in no time, and is busy with them for 5 seconds an epoch."""
    clock, waits = Clock(monkeypatch), []

    def wait(device):
        waits.append(device)
        clock.now += 5.0

    monkeypatch.setattr("sklearn_ssl.training._loop.synchronize", wait)
    monkeypatch.setattr("sklearn_ssl.training._loop.time.perf_counter", lambda: clock.now)
    learner = small(SimCLR, batch_size=6, max_epochs=2).fit(images)  # 8 steps an epoch
    assert waits == [torch.device("cpu")] * 2
    assert [row["seconds"] for row in learner.history_] == [5.0, 5.0]
    assert [row["images_per_second"] for row in learner.history_] == [48 / 5] * 2


def test_an_accelerator_is_waited_for(monkeypatch):
    waits = []
    monkeypatch.setattr(torch.accelerator, "synchronize", waits.append)
    for name in ("cpu", "meta", "cuda:1", "mps"):
        synchronize(torch.device(name))
    assert waits == [torch.device("cuda:1"), torch.device("mps")]


@every_learner
def test_infinite_loss_stops_with_advice(Learner, images):
    with pytest.raises(DivergenceError, match=r"smaller lr .*1e\+20.*warmup.*precision") as caught:
        small(Learner, lr=1e20, warmup=0, max_epochs=3, optimizer="sgd").fit(images)
    assert "epoch" in str(caught.value)


@pytest.mark.parametrize("method", ["fit", "partial_fit"])
def test_divergence_in_the_last_step_does_not_pass(method, images):
    learner = small(SimCLR, lr=1e38, warmup=0, optimizer="sgd", batch_size=len(images))
    with pytest.raises(DivergenceError, match="spread of the features became nan in epoch 1"):
        getattr(learner, method)(images)


def test_collapse_warns(images):
    with pytest.warns(CollapseWarning, match="collapsed.*smaller lr"):
        small(SimCLR, encoder=Constant).fit(images)


def test_identical_images_are_named_and_no_learning_rate_is_blamed(images):
    said = "256 images of X were compared, and all are identical. Check how they were read"
    with pytest.warns(CollapseWarning, match=said) as caught:
        small(SimCLR).fit(np.repeat(images[:1], 300, 0))
    assert not any("lr" in str(warning.message) for warning in caught)


@pytest.mark.filterwarnings("error::sklearn_ssl.exceptions.CollapseWarning")
def test_a_healthy_fit_does_not_warn_of_collapse(images):
    small(SimCLR, encoder="small_resnet").fit(images)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("adamw", torch.optim.AdamW),
        ("sgd", torch.optim.SGD),
        ("lars", LARS),
        ("muon", Muon),
        (torch.optim.RMSprop, torch.optim.RMSprop),
    ],
)
def test_optimizers(images, name, kind):
    learner = small(SimCLR, optimizer=name, weight_decay=0.1, lr=0.01).fit(images)
    optimizer = learner.net_.optimizer_
    assert isinstance(optimizer, kind)
    assert {group["weight_decay"] for group in optimizer.param_groups} == {0.0, 0.1}
    if name in ("adamw", "sgd"):
        assert optimizer.defaults["fused"]


def test_learning_rate_warms_up_and_falls(images):
    rates = []

    class Note(skorch.callbacks.Callback):
        def on_batch_end(self, net, **kwargs):
            rates.append(net.optimizer_.param_groups[0]["lr"])

    small(SimCLR, lr=0.1, warmup=0.5, batch_size=12, max_epochs=2, callbacks=[Note()]).fit(images)
    assert len(rates) == 8
    np.testing.assert_allclose(rates[:4], 0.1 * (np.arange(4) + 0.5) / 4)
    assert rates[3] < 0.1
    assert all(a > b > 0 for a, b in pairwise(rates[4:]))


def test_both_views_go_through_the_encoder_at_once(images):
    net = small(SimCLR, batch_size=16, max_epochs=0).fit(images).net_
    seen = []
    net.encoder.backbone.conv.register_forward_hook(
        lambda _m, args, _out: seen.append(len(args[0]))
    )
    net.module_(torch.zeros(16, 3, 8, 8, dtype=torch.uint8), torch.arange(16))
    assert seen == [32]


def test_weights_are_channels_last(images):
    net = small(SimCLR, encoder="small_resnet", max_epochs=0).fit(images).net_
    weight = net.encoder.backbone.layer4.conv1.weight
    assert weight.is_contiguous(memory_format=torch.channels_last)


# Devices and number formats


def test_bfloat16_sees_the_weights_of_each_step():
    """Also within another autocast, until whose end torch keeps what it has cast."""
    layer, x, device = nn.Linear(3, 2), torch.ones(1, 3), torch.device("cpu")
    with isolated(device, 0):
        nn.init.zeros_(layer.bias)
        for weight in (1.0, 2.0):
            nn.init.constant_(layer.weight, weight)
            with autocast(device, "bfloat16"):
                found = layer(x)
            assert found.dtype == torch.bfloat16
            assert found.tolist() == [[3 * weight] * 2]


@pytest.mark.parametrize("precision", ["auto", "bfloat16", "float32"])
def test_precision(precision):
    cpu = torch.device("cpu")
    a = torch.rand(4, 4)
    with autocast(cpu, precision):
        half = (a @ a).dtype == torch.bfloat16
    assert half == (precision == "bfloat16" or (precision == "auto" and bfloat16_is_native(cpu)))


def test_features_are_float32_and_close_in_both_formats(images):
    full = small(SimCLR, precision="float32").fit(images)
    half = small(SimCLR, precision="bfloat16").fit(images)
    a, b = full.transform(images), half.transform(images)
    assert a.dtype == b.dtype == np.float32
    assert 0 < np.abs(a - b).max() < 0.2


def test_devices():
    assert resolve_device("cpu") == torch.device("cpu")
    assert resolve_device("auto").type in ("cuda", "mps", "cpu")
    with pytest.raises(ValueError, match=r"'tpu'.*'auto' or one of.*cpu"):
        resolve_device("tpu")


def test_draws_come_from_generators_of_our_own():
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    with isolated(torch.device("cpu"), seed=0):
        first = torch.rand(3)
    assert torch.equal(torch.rand(3), expected)
    with isolated(torch.device("cpu"), seed=0):
        assert torch.equal(torch.rand(3), first)


def test_importing_the_package_leaves_torchvision_out():
    left_out = {"torchvision", "matplotlib", "skorch", "timm"}
    code = f"import sklearn_ssl, sys; print({left_out} & set(sys.modules))"
    out = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert out.stdout.strip() == "set()"


# Parts that are held


class NormedViT(nn.Sequential):
    """A transformer whose patch embedding has a batch norm."""

    def __init__(self, in_channels, image_shape):
        patches = nn.Conv2d(in_channels, 16, 2, 2), nn.BatchNorm2d(16), nn.Flatten(2), Transpose()
        super().__init__()
        self.patches = nn.Sequential(*patches)
        self.block = nn.TransformerEncoderLayer(16, 2, 32, 0.0, batch_first=True)


HAVE_A_COPY = [
    small(BYOL),
    small(DINO),
    small(MoCo),
    small(MoCo, version=3),
    small(IJEPA, encoder=NormedViT),
    small(MultiTask, learners=[("a", SimCLR(), 1.0), ("b", BYOL(), 1.0)]),
]


def test_all_learners_with_a_copy_are_listed():
    found = {name for name, cls in LEARNERS if "MomentumCopy" in getsource(getmodule(cls))}
    assert found | {"MultiTask"} == {type(learner).__name__ for learner in HAVE_A_COPY}


@pytest.mark.parametrize("learner", HAVE_A_COPY)
@pytest.mark.parametrize("held", [{"frozen_batch_norm": True}, {"frozen_epochs": 1}])
def test_momentum_copies_are_held_as_the_encoder_is(learner, held, images):
    """Targets by statistics of the batch, and predictions by others, would teach the difference."""
    modes = []

    class Modes(skorch.callbacks.Callback):
        def on_epoch_end(self, net, **kwargs):
            modes.extend(part.training for part in net.encoder.modules())

    ssl = clone(learner).set_params(max_epochs=0, warm_start=True).fit(images)
    before = {name: v.clone() for name, v in ssl.encoder_.named_buffers()}
    ssl.set_params(max_epochs=1, callbacks=[Modes()], **held).fit(images)
    task = ssl.net_.module_.task
    copies = [part.module for part in task.modules() if isinstance(part, MomentumCopy)]
    copies = [copy for copy in copies if type(copy) is type(task.encoder)]
    assert len(copies) == 1
    for network in (task.encoder, *copies):
        buffers = dict(network.named_buffers())
        assert any("running_mean" in name for name in buffers)
        assert all(torch.equal(value, before[name]) for name, value in buffers.items())
    if "frozen_epochs" in held:
        for weight, copied in zip(task.encoder.parameters(), copies[0].parameters(), strict=True):
            assert torch.equal(weight, copied)
    assert modes
    assert not any(modes)  # callbacks may look at features
    ssl.set_params(**{name: type(value)(0) for name, value in held.items()}).fit(images)
    task = ssl.net_.module_.task
    moved = [part.module for part in task.modules() if isinstance(part, MomentumCopy)]
    name = next(name for name in before if "running_mean" in name)
    assert not torch.equal(dict(moved[0].named_buffers())[name], before[name])


# A training that has so many seconds


class Clock:
    """Time that passes by steps: 2 seconds each, with what is between them."""

    def __init__(self, monkeypatch):
        self.now = 100.0
        monkeypatch.setattr("sklearn_ssl.training._loop.time.monotonic", lambda: self.now)


class Ticks(skorch.callbacks.Callback):
    """Takes time in each step, and notes learning rates and progress."""

    def __init__(self, clock, seconds=2.0):
        self.clock = clock
        self.seconds = seconds
        self.lrs = []

    def on_batch_end(self, net, **kwargs):
        self.lrs.append(net.optimizer_.param_groups[0]["lr"])
        self.clock.now += self.seconds


@pytest.mark.parametrize(("budget", "steps"), [(60.0, 30), (8.0, 4), (0.5, 1), (7.0, 3)])
def test_a_time_budget_is_used_up_and_ends_with_a_whole_schedule(monkeypatch, budget, steps):
    clock = Clock(monkeypatch)
    ticks = Ticks(clock)
    learner = small(SimCLR, time_budget=budget, batch_size=8, callbacks=[ticks], warmup=0.0)
    learner.fit(make_images(56))  # 7 steps an epoch
    assert abs(len(ticks.lrs) - steps) <= 1
    assert learner.n_images_seen_ == 8 * len(ticks.lrs)
    assert learner.n_epochs_ == -(-len(ticks.lrs) // 7)
    assert learner.n_images_seen_ == sum(row["images"] for row in learner.history_)
    if steps > 10:  # a cosine from the first step to the last
        assert ticks.lrs[0] == pytest.approx(learner.lr, rel=0.01)
        assert ticks.lrs[-1] < 0.01 * learner.lr
        assert (np.diff(ticks.lrs) < 0).all()


def test_max_epochs_is_not_asked_with_a_time_budget(monkeypatch):
    ticks = Ticks(Clock(monkeypatch))
    small(SimCLR, time_budget=40.0, max_epochs=0, batch_size=8, callbacks=[ticks]).fit(
        make_images(32)
    )
    assert len(ticks.lrs) in (19, 20)


def test_a_teacher_takes_of_the_time_budget(monkeypatch):
    def slow(X):
        clock.now += 20.0
        return X.reshape(len(X), -1)[:, :10]

    clock = Clock(monkeypatch)
    ticks = Ticks(clock)
    params = {"shared_views": False, "time_budget": 40.0, "batch_size": 8, "callbacks": [ticks]}
    small(Distillation, teacher=FunctionTransformer(slow), **params).fit(make_images(32))
    assert len(ticks.lrs) in (9, 10, 11)


@pytest.mark.parametrize(("budget", "over"), [(8.0, True), (20.0, False)])
def test_a_time_budget_that_ends_while_the_encoder_is_held(monkeypatch, budget, over):
    ticks = Ticks(Clock(monkeypatch))
    params = {"time_budget": budget, "frozen_epochs": 1, "batch_size": 8, "callbacks": [ticks]}
    learner = small(SimCLR, **params, warm_start=True)
    for _ in range(2):  # a continued fit holds it as well
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            learner.fit(make_images(56))  # 7 steps, 14 seconds an epoch
        found = [w.category for w in caught if issubclass(w.category, ConvergenceWarning)]
        assert found == [ConvergenceWarning] * over


def little_of(fit):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        fit()
    return [str(w.message) for w in caught if w.category is LittleTrainingWarning]


@pytest.mark.parametrize(
    ("budget", "batch_size", "said"),
    [
        (0.01, 8, "time_budget=0.01 was over after a single step, in which .* seen 0.14 times"),
        (0.01, 56, "a single step, in which each image was seen 1 times"),
        (8.0, 8, "time_budget=8 was over after 4 steps, in which .* 0.57 times.*more time"),
        (14.0, 8, None),
    ],
)
def test_little_training_is_told(monkeypatch, budget, batch_size, said):
    ticks = Ticks(Clock(monkeypatch))
    params = {"time_budget": budget, "batch_size": batch_size, "callbacks": [ticks]}
    found = little_of(lambda: small(SimCLR, **params).fit(make_images(56)))
    assert len(found) == (said is not None)
    assert said is None or re.search(said, found[0])


@pytest.mark.parametrize(("n", "told"), [(2, True), (5, True), (10, False)])
def test_few_images_are_told(n, told):
    found = little_of(lambda: small(SimCLR).fit(make_images(n)))
    assert found == told * [
        f"{n} images are too few to learn much from; give more, or use a PretrainedEncoder, which "
        "needs no training"
    ]
    assert little_of(lambda: small(SimCLR, max_epochs=0).fit(make_images(n))) == []
    assert little_of(lambda: small(SimCLR).partial_fit(make_images(n))) == []  # of a stream


@pytest.mark.parametrize(
    ("load", "of_cpu", "seconds", "told"),
    [
        (9.0, 1.0, 30.0, True),
        (9.0, 1.9, 30.0, False),  # it has its cores, so the load is of another kind
        (3.0, 1.0, 30.0, False),
        (9.0, 1.0, 0.1, False),  # over before it matters
    ],
)
def test_a_busy_machine_is_told_once(images, monkeypatch, load, of_cpu, seconds, told):
    now = [100.0]

    class Passes(skorch.callbacks.Callback):
        def on_batch_end(self, net, **kwargs):
            now[0] += seconds

    clocks = "sklearn_ssl.training._loop.time"
    monkeypatch.setattr(f"{clocks}.monotonic", lambda: now[0])
    monkeypatch.setattr(f"{clocks}.process_time", lambda: of_cpu * now[0])
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    monkeypatch.setattr(os, "getloadavg", lambda: (load, 0.0, 0.0))
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        small(SimCLR, batch_size=8, callbacks=[Passes()]).fit(images)
    found = [str(w.message) for w in caught if w.category is BusyMachineWarning]
    assert len(found) == told
    assert not told or "is 9 on 2 cores, and this training run gets 50 % of the 2" in found[0]


def test_real_time(images):
    learner = small(SimCLR, time_budget=1.0)
    began = time.monotonic()
    learner.fit(images)
    assert learner.n_images_seen_ > 48
    assert time.monotonic() - began < 20  # of an unlimited number of epochs
    assert learner.transform(images).shape[0] == 48
    assert learner.partial_fit(images).n_images_seen_ > 48


COUNTED_IMPORTS = """
import sys
sys.path[:0] = {path!r}
from conftest import make_images, small
from sklearn_ssl import Distillation, PretrainedEncoder, SimCLR
from sklearn_ssl.base import PretextLearner

known = []
start_clock = PretextLearner._start_clock

def started(*encoders):
    began = start_clock(*encoders)
    known.append(set(sys.modules))
    return began

PretextLearner._start_clock = staticmethod(started)
X = make_images(24, 32, 32)
if {distilled}:
    teacher = PretrainedEncoder(encoder="resnet18", weights=None, random_state=0)
    small(Distillation, teacher=teacher, time_budget=0.1).fit(X)
else:
    small(SimCLR, encoder="mobilenet_v3_small", time_budget=0.1).fit(X)
assert len(known) == 1
print(sorted(set(sys.modules) - known[0]))
"""


@pytest.mark.slow
@pytest.mark.parametrize("distilled", [False, True])
def test_imports_take_nothing_of_a_time_budget(distilled):
    code = COUNTED_IMPORTS.format(path=[str(Path(__file__).parent)], distilled=distilled)
    out = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert out.stdout.strip() == "[]"


def test_a_training_by_time_goes_on_where_it_was_stopped(monkeypatch, tmp_path):
    class Stop(Ticks):
        def on_batch_end(self, net, **kwargs):
            super().on_batch_end(net, **kwargs)
            if len(self.lrs) == 10:
                raise ZeroDivisionError

    monkeypatch.setattr(
        "sklearn_ssl.training._loop.time.perf_counter", lambda: clock.now, raising=True
    )
    clock = Clock(monkeypatch)
    params = {"time_budget": 60.0, "batch_size": 8, "warmup": 0.0, "checkpoint": tmp_path}
    X, first, second = make_images(32), Stop(clock), Ticks(clock)
    with pytest.raises(ZeroDivisionError):
        small(SimCLR, callbacks=[first], **params).fit(X)
    clock.now += 1000.0  # meanwhile
    learner = small(SimCLR, callbacks=[second], **params).fit(X)
    assert len(second.lrs) in (22, 23, 24)  # of 30, the 2 epochs that were saved are not repeated
    assert second.lrs[0] < 0.95 * learner.lr
    assert learner.n_images_seen_ == 8 * (8 + len(second.lrs))


def test_memory_keeps_a_training_by_time(images, tmp_path):
    params = {"time_budget": 0.3, "memory": tmp_path}
    first = small(SimCLR, **params).fit(images)
    again = small(SimCLR, **params).fit(images)
    assert again.n_images_seen_ == first.n_images_seen_
    np.testing.assert_array_equal(again.transform(images), first.transform(images))


@pytest.mark.parametrize("budget", [0, -1.0, "1h", float("nan")])
def test_a_time_budget_that_cannot_be(images, budget):
    with pytest.raises(ValueError, match="time_budget"):
        small(SimCLR, time_budget=budget).fit(images)


def test_progress():
    by_steps = Progress(4)
    assert (by_steps.share, by_steps.middle) == (0, 0.125)
    by_steps.done = 4
    assert by_steps.is_over
    assert by_steps.share == 1


def shares_of(progress, clock, steps=()):
    """Shares at the start, in the middle and at the end of each step, until the end."""
    found = []
    progress.start()
    for seconds in steps:
        found += [progress.share, progress.middle]
        clock[0] += seconds
        progress.done += 1
        found.append(progress.share)
        if progress.is_over:
            break
    return found


@pytest.mark.parametrize(
    "speeds", ["steady", "slower", "faster", "irregular", "fast at first", "a step too long"]
)
def test_a_timed_run_ends_in_time_and_can_be_repeated_without_a_clock(speeds, monkeypatch):
    clock = [100.0]
    monkeypatch.setattr("time.monotonic", lambda: clock[0])
    rng = np.random.default_rng(0)
    steps = {
        "steady": np.full(1000, 0.1),
        "slower": np.r_[np.full(300, 0.1), np.full(1000, 0.15)],
        "faster": np.r_[np.full(300, 0.1), np.full(1000, 0.05)],
        "irregular": rng.exponential(0.1, 1000),
        "fast at first": np.r_[np.full(4, 5e-4), np.full(1000, 0.1)],
        "a step too long": [70.0, 1.0],
    }[speeds]
    progress = Progress(0, 60.0)
    clock[0] += 1  # before the first step
    shares = shares_of(progress, clock, steps)
    taken = clock[0] - 100.0
    assert speeds == "a step too long" or 58 < taken < 61
    assert progress.is_over
    assert shares[-1] > 0.99 or speeds == "a step too long"
    assert (np.diff(shares) >= 0).all()
    assert np.diff(shares).max() < 0.02 or speeds == "a step too long"
    again = Progress(0, timetable=progress.timetable)
    assert shares_of(again, clock, steps) == shares
    assert len(progress.timetable) < 200


def test_a_timed_run_goes_on_with_its_timetable(monkeypatch):
    clock = [0.0]
    monkeypatch.setattr("time.monotonic", lambda: clock[0])
    progress = Progress(0, 60.0)
    before = shares_of(progress, clock, np.full(200, 0.1))
    timetable, done = progress.timetable, progress.done
    clock[0] += 1e6
    progress = Progress(0, 60.0)
    progress.resume(done, 20.0, timetable)
    after = shares_of(progress, clock, np.full(1000, 0.1))
    assert 39 < clock[0] - 1e6 - 20 < 41
    again = Progress(0, timetable=progress.timetable)
    assert shares_of(again, clock, np.full(1000, 0.1)) == before + after
