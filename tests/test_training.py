"""The loop: on any device, without syncs, and honest about failures."""

import subprocess
import sys
from itertools import pairwise

import numpy as np
import pytest
import skorch
import torch
from conftest import Constant, TinyNet, every_learner, make_images, small
from torch import nn

from sklearn_ssl import SimCLR
from sklearn_ssl._utils._device import autocast, bfloat16_is_native, resolve_device
from sklearn_ssl._utils._isolation import OwnRandomNumbers, isolated, own_settings
from sklearn_ssl.exceptions import CollapseWarning, DivergenceError
from sklearn_ssl.nn import LARS


@every_learner
@pytest.mark.parametrize(
    ("encoder", "channels"),
    [
        *((TinyNet, channels) for channels in (1, 3, 5)),
        *(
            pytest.param(encoder, channels, marks=pytest.mark.slow)
            for encoder in ("small_resnet", "small_vit", "resnet18")
            for channels in (1, 3, 5)
        ),
    ],
)
def test_step_on_the_meta_device(Learner, encoder, channels):
    """A step there shows that no CPU tensor slipped in and that nothing is read back."""
    X = make_images(n=8, height=16, width=16, channels=channels)
    net = small(Learner, encoder=encoder, max_epochs=0).fit(X).net_
    net.move_to(torch.device("meta"))
    net.steps_done_, net.total_steps_, net.constant_lr_ = 0, 2, False
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


@every_learner
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


@pytest.mark.filterwarnings("error::sklearn_ssl.exceptions.CollapseWarning")
def test_a_healthy_fit_does_not_warn_of_collapse(images):
    small(SimCLR, encoder="small_resnet").fit(images)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("adamw", torch.optim.AdamW),
        ("sgd", torch.optim.SGD),
        ("lars", LARS),
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
