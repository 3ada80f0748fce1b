"""Joint-embedding and contrastive tasks against naive versions from the papers and a peer."""

import copy
import math
import pickle
from statistics import NormalDist

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from conftest import TinyNet, TinyViT, make_images, random_batch, small
from skorch.callbacks import Callback, GradientNormClipping
from test_tasks import (
    MEAN,
    STD,
    assert_is,
    embed,
    make_task,
    naive_cross_entropy,
    output_of,
    run,
    shake,
    spy,
    standardize,
    unchanged,
)
from torch import nn
from torchvision.ops import StochasticDepth

from sklearn_ssl import (
    BYOL,
    DINO,
    EMPSSL,
    IJEPA,
    NNCLR,
    BarlowTwins,
    DeepInfoMax,
    ExemplarCNN,
    FroSSL,
    InstanceDiscrimination,
    LeJEPA,
    MoCo,
    MultiTask,
    SimCLR,
    SimSiam,
    SwAV,
    VICReg,
    Views,
    VISReg,
)
from sklearn_ssl.contrastive._nnclr import nearest
from sklearn_ssl.joint_embedding._emp_ssl import coding_rate
from sklearn_ssl.joint_embedding._frossl import log_frobenius
from sklearn_ssl.joint_embedding._lejepa import sigreg
from sklearn_ssl.joint_embedding._visreg import spread_losses
from sklearn_ssl.nn import ConvDiscriminator, Queue, frozen
from sklearn_ssl.views import MultiCrop

HEADS = {"hidden_dim": 9, "projection_dim": 5}
MOCO = {"key_encoder": "encoder", "key_projector": "projector"}
FOLLOWERS = [  # averaged copies and their modules, and the momentum of the last step
    (BYOL, {}, 1.0, {"target_encoder": "encoder", "target_projector": "projector"}),
    (DINO, {"out_dim": 7}, 1.0, {"teacher_encoder": "encoder", "teacher_head": "head"}),
    (MoCo, {"version": 2, "final_momentum": 0.95}, 0.95, MOCO),
    (MoCo, {"version": 3, "final_momentum": 0.95}, 0.95, MOCO),
]


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def units(vectors):
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


def softmax(logits):
    shares = np.exp(logits - np.max(logits))
    return shares / shares.sum()


def two_view_task(Learner, **params):
    """A task, images, and the two views that it draws of each, which are known and differ."""
    images = random_batch()
    views = unchanged((12, 10), solarize=(1.0, 0.0))
    task = make_task(Learner, 12, 10, views=views, **HEADS, **params)
    shake(task)
    return task, images, torch.cat([torch.where(images >= 0.5, 1 - images, images), images])


def crop_task(Learner, local_crops=2, **params):
    """A task, images, and the crops (large, small) that it is made to see."""
    task = make_task(Learner, 8, 8, local_crops=local_crops, **HEADS, **params)
    shake(task)
    sides = [(2, 8), (local_crops, 4)][: 1 + bool(local_crops)]
    crops = [random_batch(6 * n, height=side, width=side, seed=side) for n, side in sides]
    task.views = lambda images: crops
    return task, random_batch(height=8, width=8), crops


def embed_all(encoder, crops):
    return torch.cat([embed(encoder, size) for size in crops])


def arrays(tensor):
    """By view and image: a tensor (v * 6, d) to an array (v, 6, d)."""
    return tensor.detach().double().unflatten(0, (-1, 6)).numpy()


def assert_same_training(task, found, expected):
    """Two losses of a task have the same value, and the same gradients for all that it trains."""
    torch.testing.assert_close(found, expected.squeeze())
    trained = [p for p in task.parameters() if p.requires_grad]
    ours, theirs = (torch.autograd.grad(loss, trained) for loss in (found, expected))
    largest = max(1.0, *(gradient.abs().max().item() for gradient in theirs))
    torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-5 * largest)


# Averaged copies


@pytest.mark.parametrize("progress", [0.0, 0.3, 1.0])
@pytest.mark.parametrize(("Learner", "params", "end", "pairs"), FOLLOWERS)
def test_average_gets_no_gradient_but_follows(Learner, params, end, pairs, progress):
    task = make_task(Learner, momentum=0.8, **HEADS, **params)
    output = output_of(task, random_batch(height=12, width=12))
    output.loss.backward()
    before = {name: p.clone() for name, p in task.named_parameters()}
    for module in pairs.values():
        shake(getattr(task, module))
    after = {name: p.clone() for name, p in task.named_parameters()}
    task.after_step(output, progress)
    # Grill et al. (2020), section 3.2: tau = 1 - (1 - tau_base) (cos(pi k / K) + 1) / 2
    momentum = end - (end - 0.8) * (math.cos(math.pi * progress) + 1) / 2
    for name, p in task.named_parameters():
        copied, _, rest = name.partition(".")
        assert p.requires_grad == (p.grad is not None) == (copied not in pairs)
        if copied in pairs:
            module = f"{pairs[copied]}.{rest.removeprefix('module.')}"
            assert torch.equal(before[name], before[module])
            expected = momentum * before[name] + (1 - momentum) * after[module]
            torch.testing.assert_close(p, expected)
        else:
            assert torch.equal(p, after[name])


class Uncertain(TinyNet):
    """With all that networks do at random in training."""

    def __init__(self, in_channels):
        super().__init__(in_channels)
        self.drop = nn.Dropout2d(0.5)
        self.depth = StochasticDepth(0.5, "row")
        self.path = pytest.importorskip("timm.layers").DropPath(0.5)

    def forward(self, x):
        x = self.path(self.depth(self.drop(self.conv(x))))
        return self.out(F.dropout(x, 0.5, self.training))


class UncertainViT(TinyViT):
    def __init__(self, in_channels, image_shape):
        super().__init__(in_channels, image_shape)
        self.block = nn.TransformerEncoderLayer(16, 2, 32, 0.5, batch_first=True, norm_first=True)


@pytest.mark.parametrize(
    ("Learner", "copied"), [(BYOL, "target"), (DINO, "teacher"), (MoCo, "key"), (IJEPA, "target")]
)
def test_averages_are_certain_in_training(Learner, copied):
    images = random_batch(height=12, width=12)
    task = make_task(Learner, encoder=UncertainViT if Learner is IJEPA else Uncertain)
    average = getattr(task, f"{copied}_encoder")
    for training in (True, False, True):
        task.train(training)
        assert average.training == training
        assert torch.equal(average(images), average(images))
    assert not torch.equal(task.encoder(images), task.encoder(images))
    norms = [part for part in average.modules() if isinstance(part, nn.BatchNorm2d)]
    assert len(norms) == (0 if Learner is IJEPA else 2)
    before = copy.deepcopy([norm.running_mean for norm in norms])
    run(task, images)
    for norm, old in zip(norms, before, strict=True):  # statistics are of the batch
        assert not torch.equal(norm.running_mean, old)
    loaded = pickle.loads(pickle.dumps(task))
    assert not any(p.requires_grad for p in getattr(loaded, f"{copied}_encoder").parameters())


@pytest.mark.parametrize("final_momentum", [0.0, 1.0])
def test_average_in_a_fit(final_momentum):
    options = {"momentum": 1.0, "final_momentum": final_momentum}
    tasks = [
        small(MoCo, max_epochs=epochs, **options).fit(make_images()).net_.module_.task
        for epochs in (0, 1)
    ]
    start, encoder = (task.encoder.backbone.conv[0].weight for task in tasks)
    assert not torch.equal(start, encoder)
    expected = start if final_momentum else encoder  # it is reached in the last step
    torch.testing.assert_close(
        tasks[1].key_encoder.module.backbone.conv[0].weight, expected.detach()
    )


# Queues


@pytest.mark.parametrize("size", [1, 5, 6])
def test_queue_keeps_the_latest(size):
    queue = Queue(size, 3)
    torch.testing.assert_close(queue.vectors.norm(dim=1), torch.ones(size))
    latest = queue.vectors.clone()
    for i, n in enumerate([2, 2, 3, 7, 5, 1, 13, 4]):  # some are more than it holds
        new = normal(n, 3, seed=i)
        latest = torch.cat([latest, new])[-size:]
        queue.push(new)
        assert torch.equal(queue.vectors.roll(-int(queue.pushed), 0), latest)


@pytest.mark.parametrize(("asked", "kept", "half"), [(7, 7, 7), (4096, 48, 24)])
def test_queues_are_no_longer_than_there_are_images(asked, kept, half):
    assert make_task(NNCLR, queue_size=asked).queue.vectors.shape == (kept, 128)
    assert make_task(MoCo, queue_size=asked).queue.vectors.shape == (half, 128)
    assert [len(queue.vectors) for queue in make_task(SwAV, queue_size=asked).queues] == [half] * 2
    task = make_task(InstanceDiscrimination, negatives=asked)
    assert (task.negatives, len(task.bank)) == (kept, 48)


# BYOL, SimSiam


def test_byol_loss():
    task, images, both = two_view_task(BYOL)
    loss = run(task, images)["loss"]
    p = task.predictor(task.projector(embed(task.encoder, both)))
    z = task.target_projector(embed(task.target_encoder.module, both))
    (p1, p2), (z1, z2) = units(arrays(p)), units(arrays(z))
    # Grill et al. (2020), equation 2, with either view as the online network's
    assert_is(loss, np.mean(((p1 - z2) ** 2).sum(1) + ((p2 - z1) ** 2).sum(1)))

    cosine = pytest.importorskip("lightly.loss").NegativeCosineSimilarity()
    (p1, p2), (z1, z2) = p.chunk(2), z.chunk(2)
    assert_same_training(task, loss, (2 + 2 * cosine(p1, z2)) + (2 + 2 * cosine(p2, z1)))


def test_simsiam_loss():
    task, images, both = two_view_task(SimSiam, prediction_dim=4)
    loss = run(task, images)["loss"]
    z = task.projector(embed(task.encoder, both))
    p = task.predictor(z)
    (p1, p2), (z1, z2) = units(arrays(p)), units(arrays(z))
    # Chen and He (2021), equations 1 and 2
    assert_is(loss, np.mean([-p1[i] @ z2[i] / 2 - p2[i] @ z1[i] / 2 for i in range(6)]))

    cosine = pytest.importorskip("lightly.loss").NegativeCosineSimilarity()
    (p1, p2), (z1, z2) = p.chunk(2), z.detach().chunk(2)  # equation 4: no gradient for z
    assert_same_training(task, loss, cosine(p1, z2) / 2 + cosine(p2, z1) / 2)


# Barlow Twins, VICReg


def test_barlow_twins_loss():
    task, images, both = two_view_task(BarlowTwins, redundancy=0.3)
    with torch.no_grad():
        task.projector[-1].weight *= 30  # so that what batch norm adds to variances is nothing
    loss = run(task, images)["loss"]
    z = task.projector(embed(task.encoder, both))
    first, second = (view - view.mean(0) for view in arrays(z))
    total = 0  # Zbontar et al. (2021), equations 1 and 2
    for i in range(5):
        for j in range(5):
            a, b = first[:, i], second[:, j]
            c = (a * b).sum() / (np.sqrt((a**2).sum()) * np.sqrt((b**2).sum()))
            total += (1 - c) ** 2 if i == j else 0.3 * c**2
    assert_is(loss, total)

    peer = pytest.importorskip("lightly.loss").BarlowTwinsLoss(lambda_param=0.3)
    assert_same_training(task, loss, peer(*z.chunk(2)))


@pytest.mark.parametrize("weights", [(2.0, 3.0, 0.5), (0.0, 0.0, 1.0), (1.0, 0.0, 0.0)])
def test_vicreg_loss(weights):
    weights = dict(zip(("invariance", "variance", "covariance"), weights, strict=True))
    task, images, both = two_view_task(VICReg, **weights)
    with torch.no_grad():  # standard deviations on both sides of 1
        task.expander[-1].weight *= torch.tensor([1, 50, 3, 1, 50])[:, None]
    terms = run(task, images)
    z = task.expander(embed(task.encoder, both))
    # Bardes et al. (2022), equations 1 to 6; as in their code, the distance is also averaged over
    # the numbers of an embedding, and the variance over the views
    expected = {"invariance": np.mean((arrays(z)[0] - arrays(z)[1]) ** 2)}
    expected |= {"variance": 0, "covariance": 0}
    for view in arrays(z):
        c = sum(np.outer(row - view.mean(0), row - view.mean(0)) for row in view) / (6 - 1)
        spread = np.sqrt(np.diag(c) + 1e-4)
        assert min(spread) < 1 < max(spread)
        expected["variance"] += sum(max(0, 1 - s) for s in spread) / 5 / 2
        others = [c[i, j] for i in range(5) for j in range(5) if i != j]
        expected["covariance"] += sum(x**2 for x in others) / 5
    for name, value in expected.items():
        assert_is(terms[name], value)
    assert_is(terms["loss"], sum(weights[name] * value for name, value in expected.items()))

    peer = pytest.importorskip("lightly.loss").VICRegLoss(*weights.values())
    assert_same_training(task, terms["loss"], peer(*z.chunk(2)))


# Multi-crop


def test_multi_crop_draws_two_large_views_and_small_crops():
    rows, columns = torch.meshgrid(torch.arange(80.0), torch.arange(60.0), indexing="ij")
    images = torch.stack([rows / 80, columns / 60]).expand(50, 2, 80, 60)  # show what is cropped
    views = Views(size=60, crop_scale=(0.8, 1.0), flip=0, jitter=None, solarize=(0.0, 1.0))
    large, local = MultiCrop(views, 3, (0.1, 0.3), (80, 60))(images)
    assert (large.shape, local.shape) == ((100, 2, 60, 60), (150, 2, 30, 30))

    def area(crops):  # away from the border, where the filter is cut off
        side = crops.shape[2]
        height, width = crops[:, 0, -5, 0], crops[:, 1, 0, -5]
        height, width = height - crops[:, 0, 4, 0], width - crops[:, 1, 0, 4]
        return height * width * (side / (side - 9)) ** 2

    assert area(large[:50]).min() > 0.65
    small_ones = torch.cat([area(local[:50]), area(local[100:])])
    assert 0.07 < small_ones.min() < 0.15
    assert 0.25 < small_ones.max() < 0.33
    assert not torch.equal(local[:50], local[100:])
    assert large[50:].max() < 0.51  # solarised
    assert local[50:100].max() > 0.51  # small ones never are
    assert len(MultiCrop(views, 0, (0.1, 0.3), (80, 60))(images)) == 1


MULTI_CROP = [BYOL, DINO, BarlowTwins, FroSSL, LeJEPA, SimCLR, SimSiam, SwAV, VICReg, VISReg]


@pytest.mark.parametrize("Learner", MULTI_CROP)
@pytest.mark.parametrize("local_crops", [0, 3])
def test_crops_are_as_asked(Learner, local_crops):
    task = make_task(Learner, 40, 24, local_crops=local_crops, local_scale=(0.2, 0.3))
    assert task.views.local_scale == (0.2, 0.3)
    crops = task.views(random_batch(2, height=40, width=24))
    expected = [(4, 3, 20, 16), (2 * local_crops, 3, 12, 12)]  # half, but no less than 12
    assert [size.shape for size in crops] == expected[: 1 + bool(local_crops)]


SMALL_CROPS_BESIDE_A_PAIR = {
    BarlowTwins: ("BarlowTwinsLoss", {}, {}),
    SimCLR: ("NTXentLoss", {"temperature": 0.3}, {"temperature": 0.3}),
    VICReg: ("VICRegLoss", {}, {}),
}


@pytest.mark.parametrize("Learner", SMALL_CROPS_BESIDE_A_PAIR)
def test_small_crops_are_each_paired_with_both_views(Learner):
    name, params, of_peer = SMALL_CROPS_BESIDE_A_PAIR[Learner]
    task, images, crops = crop_task(Learner, 2, **params)
    head = task.expander if Learner is VICReg else task.projector
    with torch.no_grad():
        head[-1].weight *= 30
    z = head(embed_all(task.encoder, crops)).chunk(4)
    peer = getattr(pytest.importorskip("lightly.loss"), name)(**of_peer)
    pairs = [(0, 1), (0, 2), (1, 2), (0, 3), (1, 3)]
    expected = sum(peer(z[i], z[v]) for i, v in pairs) / len(pairs)
    assert_same_training(task, run(task, images)["loss"], expected)


@pytest.mark.parametrize("Learner", [BYOL, SimSiam])
def test_small_crops_predict_both_views(Learner):
    task, images, crops = crop_task(Learner, 2)
    z = task.projector(embed_all(task.encoder, crops))
    predictions, targets = task.predictor(z).chunk(4), z.detach().chunk(4)
    if Learner is BYOL:
        target = embed(task.target_encoder.module, crops[0])
        targets = task.target_projector(target).detach().chunk(2)
    cosine = pytest.importorskip("lightly.loss").NegativeCosineSimilarity()
    pairs = [(0, 1), (1, 0), (2, 0), (2, 1), (3, 0), (3, 1)]
    expected = sum(cosine(predictions[v], targets[i]) for v, i in pairs) / len(pairs)
    if Learner is BYOL:
        expected = 4 + 4 * expected
    assert_same_training(task, run(task, images)["loss"], expected)


# SwAV


def naive_sinkhorn(scores, epsilon):
    """The listing in appendix A.1 of Caron et al. (2020)."""
    Q = np.exp(scores / epsilon).T
    Q /= Q.sum()
    K, B = Q.shape
    for _ in range(3):
        for k in range(K):
            Q[k] *= (1 / K) / Q[k].sum()
        for b in range(B):
            Q[:, b] *= (1 / B) / Q[:, b].sum()
    return (Q / Q.sum(0)).T


@pytest.mark.parametrize("queued", [False, True])
@pytest.mark.parametrize("local_crops", [0, 2])
def test_swav_loss(local_crops, queued):
    options = {"n_prototypes": 4, "temperature": 0.2, "epsilon": 0.1, "queue_size": 8}
    task, images, crops = crop_task(SwAV, local_crops, **options)
    for queue in task.queues:
        queue.pushed += 8  # full
    task.after_step(output_of(task, images), 0.25 if queued else 0.24)
    loss = run(task, images)["loss"]
    prototypes = F.normalize(task.prototypes, dim=1)
    z = F.normalize(task.projector(embed_all(task.encoder, crops)), dim=1)
    scores, earlier = z @ prototypes.T, [queue.vectors @ prototypes.T for queue in task.queues]
    losses, views = [], arrays(scores)  # Caron et al. (2020), equations 2, 3 and 6
    for v in (0, 1):
        more = earlier[v].detach().double().numpy()[: 8 * queued]
        codes = naive_sinkhorn(np.concatenate([views[v], more]), 0.1)[:6]
        for other in set(range(2 + local_crops)) - {v}:
            losses += [-codes[i] @ np.log(softmax(views[other][i] / 0.2)) for i in range(6)]
    assert_is(loss, np.mean(losses))

    peer = pytest.importorskip("lightly.loss").SwaVLoss(temperature=0.2, sinkhorn_epsilon=0.1)
    parts = scores.chunk(2 + local_crops)
    assert_same_training(task, loss, peer(parts[:2], parts[2:], earlier if queued else None))


def test_swav_queues():
    task, images, crops = crop_task(SwAV, queue_size=8, queue_start=0.5)
    with torch.no_grad():
        z = F.normalize(task.projector(embed_all(task.encoder, crops)), dim=1)
    oldest = [queue.vectors[6:].clone() for queue in task.queues]
    task.after_step(output_of(task, images), 1.0)
    assert not task.queue_in_use  # it is not full
    for view, queue in enumerate(task.queues):
        torch.testing.assert_close(queue.vectors[:6], z[6 * view : 6 * view + 6])
        assert torch.equal(queue.vectors[6:], oldest[view])
    for progress in (0.49, 0.5):
        task.after_step(output_of(task, images), progress)
        assert task.queue_in_use == (progress >= 0.5)
    task, _, _ = crop_task(SwAV, queue_size=0)
    assert len(task.queues) == 0
    task.after_step(output_of(task, images), 1.0)
    assert run(task, images)["loss"].isfinite()


# DINO


@pytest.mark.parametrize("local_crops", [0, 2])
def test_dino_loss_and_center(local_crops):
    options = {"out_dim": 7, "temperature": 0.3, "teacher_temperature": (0.1, 0.2)}
    task, images, crops = crop_task(DINO, local_crops, center_momentum=0.6, **options)
    center = 0.3 * normal(7)
    task.center.copy_(center)
    output = output_of(task, images)
    loss = output.loss

    def cosines(encoder, head, crops):
        z = F.normalize(head.projector(embed_all(encoder, crops)), dim=1)
        return z @ F.normalize(head.prototypes, dim=1).T

    student = cosines(task.encoder, task.head, crops)
    teacher = cosines(task.teacher_encoder.module, task.teacher_head.module, crops[:1]).detach()
    losses, entropies = [], []  # Caron et al. (2021), equation 3 and algorithm 1
    for t in range(2):
        for s in set(range(2 + local_crops)) - {t}:
            for i in range(6):
                p = softmax((arrays(teacher)[t][i] - center.numpy()) / 0.1)
                losses.append(-p @ np.log(softmax(arrays(student)[s][i] / 0.3)))
                entropies.append(-p @ np.log(p))
    assert_is(loss, np.mean(losses))
    assert_is(output.terms["teacher_entropy"], np.mean(entropies))
    assert_is(output.terms["divergence"], np.mean(losses) - np.mean(entropies))

    peer = pytest.importorskip("lightly.loss").DINOLoss(
        7, teacher_temp=0.1, student_temp=0.3, center_momentum=0.6
    )
    peer.center[:] = center
    expected = peer(teacher.chunk(2), student.chunk(2 + local_crops))
    assert_same_training(task, loss, expected)
    assert torch.equal(task.center, center)
    task.after_step(output, 0.1)
    torch.testing.assert_close(task.center, 0.6 * center + 0.4 * teacher.mean(0))  # equation 4
    torch.testing.assert_close(task.center, peer.center[0, 0])


@pytest.mark.parametrize(
    ("warmup", "progress", "temperature"),
    [(0.5, 0.0, 0.04), (0.5, 0.25, 0.06), (0.5, 0.5, 0.08), (0.5, 1.0, 0.08), (0, 0.01, 0.08)],
)
def test_dino_teacher_temperature(warmup, progress, temperature):
    task = make_task(DINO, teacher_temperature=(0.04, 0.08), temperature_warmup=warmup)
    assert task.teacher_temp.item() == pytest.approx(0.04 if warmup else 0.08)
    task.after_step(output_of(task, random_batch(height=12, width=12)), progress)
    assert task.teacher_temp.item() == pytest.approx(temperature)


@pytest.mark.parametrize("warmup", [0.3, 0])
def test_dino_teacher_temperature_with_a_constant_schedule(images, warmup):
    """It stays at the start, and what a training has reached does not jump afterwards."""
    params = {"teacher_temperature": (0.04, 0.08), "temperature_warmup": warmup}
    constant = small(DINO, schedule="constant", **params).fit(images)
    reached = small(DINO, **params).fit(images).partial_fit(images)
    temps = [learner.net_.module_.task.teacher_temp.item() for learner in (constant, reached)]
    assert temps == pytest.approx([0.04 if warmup else 0.08, 0.08])


def test_gradients_of_dino_can_be_clipped():
    """As the docstring says that the paper does."""
    norms = []

    class Watch(Callback):
        def on_grad_computed(self, net, named_parameters, **kwargs):
            gradients = [p.grad.flatten() for _, p in named_parameters if p.grad is not None]
            norms.append(torch.cat(gradients).norm().item())

    options = {"encoder": TinyNet, "batch_size": 16}
    small(DINO, callbacks=[Watch()], **options).fit(make_images())
    assert min(norms) > 0.1
    norms.clear()
    small(DINO, callbacks=[GradientNormClipping(0.1), Watch()], **options).fit(make_images())
    assert norms == pytest.approx([0.1] * 3, rel=1e-3)


# LeJEPA


def naive_sigreg(views, directions):
    """The Epps-Pulley test on projections, integrated over [-3, 3] by trapezoids."""
    statistics, step = [], 6 / 32
    for x in [z @ direction for z in views for direction in directions]:
        values = []
        for t in np.arange(33) * step - 3:
            gauss = np.exp(-(t**2) / 2)
            values.append(abs(np.mean(np.exp(1j * t * x)) - gauss) ** 2 * gauss)
        areas = [(values[i] + values[i + 1]) / 2 * step for i in range(32)]
        statistics.append(len(x) * sum(areas))
    return np.mean(statistics)


@pytest.mark.parametrize("local_crops", [0, 2])
def test_lejepa_loss(local_crops):
    task, images, crops = crop_task(LeJEPA, local_crops, sigreg_weight=0.3, directions=8)
    terms = run(task, images, seed=3)
    z = task.projector(embed_all(task.encoder, crops))
    views = arrays(z)
    torch.manual_seed(3)
    gaussian = naive_sigreg(views, units(torch.randn(5, 8).double().numpy().T))
    # Balestriero and LeCun (2025), section 5: all views predict the mean of the large ones
    prediction = np.mean([((views[0] + views[1]) / 2 - view) ** 2 for view in views])
    assert_is(terms["sigreg"], gaussian)
    assert_is(terms["prediction"], prediction)
    assert_is(terms["loss"], 0.7 * prediction + 0.3 * gaussian)

    if local_crops:  # the peer takes no fewer than one
        LeJEPALoss = pytest.importorskip("lightly.loss.lejepa_loss").LeJEPALoss
        torch.manual_seed(3)
        large, local = z.unflatten(0, (-1, 6)).split((2, local_crops))
        peer = LeJEPALoss(0.3, sigreg_num_vectors=8)
        assert_same_training(task, terms["loss"], peer(global_proj=large, local_proj=local))


# VISReg


def naive_spread(views, directions):
    """Means, deviations, and sorted projections against Gaussian quantiles, one by one."""
    terms = {"center": [], "scale": [], "shape": []}
    quantiles = [NormalDist().inv_cdf(i / 7) for i in range(1, 7)]  # 6 images
    for z in views:
        columns = []
        for column in z.T:
            mean = sum(column) / 6
            deviation = math.sqrt(sum((x - mean) ** 2 for x in column) / 6)
            terms["center"].append(mean**2)
            terms["scale"].append((1 - deviation) ** 2)
            columns.append([(x - mean) / deviation for x in column])
        for direction in directions:
            projected = sorted(sum(np.array(columns) * direction[:, None]))
            pairs = zip(projected, quantiles, strict=True)
            terms["shape"].append(np.mean([(x - q) ** 2 for x, q in pairs]))
    return {name: np.mean(values) for name, values in terms.items()}


@pytest.mark.parametrize("local_crops", [0, 2])
def test_visreg_loss(local_crops):
    weights = {"center_weight": 0.5, "scale_weight": 2.0, "shape_weight": 3.0}
    task, images, crops = crop_task(
        VISReg, local_crops, regularization_weight=0.3, directions=8, **weights
    )
    terms = run(task, images, seed=3)
    views = arrays(task.projector(embed_all(task.encoder, crops)))
    torch.manual_seed(3)
    wanted = naive_spread(views, units(torch.randn(5, 8).double().numpy().T))
    wanted["prediction"] = np.mean([((views[0] + views[1]) / 2 - view) ** 2 for view in views])
    for name, value in wanted.items():
        assert_is(terms[name], value)
    spread = 0.5 * wanted["center"] + 2 * wanted["scale"] + 3 * wanted["shape"]
    assert_is(terms["loss"], 0.7 * wanted["prediction"] + 0.3 * spread)


def test_visreg_has_gradients_where_lejepa_has_none():
    """Wu et al. (2026): those of SIGReg vanish as embeddings collapse."""
    directions = F.normalize(normal(5, 64), dim=0)
    lengths = {}
    for size in (1.0, 1e-3):
        for name, loss in (
            ("sigreg", sigreg),
            ("spread", lambda *a: sum(spread_losses(*a).values())),
        ):
            z = (size * normal(2, 128, 5, seed=1)).requires_grad_()
            loss(z, directions).backward()
            lengths[name, size] = z.grad.norm().item()
    assert lengths["sigreg", 1e-3] < 0.05 * lengths["sigreg", 1.0]
    assert lengths["spread", 1e-3] > lengths["spread", 1.0]


def test_the_shape_of_visreg_gives_deviations_no_gradient():
    z, directions = normal(1, 9, 5).requires_grad_(), F.normalize(normal(5, 4), dim=0)
    (found,) = torch.autograd.grad(spread_losses(z, directions)["shape"], z)
    constants = z.detach().std(1, keepdim=True, correction=0)
    projected = ((z - z.mean(1, keepdim=True)) / constants @ directions).sort(1).values
    quantiles = torch.tensor([NormalDist().inv_cdf(i / 10) for i in range(1, 10)])[:, None]
    (expected,) = torch.autograd.grad((projected - quantiles).square().mean(), z)
    torch.testing.assert_close(found, expected)


def test_visreg_of_equal_embeddings_is_finite():
    z = torch.ones(2, 8, 5, requires_grad=True)
    sum(spread_losses(z, F.normalize(normal(5, 4), dim=0)).values()).backward()
    assert z.grad.isfinite().all()


# FroSSL


@pytest.mark.parametrize("projection_dim", [4, 9])  # fewer and more numbers than images
@pytest.mark.parametrize("local_crops", [0, 2])
def test_frossl_loss(local_crops, projection_dim):
    task, images, crops = crop_task(FroSSL, local_crops, invariance_weight=3.0)
    task.projector = nn.Linear(task.encoder.out_shape[0], projection_dim)
    terms = run(task, images)
    views = arrays(task.projector(embed_all(task.encoder, crops)))
    views = [z - z.mean(0) for z in views]
    views = [z / np.linalg.norm(z, axis=0) for z in views]
    entropies = []  # Skean et al. (2024), equation 4: of the shares of the eigenvalues
    for z in views:
        shares = np.linalg.eigvalsh(z.T @ z) / projection_dim
        entropies.append(-np.log(sum(shares**2)))
    mean = sum(views) / len(views)
    distance = np.mean([(z - mean) ** 2 for z in views]) * projection_dim * len(views)
    assert_is(terms["regularization"], -np.mean(entropies))
    assert_is(terms["invariance"], distance)
    assert_is(terms["loss"], 3 * distance - np.mean(entropies))


def test_frossl_spreads_variance_evenly():
    """The regularization is least, -log(d), for white embeddings, and 0 if they are on a line."""
    white = torch.linalg.qr(normal(64, 8)).Q[None]
    line = normal(64, 1)[None].expand(1, 64, 8)
    assert_is(log_frobenius(white)[0], -np.log(8))
    assert log_frobenius(line)[0].item() == pytest.approx(0, abs=1e-5)
    equal = torch.zeros(1, 8, 3, requires_grad=True)
    log_frobenius(equal).sum().backward()
    assert equal.grad.isfinite().all()


# EMP-SSL


@pytest.mark.parametrize("hidden", [3, 9])
@pytest.mark.parametrize("projection_dim", [4, 9])  # fewer and more numbers than images
def test_emp_ssl_loss(projection_dim, hidden):
    params = {"invariance_weight": 3.0, "epsilon": 0.3}
    heads = {"hidden_dim": hidden, "projection_dim": projection_dim}
    task = make_task(EMPSSL, 12, 10, n_patches=3, **heads, **params)
    shake(task)
    patches = [random_batch(seed=seed) for seed in range(3)]
    task.views = lambda images, view: patches[view]
    terms = run(task, random_batch())
    z = task.projector(embed(task.encoder, torch.cat(patches)))
    views = units(arrays(z))
    rates, similarities = [], []  # Tong et al. (2023), equations 1 to 3
    for view in views:
        spread = sum(np.outer(row, row) for row in view)
        rates.append(np.linalg.slogdet(np.eye(projection_dim) + projection_dim / 6 / 0.3 * spread))
        for i, row in enumerate(view):
            mean = np.mean([other[i] for other in views], 0)
            similarities.append(row @ mean / np.linalg.norm(mean))
    assert all(sign == 1 for sign, _ in rates)
    rate, similarity = np.mean([half / 2 for _, half in rates]), np.mean(similarities)
    assert_is(terms["coding_rate"], rate)
    assert_is(terms["similarity"], similarity)
    assert_is(terms["loss"], -rate - 3 * similarity)

    peer = pytest.importorskip("lightly.loss.emp_ssl_loss")
    z = F.normalize(z, dim=1).unflatten(0, (3, 6))  # its loss has the rate with the other sign
    expected = 3 * peer.invariance_loss(z) - peer.tcr_loss(z, 0.3)
    assert_same_training(task, terms["loss"], expected)


def test_emp_ssl_patches_are_a_quarter_of_the_image():
    rows, columns = torch.meshgrid(torch.arange(64.0), torch.arange(64.0), indexing="ij")
    images = torch.stack([rows / 64, columns / 64]).expand(20, 2, 64, 64)  # show what is cropped
    task = make_task(EMPSSL, 64, 64, 2, mean=(0, 0), std=(1, 1), n_patches=3)
    task.views.set_params(flip=0, jitter=None, solarize=0)
    patches = []
    task.encoder.prepare = lambda batch, prepare=task.encoder.prepare: (
        patches.append(batch) or prepare(batch)
    )
    run(task, images)
    (patches,) = patches
    assert patches.shape == (60, 2, 32, 32)
    sides = patches[:, :, -5, -5] - patches[:, :, 4, 4]  # 23 pixels apart
    torch.testing.assert_close(sides, torch.full((60, 2), 23 / 64), rtol=0, atol=1e-4)
    assert len(patches[:, :, 4, 4].unique(dim=0)) == 60  # each is drawn on its own


def test_coding_rate_is_computed_in_float32():
    z = F.normalize(normal(2, 12, 40), dim=2).bfloat16()
    expected = [np.linalg.slogdet(np.eye(12) + 40 / 12 / 0.2 * x @ x.T)[1] / 2
                for x in z.double().numpy()]  # fmt: skip
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rates = coding_rate(z, 0.2)
    assert rates.dtype == torch.float32
    torch.testing.assert_close(rates, torch.tensor(expected).float(), rtol=1e-5, atol=0)


# MoCo


def test_moco_2_loss_and_queue():
    task, images, both = two_view_task(MoCo, temperature=0.3, queue_size=8)
    task.queue.push(F.normalize(normal(5, 5, seed=7), dim=1))
    negatives = task.queue.vectors.clone()
    output = output_of(task, images)
    loss = output.loss
    assert torch.equal(task.queue.vectors, negatives)
    first, second = both.chunk(2)
    hidden, _, out = task.projector  # Chen et al. (2020), section 3: two layers and a ReLU
    q = out(hidden(embed(task.encoder, first)).clamp(min=0))
    k = task.key_projector(embed(task.key_encoder.module, second))
    losses = []  # He et al. (2020), equation 1
    for query, key in zip(units(arrays(q)[0]), units(arrays(k)[0]), strict=True):
        logits = [query @ other / 0.3 for other in (key, *negatives.double().numpy())]
        losses.append(naive_cross_entropy(np.array(logits), 0))
    assert_is(loss, np.mean(losses))

    peer = pytest.importorskip("lightly.loss").NTXentLoss(0.3, memory_bank_size=(8, 5))
    peer.memory_bank.bank = negatives.clone()
    assert_same_training(task, loss, peer(q, k))
    task.after_step(output, 0.5)
    by_age = task.queue.vectors.roll(-int(task.queue.pushed), 0)
    torch.testing.assert_close(by_age, torch.cat([negatives[3:5], F.normalize(k, dim=1)]))


def test_moco_3_loss():
    task, images, both = two_view_task(MoCo, version=3, temperature=0.3)
    loss = run(task, images)["loss"]
    q = task.predictor(task.projector(embed(task.encoder, both)))
    k = task.key_projector(embed(task.key_encoder.module, both))
    (q1, q2), (k1, k2) = units(arrays(q)), units(arrays(k))
    total = 0  # Chen et al. (2021), algorithm 1: ctr(q1, k2) + ctr(q2, k1)
    for queries, keys in ((q1, k2), (q2, k1)):
        for i in range(6):
            total += 2 * 0.3 * naive_cross_entropy(keys @ queries[i] / 0.3, i) / 6
    assert_is(loss, total)


@pytest.mark.parametrize("encoder", [TinyNet, TinyViT, "small_vit"])
def test_moco_3_of_transformers(encoder):
    """As the authors' code: three layers and a frozen projection of patches, two without."""
    task = make_task(MoCo, 16, 16, version=3, encoder=encoder, momentum=0.5)
    of_tokens = encoder is not TinyNet
    linear = [part for part in task.projector if isinstance(part, nn.Linear)]
    assert len(linear) == 2 + of_tokens
    fixed = [name for name, p in task.encoder.named_parameters() if not p.requires_grad]
    convolutions = [m for m in task.encoder.modules() if isinstance(m, nn.Conv2d)]
    assert len(fixed) == 2 * of_tokens  # weight and bias
    assert of_tokens == (not convolutions[0].weight.requires_grad)
    if encoder is TinyViT:
        learner = small(MoCo, version=3, weight_decay=10.0, encoder=TinyViT).fit(make_images())
        start = small(MoCo, version=3, max_epochs=0, encoder=TinyViT).fit(make_images())
        trained, first = (x.encoder_.backbone.patches[0].weight for x in (learner, start))
        assert torch.equal(trained, first)


# NNCLR


def test_nnclr_loss_and_queue():
    task, images, both = two_view_task(NNCLR, temperature=0.3, queue_size=11)
    task.queue.pushed += 11  # full
    support = task.queue.vectors.clone()
    output = output_of(task, images)
    loss = output.loss
    z = task.projector(embed(task.encoder, both))
    p = task.predictor(z)
    (z1, z2), (p1, p2) = units(arrays(z)), units(arrays(p))
    losses = []  # Dwibedi et al. (2021), equation 3 and algorithm 1
    for vectors, predictions in ((z1, p2), (z2, p1)):
        for i in range(6):
            near = max(support.double().numpy(), key=vectors[i].dot)
            losses.append(naive_cross_entropy(predictions @ near / 0.3, i))
    assert_is(loss, np.mean(losses))
    task.after_step(output, 0.5)
    torch.testing.assert_close(task.queue.vectors[:6], F.normalize(z[:6], dim=1))
    assert torch.equal(task.queue.vectors[6:], support[6:])
    task.queue.pushed.zero_()  # not full: the other view itself
    losses = [naive_cross_entropy(p2 @ z1[i] / 0.3, i) for i in range(6)]
    losses += [naive_cross_entropy(p1 @ z2[i] / 0.3, i) for i in range(6)]
    assert_is(run(task, images)["loss"], np.mean(losses))

    bank = pytest.importorskip("lightly.models.modules").NNMemoryBankModule(size=(11, 5))
    bank.bank = support
    near = bank(z.detach())
    assert len(near.unique(dim=0)) > 3
    torch.testing.assert_close(nearest(F.normalize(z, dim=1), support), near)
    (near1, near2), (p1, p2) = near.chunk(2), F.normalize(p, dim=1).chunk(2)
    logits = torch.cat([near1 @ p2.T, near2 @ p1.T]) / 0.3
    assert_same_training(task, loss, F.cross_entropy(logits, torch.arange(6).repeat(2)))


# Instance discrimination

SLOTS = torch.tensor([3, 40, 0, 47, 12, 5])  # places in the training set


def instance_task(**params):
    images = random_batch()
    options = {"temperature": 0.5, "projection_dim": 5, "momentum": 0.7, **params}
    task = make_task(InstanceDiscrimination, 12, 10, views=unchanged((12, 10)), **options)
    task.seen.fill_(True)
    v = F.normalize(task.projector(embed(task.encoder, images)), dim=1)
    return task, images, v.detach().double().numpy(), task.bank.double().numpy().copy()


def test_an_image_that_was_not_seen_agrees_with_itself():
    task, images, v, _ = instance_task()
    task.seen.fill_(False)
    output = output_of(task, images, index=SLOTS)
    assert output.terms["moved"].item() == pytest.approx(0, abs=1e-6)
    task.after_step(output, 0.5)
    np.testing.assert_allclose(
        task.bank[SLOTS], v, rtol=1e-4, atol=1e-6
    )  # not half of a random one
    assert task.seen.nonzero()[:, 0].tolist() == sorted(int(s) for s in SLOTS)


@pytest.mark.parametrize("negatives", [4, 4096])  # no more than there are images, 48
def test_nce_loss_with_the_constant_of_the_first_batch(monkeypatch, negatives):
    task, images, v, bank = instance_task(negatives=negatives, momentum=1.0)  # the bank stays
    drawn = spy(monkeypatch, "randint")
    m = min(negatives, 48)
    for batch in (0, 1):
        output = task(images, SLOTS)
        noise = drawn[batch].expand(6, m).numpy()  # the same for all images of a batch
        if batch == 0:  # Wu et al. (2018), equation 8, with the noise of all images
            Z = np.mean([np.exp(v[i] @ bank[j] / 0.5) for i in range(6) for j in noise[i]]) * 48
            assert task.log_constant == -math.inf
        total = 0  # equations 4, 6 and 7
        for i in range(6):
            P = np.exp(bank @ v[i] / 0.5) / Z
            h = P / (P + m / 48)
            total -= np.log(h[SLOTS[i]]) + sum(np.log(1 - h[j]) for j in noise[i])
        assert_is(output.loss, total / 6)
        task.after_step(output, 0.5)
        assert_is(task.log_constant, np.log(Z))
    assert not torch.equal(drawn[0], drawn[1])
    assert 0 <= min(drawn[0]) < max(drawn[0]) < 48
    assert negatives == 4 or len(drawn[0].unique()) > 20


@pytest.mark.parametrize("proximity", [0.0, 0.4])
def test_instance_softmax(proximity):
    task, images, v, bank = instance_task(negatives=None, proximity=proximity)
    output = output_of(task, images, index=SLOTS)
    # equation 2, and the proximal term of equation 9
    losses = [naive_cross_entropy(bank @ v[i] / 0.5, SLOTS[i]) for i in range(6)]
    moved = np.mean([((v[i] - bank[SLOTS[i]]) ** 2).sum() for i in range(6)])
    assert_is(output.terms["moved"], moved)
    assert_is(output.loss, np.mean(losses) + proximity * moved)
    task.after_step(output, 1.0)
    assert task.log_constant == -math.inf


def test_slots_of_the_bank_follow_their_images():
    task, images, v, expected = instance_task()
    output = output_of(task, images, index=SLOTS)
    assert np.array_equal(task.bank.double(), expected)
    expected[SLOTS] = units(0.7 * expected[SLOTS] + 0.3 * v)
    task.after_step(output, 0.5)
    np.testing.assert_allclose(task.bank, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("n", [48, 24])
@pytest.mark.parametrize("how", ["fit", "partial_fit"])
@pytest.mark.parametrize(
    ("Learner", "params"), [(InstanceDiscrimination, {}), (ExemplarCNN, {"loss": "softmax"})]
)
def test_images_without_a_slot_are_refused(Learner, params, how, n):
    learner = small(Learner, warm_start=True, batch_size=8, **params).fit(make_images(24))
    train = getattr(learner, how)
    train(make_images(24).astype(np.float32).astype(np.uint8))  # the same images
    assert learner.n_epochs_ == 2
    with pytest.raises(ValueError, match=rf"had 24; .* not {n} others"):
        train(make_images(n, seed=1))
    assert learner.n_epochs_ == 2


def test_images_that_are_gone_leave_nothing_in_queues():
    tasks = [("moco", MoCo(), 1.0), ("swav", SwAV(local_crops=0, queue_start=0), 1.0)]
    options = {"warm_start": True, "batch_size": 8, "max_epochs": 3}
    for Learner, params in ((MoCo, {}), (NNCLR, {}), (MultiTask, {"learners": tasks})):
        learner = small(Learner, **options, **params).fit(make_images(24))

        def queues(learner=learner):
            parts = learner.net_.module_.task.modules()
            return [part.vectors for part in parts if isinstance(part, Queue)]

        before = queues()
        learner.set_params(max_epochs=0).fit(make_images(24))  # the same ones
        assert all(torch.equal(old, new) for old, new in zip(before, queues(), strict=True))
        learner.fit(make_images(24, seed=1))
        for old, new in zip(before, queues(), strict=True):
            assert not (old[:, None] == new).all(2).any()
        in_use = [part.queue_in_use for part in learner.net_.module_.task.modules()
                  if hasattr(part, "queue_in_use")]  # fmt: skip
        assert not any(in_use)
        learner.set_params(max_epochs=1).partial_fit(make_images(16, seed=2))
        after = queues()
        learner.partial_fit(make_images(8, seed=3))  # a stream: queues go on
        kept = [
            (old[:, None] == new).all(2).any() for old, new in zip(after, queues(), strict=True)
        ]
        assert all(kept)


# Deep InfoMax


def infomax_task(**params):
    views = unchanged((12, 10), solarize=(float(params["two_views"]), 0.0))
    learner = small(DeepInfoMax, width=5, local_layer="conv", views=views, **params)
    torch.manual_seed(0)
    task = learner._make_task(learner._make_encoder((12, 10, 3), MEAN, STD), n_images=48)
    shake(task)
    return task, random_batch()


def naive_information(estimator, queries, features):
    """Equations 4 and 5 of Hjelm et al. (2019) with the sign turned, of 6 images.

    ``features`` (positions, 6, 5): each of an image is told from those of the others, wherever.
    """
    scores = np.einsum("id,pjd->ijp", queries, features) / math.sqrt(5)
    losses = []
    for i in range(6):
        apart = np.concatenate([scores[i, j] for j in range(6) if j != i])
        for own in scores[i, i]:
            if estimator == "infonce":
                losses.append(naive_cross_entropy(np.array([own, *apart]), 0))
            else:
                losses.append(np.log(1 + np.exp(-own)) + np.mean(np.log(1 + np.exp(apart))))
    return np.mean(losses)


@pytest.mark.parametrize("loss_name", ["infonce", "jsd"])
@pytest.mark.parametrize("weights", [(0.5, 2.0, 0.3), (1.0, 0.0, 0.0)])
@pytest.mark.parametrize("two_views", [False, True])
def test_infomax_loss(monkeypatch, loss_name, weights, two_views):
    weights = dict(zip(("local", "global", "prior"), weights, strict=True))
    params = {f"{name}_weight": weight for name, weight in weights.items()}
    task, images = infomax_task(loss=loss_name, two_views=two_views, **params)
    views = images
    if two_views:  # which are known and differ
        views = torch.cat([torch.where(images >= 0.5, 1 - images, images), images])
    noise = spy(monkeypatch, "rand_like")
    expected = {}
    with torch.no_grad():
        task.project_local[2].weight *= 10  # scores that tell pairs apart
        terms = run(task, images)
        local = task.encoder.backbone.conv(standardize(views))  # (6 or 12, 8, 12, 10)
        summary = task.summary(embed(task.encoder, views))
        query, features = task.project_summary(summary).numpy(), task.project_local(local).numpy()
        places = [features[:, :, r, c] for r in range(12) for c in range(10)]

        def naive(x):  # summaries of one view, local features of the other
            pairs = [(query, x)]
            if two_views:
                pairs = [(query[:6], x[:, 6:]), (query[6:], x[:, :6])]
            return np.mean([naive_information(loss_name, *pair) for pair in pairs])

        expected["local"] = naive(np.stack(places))
        if weights["global"]:
            whole = task.project_flat(local.mean((2, 3))).numpy()
            expected["global"] = naive(whole[None])
        if weights["prior"]:  # equation 7; the encoder minimizes -log D and not log(1 - D)
            real, made = (task.discriminator(x).sigmoid() for x in (noise[0], summary.sigmoid()))
            expected["prior"] = -(real.log() + (1 - made).log() + made.log()).mean().item()
            assert 0 <= noise[0].min() < 0.1 < 0.9 < noise[0].max() <= 1  # uniform
    assert terms.keys() == {"loss", *expected}
    for name, value in expected.items():
        assert_is(terms[name], value)
    assert_is(terms["loss"], sum(weights[name] * value for name, value in expected.items()))


def test_players_of_the_prior_get_gradients_of_their_own(monkeypatch):
    task, _ = infomax_task(prior_weight=1.0, two_views=False)
    noise = spy(monkeypatch, "rand_like")
    summary = normal(6, 5).requires_grad_()
    task._match_prior(summary).backward()
    real, made = (task.discriminator(x).sigmoid() for x in (noise[0], summary.sigmoid()))
    critic = list(task.discriminator.parameters())
    told = torch.autograd.grad(-(real.log() + (1 - made).log()).mean(), critic, retain_graph=True)
    torch.testing.assert_close([p.grad for p in critic], list(told))
    torch.testing.assert_close(summary.grad, *torch.autograd.grad(-made.log().mean(), summary))


# Parts of networks


def test_frozen_modules_pass_gradients_on():
    module, x = ConvDiscriminator(3, (12, 10)), random_batch().requires_grad_()
    out = frozen(module, x)
    torch.testing.assert_close(out, module(x))
    out.sum().backward()
    assert all(p.grad is None and p.requires_grad for p in module.parameters())
    torch.testing.assert_close(x.grad, *torch.autograd.grad(module(x).sum(), x))


@pytest.mark.parametrize("size", [(1, 1), (5, 8), (28, 28)])
@pytest.mark.parametrize("vector_dim", [0, 6])
def test_critic_judges_each_image_and_its_vector(size, vector_dim):
    critic = ConvDiscriminator(2, size, vector_dim, width=4)
    inputs = [random_batch(4, 2, *size), normal(4, vector_dim)][: 1 + bool(vector_dim)]
    logits = critic(*inputs)
    assert logits.shape == (4,)
    for i in range(4):
        torch.testing.assert_close(critic(*(x[i : i + 1] for x in inputs)), logits[i : i + 1])
    for k in range(len(inputs)):
        others = [x.flip(0) if j == k else x for j, x in enumerate(inputs)]
        assert not torch.allclose(critic(*others), logits)


def test_several_layers_are_read_in_one_pass():
    encoder = make_task(SimCLR).encoder.eval()
    images = random_batch(2, height=12, width=12)
    passes = []
    encoder.backbone.conv[0].register_forward_hook(lambda *_: passes.append(1))
    names = ["out", "conv.0", "conv", "out"]
    maps = encoder.maps(images, *names)
    assert len(passes) == 1
    for name, found in zip(names, maps, strict=True):
        assert torch.equal(found, encoder(images, name))
    with pytest.raises(ValueError, match="nonesuch"):
        encoder.maps(images, "conv", "nonesuch")


class Repeats(TinyNet):
    def __init__(self, in_channels):
        super().__init__(in_channels)
        self.block = nn.Conv2d(16, 16, 3, 1, 1)
        self.last = nn.Conv2d(16, 16, 3, 1, 1)

    def forward(self, x):
        return self.last(self.block(self.block(self.out(self.conv(x)))))


def test_a_repeated_layer_is_the_same_alone_and_with_others():
    encoder = make_task(SimCLR, encoder=Repeats).encoder.eval()
    images = random_batch(2, height=12, width=12)
    assert torch.equal(encoder.maps(images, "block", "last")[0], encoder(images, "block"))


@pytest.mark.parametrize("encoder", [TinyNet, "small_resnet", "small_vit"])
@pytest.mark.parametrize("training", [False, True])
def test_shape_for_images_of_another_size(encoder, training):
    encoder = make_task(SimCLR, encoder=encoder).encoder.train(training)
    before = {name: value.clone() for name, value in encoder.state_dict().items()}
    sizes = [(12, 12), (6, 6), (24, 20)]
    shapes = [encoder.shape_of(size) for size in sizes]
    assert all(torch.equal(value, before[name]) for name, value in encoder.state_dict().items())
    assert encoder.training == training
    assert shapes == [encoder(torch.zeros(2, 3, *size)).shape[1:] for size in sizes]


# Arguments


@pytest.mark.parametrize(
    ("Learner", "params", "message"),
    [
        (MoCo, {"version": 1}, r"version.*\{2, 3\}"),
        (DINO, {"teacher_temperature": (0.1,)}, "teacher_temperature.*two positive"),
        (DINO, {"teacher_temperature": (0.0, 0.1)}, "teacher_temperature.*two positive"),
        (DeepInfoMax, {"local_layer": "nonesuch"}, "local_layer='nonesuch'.*conv, .*out"),
        (DeepInfoMax, {"loss": "mine"}, "loss.*infonce"),
        (InstanceDiscrimination, {"negatives": 0}, "negatives"),
        (EMPSSL, {"n_patches": 1}, "n_patches"),
    ],
)
def test_unusable_arguments(Learner, params, message):
    with pytest.raises(ValueError, match=message):
        small(Learner, **params).fit(make_images(16))


@pytest.mark.parametrize("Learner", [SwAV, DINO, LeJEPA])
@pytest.mark.parametrize("scale", [(0, 2), (0.4, 0.1), (0.5,)])
def test_unusable_scale_of_small_crops(Learner, scale):
    with pytest.raises(ValueError, match="local_scale"):
        small(Learner, local_scale=scale).fit(make_images(16))
