"""What every pretext task computes, against naive versions written from the papers."""

import copy
import math

import numpy as np
import pytest
import torch
from conftest import TinyNet, every_kind, every_learner, make_images, random_batch, small
from sklearn.datasets import load_sample_images
from torch import nn

from sklearn_ssl import (
    CPC,
    DenoisingAutoencoder,
    Distillation,
    RotationPrediction,
    SimCLR,
    Views,
)
from sklearn_ssl.nn import Queue

MEAN, STD = (0.4, 0.5, 0.6), (0.2, 0.25, 0.3)
DIRECTIONS = ("down", "up", "right", "left")

every_encoder = pytest.mark.parametrize(
    "encoder", [TinyNet, "small_resnet"], ids=["tiny", "resnet"]
)


def make_task(Learner, height=12, width=12, channels=3, seed=0, mean=MEAN, std=STD, **params):
    """The task of a learner, for images of a known mean and standard deviation."""
    torch.manual_seed(seed)
    learner = small(Learner, **params)
    shape = (height, width, channels)
    if Learner is Distillation:  # whose teacher a fit makes of the images
        learner._taught_by = learner._make_teacher(make_images(8, *shape), None)
        learner._teacher_width_ = learner._taught_by.width
    encoder = learner._make_encoder(shape, mean[:channels], std[:channels])
    return learner._make_task(encoder, n_images=48)


def unchanged(size, **params):
    """Views that are the images themselves."""
    off = {"crop_scale": None, "flip": 0, "jitter": None, "gray": 0, "blur": 0}
    return Views(size=size, **off | params)


def output_of(task, images, seed=0, index=None):
    """What a task says of a batch, and what its ``after_step`` takes."""
    torch.manual_seed(seed)
    return task(images, torch.arange(len(images)) if index is None else index)


def terms_of(output):
    """The loss and the other terms of an output, by name."""
    assert "loss" not in output.terms
    return {"loss": output.loss, **output.terms}


def run(task, images, seed=0):
    """Loss and terms of a batch."""
    return terms_of(output_of(task, images, seed))


def standardize(images):
    """(n, c, h, w) in [0, 1] to zero mean and unit variance, channel by channel."""
    return torch.stack([(images[:, i] - MEAN[i]) / STD[i] for i in range(images.shape[1])], dim=1)


def embed(encoder, images):
    """What the backbone makes of images, averaged over positions."""
    features = encoder.backbone(standardize(images))
    return features.flatten(2).sum(2) / math.prod(features.shape[2:])


def naive_cross_entropy(logits, label):
    shares = np.exp(logits - np.max(logits))
    return -np.log(shares[label] / shares.sum())


def assert_is(found, expected):
    expected = torch.as_tensor(expected).detach().item()
    assert found.item() == pytest.approx(expected, rel=1e-4)


def shake(module, seed=0):
    """Move parameters, so that copies differ from their module and biases are not zero."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in module.parameters():
            p += 0.1 * torch.randn(p.shape, generator=generator)


def spy(monkeypatch, name):
    """What torch's function of this name returns from now on."""
    seen, function = [], getattr(torch, name)

    def noted(*args, **kwargs):
        seen.append(function(*args, **kwargs))
        return seen[-1]

    monkeypatch.setattr(torch, name, noted)
    return seen


# Every task


@every_encoder
@every_learner
def test_terms_are_finite_scalars(Learner, encoder):
    terms = run(make_task(Learner, encoder=encoder), random_batch(height=12, width=12))
    assert "loss" in terms
    for term in terms.values():
        assert term.shape == ()
        assert term.dtype == torch.float32
        assert term.isfinite()
    assert terms["loss"].requires_grad


@every_encoder
@every_learner
def test_gradient_reaches_every_parameter(Learner, encoder):
    task = make_task(Learner, encoder=encoder)
    run(task, random_batch(height=12, width=12))["loss"].backward()
    trained = {name: p for name, p in task.named_parameters() if p.requires_grad}
    assert any(name.startswith("encoder.") for name in trained)
    assert any(not name.startswith("encoder.") for name in trained)
    for name, p in trained.items():
        assert p.grad is not None, name
        assert p.grad.isfinite().all(), name
        assert p.grad.abs().max() > 1e-7, name  # more than rounding errors


@every_encoder
@every_kind
def test_state_dict_holds_all_state(Learner, encoder):
    images = random_batch(height=12, width=12)
    task = make_task(Learner, encoder=encoder)
    with torch.no_grad():
        queues = [module for module in task.modules() if isinstance(module, Queue)]
        for _ in range(9 if queues else 1):  # until queues are full, and in use
            output = output_of(task, 1 - images)  # running statistics are state, too
            task.after_step(output, 0.5)
        assert all(queue.full for queue in queues)
        copied = copy.deepcopy(task)
        # differs in all that is state
        loaded = make_task(Learner, encoder=encoder, seed=1, mean=(0, 0, 0), std=(1, 1, 1))
        loaded.load_state_dict(task.state_dict())
        for training in (False, True):
            expected = run(task.train(training), images, seed=3)["loss"]
            torch.testing.assert_close(
                run(copied.train(training), images, seed=3)["loss"], expected
            )
            torch.testing.assert_close(
                run(loaded.train(training), images, seed=3)["loss"], expected
            )


@every_learner
def test_loss_is_float32_under_autocast(Learner):
    images = random_batch(height=12, width=12)
    task = make_task(Learner)
    with torch.no_grad():
        expected = run(task, images)["loss"]
        with torch.autocast("cpu", dtype=torch.bfloat16):
            found = run(task, images)["loss"]
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, expected, rtol=0.05, atol=0.05)


@every_learner
def test_loss_depends_on_the_seed_and_on_nothing_else(Learner):
    images = random_batch(height=12, width=12)
    task = make_task(Learner)
    first, again, other = (run(task, images, seed)["loss"].item() for seed in (0, 0, 1))
    assert first == again
    assert first != other


@every_learner
def test_images_are_left_as_they_are(Learner):
    images = random_batch(height=12, width=12)
    before = images.clone()
    run(make_task(Learner, views=unchanged(12)), images)
    assert torch.equal(images, before)


# SimCLR


def naive_simclr(first, second, temperature):
    """Algorithm 1 of Chen et al. (2020): its z_{2k-1}, z_{2k} are first[k], second[k]."""
    z = [vector for pair in zip(first, second, strict=True) for vector in pair]
    s = [[u @ v / np.linalg.norm(u) / np.linalg.norm(v) for v in z] for u in z]

    def pair_loss(i, j):
        total = sum(np.exp(s[i][k] / temperature) for k in range(len(z)) if k != i)
        return -np.log(np.exp(s[i][j] / temperature) / total)

    n = len(first)
    total = sum(pair_loss(2 * k, 2 * k + 1) + pair_loss(2 * k + 1, 2 * k) for k in range(n))
    return total / (2 * n)


@every_encoder
@pytest.mark.parametrize("temperature", [0.2, 0.7])
def test_simclr_loss(encoder, temperature):
    images = random_batch()
    task = make_task(
        SimCLR,
        *images.shape[2:],
        encoder=encoder,
        temperature=temperature,
        hidden_dim=9,
        projection_dim=5,
        # the first view is known and not the second, which is the image
        views=unchanged((12, 10), solarize=(1.0, 0.0)),
    )
    loss = run(task, images)["loss"].item()

    with torch.no_grad():
        first = torch.where(images >= 0.5, 1 - images, images)
        h = embed(task.encoder, torch.cat([first, images])).numpy()
        linear, norm, _, last = task.projector
        hidden = h @ linear.weight.numpy().T
        hidden = (hidden - hidden.mean(0)) / np.sqrt(hidden.var(0) + norm.eps)
        hidden = np.maximum(hidden * norm.weight.numpy() + norm.bias.numpy(), 0)
        z = hidden @ last.weight.numpy().T + last.bias.numpy()
    assert z.shape == (12, 5)
    assert loss == pytest.approx(naive_simclr(z[:6], z[6:], temperature), rel=1e-4)


def test_simclr_draws_two_views(monkeypatch):
    images = random_batch(height=8, width=8)
    task = make_task(SimCLR, 8, 8, views=unchanged(8, flip=0.5))
    seen, embed_views = [], task.encoder.embed

    def spy(both):
        seen.append(both)
        return embed_views(both)

    monkeypatch.setattr(task.encoder, "embed", spy)
    run(task, images)
    first, second = torch.cat(seen).chunk(2)
    for view in (first, second):
        for image, original in zip(view, images, strict=True):
            assert torch.equal(image, original) or torch.equal(image, original.flip(2))
    assert not torch.equal(first, second)


# CPC


def naive_patches(image, patch, stride):
    """Rows of columns of patches (c, patch, patch) of one image (c, h, w)."""
    rows = []
    for top in range(0, image.shape[1] - patch + 1, stride):
        row = []
        for left in range(0, image.shape[2] - patch + 1, stride):
            row.append(image[:, top : top + patch, left : left + patch])
        rows.append(row)
    return rows


def along(direction, rows, columns):
    """Grid places [time][lane]: what has the same lane comes later, the later it is predicted."""
    if direction == "down":
        return [[(r, c) for c in range(columns)] for r in range(rows)]
    if direction == "up":
        return [[(r, c) for c in range(columns)] for r in range(rows - 1, -1, -1)]
    if direction == "right":
        return [[(r, c) for r in range(rows)] for c in range(columns)]
    return [[(r, c) for r in range(rows)] for c in range(columns - 1, -1, -1)]


def naive_cpc(task, images, patch, stride, steps, negative_images):
    """Equation 4 of Oord et al. (2018), for each direction and number of steps ahead."""
    encoder = task.encoder.encoder
    z = [  # by image, row and column
        [
            [embed(encoder, cut[None])[0] for cut in row]
            for row in naive_patches(image, patch, stride)
        ]
        for image in images
    ]
    rows, columns, width = len(z[0]), len(z[0][0]), len(z[0][0][0])
    losses = []
    for direction in DIRECTIONS:
        places = along(direction, rows, columns)
        for step, predictor in zip(steps, task.predictors[direction], strict=True):
            weight, bias = predictor.weight[:, :, 0, 0].numpy(), predictor.bias.numpy()
            log_shares = []
            for start in range(0, len(images), negative_images):
                predictions, targets = [], []
                for grid in z[start : start + negative_images]:
                    seen = [[grid[r][c] for r, c in lanes] for lanes in places]
                    seen = torch.stack([torch.stack(lanes, 1) for lanes in seen], 1)
                    context = task.contexts[direction](seen[None])[0].numpy()
                    for time in range(len(places) - step):
                        for lane in range(len(places[0])):
                            r, c = places[time + step][lane]
                            predictions.append(weight @ context[:, time, lane] + bias)
                            targets.append(grid[r][c].numpy())
                for i, prediction in enumerate(predictions):
                    logits = [prediction @ target / math.sqrt(width) for target in targets]
                    log_shares.append(naive_cross_entropy(np.array(logits), i))
            losses.append(np.mean(log_shares))
    return np.mean(losses)


@every_encoder
@pytest.mark.parametrize(
    ("overlap", "stride", "negative_images"), [(0.5, 2, 2), (0.0, 4, 2), (0.5, 2, 1), (0.5, 2, 4)]
)
def test_cpc_loss(encoder, overlap, stride, negative_images):
    side = 10 if overlap else 12  # what a training crop covers
    images = random_batch(n=4, height=side, width=side)
    task = make_task(
        CPC,
        *images.shape[2:],
        encoder=encoder,
        patch_size=4,
        overlap=overlap,
        prediction_steps=2,
        negative_images=negative_images,
        views=unchanged(4),
    )
    with torch.no_grad():
        for name, weight in task.predictors.named_parameters():
            if name.endswith("weight"):
                weight *= 30  # fresh predictors hardly tell patches apart
        loss = run(task, images)["loss"].item()
        steps = (2, 3) if overlap else (1, 2)  # the nearest patch without overlap, and one on
        expected = naive_cpc(task, images, 4, stride, steps, negative_images)
    assert loss == pytest.approx(expected, rel=1e-4)


def test_cpc_draws_a_view_of_every_patch(monkeypatch):
    images = random_batch(n=4, height=12, width=12)
    task = make_task(CPC, patch_size=4, prediction_steps=3, views=unchanged(4, flip=0.5))
    seen, encode = [], task.encoder.encode

    def spy(patches, *of_what):
        seen.append(patches)
        return encode(patches, *of_what)

    monkeypatch.setattr(task.encoder, "encode", spy)
    run(task, images)
    changed = seen[0].unflatten(0, (4, 5, 5))
    for i, image in enumerate(images):
        flipped = 0
        for r, row in enumerate(naive_patches(image, 4, 2)):
            for c, patch in enumerate(row):
                flipped += torch.equal(changed[i, r, c], patch.flip(2))
                assert torch.equal(changed[i, r, c], patch) or torch.equal(
                    changed[i, r, c], patch.flip(2)
                )
        assert 0 < flipped < 25


def test_cpc_trains_on_crops_anywhere_in_the_images():
    images = random_batch(n=64, height=20, width=15)
    task = make_task(CPC, 20, 15, patch_size=4, prediction_steps=3, views=unchanged(4))
    corners = set()
    for image, crop in zip(images, task._crop(images), strict=True):
        windows = image.unfold(1, 12, 1).unfold(2, 12, 1)  # (c, 9, 4, 12, 12)
        found = (windows == crop[:, None, None]).all((0, 3, 4)).nonzero()
        assert len(found) == 1
        corners.add(tuple(found[0].tolist()))
    assert {row for row, _ in corners} == set(range(9))
    assert {column for _, column in corners} == set(range(4))


@pytest.mark.parametrize("images", [3, 5, 31])
def test_cpc_uses_nearly_all_images(images):
    batch = random_batch(n=images, height=12, width=12)
    task = make_task(CPC, patch_size=4, negative_images=4, views=unchanged(4)).eval()
    changed = batch.clone()
    changed[-images // 4 :] = 0
    with torch.no_grad():
        assert run(task, batch)["loss"] != run(task, changed)["loss"]


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("overlap", [0.5, 0.0])
def test_cpc_context_sees_nothing_that_comes_later(direction, overlap):
    stride = 2 if overlap else 4
    side = 12 if overlap else 16  # what a training crop covers
    images = random_batch(n=2, height=side, width=side)
    options = {"patch_size": 4, "overlap": overlap, "prediction_steps": 3}
    task = make_task(CPC, side, side, views=unchanged(4), **options).eval()
    seen = []
    task.contexts[direction].register_forward_hook(lambda _module, _args, out: seen.append(out))
    rows, columns = task.encoder.grid
    places = along(direction, rows, columns)
    now = len(places) // 2
    later = torch.ones(side, side, dtype=torch.bool)  # pixels that no patch up to now has
    for lanes in places[: now + 1]:
        for r, c in lanes:
            later[stride * r : stride * r + 4, stride * c : stride * c + 4] = False
    assert later.any()
    with torch.no_grad():
        run(task, images)
        run(task, images.masked_fill(later, 0))
    before, after = seen  # (n, d, time, lane)
    assert (before - after)[:, :, now + 1 :].abs().amax((0, 1, 3)).min() > 1e-3
    torch.testing.assert_close(after[:, :, : now + 1], before[:, :, : now + 1])


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_cpc_context_sees_what_came_before(direction):
    images = random_batch(n=2, height=16, width=16)
    options = {"patch_size": 4, "overlap": 0, "prediction_steps": 3}
    task = make_task(CPC, 16, 16, views=unchanged(4), **options).eval()
    seen = []
    task.contexts[direction].register_forward_hook(lambda _module, _args, out: seen.append(out))
    r, c = along(direction, 4, 4)[1][2]
    changed = images.clone()
    changed[:, :, 4 * r : 4 * r + 4, 4 * c : 4 * c + 4] = 0
    with torch.no_grad():
        run(task, images)
        run(task, changed)
    moved = (seen[0] - seen[1]).abs().amax((0, 1))
    assert moved[1, 2] > 1e-3  # its own place
    assert moved[1, 1] > 1e-3  # its row
    assert moved[2, 2] > 1e-3  # the next row
    assert moved[3, 2] > 1e-3  # by the second block


@pytest.mark.parametrize(
    ("side", "grids"),
    [
        (8, {(3, 3)}),
        (28, {(8, 8)}),  # half of a patch of 7 is no whole number, so more of it is shared
        (32, {(7, 7)}),
        (64, {(7, 7)}),
        (96, {(7, 7)}),
        (160, {(7, 7)}),
    ],
)
def test_cpc_default_grid(side, grids):
    task = make_task(CPC, side, side)
    patch = task.encoder.patch_size
    assert task.encoder.grid in grids
    assert patch == (max(4, side // 4),) * 2
    assert list(task.contexts) == list(DIRECTIONS)
    assert task.views.size == patch
    rows = task.encoder.grid[0]
    unseen = side - (task.encoder.stride[0] * (rows - 1) + patch[0])
    assert 0 <= unseen <= 1
    first = math.ceil(patch[0] / task.encoder.stride[0])  # shares no pixel
    expected = list(range(first, rows))[:2]
    assert all(steps == expected for steps in task.steps.values())


@pytest.mark.parametrize(
    ("height", "width", "directions"),
    [(1, 20, ("right", "left")), (20, 1, ("down", "up")), (1, 2, ("right", "left"))],
)
def test_cpc_of_strips_goes_along_them(height, width, directions):
    task = make_task(CPC, height, width, channels=1)
    assert tuple(task.contexts) == directions
    assert 1 in task.encoder.grid
    assert max(task.encoder.grid) >= min(max(height, width), 5)
    images = random_batch(channels=1, height=height, width=width)
    assert run(task, images)["loss"].isfinite()


def test_cpc_of_wide_images():
    task = make_task(CPC, 8, 32)
    assert task.encoder.patch_size == (4, 4)
    assert task.encoder.grid == (3, 15)
    assert task.steps == {"down": [2], "up": [2], "right": [2, 3], "left": [2, 3]}


@pytest.mark.parametrize(
    ("overlap", "stride", "first"), [(0.0, 6, 1), (0.5, 3, 2), (2 / 3, 2, 3), (0.99, 1, 6)]
)
def test_cpc_patches_are_as_asked(overlap, stride, first):
    task = make_task(CPC, 24, 18, patch_size=6, overlap=overlap, prediction_steps=2)
    patches = task.encoder
    assert patches.patch_size == (6, 6)
    assert patches.stride == (stride, stride)
    assert patches.grid == ((24 - 6) // stride + 1, (18 - 6) // stride + 1)
    for steps in task.steps.values():
        assert steps == [first, first + 1]


def test_cpc_patches_are_cut_row_by_row():
    images = random_batch(n=2, height=12, width=10)
    task = make_task(CPC, 12, 10, patch_size=4)
    expected = [cut for image in images for row in naive_patches(image, 4, 2) for cut in row]
    assert torch.equal(task.encoder.patches(images), torch.stack(expected))


def test_cpc_directions_are_as_asked():
    task = make_task(CPC, 16, 16, directions=("left", "up"))
    assert list(task.contexts) == list(task.predictors) == ["left", "up"]


@pytest.mark.parametrize(("asked", "steps"), [(2, [2, 3]), (1, [2]), (9, [2, 3, 4, 5, 6])])
def test_cpc_prediction_steps_are_as_asked(asked, steps):
    task = make_task(CPC, 16, 16, prediction_steps=asked)
    for direction in DIRECTIONS:
        assert task.steps[direction] == steps
        assert len(task.predictors[direction]) == len(steps)


def test_cpc_context_blocks_are_as_asked():
    for context in make_task(CPC, context_blocks=3).contexts.values():
        assert len(context.blocks) == 3


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"directions": ("sideways",)}, "down, up, right, left"),
        ({"directions": ()}, "down, up, right, left"),
        ({"patch_size": 12}, "one patch"),
        ({"patch_size": 12, "directions": ("down",)}, "too small for 'down'"),
    ],
)
def test_cpc_refuses_what_it_cannot_predict(params, message):
    with pytest.raises(ValueError, match=message):
        make_task(CPC, **params)


@every_encoder
@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("overlap", [0.5, 0.0])
def test_cpc_encodes_a_patch_alone(encoder, training, overlap):
    images = random_batch(n=3, height=12, width=12)
    task = make_task(CPC, encoder=encoder, patch_size=4, overlap=overlap).train(training)
    stride = 2 if overlap else 4
    with torch.no_grad():
        encoded = task.encoder(images)
        for i, image in enumerate(images):
            for r, row in enumerate(naive_patches(image, 4, stride)):
                for c, patch in enumerate(row):
                    torch.testing.assert_close(
                        encoded[i, :, r, c],
                        embed(task.encoder.encoder, patch[None])[0],
                        rtol=1e-3,
                        atol=1e-5,
                    )


def test_cpc_with_batch_norm_does_not():
    images = random_batch(n=3, height=12, width=12)
    changed = images.clone()
    changed[0] = 0
    for norm, alone in (("layer", True), ("batch", False)):
        task = make_task(CPC, norm=norm)
        before, after = task.encoder(images)[1:], task.encoder(changed)[1:]
        assert torch.allclose(before, after, atol=1e-6) == alone


def test_cpc_layers_can_all_be_read():
    task = make_task(CPC)
    images = random_batch(n=2, height=12, width=12)
    for layer, shape in task.encoder.layers.items():
        assert task.encoder(images, layer).shape == (2, *shape), layer


class EndsInNorm(nn.Sequential):
    def __init__(self, in_channels):
        super().__init__()
        self.conv = nn.Conv2d(in_channels, 6, 3, 1, 1)
        self.norm = nn.BatchNorm2d(6)


def test_cpc_takes_encoders_that_end_in_a_norm():
    task = make_task(CPC, encoder=EndsInNorm)
    assert run(task, random_batch(height=12, width=12))["loss"].isfinite()


def test_cpc_layer_norm_keeps_the_activation_of_a_norm_that_has_one():
    layers = pytest.importorskip("timm.layers")

    class NormWithActivation(nn.Sequential):
        def __init__(self, in_channels):
            super().__init__()
            self.conv = nn.Conv2d(in_channels, 6, 3, 1, 1)
            self.norm = layers.BatchNormAct2d(6)  # as in many models of timm
            self.out = nn.Conv2d(6, 6, 1)

    task = make_task(CPC, encoder=NormWithActivation)
    seen = []
    task.encoder.encoder.backbone.out.register_forward_pre_hook(
        lambda _module, args: seen.append(args[0])
    )
    run(task, random_batch(height=12, width=12))
    assert (seen[0] >= 0).all()


# Denoising autoencoder


@every_encoder
@pytest.mark.parametrize("corruption", ["masking", "gaussian", "salt_and_pepper"])
def test_denoising_loss(encoder, corruption):
    images = random_batch()
    task = make_task(
        DenoisingAutoencoder,
        *images.shape[2:],
        encoder=encoder,
        corruption=corruption,
        views=unchanged((12, 10)),
    )
    loss = run(task, images)["loss"].item()
    torch.manual_seed(0)
    corrupted = task.corrupt(images)
    assert not torch.equal(corrupted, images)
    with torch.no_grad():
        output = task.decoder(task.encoder.backbone(standardize(corrupted)), (12, 10)).numpy()
    clean = standardize(images).numpy()
    errors = [(a - b) ** 2 for a, b in zip(output.ravel(), clean.ravel(), strict=True)]
    assert loss == pytest.approx(np.mean(errors), rel=1e-4)


def corrupted(corruption, level):
    """Images without extreme values, and what is made of them."""
    images = 0.2 + 0.6 * random_batch(n=64, height=16, width=16)
    task = make_task(
        DenoisingAutoencoder, 16, 16, corruption=corruption, corruption_level=level
    ).eval()
    torch.manual_seed(0)
    return images, task.corrupt(images)


@pytest.mark.parametrize("level", [0.1, 0.5, 0.8])
@pytest.mark.parametrize("corruption", ["masking", "salt_and_pepper"])
def test_corruption_hits_pixels_in_all_channels(corruption, level):
    images, noisy = corrupted(corruption, level)
    hit = noisy != images
    assert torch.equal(hit.any(1), hit.all(1))
    assert hit.float().mean().item() == pytest.approx(level, abs=0.02)
    shares = hit.float().mean((1, 2, 3))
    assert shares.std() > 0.01  # drawn for each pixel, not a fixed number
    places = hit.any(1)
    assert not torch.equal(places[0], places[1])


def test_masked_pixels_are_the_mean():
    images, noisy = corrupted("masking", 0.5)
    for channel in range(3):
        hit = noisy[:, channel] != images[:, channel]
        assert set(noisy[:, channel][hit].tolist()) == {torch.tensor(MEAN[channel]).item()}


def test_salt_and_pepper_are_1_and_0():
    images, noisy = corrupted("salt_and_pepper", 0.5)
    hit = (noisy != images).any(1)
    values = noisy.permute(0, 2, 3, 1)[hit]  # (hits, 3)
    assert set(values.unique().tolist()) == {0.0, 1.0}
    assert (values == values[:, :1]).all()
    assert values.mean().item() == pytest.approx(0.5, abs=0.03)


@pytest.mark.parametrize("level", [0.1, 0.5, 2.0])
def test_gaussian_noise_is_relative_to_the_images(level):
    images, noisy = corrupted("gaussian", level)
    noise = (noisy - images).double()
    for channel in range(3):
        values = noise[:, channel] / STD[channel]
        assert values.std().item() == pytest.approx(level, rel=0.03)
        assert values.mean().item() == pytest.approx(0, abs=0.03 * level)
    correlation = np.corrcoef(noise[:, 0].flatten(), noise[:, 1].flatten())[0, 1]
    assert abs(correlation) < 0.03


@pytest.mark.parametrize("corruption", ["masking", "gaussian", "salt_and_pepper"])
def test_no_corruption_at_level_0(corruption):
    images, noisy = corrupted(corruption, 0)
    assert torch.equal(images, noisy)


def denoiser(X, **params):
    return small(DenoisingAutoencoder, **{"max_epochs": 0, "precision": "float32", **params}).fit(X)


@pytest.mark.parametrize("dtype", ["uint8", "float32", "float64", "int64"])
@pytest.mark.parametrize("channels", [1, 3])
def test_reconstruct_gives_arrays_like_those_it_gets(dtype, channels):
    X = make_images(12, 9, 7, channels).astype(dtype)
    forms = [X, X.reshape(12, -1)] + ([X[..., 0]] if channels == 1 else [])
    learner = denoiser(X, image_shape=(9, 7))
    for form in forms:
        out = learner.reconstruct(form)
        assert isinstance(out, np.ndarray)
        assert out.dtype == dtype
        assert out.shape == form.shape
        assert not np.array_equal(out, form)
        np.testing.assert_array_equal(out.reshape(X.shape), learner.reconstruct(X))


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32, torch.float64])
@pytest.mark.parametrize("form", ["images", "gray images", "rows", "gray rows"])
def test_reconstruct_gives_tensors_like_those_it_gets(dtype, form):
    X = make_images(12, 9, 7, 1 if "gray" in form else 3).astype(str(dtype).split(".")[1])
    learner = denoiser(X, image_shape=(9, 7))
    expected = torch.from_numpy(learner.reconstruct(X))  # (n, h, w, c)
    tensor = torch.from_numpy(X)
    if "rows" in form:  # as rows of an array, with the channels last
        tensor, expected = tensor.flatten(1), expected.flatten(1)
    elif form == "gray images":
        tensor, expected = tensor[..., 0], expected[..., 0]
    else:
        tensor, expected = tensor.permute(0, 3, 1, 2), expected.permute(0, 3, 1, 2)
    out = learner.reconstruct(tensor)
    assert isinstance(out, torch.Tensor)
    assert out.dtype == dtype
    assert torch.equal(out, expected)


def test_reconstruct_is_the_decoder_in_the_units_of_the_images():
    X = make_images(12, 8, 8).astype(np.float32) * 3 - 40
    learner = denoiser(X)
    low, high = X.min((0, 1, 2)), X.max((0, 1, 2))
    scaled = (X - low) / (high - low)
    mean, std = scaled.mean((0, 1, 2)), scaled.std((0, 1, 2), ddof=1)
    task = learner.net_.module_.task
    inputs = torch.from_numpy(((scaled - mean) / std).transpose(0, 3, 1, 2))
    with torch.no_grad():
        # so that some values leave the range on either side, and are clipped
        task.decoder.head.weight.normal_(0, 3, generator=torch.Generator().manual_seed(0))
        output = task.decoder(task.encoder.backbone(inputs), (8, 8)).numpy()
    values = output.transpose(0, 2, 3, 1) * std + mean
    assert values.min() < -0.01
    assert values.max() > 1.01
    pixels = np.clip(values, 0, 1) * (high - low) + low
    np.testing.assert_allclose(learner.reconstruct(X), pixels, rtol=1e-3, atol=0.05)


def test_training_brings_the_reconstruction_near_the_image():
    X = np.repeat(make_images(4), 8, axis=0)  # few enough to know by heart
    options = {"corruption_level": 0.1, "views": unchanged(8), "lr": 1e-2, "batch_size": 8}

    def error(epochs):
        learner = denoiser(X, max_epochs=epochs, **options)
        return np.abs(learner.reconstruct(X).astype(float) - X).mean()

    before, after = error(0), error(15)
    guess = np.abs(X - X.mean((0, 1, 2))).mean()
    assert after < 0.5 * before
    assert after < 0.7 * guess


# Rotation prediction


@every_encoder
def test_rotation_loss_and_accuracy(encoder):
    images = random_batch(n=5, height=8, width=8)
    task = make_task(RotationPrediction, 8, 8, encoder=encoder, views=unchanged(8))
    terms = run(task, images)

    turned, labels = [], []
    for image in images.numpy():
        for k in range(4):  # counter-clockwise quarter turns of the picture
            turned.append(np.rot90(image.transpose(1, 2, 0), k).transpose(2, 0, 1).copy())
            labels.append(k)
    with torch.no_grad():
        h = embed(task.encoder, torch.from_numpy(np.stack(turned))).numpy()
    logits = h @ task.classifier.weight.detach().numpy().T + task.classifier.bias.detach().numpy()
    losses = [naive_cross_entropy(row, k) for row, k in zip(logits, labels, strict=True)]
    right = [row.argmax() == k for row, k in zip(logits, labels, strict=True)]
    assert terms["loss"].item() == pytest.approx(np.mean(losses), rel=1e-4)
    assert terms["accuracy"].item() == pytest.approx(np.mean(right))
    assert not terms["accuracy"].requires_grad


def test_rotation_turns_one_view_of_an_image(monkeypatch):
    images = random_batch(n=5, height=8, width=8)
    task = make_task(RotationPrediction, 8, 8, views=unchanged(8, flip=0.5))
    seen, embed_turned = [], task.encoder.embed

    def spy(turned):
        seen.append(turned)
        return embed_turned(turned)

    monkeypatch.setattr(task.encoder, "embed", spy)
    run(task, images)
    turned = seen[0].unflatten(0, (4, 5))
    for k in range(4):
        assert torch.equal(turned[k].rot90(-k, (2, 3)), turned[0])
    flipped = [
        torch.equal(view, image.flip(2)) for view, image in zip(turned[0], images, strict=True)
    ]
    assert 0 < sum(flipped) < 5


def test_rotation_is_learned_where_there_is_an_up():
    X = make_images(32)
    X[:, :3] //= 4  # dark at the top
    learner = small(
        RotationPrediction, max_epochs=12, lr=1e-2, batch_size=8, views=unchanged(8)
    ).fit(X)
    assert learner.history_[-1]["accuracy"] > 0.9
    assert learner.history_[-1]["train_loss"] < 0.5 * math.log(4)


@pytest.mark.parametrize(("height", "width"), [(12, 10), (20, 40)])
def test_rotation_makes_views_square(height, width):
    task = make_task(RotationPrediction, height, width)
    images = random_batch(n=3, height=height, width=width)
    view = task.views(images)
    assert view.shape[2] == view.shape[3] <= min(height, width)
    assert run(task, images)["loss"].isfinite()


def test_rotation_refuses_views_that_are_turned():
    with pytest.raises(ValueError, match="rotate=False"):
        make_task(RotationPrediction, views=Views(rotate=True))


def test_rotation_refuses_views_that_are_not_square():
    with pytest.raises(ValueError, match="square"):
        make_task(RotationPrediction, views=Views(size=(8, 6)))


def test_views_that_are_passed_are_not_changed():
    for Learner in (CPC, RotationPrediction):
        views = Views()
        make_task(Learner, views=views)
        assert views.size is None


@pytest.mark.slow
def test_cpc_learns_from_photographs():
    pytest.importorskip("PIL")
    photos = np.stack(load_sample_images().images)  # (2, 427, 640, 3)
    tiles = np.stack(
        [
            photo[r : r + 64, c : c + 64]
            for photo in photos
            for r in range(0, 363, 60)
            for c in range(0, 576, 64)
        ]
    )
    learner = CPC(max_epochs=4, batch_size=32, pool="avg", random_state=0).fit(tiles)
    assert learner.encoder_.grid == (7, 7)
    assert learner.encoder_.patch_size == (16, 16)
    assert learner.transform(tiles).shape == (len(tiles), 128)
    # telling a patch from those of 16 images; at distance 2 each has 2 rows of 4, at 3 one
    chance = (math.log(16 * 8) + math.log(16 * 4)) / 2
    assert learner.history_[-1]["train_loss"] < 0.95 * chance
