"""Tasks that predict places, orders, counts and patches, against naive versions and peers."""

import copy
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from conftest import TinyNet, TinyViT, Transpose, make_images, random_batch, small
from test_tasks import (
    assert_is,
    embed,
    make_task,
    naive_cross_entropy,
    naive_patches,
    output_of,
    run,
    shake,
    spy,
    standardize,
    unchanged,
)
from torch import nn

from sklearn_ssl import (
    IJEPA,
    ExemplarCNN,
    Jigsaw,
    LearningToCount,
    MaskedAutoencoder,
    RelativePatchLocation,
)
from sklearn_ssl.encoders import TokenPredictor, at_positions, encode_positions
from sklearn_ssl.predictive._jigsaw import distant_permutations
from sklearn_ssl.views import random_tiles

PATCH_LEARNERS = [MaskedAutoencoder, IJEPA]


def loss_and_accuracy(logits, labels):
    logits = logits.detach().double().numpy()
    losses = [naive_cross_entropy(row, k) for row, k in zip(logits, labels, strict=True)]
    right = [row.argmax() == k for row, k in zip(logits, labels, strict=True)]
    return np.mean(losses), np.mean(right)


# Tiles


@pytest.mark.parametrize(("grid", "tile"), [(1, (12, 6)), (2, (6, 3)), (3, (4, 2))])
def test_tiles_are_slices(grid, tile):
    images = random_batch(width=6)
    tiles = random_tiles(images, grid, tile)
    for i, r, c in np.ndindex(6, grid, grid):
        rows, columns = (slice(k * t, (k + 1) * t) for k, t in zip((r, c), tile, strict=True))
        torch.testing.assert_close(tiles[i, r * grid + c], images[i, :, rows, columns])


@pytest.mark.parametrize("fill", [0.5, 0.75])
def test_tiles_lie_anywhere_in_their_cells(fill):
    rows, columns = torch.meshgrid(torch.arange(24.0), torch.arange(16.0), indexing="ij")
    cells = (rows // 12) * 2 + columns // 8
    torch.manual_seed(0)
    images = torch.stack([cells, rows + 0.5, columns + 0.5]).expand(200, -1, -1, -1)
    tiles = random_tiles(images, 2, (12, 8), fill)
    assert tiles.shape == (200, 4, 3, 12, 8)
    expected = torch.arange(4.0).view(1, 4, 1, 1).expand(200, 4, 12, 8)
    torch.testing.assert_close(tiles[:, :, 0], expected)  # nothing of a neighbor
    for channel, cell in ((1, 12), (2, 8)):
        middle = tiles[:, :, channel].mean((2, 3)) % cell  # of a tile, in its cell
        free = cell * (1 - fill)
        assert (middle - cell / 2).abs().max() < free / 2 + 0.1
        assert middle.std() > 0.8 * free / math.sqrt(12)  # uniform


def test_grids_lie_anywhere_in_the_image():
    rows, columns = torch.meshgrid(torch.arange(24.0), torch.arange(16.0), indexing="ij")
    torch.manual_seed(0)
    images = torch.stack([rows + 0.5, columns + 0.5]).expand(500, -1, -1, -1)
    tiles = random_tiles(images, 2, (12, 8), span=0.5).mean((3, 4))  # the middles of the tiles
    for channel, side in ((0, 24), (1, 16)):
        first, last = tiles[:, 0, channel], tiles[:, 3, channel]
        whole = 2 * (last - first) / side
        assert 0.5 <= whole.min() < 0.52
        assert 0.98 < whole.max() <= 1
        middle = (first + last) / 2 / side
        assert (middle - whole / 2).min() > -0.01
        assert (middle + whole / 2).max() < 1.01
        small = whole < 0.55
        assert middle[small].min() < 0.32
        assert middle[small].max() > 0.68


# Relative patch location


def test_relative_patch_loss_asks_for_eight_places():
    images = random_batch(n=3, height=12, width=9)
    options = {"fill": 1.0, "span": 1.0, "hidden_dim": 11, "views": unchanged((4, 3))}
    task = make_task(RelativePatchLocation, 12, 9, **options)
    with torch.no_grad():
        task.classifier[-1].weight *= 5
    terms = run(task, images)
    cut = [images[:, :, 4 * r : 4 * r + 4, 3 * c : 3 * c + 3] for r in range(3) for c in range(3)]
    z = embed(task.encoder, torch.cat(cut)).unflatten(0, (3, 3, 3))  # row, column, image
    pairs, places = [], []
    # Doersch et al. (2015), figure 2
    around = [(-1, -1), (-1, 0), (-1, 1), (0, -1), (0, 1), (1, -1), (1, 0), (1, 1)]
    for i in range(3):
        for place, (down, right) in enumerate(around):
            pairs.append(torch.cat([z[1, 1, i], z[1 + down, 1 + right, i]]))
            places.append(place)
    loss, accuracy = loss_and_accuracy(task.classifier(torch.stack(pairs)), places)
    assert_is(terms["loss"], loss)
    assert_is(terms["accuracy"], accuracy)


def test_relative_patches_are_changed_each_on_its_own(monkeypatch):
    task = make_task(RelativePatchLocation, fill=1.0, span=1.0, views=unchanged(4, flip=0.5))
    images = random_batch(height=12, width=12)
    seen = []
    monkeypatch.setattr(task.encoder, "embed", lambda x: seen.append(x) or torch.rand(len(x), 16))
    run(task, images)
    flips = [
        torch.equal(tile, original.flip(2))
        for tile, original in zip(
            seen[0],
            [cut for x in images for row in naive_patches(x, 4, 4) for cut in row],
            strict=True,
        )
    ]
    assert 15 < sum(flips) < 40


def test_relative_patches_lie_anywhere(monkeypatch):
    task = make_task(RelativePatchLocation, fill=1.0, span=0.5, views=unchanged(4))
    seen = []
    monkeypatch.setattr(task.encoder, "embed", lambda x: seen.append(x) or torch.rand(len(x), 16))
    run(task, random_batch(n=1, height=12, width=12).expand(8, -1, -1, -1))
    first = seen[0].unflatten(0, (8, 9))[:, 0]
    assert len({tuple(patch.flatten().tolist()) for patch in first}) == 8


# Jigsaw


def test_jigsaw_loss_of_tiles_put_in_the_order_of_the_label(monkeypatch):
    images = random_batch(n=5, height=12, width=12)
    task = make_task(Jigsaw, fill=1.0, tile_dim=4, hidden_dim=11, views=unchanged(12))
    labels = spy(monkeypatch, "randint")
    terms = run(task, images)
    (labels,) = labels
    puzzles = []
    assert len(labels) == 4 * 5  # each image in four orders
    for image, label in zip([*images] * 4, labels, strict=True):
        tiles = [cut for row in naive_patches(image, 4, 4) for cut in row]
        tiles = [(t - t.mean()) / (t.std(correction=0) + 1e-2) for t in tiles]
        puzzles.append(torch.stack([tiles[k] for k in task.permutations[label]]))
    features = task.encoder.backbone(torch.cat(puzzles)).mean((2, 3))
    codes = task.tile_code(features).view(4 * 5, 9 * 4)
    loss, accuracy = loss_and_accuracy(task.classifier(codes), labels.tolist())
    assert_is(terms["loss"], loss)
    assert_is(terms["accuracy"], accuracy)


def test_jigsaw_tiles_have_the_same_statistics(monkeypatch):
    task = make_task(Jigsaw, views=unchanged(12))
    seen = []
    monkeypatch.setattr(task.encoder, "embed", lambda x: seen.append(x) or torch.rand(len(x), 16))
    run(task, random_batch(height=12, width=12) * torch.tensor([1, 0.5, 0.3]).view(3, 1, 1))
    tiles = standardize(seen[0]).flatten(1)
    assert tiles.mean(1).abs().max() < 1e-4
    assert ((tiles.std(1) > 0.85) & (tiles.std(1) < 1.01)).all()


def hamming(first, second):
    return sum(a != b for a, b in zip(first, second, strict=True))


def test_each_permutation_is_the_farthest_from_those_before():
    every = np.array(np.meshgrid(*[range(4)] * 4)).reshape(4, -1).T
    every = [tuple(p) for p in every.tolist() if len(set(p)) == 4]
    chosen = [tuple(p) for p in distant_permutations(24, 4).tolist()]
    assert sorted(chosen) == sorted(every)
    for n in range(1, 24):  # Noroozi and Favaro (2016), algorithm 1
        distances = {
            p: sum(hamming(p, q) for q in chosen[:n]) for p in every if p not in chosen[:n]
        }
        assert distances[chosen[n]] == max(distances.values())


def test_permutations_are_distinct_and_far_from_each_other():
    permutations = distant_permutations(100, 9)
    assert len(np.unique(permutations, axis=0)) == 100
    assert (np.sort(permutations, axis=1) == np.arange(9)).all()
    distances = [hamming(p, q) for i, p in enumerate(permutations) for q in permutations[:i]]
    assert np.mean(distances) > 8.05  # 8 at random
    assert np.array_equal(permutations, distant_permutations(100, 9))
    assert make_task(Jigsaw, grid=2).permutations.shape == (24, 4)  # no more than there are
    assert make_task(Jigsaw, n_permutations=7).classifier[-1].out_features == 7


# Exemplar-CNN


@pytest.mark.parametrize("margin", [0.0, 0.5])
def test_exemplar_triplet_loss(margin):
    images = random_batch()
    views = unchanged((12, 10), solarize=(1.0, 0.0))
    task = make_task(ExemplarCNN, 12, 10, views=views, projection_dim=5, margin=margin)
    loss = run(task, images)["loss"]
    both = torch.cat([torch.where(images >= 0.5, 1 - images, images), images])
    with torch.no_grad():
        z = (embed(task.encoder, both) @ task.projector.weight.T).double().numpy()
    first, second = np.split(z / np.linalg.norm(z, axis=1, keepdims=True), 2)
    losses = []
    for i in range(6):
        own = ((first[i] - second[i]) ** 2).sum()
        for j in set(range(6)) - {i}:
            other = ((first[i] - second[j]) ** 2).sum()
            losses.append(np.log(1 + np.exp(own - other + margin)))  # a soft hinge
    assert_is(loss, np.mean(losses))


def test_exemplar_softmax_loss():
    images, index = random_batch(), torch.tensor([40, 3, 0, 7, 47, 8])
    task = make_task(ExemplarCNN, 12, 10, loss="softmax", views=unchanged((12, 10)))
    loss = task(images, index).loss
    logits = embed(task.encoder, images) @ task.classifier.weight.T + task.classifier.bias
    assert logits.shape == (6, 48)
    assert_is(loss, loss_and_accuracy(logits, index.tolist())[0])  # equation 4


def test_diet_loss():
    """Cross entropy with the share of 0.8 spread over all images (Ibrahim et al., 2024)."""
    views = unchanged((12, 10))
    task = make_task(ExemplarCNN, 12, 10, loss="softmax", label_smoothing=0.8, views=views)
    images, index = random_batch(), torch.tensor([3, 1, 4, 1, 5, 9])
    with torch.no_grad():
        logits = task.classifier(embed(task.encoder, images)).double().numpy()
    log_p = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    smooth = np.full_like(log_p, 0.8 / log_p.shape[1])
    smooth[np.arange(6), index] += 0.2
    assert_is(task(images, index).loss, -(smooth * log_p).sum(1).mean())


def test_exemplar_classes_belong_to_images():
    X = make_images()
    learner = small(ExemplarCNN, loss="softmax", warm_start=True).fit(X)
    with pytest.raises(ValueError, match=r"ExemplarCNN stores .* 48; .* not 40"):
        learner.fit(X[:40])
    with pytest.raises(ValueError, match="stores"):
        learner.partial_fit(X[:40])
    assert learner.fit(X).n_epochs_ == 2
    small(ExemplarCNN, warm_start=True).fit(X).fit(X[:40])  # a triplet has no classes


# Learning to count


@pytest.mark.parametrize("margin", [0.0, 0.5, 1000.0])
def test_counting_loss(margin):
    images = random_batch(n=4)
    task = make_task(
        LearningToCount, 12, 10, margin=margin, hidden_dim=9, count_dim=5, views=unchanged((12, 10))
    )
    terms = run(task, images)
    whole = F.interpolate(images, (6, 5), mode="bilinear", antialias=True)
    tiles = [images[:, :, r : r + 6, c : c + 5] for r in (0, 6) for c in (0, 5)]
    counts = task.counter(embed(task.encoder, torch.cat([whole, *tiles]))).detach()
    assert counts.min() == 0
    counts = counts.double().view(5, 4, 5).numpy()
    losses = []
    for i in range(4):  # Noroozi et al. (2017), equation 3, x is image i and y the one before
        parts = sum(counts[1 + tile, i] for tile in range(4))
        own, other = (((counts[0, j] - parts) ** 2).sum() for j in (i, i - 1))
        losses.append(own + max(0, margin - other))
    assert_is(terms["loss"], np.mean(losses))
    assert_is(terms["count"], counts[0].mean())


# Patches: what masked autoencoder and I-JEPA share


def places(*rows):
    return torch.tensor(rows)


def test_only_some_patches_are_computed():
    encoder = make_task(MaskedAutoencoder, 8, 8).encoder
    images, where = random_batch(2, height=8, width=8), places([15, 3, 4], [0, 1, 6])
    entered = []
    encoder.backbone.block.register_forward_pre_hook(lambda _, args: entered.append(args[0]))
    tokens = encode_positions(encoder, images, where)
    assert [x.shape for x in entered] == [(2, 3, 16)]
    embedded = encoder.backbone.patches(standardize(images))
    for i in range(2):
        alone = torch.stack([embedded[i, k] for k in where[i]])
        torch.testing.assert_close(tokens[i], encoder.backbone.block(alone[None])[0])
        for k in set(range(16)) - set(where[i].tolist()):
            r, c = 2 * (k // 4), 2 * (k % 4)
            images[i, :, r : r + 2, c : c + 2] = 0
    assert torch.equal(encode_positions(encoder, images, where), tokens)  # others do not matter
    every = torch.arange(16).expand(2, -1)
    expected = encoder(images).flatten(2).transpose(1, 2)
    torch.testing.assert_close(encode_positions(encoder, images, every), expected)


def test_tokens_at_places_are_those_of_lightly():
    utils = pytest.importorskip("lightly.models.utils")
    tokens, where = random_batch(2, 1, 6, 3)[:, 0], places([5, 0], [2, 2])
    assert torch.equal(at_positions(tokens, where), utils.apply_masks(tokens, where))


def test_predictor_is_that_of_lightly():
    peers = pytest.importorskip("lightly.models.modules.ijepa_timm")
    ours = TokenPredictor(6, 64, 6, 2, (4, 4))
    shake(ours)
    theirs = peers.IJEPAPredictorTIMM(16, 2, 6, 64, 2, norm_layer=nn.LayerNorm)
    names = {"qkv": "attn.qkv", "proj.": "attn.proj.", "fc": "mlp.fc"}
    state = {"decoder.mask_token": ours.missing.data.view(1, 1, -1)}
    # the code of a place is half for its row and half for its column, there the other way round
    state["decoder.pos_embed"] = ours.position_codes.roll(32, 1)[None]
    torch.testing.assert_close(theirs.decoder.pos_embed.data, state["decoder.pos_embed"])
    state["decoder.pos_embed"] = ours.position_codes[None]
    parts = {"enter": "predictor_embed", "blocks": "decoder.blocks"}
    parts |= {"leave.0": "decoder.norm", "leave.1": "predictor_proj"}
    for part, name in parts.items():
        for key, value in ours.get_submodule(part).state_dict().items():
            for old, new in names.items():
                key = key.replace(old, new)
            state[f"{name}.{key}"] = value
    theirs.load_state_dict(state)
    tokens = random_batch(3, 1, 5, 6)[:, 0]
    seen = torch.stack([torch.randperm(16)[:5] for _ in range(3)])
    wanted = [torch.stack([torch.randperm(16)[:4] for _ in range(3)]) for _ in range(2)]
    expected = theirs(tokens, [seen], wanted).unflatten(0, (2, 3))
    for block, prediction in zip(wanted, expected, strict=True):
        torch.testing.assert_close(ours(tokens, seen, block), prediction, rtol=1e-3, atol=1e-4)


class ClassToken(nn.Module):
    def forward(self, x):
        return torch.cat([x[:, :1], x], dim=1)


class WithClassToken(TinyViT):
    def __init__(self, in_channels, image_shape):
        super().__init__(in_channels, image_shape)
        self.patches.append(ClassToken())


class OnlyPatches(nn.Sequential):
    def __init__(self, in_channels):
        super().__init__()
        self.patches = nn.Sequential(nn.Conv2d(in_channels, 4, 2, 2), nn.Flatten(2), Transpose())


NO_TRANSFORMERS = [TinyNet, "small_resnet", WithClassToken, OnlyPatches]


@pytest.mark.parametrize("encoder", NO_TRANSFORMERS)
@pytest.mark.parametrize("Learner", PATCH_LEARNERS)
def test_encoders_that_are_no_transformers_are_refused(Learner, encoder):
    learner = Learner(encoder=encoder, max_epochs=1)
    with pytest.raises(ValueError, match=rf"{Learner.__name__} .*encoder='small_vit'"):
        learner.fit(make_images(12))
    assert not hasattr(learner, "net_")


# Masked autoencoder


def masked_task(size=(8, 8), **params):
    task = make_task(MaskedAutoencoder, *size, views=unchanged(size), decoder_dim=32, **params)
    return task, random_batch(height=size[0], width=size[1])


def predict(predictor, tokens, seen, wanted):
    """Predictions for one image, from tokens at places."""
    known = [
        predictor.enter(t) + predictor.position_codes[k] for t, k in zip(tokens, seen, strict=True)
    ]
    asked = [predictor.missing + predictor.position_codes[k] for k in wanted]
    out = predictor.blocks(torch.stack(known + asked)[None])[0]
    return predictor.leave(out[len(known) :])


@pytest.mark.parametrize("normalize_pixels", [True, False])
def test_masked_autoencoder_loss(monkeypatch, normalize_pixels):
    task, images = masked_task((8, 6), normalize_pixels=normalize_pixels)
    draws = spy(monkeypatch, "rand")
    loss = run(task, images)["loss"]
    errors = []
    for image, draw in zip(images, draws[0], strict=True):
        order = sorted(range(12), key=draw.tolist().__getitem__)
        visible, hidden = order[:3], order[3:]
        embedded = task.encoder.backbone.patches(standardize(image[None]))[0]
        tokens = task.encoder.backbone.block(embedded[visible][None])[0]
        output = predict(task.decoder, tokens, visible, hidden)
        cut = [p.flatten() for row in naive_patches(standardize(image[None])[0], 2, 2) for p in row]
        for k, found in zip(hidden, output, strict=True):
            target = cut[k].double().numpy()
            if normalize_pixels:  # He et al. (2022), section 3
                target = (target - target.mean()) / np.sqrt(target.var() + 1e-6)
            errors += [(a - b) ** 2 for a, b in zip(found.tolist(), target, strict=True)]
    assert_is(loss, np.mean(errors))


@pytest.mark.parametrize(
    ("ratio", "visible"), [(0.01, 15), (0.25, 12), (0.5, 8), (0.75, 4), (0.9, 2), (0.99, 1)]
)
def test_mask_ratio_is_exact(ratio, visible):
    task, images = masked_task(mask_ratio=ratio)
    entered, asked = [], []
    task.encoder.backbone.block.register_forward_pre_hook(lambda _, args: entered.append(args[0]))
    task.decoder.register_forward_pre_hook(lambda _, args: asked.append(args[1:]))
    run(task, images)
    assert entered[0].shape[1] == visible
    for seen, hidden in zip(*asked[0], strict=True):
        assert sorted(seen.tolist() + hidden.tolist()) == list(range(16))
    assert len({tuple(sorted(seen.tolist())) for seen in asked[0][0]}) > 1


def test_patches_and_their_targets_are_those_of_lightly():
    task, images = masked_task()
    patches = task.patches(images)
    cut = [p.flatten() for row in naive_patches(images[0], 2, 2) for p in row]
    assert torch.equal(patches[0], torch.stack(cut))
    assert torch.equal(task.images(patches), images)
    target, mean, std = task.targets(images)
    torch.testing.assert_close(task.images(target * std + mean), standardize(images))

    utils = pytest.importorskip("lightly.models.utils")
    theirs = utils.patchify(standardize(images), 2)  # with the channels last
    normed = utils.normalize_mean_var(theirs) * math.sqrt(12 / 11)  # by the unbiased variance
    ours = target.unflatten(2, (3, 4)).transpose(2, 3).flatten(2)
    torch.testing.assert_close(ours, normed, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("size", [(8, 8), (9, 7)])  # the second is no multiple of the patch
def test_patches_that_do_not_cover_the_image(size):
    learner = small(MaskedAutoencoder).fit(make_images(12, *size))
    assert learner.reconstruct(make_images(12, *size)).shape == (12, *size, 3)
    assert learner.net_.module_.task.patches(torch.rand(2, 3, *size)).shape[1:] == (
        size[0] // 2 * (size[1] // 2),
        12,
    )


@pytest.mark.parametrize("ratio", [0.25, 0.4, 0.5, 0.6, 0.75, 0.9])
def test_reconstruct_predicts_every_patch_from_others(ratio):
    task, images = masked_task(mask_ratio=ratio)
    task.eval()
    seen = []
    task.decoder.register_forward_pre_hook(lambda _, args: seen.append(args[1:]))
    task.decoder.register_forward_hook(lambda _module, _args, out: torch.ones_like(out))
    with torch.no_grad():
        output = task.reconstruct(images)
        _, mean, std = task.targets(images)
    for visible, hidden in seen:
        assert visible.shape[1] == task.n_visible
        assert not set(visible[0].tolist()) & set(hidden[0].tolist())
    pixels = task.images((mean + std).expand(-1, -1, 12))
    torch.testing.assert_close(output, task.encoder.standardize.inverse(pixels))


# I-JEPA


def ijepa_task(**params):
    options = {"n_targets": 2, "predictor_dim": 32, "predictor_depth": 1, **params}
    task = make_task(IJEPA, 8, 8, views=unchanged(8), **options)
    shake(task.target_encoder)
    return task, random_batch(height=8, width=8)


def test_ijepa_loss():
    task, images = ijepa_task(variance=0.7, covariance=0.3)
    terms = run(task, images)
    torch.manual_seed(0)
    blocks = task.draw_blocks(6, images.device)
    context = task.draw_context(blocks)
    losses, context_tokens = [], []
    for image, image_blocks, seen in zip(images, blocks, context, strict=True):
        x = standardize(image[None])
        with torch.no_grad():  # the moving average sees the whole image
            target = task.target_encoder.module.backbone(x)[0].double().numpy()
        embedded = task.encoder.backbone.patches(x)[0]
        tokens = task.encoder.backbone.block(embedded[seen][None])[0]
        context_tokens += tokens.tolist()
        for block in image_blocks.tolist():
            output = predict(task.predictor, tokens, seen.tolist(), block)
            for k, found in zip(block, output.tolist(), strict=True):
                wanted = (target[k] - target[k].mean()) / np.sqrt(target[k].var() + 1e-5)
                for a, b in zip(found, wanted, strict=True):
                    d = abs(a - b)
                    losses.append(0.5 * d**2 if d < 1 else d - 0.5)
    covariances = np.cov(np.transpose(context_tokens))
    deviations = np.sqrt(np.diag(covariances) + 1e-4)
    variance = np.mean([max(0, 1 - deviation) for deviation in deviations])
    apart = covariances[~np.eye(len(covariances), dtype=bool)]
    covariance = np.sum(apart**2) / len(covariances)
    assert_is(terms["prediction"], np.mean(losses))
    assert_is(terms["variance"], variance)
    assert_is(terms["covariance"], covariance)
    assert_is(terms["loss"], np.mean(losses) + 0.7 * variance + 0.3 * covariance)


@pytest.mark.parametrize(("size", "scale", "n_targets"), [((8, 8), 0.17, 2), ((16, 12), 0.1, 4)])
def test_blocks_are_rectangles_apart_from_the_context(size, scale, n_targets):
    task = make_task(IJEPA, *size, target_scale=scale, n_targets=n_targets)
    rows, columns = (side // 2 for side in size)
    height, width = (round(side * math.sqrt(scale)) for side in (rows, columns))
    torch.manual_seed(0)
    blocks = task.draw_blocks(300, torch.device("cpu"))
    context = task.draw_context(blocks)
    assert blocks.shape == (300, n_targets, height * width)
    assert context.shape == (300, rows * columns - n_targets * height * width)
    corners = set()
    for image_blocks, seen in zip(blocks.tolist(), context.tolist(), strict=True):
        for block in image_blocks:
            top, left = divmod(block[0], columns)
            corners.add((top, left))
            assert block == [
                r * columns + c for r in range(top, top + height) for c in range(left, left + width)
            ]
            assert not set(block) & set(seen)
        assert len(set(seen)) == len(seen)
        assert set(seen) <= set(range(rows * columns))
    anywhere = {(r, c) for r in range(rows - height + 1) for c in range(columns - width + 1)}
    assert corners == anywhere  # and all of them inside of the grid


@pytest.mark.parametrize("progress", [0.0, 0.3, 1.0])
def test_ijepa_targets_follow_and_get_no_gradient(progress):
    task, images = ijepa_task(momentum=0.8)
    output = output_of(task, images)
    output.loss.backward()
    assert all(p.grad is None and not p.requires_grad for p in task.target_encoder.parameters())
    assert all(p.grad is not None for p in task.encoder.parameters())
    before = copy.deepcopy(task)
    task.after_step(output, progress)
    momentum = 1 - 0.2 * (math.cos(math.pi * progress) + 1) / 2
    for name, p in task.target_encoder.module.named_parameters():
        old, new = (x.get_parameter(name) for x in (before.target_encoder.module, before.encoder))
        torch.testing.assert_close(p, momentum * old + (1 - momentum) * new)
    fresh = make_task(IJEPA, 8, 8)
    torch.testing.assert_close(fresh.target_encoder(images), fresh.encoder(images))
