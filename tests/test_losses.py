"""Losses, metrics, schedules, optimizers and heads against naive versions and a peer library."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from sklearn_ssl.metrics import feature_spread, rank_me
from sklearn_ssl.nn import (
    LARS,
    OPTIMIZERS,
    ConvDecoder,
    Muon,
    cosine,
    info_nce,
    mlp,
    nt_xent,
    parameter_groups,
    warmup_cosine,
)
from sklearn_ssl.nn._optimizers import orthogonalized


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


# NT-Xent


def naive_nt_xent(first, second, temperature):
    """Equation 1 of Chen et al. (2020), over all positive pairs, both (i, j) and (j, i)."""
    n = len(first)
    z = [*first.double(), *second.double()]

    def sim(u, v):
        return u @ v / (u.norm() * v.norm())

    losses = []
    for i in range(2 * n):
        j = (i + n) % (2 * n)
        others = [k for k in range(2 * n) if k != i]
        assert len(others) == 1 + 2 * n - 2  # the positive and its negatives
        total = sum(torch.exp(sim(z[i], z[k]) / temperature) for k in others)
        losses.append(-torch.log(torch.exp(sim(z[i], z[j]) / temperature) / total))
    return sum(losses) / len(losses)


@pytest.mark.parametrize("temperature", [0.05, 0.2, 0.5, 1.0, 3.0])
def test_nt_xent_is_equation_1(temperature):
    first, second = normal(2, 5, 7) * 3
    found = nt_xent(first, second, temperature)
    assert found.item() == pytest.approx(naive_nt_xent(first, second, temperature).item(), 1e-5)


@pytest.mark.parametrize("temperature", [0.1, 0.5, 1.0])
def test_nt_xent_is_the_loss_of_lightly(temperature):
    loss = pytest.importorskip("lightly.loss").NTXentLoss(temperature=temperature)
    ours, theirs = (normal(2, 9, 16).requires_grad_() for _ in range(2))
    found, expected = nt_xent(*ours, temperature), loss(*theirs)
    torch.testing.assert_close(found, expected)
    found.backward()
    expected.backward()
    torch.testing.assert_close(ours.grad, theirs.grad)


def test_nt_xent_of_uninformative_embeddings_is_the_log_of_the_choices():
    same = torch.ones(6, 4)
    assert nt_xent(same, same, 0.2).item() == pytest.approx(math.log(2 * 6 - 1), rel=1e-5)


# InfoNCE


def naive_info_nce(queries, keys, temperature):
    """Equation 4 of Oord et al. (2018), with f(x, c) = exp(x . c / temperature)."""
    losses = []
    for i, query in enumerate(queries.double()):
        f = [torch.exp(key @ query / temperature) for key in keys.double()]
        losses.append(-torch.log(f[i] / sum(f)))
    return sum(losses) / len(losses)


@pytest.mark.parametrize("temperature", [0.3, 1.0, 4.0])
def test_info_nce_is_equation_4(temperature):
    queries, keys = normal(2, 6, 5)
    found = info_nce(queries, keys, temperature)
    assert found.item() == pytest.approx(
        naive_info_nce(queries, keys, temperature).item(), rel=1e-5
    )


def test_info_nce_has_a_temperature_of_1_by_default():
    queries, keys = normal(2, 6, 5)
    assert info_nce(queries, keys).item() == info_nce(queries, keys, 1.0).item()


def test_info_nce_takes_leading_dimensions_as_problems_of_their_own():
    queries, keys = normal(2, 2, 3, 4, 5)
    expected = [
        naive_info_nce(queries[i, j], keys[i, j], 0.7).item() for i in range(2) for j in range(3)
    ]
    assert info_nce(queries, keys, 0.7).item() == pytest.approx(np.mean(expected), rel=1e-5)


@pytest.mark.parametrize("temperature", [0.1, 0.5])
def test_info_nce_is_the_loss_of_lightly_with_a_memory_bank(temperature):
    NTXentLoss = pytest.importorskip("lightly.loss").NTXentLoss
    n, d = 7, 12
    keys = F.normalize(normal(n, d, seed=1), dim=1)
    ours, theirs = (normal(n, d).requires_grad_() for _ in range(2))
    queries = F.normalize(theirs, dim=1)
    rows = []
    for i in range(n):  # the positive is given, the negatives are what the bank holds
        loss = NTXentLoss(temperature=temperature, memory_bank_size=(n - 1, d))
        loss.memory_bank.bank = torch.cat([keys[:i], keys[i + 1 :]])
        rows.append(loss(queries[i : i + 1], keys[i : i + 1]))
    expected = torch.stack(rows).mean()
    found = info_nce(F.normalize(ours, dim=1), keys, temperature)
    torch.testing.assert_close(found, expected)
    found.backward()
    expected.backward()
    torch.testing.assert_close(ours.grad, theirs.grad)


# Both


def contrast(loss):
    """The loss with a temperature so small that rounding to bfloat16 would show."""
    return lambda a, b: loss(a, b, 0.01)


both_losses = pytest.mark.parametrize("loss", [info_nce, nt_xent])


@both_losses
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_float32_under_autocast(loss, dtype):
    a, b = (normal(2, 8, 16) * 5).to(dtype)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = contrast(loss)(a, b)
    assert found.dtype == torch.float32
    assert found.isfinite()
    torch.testing.assert_close(found, contrast(loss)(a.float(), b.float()))


@both_losses
def test_float32_for_bfloat16_without_autocast(loss):
    a, b = normal(2, 8, 16).bfloat16()
    found = contrast(loss)(a, b)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, contrast(loss)(a.float(), b.float()))


@both_losses
def test_aligned_pairs_lose_less_than_shuffled_ones(loss):
    a = normal(8, 16)
    b = a + 0.1 * normal(8, 16, seed=1)
    assert loss(a, b, 0.5) < loss(a, b.roll(1, 0), 0.5)


@both_losses
def test_large_logits_do_not_overflow(loss):
    a, b = (normal(2, 4, 8) * 1e3).requires_grad_().unbind()
    value = contrast(loss)(a, b)
    assert value.isfinite()
    (gradient,) = torch.autograd.grad(value, a)
    assert gradient.isfinite().all()


# Metrics


def naive_rank_me(features, eps=1e-7):
    """Equation 1 of Garrido et al. (2023)."""
    values = np.linalg.svd(features.double().numpy(), compute_uv=False)
    p = values / np.abs(values).sum() + eps
    return np.exp(-np.sum(p * np.log(p)))


@pytest.mark.parametrize("shape", [(20, 6), (6, 20), (9, 9)])
def test_rank_me_is_equation_1(shape):
    features = normal(*shape) @ torch.diag(torch.linspace(0.01, 3, shape[1]))
    assert rank_me(features) == pytest.approx(naive_rank_me(features), rel=1e-6)


def test_rank_me_of_one_direction_is_1():
    assert rank_me(normal(30, 1) @ normal(1, 8)) == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize("n", [1, 5, 16])
def test_rank_me_of_orthogonal_features_is_their_number(n):
    orthogonal, _ = torch.linalg.qr(normal(n, n))
    assert rank_me(3 * orthogonal) == pytest.approx(n, rel=1e-4)


def test_rank_me_of_zeros_is_finite():
    assert np.isfinite(rank_me(torch.zeros(5, 3)))


def test_feature_spread_of_constant_features_is_0():
    assert feature_spread(normal(1, 16).expand(50, 16)) == pytest.approx(0, abs=1e-6)
    assert feature_spread(torch.zeros(50, 16)) == 0


@pytest.mark.parametrize("d", [8, 128])
def test_feature_spread_of_gaussian_features_is_about_1(d):
    assert feature_spread(10 * normal(2000, d)) == pytest.approx(1, abs=0.02)


def test_feature_spread_is_the_std_of_directions():
    features = normal(12, 5)
    z = features.numpy() / np.linalg.norm(features, axis=1, keepdims=True)
    expected = np.mean([z[:, j].std(ddof=1) for j in range(5)]) * np.sqrt(5)
    assert feature_spread(features) == pytest.approx(expected, rel=1e-5)


# Schedules


@pytest.mark.parametrize(("start", "end"), [(0.99, 1.0), (1.0, 0.0), (-2.0, 6.0)])
def test_cosine_points(start, end):
    assert cosine(0.0, start, end) == pytest.approx(start)
    assert cosine(1.0, start, end) == pytest.approx(end, abs=1e-12)
    assert cosine(0.5, start, end) == pytest.approx((start + end) / 2)
    share = (1 - math.sqrt(0.5)) / 2  # of the way, at a quarter
    assert cosine(0.25, start, end) == pytest.approx(start + share * (end - start))


def test_cosine_is_monotone():
    values = [cosine(p, 3.0, 1.0) for p in np.linspace(0, 1, 50)]
    assert np.all(np.diff(values) < 0)


@pytest.mark.parametrize("warmup", [0.0, 0.1, 0.5, 0.9])
def test_warmup_cosine_rises_then_falls(warmup):
    before = np.linspace(0, warmup, 20)
    after = np.linspace(warmup, 1, 20)
    if warmup:
        assert warmup_cosine(0.0, warmup) == 0
        assert warmup_cosine(warmup / 2, warmup) == pytest.approx(0.5)
        rising = [warmup_cosine(p, warmup) for p in before]
        np.testing.assert_allclose(np.diff(rising), 1 / 19)  # a straight line
    assert warmup_cosine(warmup, warmup) == pytest.approx(1)
    assert warmup_cosine((1 + warmup) / 2, warmup) == pytest.approx(0.5)
    assert warmup_cosine(1.0, warmup) == pytest.approx(0, abs=1e-12)
    assert np.all(np.diff([warmup_cosine(p, warmup) for p in after]) < 0)


def test_warmup_cosine_may_be_all_warmup():
    assert warmup_cosine(0.5, 1.0) == 0.5
    assert warmup_cosine(1.0, 1.0) == 1


# Optimizers


class Layers(nn.Module):
    """A weight of each kind that matters to LARS."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(normal(3, 4))
        self.zero = nn.Parameter(torch.zeros(2, 2))
        self.idle = nn.Parameter(normal(2, 3, seed=1))
        self.dead = nn.Parameter(torch.zeros(2, 3))
        self.unused = nn.Parameter(normal(2, 2, seed=2))
        self.bias = nn.Parameter(normal(4, seed=3))

    def gradients(self, step):
        return {
            "weight": normal(3, 4, seed=10 + step),
            "zero": normal(2, 2, seed=20 + step),
            "idle": torch.zeros(2, 3),
            "dead": torch.zeros(2, 3),
            "bias": normal(4, seed=30 + step),
        }


@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
def test_lars_is_the_naive_one(weight_decay):
    layers = Layers()
    lr, momentum, eta = 0.3, 0.8, 0.05
    optimizer = LARS(
        parameter_groups(layers, weight_decay), lr=lr, momentum=momentum, trust_coefficient=eta
    )
    weights = {name: p.detach().double().numpy().copy() for name, p in layers.named_parameters()}
    velocity = {name: np.zeros_like(w) for name, w in weights.items()}
    for step in range(5):
        for name, gradient in layers.gradients(step).items():
            getattr(layers, name).grad = gradient.clone()
            w, g = weights[name], gradient.double().numpy()
            if name != "bias":
                # the decay is part of the gradient whose norm is taken, as in the code of SimCLR
                g = g + weight_decay * w
                w_norm, g_norm = np.sqrt((w**2).sum()), np.sqrt((g**2).sum())
                if w_norm > 0 and g_norm > 0:
                    g = g * eta * w_norm / g_norm
            velocity[name] = momentum * velocity[name] + g
            weights[name] = w - lr * velocity[name]
        optimizer.step()
    for name, p in layers.named_parameters():
        np.testing.assert_allclose(p.detach(), weights[name], rtol=1e-5, atol=1e-6, err_msg=name)
    torch.testing.assert_close(layers.unused.detach(), normal(2, 2, seed=2))  # it had no gradient


def test_lars_steps_do_not_depend_on_the_size_of_the_gradient():
    moved = []
    for scale in (1.0, 1e-3, 1e3):
        p = nn.Parameter(normal(3, 4))
        p.grad = scale * normal(3, 4, seed=1)
        LARS([p], lr=0.1).step()
        moved.append(p.detach() - normal(3, 4))
    torch.testing.assert_close(moved[1], moved[0], rtol=1e-4, atol=1e-7)
    torch.testing.assert_close(moved[2], moved[0], rtol=1e-4, atol=1e-7)


@pytest.mark.skipif(
    not hasattr(torch.optim, "Muon"),
    reason="torch has Muon to compare with from 2.9 on; the package supports 2.6",
)
def test_muon_is_that_of_torch_for_matrices_and_adamw_for_vectors():
    shapes = [(3, 5), (6, 2, 3, 3), (4,)]
    ours = [nn.Parameter(normal(*shape)) for shape in shapes]
    matrices = [nn.Parameter(normal(*shape).flatten(1)) for shape in shapes[:2]]
    vector = nn.Parameter(normal(4))
    optimizer = Muon(ours, lr=0.1, weight_decay=0.2)
    peers = [
        torch.optim.Muon(matrices, lr=0.1, weight_decay=0.2, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW([vector], lr=0.1, weight_decay=0.2),
    ]
    for step in range(4):
        for number, p in enumerate(ours):
            p.grad = normal(*p.shape, seed=10 * step + number)
            [*matrices, vector][number].grad = p.grad.reshape([*matrices, vector][number].shape)
        for one in (optimizer, *peers):
            one.step()
    for p, peer in zip(ours, [*matrices, vector], strict=True):
        torch.testing.assert_close(p.reshape(peer.shape), peer, rtol=0, atol=1e-2)  # bfloat16
    torch.testing.assert_close(ours[2], vector)


@pytest.mark.parametrize("shape", [(20, 50), (50, 20), (8, 8)])
def test_orthogonalized_matrices_have_singular_values_near_1(shape):
    matrix = normal(*shape, seed=3) * 100
    values = torch.linalg.svdvals(orthogonalized(matrix).float())
    assert values.min() > 0.5
    assert values.max() < 1.4
    left, _, right = torch.linalg.svd(matrix, full_matrices=False)
    along = torch.nn.functional.cosine_similarity(
        orthogonalized(matrix).float().flatten(), (left @ right).flatten(), dim=0
    )
    assert along > 0.95


@pytest.mark.parametrize("Optimizer", [LARS, Muon])
def test_optimizers_call_their_closure(Optimizer):
    p = nn.Parameter(torch.ones(2))
    optimizer = Optimizer([{"params": [p], "decays": False}], lr=0.1)

    def closure():
        optimizer.zero_grad()
        loss = (p**2).sum()
        loss.backward()
        return loss

    assert optimizer.step(closure).item() == 2
    expected = 0.8 if Optimizer is LARS else 0.9  # AdamW's first step has the length of the rate
    torch.testing.assert_close(p.detach(), torch.full((2,), expected))


@pytest.mark.parametrize("Optimizer", [LARS, Muon])
def test_optimizers_resume_from_their_state(Optimizer):
    def steps(layers, optimizer, which):
        for step in which:
            for name, gradient in layers.gradients(step).items():
                getattr(layers, name).grad = gradient
            optimizer.step()

    def fresh(layers):
        return Optimizer(parameter_groups(layers, 0.1), lr=0.3)

    straight, resumed = Layers(), Layers()
    steps(straight, fresh(straight), range(4))
    first = fresh(resumed)
    steps(resumed, first, range(2))
    second = fresh(resumed)
    second.load_state_dict(first.state_dict())
    steps(resumed, second, range(2, 4))
    for a, b in zip(straight.parameters(), resumed.parameters(), strict=True):
        torch.testing.assert_close(a, b)


def test_parameter_groups_decay_weights_and_lose_nothing():
    module = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.GroupNorm(1, 4), nn.Linear(4, 5), nn.LayerNorm(5)
    )
    frozen = nn.Linear(5, 5).requires_grad_(False)
    groups = parameter_groups(nn.Sequential(module, frozen), 0.3)
    found = {id(p): group["weight_decay"] for group in groups for p in group["params"]}
    assert sum(len(group["params"]) for group in groups) == len(found)  # none twice
    weights = {id(module[0].weight), id(module[3].weight), id(frozen.weight)}
    every = [*module.parameters(), *frozen.parameters()]  # which may be trained later
    assert found == {id(p): 0.3 if id(p) in weights else 0.0 for p in every}


def test_parameter_groups_are_never_empty():
    assert [g["weight_decay"] for g in parameter_groups(nn.BatchNorm2d(3), 0.3)] == [0.0]
    assert [g["weight_decay"] for g in parameter_groups(nn.Linear(2, 2, bias=False), 0.3)] == [0.3]


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_optimizer_goes_downhill(name):
    layer = nn.Linear(4, 1)
    x = normal(16, 4)
    target = x.sum(1, keepdim=True)
    optimizer = OPTIMIZERS[name](parameter_groups(layer, 1e-4), lr=0.05, weight_decay=1e-4)
    losses = []
    for _ in range(30):
        loss = F.mse_loss(layer(x), target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]


# Heads


def layer_names(module):
    return [type(layer).__name__ for layer in module]


def test_mlp_has_norm_and_relu_between_its_layers():
    head = mlp(4, 6, 7, 3)
    between = ["Linear", "BatchNorm1d", "ReLU"]
    assert layer_names(head) == [*between, *between, "Linear"]
    linear = [layer for layer in head if isinstance(layer, nn.Linear)]
    assert [(x.in_features, x.out_features) for x in linear] == [(4, 6), (6, 7), (7, 3)]
    assert [x.bias is not None for x in linear] == [False, False, True]
    assert [x.num_features for x in head if isinstance(x, nn.BatchNorm1d)] == [6, 7]


def test_mlp_may_end_in_a_norm():
    head = mlp(4, 6, 3, last_norm=True)
    assert layer_names(head) == ["Linear", "BatchNorm1d", "ReLU", "Linear", "BatchNorm1d"]
    assert head[3].bias is None
    out = head(normal(50, 4))
    torch.testing.assert_close(out.mean(0), torch.zeros(3), atol=1e-5, rtol=0)
    assert (out < 0).any()


def test_mlp_of_two_widths_is_a_linear_layer():
    assert layer_names(mlp(4, 3)) == ["Linear"]
    assert mlp(4, 3)[0].bias is not None
    assert layer_names(mlp(4, 3, last_norm=True)) == ["Linear", "BatchNorm1d"]


@pytest.mark.parametrize("coarseness", [1, 2, 8, 32])
@pytest.mark.parametrize("size", [(7, 9), (8, 8), (1, 20), (33, 32), (160, 160)])
def test_conv_decoder_gives_images_of_the_asked_size(size, coarseness):
    grid = tuple(-(-side // coarseness) for side in size)
    decoder = ConvDecoder((8, *grid), 3, size)
    features = normal(2, 8, *grid).requires_grad_()
    out = decoder(features, size)
    assert out.shape == (2, 3, *size)
    assert (out < 0).any()  # pixels are standardized, so no activation may cut them
    out.square().sum().backward()
    assert features.grad.abs().sum() > 0


def test_conv_decoder_takes_other_sizes_than_it_was_built_for():
    decoder = ConvDecoder((8, 4, 4), 1, (32, 32))
    assert decoder(normal(2, 8, 2, 3), (15, 21)).shape == (2, 1, 15, 21)
