"""Joint-embedding and contrastive tasks against naive versions from the papers and a peer."""

import math
from collections import deque

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from conftest import TinyNet, make_images, random_batch, small
from test_tasks import embed, make_task, naive_cross_entropy, run, standardise, unchanged
from torch import nn

from sklearn_ssl import (
    BYOL,
    DINO,
    NNCLR,
    BarlowTwins,
    DeepInfoMax,
    InstanceDiscrimination,
    LeJEPA,
    MoCo,
    SimCLR,
    SimSiam,
    SwAV,
    VICReg,
    Views,
)
from sklearn_ssl.contrastive._nnclr import nearest
from sklearn_ssl.heads import ConvCritic, Queue, follow, frozen, mlp, momentum_copy
from sklearn_ssl.joint_embedding._lejepa import sigreg
from sklearn_ssl.joint_embedding._swav import sinkhorn
from sklearn_ssl.losses import negative_cosine, off_diagonal
from sklearn_ssl.views import MultiCrop

HEADS = {"hidden_dim": 9, "projection_dim": 5}
FOLLOWERS = [  # averaged copies, their modules, and the momentum of the last step
    (BYOL, {}, 1.0, {"target_encoder": "encoder", "target_projector": "projector"}),
    (DINO, {"out_dim": 7}, 1.0, {"teacher_encoder": "encoder", "teacher_head": "head"}),
    *(
        (
            MoCo,
            {"version": version, "final_momentum": 0.95},
            0.95,
            {"key_encoder": "encoder", "key_projector": "projector"},
        )
        for version in (2, 3)
    ),
]
every_follower = pytest.mark.parametrize(
    ("Learner", "params", "end", "pairs"), FOLLOWERS, ids=["byol", "dino", "moco2", "moco3"]
)


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def unit(vector):
    return vector / np.linalg.norm(vector)


def softmax(logits):
    shares = np.exp(logits - np.max(logits))
    return shares / shares.sum()


def shake(*modules, size=0.3):
    """Move parameters, so that a copy is told from its module and biases are not zero."""
    with torch.no_grad():
        for i, p in enumerate(p for module in modules for p in module.parameters()):
            p += size * p.std().nan_to_num(1) * normal(*p.shape, seed=i) + size * 0.1


def two_view_task(Learner, **params):
    """A task, images, and the two known views of each that the task draws, which differ."""
    images = random_batch()
    views = unchanged((12, 10), solarize=(1.0, 0.0))
    task = make_task(Learner, 12, 10, views=views, **params)
    shake(task)
    return task, images, torch.cat([torch.where(images >= 0.5, 1 - images, images), images])


def crop_task(Learner, local_crops=2, **params):
    """A task, images, and the crops (large ones, small ones) that it is made to see."""
    task = make_task(Learner, 8, 8, local_crops=local_crops, **params)
    shake(task)
    sides = [(2, 8), (local_crops, 4)][: 1 + bool(local_crops)]
    crops = [random_batch(6 * n, height=side, width=side, seed=side) for n, side in sides]
    task.views = lambda images: crops
    return task, random_batch(height=8, width=8), crops


def embed_all(encoder, crops):
    return torch.cat([embed(encoder, size) for size in crops])


def arrays(tensor, n=6):
    """By view and image, as numpy arrays: (v * n, d) to (v, n, d)."""
    return tensor.detach().double().unflatten(0, (-1, n)).numpy()


def assert_same_training(task, found, expected):
    """Two losses of a task have the same value, and the same gradients for all it trains."""
    torch.testing.assert_close(found, expected.squeeze())
    trained = [p for p in task.parameters() if p.requires_grad]
    for ours, theirs in zip(*(torch.autograd.grad(x, trained) for x in (found, expected))):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-5)


# Averaged copies


@pytest.mark.parametrize("progress", [0.0, 0.3, 1.0])
@every_follower
def test_average_follows_with_a_momentum_that_rises(Learner, params, end, pairs, progress):
    task = make_task(Learner, momentum=0.8, **HEADS, **params)
    for average, module in pairs.items():
        shake(getattr(task, module))
        assert len(list(getattr(task, average).parameters())) > 0
    before = {name: p.clone() for name, p in task.named_parameters()}
    task.after_step(progress)
    # Grill et al. (2020), section 3.2: tau = 1 - (1 - tau_base) (cos(pi k / K) + 1) / 2
    momentum = end - (end - 0.8) * (math.cos(math.pi * progress) + 1) / 2
    for name, p in task.named_parameters():
        average, _, rest = name.partition(".")
        expected = before[name]
        if average in pairs:
            new = before[f"{pairs[average]}.{rest}"]
            assert not torch.equal(new, expected)
            expected = momentum * expected + (1 - momentum) * new
        torch.testing.assert_close(p, expected)


@every_follower
def test_average_starts_as_the_module_and_gets_no_gradient(Learner, params, end, pairs):
    task = make_task(Learner, **HEADS, **params)
    run(task, random_batch(height=12, width=12))["loss"].backward()
    for average, module in pairs.items():
        copied, original = (list(getattr(task, name).parameters()) for name in (average, module))
        for p, q in zip(copied, original, strict=True):
            assert torch.equal(p, q)
            assert p is not q
            assert not p.requires_grad
            assert p.grad is None
            assert q.grad is not None


def test_average_in_a_fit():
    def parameters(**params):
        task = small(MoCo, batch_size=12, **params).fit(make_images()).net_.module_.task
        return [
            torch.cat([p.detach().flatten() for p in module.parameters()])
            for module in (task.encoder, task.key_encoder)
        ]

    start, _ = parameters(max_epochs=0)
    encoder, key_encoder = parameters(momentum=1.0, final_momentum=1.0)
    assert torch.equal(key_encoder, start)
    assert not torch.equal(encoder, start)
    encoder, key_encoder = parameters(momentum=1.0, final_momentum=0.0)  # 0 in the last step
    torch.testing.assert_close(key_encoder, encoder)


@pytest.mark.parametrize("momentum", [0.0, 0.7, 1.0])
def test_follow_is_that_of_lightly(momentum):
    update_momentum = pytest.importorskip("lightly.models.utils").update_momentum
    module = mlp(3, 4, 2)
    ours, theirs = momentum_copy(module), momentum_copy(module)
    shake(module)
    follow(ours, module, momentum)
    update_momentum(module, theirs, momentum)
    torch.testing.assert_close(list(ours.parameters()), list(theirs.parameters()))


# Queues


@pytest.mark.parametrize("size", [1, 5, 6])
def test_queue_keeps_the_latest(size):
    queue = Queue(size, 3)
    torch.testing.assert_close(queue.vectors.norm(dim=1), torch.ones(size))
    latest = deque(queue.vectors.clone(), maxlen=size)
    for i, n in enumerate([2, 2, 3, 7, 5, 1, 13, 4]):  # some are more than it holds
        new = normal(n, 3, seed=i)
        latest.extend(new)
        queue.push(new)
        by_age = queue.vectors.roll(-int(queue.position), 0)
        assert torch.equal(by_age, torch.stack(tuple(latest)))


@pytest.mark.parametrize(("asked", "kept", "half"), [(7, 7, 7), (4096, 48, 24)])
def test_queues_are_no_longer_than_there_are_images(asked, kept, half):
    for Learner in (MoCo, NNCLR):
        assert make_task(Learner, queue_size=asked).queue.vectors.shape == (kept, 128)
    for queue in make_task(SwAV, queue_size=asked).queues:
        assert queue.vectors.shape == (half, 128)
    task = make_task(InstanceDiscrimination, negatives=asked)
    assert (task.negatives, len(task.bank)) == (kept, 48)


# BYOL, SimSiam


def test_byol_loss():
    task, images, both = two_view_task(BYOL, **HEADS)
    terms = run(task, images)
    p = task.predictor(task.projector(embed(task.encoder, both)))
    z = task.target_projector(embed(task.target_encoder, both))
    (p1, p2), (z1, z2) = arrays(p), arrays(z)
    total = 0  # Grill et al. (2020), equation 2, with either view as the online network's
    for i in range(6):
        total += ((unit(p1[i]) - unit(z2[i])) ** 2).sum()
        total += ((unit(p2[i]) - unit(z1[i])) ** 2).sum()
    assert terms["loss"].item() == pytest.approx(total / 6, rel=1e-4)

    cosine = pytest.importorskip("lightly.loss").NegativeCosineSimilarity()
    (p1, p2), (z1, z2) = p.chunk(2), z.chunk(2)
    expected = (2 + 2 * cosine(p1, z2)) + (2 + 2 * cosine(p2, z1))
    assert_same_training(task, terms["loss"], expected)


def test_simsiam_loss():
    task, images, both = two_view_task(SimSiam, prediction_dim=4, **HEADS)
    terms = run(task, images)
    z = task.projector(embed(task.encoder, both))
    p = task.predictor(z)
    (p1, p2), (z1, z2) = arrays(p), arrays(z)
    total = 0  # Chen and He (2021), equations 1 and 2
    for i in range(6):
        total -= unit(p1[i]) @ unit(z2[i]) / 2 + unit(p2[i]) @ unit(z1[i]) / 2
    assert terms["loss"].item() == pytest.approx(total / 6, rel=1e-4)

    cosine = pytest.importorskip("lightly.loss").NegativeCosineSimilarity()
    (p1, p2), (z1, z2) = p.chunk(2), z.detach().chunk(2)  # equation 4: no gradient for z
    assert_same_training(task, terms["loss"], cosine(p1, z2) / 2 + cosine(p2, z1) / 2)


def test_negative_cosine_gives_no_gradient_to_targets():
    p, z = (normal(4, 3, seed=i).requires_grad_() for i in (0, 1))
    loss = negative_cosine(p, z)
    loss.backward()
    expected = [-(unit(a) @ unit(b)) for a, b in zip(p.detach().numpy(), z.detach().numpy())]
    assert loss.item() == pytest.approx(np.mean(expected), rel=1e-5)
    assert p.grad is not None
    assert z.grad is None


# Barlow Twins, VICReg


def test_off_diagonal():
    matrix = normal(4, 4)
    expected = [[0 if i == j else matrix[i, j].item() for j in range(4)] for i in range(4)]
    assert off_diagonal(matrix).tolist() == expected


def test_barlow_twins_loss():
    task, images, both = two_view_task(BarlowTwins, redundancy=0.3, **HEADS)
    with torch.no_grad():
        task.projector[-1].weight *= 30  # so that what batch norm adds to variances is nothing
    terms = run(task, images)
    z = task.projector(embed(task.encoder, both))
    first, second = (view - view.mean(0) for view in arrays(z))
    total = 0  # Zbontar et al. (2021), equations 1 and 2
    for i in range(5):
        for j in range(5):
            a, b = first[:, i], second[:, j]
            c = (a * b).sum() / (np.sqrt((a**2).sum()) * np.sqrt((b**2).sum()))
            total += (1 - c) ** 2 if i == j else 0.3 * c**2
    assert terms["loss"].item() == pytest.approx(total, rel=1e-4)

    loss = pytest.importorskip("lightly.loss").BarlowTwinsLoss(lambda_param=0.3)
    assert_same_training(task, terms["loss"], loss(*z.chunk(2)))


@pytest.mark.parametrize("weights", [(2.0, 3.0, 0.5), (0.0, 0.0, 1.0), (1.0, 0.0, 0.0)])
def test_vicreg_loss(weights):
    names = ("invariance", "variance", "covariance")
    task, images, both = two_view_task(VICReg, **dict(zip(names, weights)), **HEADS)
    with torch.no_grad():  # standard deviations on both sides of 1
        task.expander[-1].weight *= torch.tensor([1, 10, 3, 1, 10])[:, None]
    terms = run(task, images)
    z = task.expander(embed(task.encoder, both))
    views = arrays(z)
    # Bardes et al. (2022), equations 1 to 6; as in their code, the distance is also averaged over
    # the numbers of an embedding, and the variance over the views
    expected = dict.fromkeys(names, 0.0)
    for a, b in zip(*views):
        expected["invariance"] += ((a - b) ** 2).sum() / (6 * 5)
    for view in views:
        mean = view.sum(0) / 6
        c = sum(np.outer(row - mean, row - mean) for row in view) / (6 - 1)
        spread = [np.sqrt(c[j, j] + 1e-4) for j in range(5)]
        assert min(spread) < 1 < max(spread)
        expected["variance"] += sum(max(0, 1 - s) for s in spread) / 5 / 2
        expected["covariance"] += (
            sum(c[i, j] ** 2 for i in range(5) for j in range(5) if i != j) / 5
        )
    for name in names:
        assert terms[name].item() == pytest.approx(expected[name], rel=1e-4)
    total = sum(weight * expected[name] for name, weight in zip(names, weights))
    assert terms["loss"].item() == pytest.approx(total, rel=1e-4)

    loss = pytest.importorskip("lightly.loss").VICRegLoss(*weights)
    assert_same_training(task, terms["loss"], loss(*z.chunk(2)))


# Multi-crop


def test_multi_crop_draws_two_large_views_and_small_crops():
    rows, columns = torch.meshgrid(torch.arange(80.0), torch.arange(60.0), indexing="ij")
    images = torch.stack([rows / 80, columns / 60]).expand(50, 2, 80, 60)  # show what is cropped
    views = Views(size=60, crop_scale=(0.8, 1.0), flip=0, jitter=None, solarize=(0.0, 1.0))
    large, local = MultiCrop(views, 3, (0.1, 0.3), (80, 60))(images)
    assert large.shape == (100, 2, 60, 60)
    assert local.shape == (150, 2, 30, 30)

    def area(crops):  # away from the border, where the filter is cut off
        cells = crops.shape[2] - 9
        height = (crops[:, 0, -5, 0] - crops[:, 0, 4, 0]) * crops.shape[2] / cells
        return height * (crops[:, 1, 0, -5] - crops[:, 1, 0, 4]) * crops.shape[2] / cells

    # solarised are the second large views (and the second small ones)
    assert area(large[:50]).min() > 0.7
    assert (large[50:] <= 0.51).all()
    first = area(local[:50])
    assert 0.07 < first.min() < 0.15
    assert 0.25 < first.max() < 0.33
    assert (local[50:100] <= 0.51).all()
    assert local[100:].max() > 0.6
    assert not torch.equal(local[:50], local[100:])
    assert len(MultiCrop(views, 0, (0.1, 0.3), (80, 60))(images)) == 1


@pytest.mark.parametrize("Learner", [SwAV, DINO, LeJEPA])
@pytest.mark.parametrize("local_crops", [0, 3])
def test_crops_are_as_asked(Learner, local_crops):
    task = make_task(Learner, 40, 24, local_crops=local_crops, local_scale=(0.2, 0.3))
    assert task.views.local_scale == (0.2, 0.3)
    crops = task.views(random_batch(2, height=40, width=24))
    expected = [(4, 3, 20, 16), (2 * local_crops, 3, 10, 8)]
    assert [size.shape for size in crops] == expected[: 1 + bool(local_crops)]


# SwAV


def naive_sinkhorn(scores, epsilon, iterations=3):
    """The listing in appendix A.1 of Caron et al. (2020)."""
    Q = np.exp(scores / epsilon).T
    Q /= Q.sum()
    K, B = Q.shape
    for _ in range(iterations):
        for k in range(K):
            Q[k] *= (1 / K) / Q[k].sum()
        for b in range(B):
            Q[:, b] *= (1 / B) / Q[:, b].sum()
    return (Q / Q.sum(0)).T


@pytest.mark.parametrize("epsilon", [0.03, 0.05, 1.0])
def test_sinkhorn(epsilon):
    scores = normal(6, 9).tanh()
    codes = sinkhorn(scores, epsilon)
    expected = naive_sinkhorn(scores.double().numpy(), epsilon)
    np.testing.assert_allclose(codes, expected, rtol=1e-4, atol=1e-6)
    balanced = sinkhorn(scores, 1.0, iterations=50)
    torch.testing.assert_close(balanced.sum(0), torch.full((9,), 6 / 9))
    torch.testing.assert_close(balanced.sum(1), torch.ones(6))

    peer = pytest.importorskip("lightly.loss.swav_loss").sinkhorn
    torch.testing.assert_close(codes, peer(scores, epsilon=epsilon), rtol=1e-4, atol=1e-6)


def swav_scores(task, crops):
    """Cosines with prototypes, of the crops and of what the queues hold."""
    z = task.projector(embed_all(task.encoder, crops))
    prototypes = F.normalize(task.prototypes, dim=1)
    queued = [queue.vectors.clone() @ prototypes.T for queue in task.queues]
    return F.normalize(z, dim=1) @ prototypes.T, queued


@pytest.mark.parametrize("queued", [False, True])
@pytest.mark.parametrize("local_crops", [0, 2])
def test_swav_loss(local_crops, queued):
    options = {"n_prototypes": 4, "temperature": 0.2, "epsilon": 0.1, "queue_size": 8}
    task, images, crops = crop_task(SwAV, local_crops, **options, **HEADS)
    task.after_step(0.25 if queued else 0.24)
    loss = run(task, images)["loss"]
    scores, extra = swav_scores(task, crops)
    views, earlier = arrays(scores), [rows.detach().double().numpy() for rows in extra]
    losses = []  # Caron et al. (2020), equations 2, 3 and 6
    for v in (0, 1):
        rows = np.concatenate([views[v], earlier[v]]) if queued else views[v]
        codes = naive_sinkhorn(rows, 0.1)[:6]
        for other in range(len(views)):
            if other != v:
                for i in range(6):
                    losses.append(-codes[i] @ np.log(softmax(views[other][i] / 0.2)))
    assert loss.item() == pytest.approx(np.mean(losses), rel=1e-4)

    peer = pytest.importorskip("lightly.loss").SwaVLoss(temperature=0.2, sinkhorn_epsilon=0.1)
    parts = scores.chunk(2 + local_crops)
    assert_same_training(task, loss, peer(parts[:2], parts[2:], extra if queued else None))


def test_swav_queues_hold_the_embeddings_of_their_view():
    task, images, crops = crop_task(SwAV, queue_size=8, queue_start=0.5, **HEADS)
    with torch.no_grad():
        z = F.normalize(task.projector(embed_all(task.encoder, crops)), dim=1)
    oldest = [queue.vectors[6:].clone() for queue in task.queues]
    run(task, images)
    for progress, used in ((0.49, False), (0.5, True), (1.0, True)):
        task.after_step(progress)  # the second one has nothing new
        assert task.queue_in_use.item() == used
    for view, queue in enumerate(task.queues):
        torch.testing.assert_close(queue.vectors[:6], z[6 * view : 6 * view + 6])
        assert torch.equal(queue.vectors[6:], oldest[view])
    task = crop_task(SwAV, queue_size=0, **HEADS)[0]
    assert len(task.queues) == 0
    task.after_step(1.0)
    assert run(task, images)["loss"].isfinite()


# DINO


def dino_outputs(encoder, head, crops):
    """Cosines with prototypes."""
    z = head.projector(embed_all(encoder, crops))
    return F.normalize(z, dim=1) @ F.normalize(head.prototypes, dim=1).T


@pytest.mark.parametrize("local_crops", [0, 2])
def test_dino_loss_and_centre(local_crops):
    options = {"out_dim": 7, "student_temp": 0.3, "teacher_temps": (0.1, 0.2)}
    task, images, crops = crop_task(
        DINO, local_crops, center_momentum=0.6, temp_warmup=0.5, **options, **HEADS
    )
    centre = 0.3 * normal(7)
    task.centre.copy_(centre)
    loss = run(task, images)["loss"]
    student = dino_outputs(task.encoder, task.head, crops)
    teacher = dino_outputs(task.teacher_encoder, task.teacher_head, crops[:1]).detach()
    views, large = arrays(student), arrays(teacher)
    losses = []  # Caron et al. (2021), equation 3 and algorithm 1
    for t in range(2):
        for s in range(2 + local_crops):
            if s != t:
                for i in range(6):
                    p = softmax((large[t][i] - centre.numpy()) / 0.1)
                    losses.append(-p @ np.log(softmax(views[s][i] / 0.3)))
    assert loss.item() == pytest.approx(np.mean(losses), rel=1e-4)
    assert torch.equal(task.centre, centre)
    task.after_step(0.1)
    expected = 0.6 * centre.numpy() + 0.4 * large.mean((0, 1))  # equation 4
    np.testing.assert_allclose(task.centre, expected, rtol=1e-4, atol=1e-6)
    task.after_step(0.2)  # there is no new batch
    np.testing.assert_allclose(task.centre, expected, rtol=1e-4, atol=1e-6)

    peer = pytest.importorskip("lightly.loss").DINOLoss(
        7, teacher_temp=0.1, student_temp=0.3, center_momentum=0.6
    )
    peer.center[:] = centre
    # the teacher moved on in the steps above; its outputs here are those of before
    expected = peer(list(teacher.chunk(2)), list(student.chunk(2 + local_crops)))
    assert_same_training(task, loss, expected)
    torch.testing.assert_close(task.centre, peer.center[0, 0])


@pytest.mark.parametrize(
    ("warmup", "progress", "temperature"),
    [(0.5, 0.0, 0.04), (0.5, 0.25, 0.06), (0.5, 0.5, 0.08), (0.5, 1.0, 0.08), (0, 0.01, 0.08)],
)
def test_dino_teacher_temperature(warmup, progress, temperature):
    task = make_task(DINO, teacher_temps=(0.04, 0.08), temp_warmup=warmup)
    if warmup:
        assert task.teacher_temp.item() == pytest.approx(0.04)
    task.after_step(progress)
    assert task.teacher_temp.item() == pytest.approx(temperature)


# LeJEPA


def naive_sigreg(views, directions):
    """Balestriero and LeCun (2025): the Epps-Pulley test on projections, over [-3, 3]."""
    statistics = []
    ts = np.linspace(-3, 3, 33)
    for z in views:
        for direction in directions.T:
            values = []
            for t in ts:
                mean = np.mean([np.exp(1j * t * (x @ direction)) for x in z])
                values.append(abs(mean - np.exp(-(t**2) / 2)) ** 2 * np.exp(-(t**2) / 2))
            areas = [(values[i] + values[i + 1]) / 2 * (6 / 32) for i in range(32)]
            statistics.append(len(z) * sum(areas))
    return np.mean(statistics)


@pytest.mark.parametrize("local_crops", [0, 2])
def test_lejepa_loss(local_crops):
    task, images, crops = crop_task(LeJEPA, local_crops, sigreg_weight=0.3, directions=8, **HEADS)
    terms = run(task, images, seed=3)
    z = task.projector(embed_all(task.encoder, crops))
    views = arrays(z)
    torch.manual_seed(3)
    directions = np.stack([unit(a) for a in torch.randn(5, 8).double().numpy().T], axis=1)
    gaussian = naive_sigreg(views, directions)
    mean = (views[0] + views[1]) / 2
    prediction = np.mean([(mean - view) ** 2 for view in views])
    assert terms["sigreg"].item() == pytest.approx(gaussian, rel=1e-4)
    assert terms["prediction"].item() == pytest.approx(prediction, rel=1e-4)
    total = 0.7 * prediction + 0.3 * gaussian
    assert terms["loss"].item() == pytest.approx(total, rel=1e-4)

    peer = pytest.importorskip("lightly.loss.lejepa_loss")
    if local_crops:  # it takes no fewer than one
        torch.manual_seed(3)
        all_views = z.unflatten(0, (-1, 6))
        expected = peer.LeJEPALoss(0.3, sigreg_num_vectors=8)(
            global_proj=all_views[:2], local_proj=all_views[2:]
        )
        assert_same_training(task, terms["loss"], expected)


def test_sigreg_is_least_for_a_standard_gaussian():
    directions = F.normalize(normal(4, 16, seed=1), dim=0)
    z = normal(1, 2000, 4)
    least = sigreg(z, directions)
    for other in (0.7 * z, 1.4 * z, z + 0.3, z.sign()):
        assert sigreg(other, directions) > 3 * least


# MoCo


def test_moco_2_loss_and_queue():
    task, images, both = two_view_task(MoCo, temperature=0.3, queue_size=8, **HEADS)
    task.queue.push(F.normalize(normal(5, 5, seed=7), dim=1))
    negatives = task.queue.vectors.clone()
    loss = run(task, images)["loss"]
    assert torch.equal(task.queue.vectors, negatives)
    first, second = both.chunk(2)
    q = task.projector(embed(task.encoder, first))
    k = task.key_projector(embed(task.key_encoder, second))
    losses = []  # He et al. (2020), equation 1
    for query, key in zip(arrays(q)[0], arrays(k)[0]):
        others = [unit(query) @ negative for negative in negatives.double().numpy()]
        logits = np.array([unit(query) @ unit(key), *others]) / 0.3
        losses.append(naive_cross_entropy(logits, 0))
    assert loss.item() == pytest.approx(np.mean(losses), rel=1e-4)

    peer = pytest.importorskip("lightly.loss").NTXentLoss(0.3, memory_bank_size=(8, 5))
    peer.memory_bank.bank = negatives.clone()
    assert_same_training(task, loss, peer(q, k))
    task.after_step(0.5)
    kept = task.queue.vectors.roll(-int(task.queue.position), 0)
    # those of the first two places were the older half of what was pushed
    torch.testing.assert_close(kept[:2], negatives[3:5])
    torch.testing.assert_close(kept[2:], F.normalize(k, dim=1))
    before = kept.clone()
    task.after_step(0.6)  # there is no new batch
    assert torch.equal(task.queue.vectors.roll(-int(task.queue.position), 0), before)


def test_moco_3_loss():
    task, images, both = two_view_task(MoCo, version=3, temperature=0.3, **HEADS)
    loss = run(task, images)["loss"]
    q = task.predictor(task.projector(embed(task.encoder, both)))
    k = task.key_projector(embed(task.key_encoder, both))
    total = 0  # Chen et al. (2021), algorithm 1: ctr(q1, k2) + ctr(q2, k1)
    (q1, q2), (k1, k2) = arrays(q), arrays(k)
    for queries, keys in ((q1, k2), (q2, k1)):
        for i in range(6):
            logits = np.array([unit(queries[i]) @ unit(key) for key in keys]) / 0.3
            total += 2 * 0.3 * naive_cross_entropy(logits, i) / 6
    assert loss.item() == pytest.approx(total, rel=1e-4)


# NNCLR


def test_nnclr_loss_and_queue():
    task, images, both = two_view_task(NNCLR, temperature=0.3, queue_size=11, **HEADS)
    support = task.queue.vectors.clone()
    loss = run(task, images)["loss"]
    z = task.projector(embed(task.encoder, both))
    p = task.predictor(z)
    (z1, z2), (p1, p2) = arrays(z), arrays(p)

    def neighbour(vector):
        return max(support.double().numpy(), key=lambda other: unit(vector) @ other)

    losses = []  # Dwibedi et al. (2021), equation 3 and algorithm 1
    for vectors, predictions in ((z1, p2), (z2, p1)):
        for i in range(6):
            near = neighbour(vectors[i])
            logits = np.array([near @ unit(other) for other in predictions]) / 0.3
            losses.append(naive_cross_entropy(logits, i))
    assert loss.item() == pytest.approx(np.mean(losses), rel=1e-4)
    task.after_step(0.5)
    torch.testing.assert_close(task.queue.vectors[:6], F.normalize(z[:6], dim=1))
    assert torch.equal(task.queue.vectors[6:], support[6:])

    bank = pytest.importorskip("lightly.models.modules").NNMemoryBankModule(size=(11, 5))
    bank.bank = support
    near = bank(z.detach())
    assert len(near.unique(dim=0)) > 3
    torch.testing.assert_close(nearest(F.normalize(z, dim=1), support), near)
    (near1, near2), predictions = near.chunk(2), F.normalize(p, dim=1).chunk(2)
    expected = [
        F.cross_entropy(a @ b.T / 0.3, torch.arange(6))
        for a, b in ((near1, predictions[1]), (near2, predictions[0]))
    ]
    assert_same_training(task, loss, sum(expected) / 2)


# Instance discrimination

SLOTS = torch.tensor([3, 40, 0, 47, 12, 5])  # places in the training set


def spy(monkeypatch, name):
    """Note what a function of torch gives."""
    seen, function = [], getattr(torch, name)

    def noting(*args, **kwargs):
        seen.append(function(*args, **kwargs))
        return seen[-1].clone()

    monkeypatch.setattr(torch, name, noting)
    return seen


def instance_task(**params):
    images = random_batch()
    options = {"temperature": 0.5, "projection_dim": 5, "momentum": 0.7, **params}
    task = make_task(InstanceDiscrimination, 12, 10, views=unchanged((12, 10)), **options)
    v = F.normalize(task.projector(embed(task.encoder, images)), dim=1)
    return task, images, v.detach().double().numpy(), task.bank.double().numpy().copy()


def test_nce_loss_with_the_constant_of_the_first_batch(monkeypatch):
    task, images, v, bank = instance_task(negatives=4)
    drawn = spy(monkeypatch, "randint")
    Z = None
    for batch in (0, 1):
        terms = task(images, SLOTS)
        noise = drawn[batch].reshape(6, 4).numpy()
        if batch == 0:  # Wu et al. (2018), equation 8, with the noise of all images
            Z = np.mean([np.exp(v[i] @ bank[j] / 0.5) for i in range(6) for j in noise[i]]) * 48

        def h(i, j, Z=Z):  # equations 4 and 6
            P = np.exp(v[i] @ bank[j] / 0.5) / Z
            return P / (P + 4 / 48)

        total = 0  # equation 7, with m = 4
        for i in range(6):
            total -= np.log(h(i, SLOTS[i].item()))
            total -= sum(np.log(1 - h(i, j)) for j in noise[i])
        assert terms["loss"].item() == pytest.approx(total / 6, rel=1e-4)
        task.constant.copy_(task._new[2])  # as after a step, but with the bank as it was
        assert task.constant.item() == pytest.approx(Z, rel=1e-4)
    assert not torch.equal(drawn[0], drawn[1])
    task.after_step(0.5)
    assert task.constant.item() == pytest.approx(Z, rel=1e-4)


def test_noise_is_drawn_from_all_images(monkeypatch):
    drawn = spy(monkeypatch, "randint")
    task, images, _, _ = instance_task(negatives=4096)
    for _ in range(3):
        task(images, SLOTS)
    assert drawn[-1].numel() == 6 * 48
    assert set(torch.cat(drawn[-3:]).unique().tolist()) == set(range(48))


@pytest.mark.parametrize("proximity", [0.0, 0.4])
def test_instance_softmax(proximity):
    task, images, v, bank = instance_task(negatives=None, proximity=proximity)
    terms = task(images, SLOTS)
    # equation 2, and the proximal term of equation 9
    losses = [naive_cross_entropy(bank @ v[i] / 0.5, SLOTS[i]) for i in range(6)]
    moved = [((v[i] - bank[SLOTS[i]]) ** 2).sum() for i in range(6)]
    assert terms["moved"].item() == pytest.approx(np.mean(moved), rel=1e-4)
    total = np.mean(losses) + proximity * np.mean(moved)
    assert terms["loss"].item() == pytest.approx(total, rel=1e-4)
    task.after_step(1.0)
    assert task.constant == 0


def test_slots_of_the_bank_follow_their_images():
    task, images, v, expected = instance_task()
    task(images, SLOTS)
    assert torch.equal(task.bank.double(), torch.from_numpy(expected))
    for _ in range(2):
        task.after_step(0.5)  # the second one has nothing new
        slots = 0.7 * expected[SLOTS] + 0.3 * v if _ == 0 else expected[SLOTS]
        expected[SLOTS] = [unit(slot) for slot in slots]
        np.testing.assert_allclose(task.bank, expected, rtol=1e-4, atol=1e-6)


def test_instances_without_a_slot_are_refused():
    learner = small(InstanceDiscrimination).partial_fit(make_images(24))
    with pytest.raises(ValueError, match="images"):
        learner.partial_fit(make_images(48))


# Deep InfoMax


def infomax_task(**params):
    images = random_batch()
    views = unchanged((12, 10))
    task = make_task(DeepInfoMax, 12, 10, views=views, width=5, local_layer="conv", **params)
    shake(task)
    with torch.no_grad():
        for name, p in task.named_parameters():
            if name.startswith("project") and name.endswith("weight"):
                p *= 3  # scores that tell pairs apart
    return task, images


def naive_information(estimator, queries, features):
    """Equations 4 and 5 of Hjelm et al. (2019) of the scores of n pairs, less is more."""
    n = len(queries)
    scores = np.array([[q @ f for f in features] for q in queries]) / math.sqrt(5)
    if estimator == "infonce":
        return np.mean([naive_cross_entropy(scores[i], i) for i in range(n)])
    total = 0
    for i in range(n):
        for j in range(n):
            if i == j:
                total += np.log(1 + np.exp(-scores[i, j])) / n
            else:
                total += np.log(1 + np.exp(scores[i, j])) / (n * (n - 1))
    return total


@pytest.mark.parametrize("estimator", ["infonce", "jsd"])
@pytest.mark.parametrize("weights", [(0.5, 2.0, 0.3), (1.0, 0.0, 0.0)])
def test_infomax_loss(monkeypatch, estimator, weights):
    local_weight, global_weight, prior_weight = weights
    task, images = infomax_task(
        estimator=estimator,
        local_weight=local_weight,
        global_weight=global_weight,
        prior_weight=prior_weight,
    )
    noise = spy(monkeypatch, "rand_like")
    terms = run(task, images)
    with torch.no_grad():
        local = task.encoder.backbone.conv(standardise(images))  # (6, 8, 12, 10)
        summary = task.summary(embed(task.encoder, images))
        query = task.project_summary(summary).numpy()
        features = task.project_local(local).numpy()
    places = [(r, c) for r in range(12) for c in range(10)]
    expected = {
        "local": np.mean(
            [naive_information(estimator, query, features[:, :, r, c]) for r, c in places]
        )
    }
    total = local_weight * expected["local"]
    if global_weight:
        with torch.no_grad():
            whole = task.project_flat(local.mean((2, 3))).numpy()
        expected["global"] = naive_information(estimator, query, whole)
        total += global_weight * expected["global"]
    if prior_weight:  # equation 7, whose minimum over the encoder is sought by -log D
        with torch.no_grad():
            real, made = (task.critic(x).sigmoid().numpy() for x in (noise[0], summary.sigmoid()))
        told = np.mean(-np.log(real)) + np.mean(-np.log(1 - made))
        expected["prior"] = told + np.mean(-np.log(made))
        total += prior_weight * expected["prior"]
    assert terms.keys() == {"loss", *expected}
    for name, value in expected.items():
        assert terms[name].item() == pytest.approx(value, rel=1e-4)
    assert terms["loss"].item() == pytest.approx(total, rel=1e-4)


def test_players_of_the_prior_get_gradients_of_their_own(monkeypatch):
    task, _ = infomax_task(prior_weight=1.0)
    noise = spy(monkeypatch, "rand_like")
    summary = normal(6, 5).requires_grad_()
    task._match_prior(summary).backward()
    made = summary.sigmoid()
    told = -task.critic(noise[0]).sigmoid().log().mean()
    told = told - (1 - task.critic(made).sigmoid()).log().mean()
    deceived = -task.critic(made).sigmoid().log().mean()
    critic = list(task.critic.parameters())
    for p, grad in zip(critic, torch.autograd.grad(told, critic, retain_graph=True)):
        torch.testing.assert_close(p.grad, grad)
    torch.testing.assert_close(summary.grad, torch.autograd.grad(deceived, summary)[0])


def test_infomax_reads_a_late_layer_with_a_finer_map():
    assert make_task(DeepInfoMax).local_layer == "conv"


# Parts of networks


def test_frozen_modules_pass_gradients_on():
    module, x = ConvCritic(3, (12, 10)), random_batch().requires_grad_()
    out = frozen(module, x)
    torch.testing.assert_close(out, module(x))
    expected = torch.autograd.grad(module(x).sum(), x)[0]
    out.sum().backward()
    torch.testing.assert_close(x.grad, expected)
    assert all(p.grad is None and p.requires_grad for p in module.parameters())


@pytest.mark.parametrize("size", [(1, 1), (5, 8), (12, 10), (28, 28)])
@pytest.mark.parametrize("vector_dim", [0, 6])
def test_critic_judges_each_image_and_its_vector(size, vector_dim):
    critic = ConvCritic(2, size, vector_dim, width=4)
    images = random_batch(4, 2, *size)
    inputs = [images, normal(4, vector_dim)] if vector_dim else [images]
    logits = critic(*inputs)
    assert logits.shape == (4,)
    for i in range(4):
        torch.testing.assert_close(critic(*(x[i : i + 1] for x in inputs)), logits[i : i + 1])
    for k, x in enumerate(inputs):
        others = [x.flip(0) if j == k else y for j, y in enumerate(inputs)]
        assert not torch.allclose(critic(*others), logits)


def test_several_layers_are_read_in_one_pass(monkeypatch):
    encoder = make_task(SimCLR).encoder.eval()
    images = random_batch(2, height=12, width=12)
    passes = []
    encoder.backbone.conv.register_forward_hook(lambda *_: passes.append(1))
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
    for size in ((12, 12), (6, 6), (24, 20)):
        shape = encoder.shape_of(size)
        assert all(torch.equal(value, before[name]) for name, value in encoder.state_dict().items())
        assert encoder.training == training
        with torch.no_grad():
            assert shape == encoder(torch.zeros(2, 3, *size)).shape[1:]
        encoder.load_state_dict(before)


# Arguments


@pytest.mark.parametrize(
    ("Learner", "params", "message"),
    [
        (MoCo, {"version": 1}, r"version.*\{2, 3\}"),
        (DINO, {"teacher_temps": (0.1,)}, "teacher_temps.*two positive"),
        (DINO, {"teacher_temps": (0.0, 0.1)}, "teacher_temps.*two positive"),
        (DeepInfoMax, {"local_layer": "nonesuch"}, "local_layer='nonesuch'.*conv, .*out"),
        (DeepInfoMax, {"estimator": "mine"}, "estimator.*infonce"),
        (InstanceDiscrimination, {"negatives": 0}, "negatives"),
        *(
            (Learner, {"local_scale": scale}, "local_scale")
            for Learner in (SwAV, DINO, LeJEPA)
            for scale in ((0, 2), (0.4, 0.1), (0.5,))
        ),
    ],
)
def test_unusable_arguments(Learner, params, message):
    with pytest.raises(ValueError, match=message):
        small(Learner, **params).fit(make_images(16))
