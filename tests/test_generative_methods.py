"""Generative tasks against naive versions written from the papers, and peers."""

import math

import numpy as np
import pytest
import torch
from conftest import make_images, random_batch, small
from sklearn.utils import check_random_state
from test_tasks import assert_is, make_task, run, standardize, unchanged
from torch import nn

from sklearn_ssl import (
    Autoencoder,
    BiGAN,
    Colorization,
    ContextEncoder,
    MaskedAutoencoder,
    SplitBrainAutoencoder,
    VariationalAutoencoder,
    all_estimators,
)
from sklearn_ssl.generative import _color
from sklearn_ssl.generative._color import Bins, join_color, lab_to_rgb, rgb_to_lab, split_color
from sklearn_ssl.nn import MapToVector, VectorDecoder, resize_map

SIZE = (12, 10)
SAMPLERS = [BiGAN, VariationalAutoencoder]
REDRAWS = [
    (Learner, name)
    for _, Learner in all_estimators()
    for name in ("reconstruct", "inpaint", "colorize")
    if hasattr(Learner, name)
]
every_redraw = pytest.mark.parametrize(
    ("Learner", "name"), REDRAWS, ids=[f"{Learner.__name__}.{name}" for Learner, name in REDRAWS]
)


def task_and_images(Learner, **params):
    """A task that sees the images themselves, and a decoder that makes different ones of them."""
    task = make_task(Learner, *SIZE, views=unchanged(SIZE), **params)
    for name, p in task.named_parameters():
        if "head" in name and p.ndim == 4:
            nn.init.normal_(p, std=0.1)
    return task, random_batch()


def fitted(Learner, X, **params):
    return small(Learner, **{"max_epochs": 0, "precision": "float32", **params}).fit(X)


def squares(output, target):
    """Of all values, in the order of the images' memory."""
    pairs = zip(output.detach().flatten().tolist(), target.flatten().tolist(), strict=True)
    return [(a - b) ** 2 for a, b in pairs]


def sigmoid(x):
    return 1 / (1 + np.exp(-x.detach().double().numpy()))


# Heads


def test_map_to_vector_and_back():
    features = random_batch(4, 6, 3, 2)
    head = MapToVector((6, 3, 2), 5)
    expected = [head.linear.weight @ image.flatten() + head.linear.bias for image in features]
    torch.testing.assert_close(head(features), torch.stack(expected))
    repeated = features.repeat_interleave(2, 2).repeat_interleave(3, 3)
    torch.testing.assert_close(head(repeated), head(features))  # maps are averaged to its grid

    decoder = VectorDecoder(5, (6, 3, 2), 3, SIZE)
    vector = head(features)
    maps = (vector @ decoder.linear.weight.T + decoder.linear.bias).view(4, 6, 3, 2)
    torch.testing.assert_close(decoder(vector, SIZE), decoder.decoder(maps, SIZE))
    assert decoder(vector, (9, 7)).shape == (4, 3, 9, 7)


def test_maps_are_averaged_or_repeated():
    features = random_batch(2, 3, 6, 4)
    assert resize_map(features, [6, 4]) is features
    small_map = resize_map(features, [3, 2])
    for r in range(3):
        for c in range(2):
            block = features[:, :, 2 * r : 2 * r + 2, 2 * c : 2 * c + 2]
            torch.testing.assert_close(small_map[:, :, r, c], block.mean((2, 3)))
    assert torch.equal(resize_map(small_map, [6, 4])[:, :, ::2, 1::2], small_map)


# Autoencoder, variational autoencoder


def test_autoencoder_loss():
    task, images = task_and_images(Autoencoder, code_dim=7)
    loss = run(task, images)["loss"]
    features = task.encoder.backbone(standardize(images))
    code = features.flatten(1) @ task.code.linear.weight.T + task.code.linear.bias
    assert code.shape == (6, 7)
    output = task.decoder(code, SIZE)
    assert_is(loss, np.mean(squares(output, standardize(images))))


@pytest.mark.parametrize("Learner", [Autoencoder, BiGAN, VariationalAutoencoder])
def test_reconstructions_have_the_size_of_the_views_and_are_enlarged(Learner):
    task = make_task(Learner, *SIZE, views=unchanged((6, 5))).eval()
    images = random_batch()
    with torch.no_grad():
        small_ones = nn.functional.interpolate(images, (6, 5), mode="bilinear", antialias=True)
        pixels = task.encoder.standardize.inverse(task.decoder(task.codes(small_ones), (6, 5)))
        expected = nn.functional.interpolate(pixels, SIZE, mode="bilinear")
        found = task.reconstruct(images)
    assert pixels.std() > 0.01
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("beta", [0.0, 1.0, 4.0])
def test_variational_loss_is_the_evidence_lower_bound(beta):
    task, images = task_and_images(VariationalAutoencoder, latent_dim=5, beta=beta)
    with torch.no_grad():
        task.posterior.linear.weight *= 5
    terms = run(task, images)
    torch.manual_seed(0)
    noise = torch.randn(6, 5)
    mean, log_variance = task.posterior(task.encoder.backbone(standardize(images))).chunk(2, 1)
    posterior = torch.distributions.Normal(mean, log_variance.exp().sqrt())
    prior = torch.distributions.Normal(0.0, 1.0)
    kl = torch.distributions.kl_divergence(posterior, prior).sum(1)
    output = task.decoder(mean + posterior.stddev * noise, SIZE)
    pixels = torch.distributions.Normal(output, 1.0)
    log_likelihood = pixels.log_prob(standardize(images)).flatten(1).sum(1)
    # Kingma and Welling (2014), equation 3, with the weight of Higgins et al. (2017), equation 4
    bound = (log_likelihood - beta * kl).mean()
    values = 3 * 12 * 10
    constant = 0.5 * math.log(2 * math.pi)
    assert_is(terms["loss"], -bound / values - constant)
    assert_is(terms["reconstruction"], -log_likelihood.mean() / values - constant)
    assert_is(terms["kl"], kl.mean())


@pytest.mark.parametrize("Learner", SAMPLERS)
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("scale", [None, 3.0], ids=["uint8", "float"])
def test_samples_look_like_the_images(Learner, channels, scale):
    X = make_images(12, 9, 7, channels)
    X = X if scale is None else X * scale - 40
    learner = fitted(Learner, X[..., 0] if channels == 1 else X)
    made = learner.sample(5, random_state=0)
    assert made.shape == ((5, 9, 7) if channels == 1 else (5, 9, 7, 3))
    assert made.dtype == X.dtype
    low, high = (0, 255) if scale is None else (X.min(), X.max())
    assert low - 1e-3 <= made.min() < made.max() <= high + 1e-3
    assert not np.array_equal(made[0], made[1])
    assert np.array_equal(made, learner.sample(5, random_state=0))
    assert not np.array_equal(made, learner.sample(5, random_state=1))
    state = np.random.RandomState(0)
    assert np.array_equal(made, learner.sample(5, random_state=state))
    assert not np.array_equal(made, learner.sample(5, random_state=state))
    assert learner.sample().shape[0] == 1


@pytest.mark.parametrize("Learner", SAMPLERS)
@pytest.mark.parametrize("random_state", [0, None])
def test_sampling_leaves_global_generators_alone(Learner, random_state):
    learner = fitted(Learner, make_images(12))
    of_numpy = check_random_state(None)  # the global one
    before = torch.get_rng_state(), of_numpy.get_state()
    learner.sample(2, random_state=random_state)
    assert torch.equal(torch.get_rng_state(), before[0])
    for old, new in zip(before[1], of_numpy.get_state(), strict=True):
        assert np.array_equal(old, new)


def test_samples_are_decoded_standard_normal_noise():
    learner = fitted(VariationalAutoencoder, make_images(12), latent_dim=4)
    task, seen = learner.net_.module_.task, []
    task.decoder.register_forward_pre_hook(lambda _module, args: seen.append(args[0]))
    learner.sample(2000, random_state=0)
    assert max(map(len, seen)) < 2000  # a part at a time
    codes = torch.cat(seen)
    assert codes.shape == (2000, 4)
    torch.testing.assert_close(codes.mean(0), torch.zeros(4), atol=0.1, rtol=0)
    torch.testing.assert_close(torch.cov(codes.T), torch.eye(4), atol=0.15, rtol=0)


# Adversaries: context encoder, BiGAN


def naive_context(task, images):
    """Reconstruction error, and what is to be told apart: real images, painted ones."""
    target = standardize(images)
    torch.manual_seed(0)
    holes = task.draw_holes(images)
    features = task.encoder.backbone(target * ~holes)  # the mean is 0
    # Pathak et al. (2016), section 3.1: a linear map from all places to all, channel by channel
    spread = torch.stack(
        [
            torch.stack(
                [place.flatten() @ w for place, w in zip(image, task.spread.weight, strict=True)]
            )
            for image in features
        ]
    ).view_as(features)
    output = task.decoder(torch.einsum("de,nehw->ndhw", task.mix.weight[..., 0, 0], spread), SIZE)
    inside = holes.expand_as(output)
    error = (output - target)[inside].square().mean()  # equation 1
    return error, [target], [torch.where(inside, output, target)]


def naive_bigan(task, images):
    """Error of the images of codes, and what is to be told apart: images with their code,
    noise with its.
    """
    target = standardize(images)
    torch.manual_seed(0)
    noise = torch.randn(6, 5)
    code = task.code(task.encoder.backbone(target))
    # one batch norm for both, unless there is noise only
    images_of = task.decoder(torch.cat([noise, code]) if task.cycle else noise, SIZE)
    error = (images_of[-6:] - target).square().mean()  # Li et al. (2017), cycle
    return error, [target, code], [images_of[:6], noise]


def test_variational_loss_is_finite_for_any_variance():
    task, images = task_and_images(VariationalAutoencoder, latent_dim=2)
    for log_variance in (-1e4, 1e4):
        with torch.no_grad():
            task.posterior.linear.bias[2:] = log_variance
        loss = run(task, images)["loss"]
        loss.backward()
        assert loss.isfinite()
        assert all(p.grad.isfinite().all() for p in task.parameters() if p.grad is not None)


@pytest.mark.parametrize("mask", ["blocks", "center"])
@pytest.mark.parametrize("adversarial", [0.0, 0.3])
def test_context_encoder_loss(mask, adversarial):
    task, images = task_and_images(ContextEncoder, mask=mask, adversarial=adversarial)
    terms = run(task, images)
    reconstruction, real, painted = naive_context(task, images)
    if not adversarial:
        assert terms.keys() == {"loss"}
        assert_is(terms["loss"], reconstruction)
        return
    told_real, told_painted = (
        sigmoid(task.discriminator(*real)),
        sigmoid(task.discriminator(*painted)),
    )
    critic = -np.mean(np.log(told_real)) - np.mean(np.log(1 - told_painted))  # equation 2
    assert_is(terms["reconstruction"], reconstruction)
    assert_is(terms["discriminator"], critic)
    assert_is(terms["loss"], reconstruction + critic - 0.3 * np.mean(np.log(told_painted)))


@pytest.mark.parametrize("cycle", [0.0, 2.0])
def test_bigan_loss(cycle):
    task, images = task_and_images(BiGAN, latent_dim=5, cycle=cycle)
    terms = run(task, images)
    error, real, made = naive_bigan(task, images)
    told_real, told_made = sigmoid(task.discriminator(*real)), sigmoid(task.discriminator(*made))
    # Donahue et al. (2017), equation 3, and for encoder and generator its inverse (section 3.3)
    critic = -np.mean(np.log(told_real)) - np.mean(np.log(1 - told_made))
    deception = -np.mean(np.log(1 - told_real)) - np.mean(np.log(told_made))
    assert_is(terms["discriminator"], critic)
    assert_is(terms["generator"], deception)
    assert_is(terms["loss"], critic + deception + cycle * error.item())
    assert ("cycle" in terms) == bool(cycle)


@pytest.mark.parametrize("Learner", [BiGAN, ContextEncoder])
def test_one_backward_trains_both_players_each_by_its_own_loss(Learner):
    params = {"latent_dim": 5, "cycle": 2.0} if Learner is BiGAN else {"adversarial": 0.3}
    task, images = task_and_images(Learner, **params)
    run(task, images)["loss"].backward()
    error, real, made = (naive_bigan if Learner is BiGAN else naive_context)(task, images)
    told_real, told_made = task.discriminator(*real).sigmoid(), task.discriminator(*made).sigmoid()
    critic_loss = -told_real.log().mean() - (1 - told_made).log().mean()
    if Learner is BiGAN:
        loss = 2 * error - (1 - told_real).log().mean() - told_made.log().mean()
    else:
        loss = error - 0.3 * told_made.log().mean()
    parameters = dict(task.named_parameters())
    critic = {name for name in parameters if name.startswith("discriminator.")}
    for names, objective in ((critic, critic_loss), (parameters.keys() - critic, loss)):
        trained = [parameters[name] for name in sorted(names)]
        expected = torch.autograd.grad(objective, trained, retain_graph=True)
        found = [p.grad for p in trained]
        torch.testing.assert_close(found, list(expected), rtol=1e-3, atol=1e-6)


def test_central_hole():
    holes = make_task(ContextEncoder, mask="center").draw_holes(torch.rand(2, 3, 12, 9))
    expected = torch.zeros(2, 1, 12, 9, dtype=torch.bool)
    expected[:, :, 3:9, 2:7] = True
    assert torch.equal(holes, expected)


def test_random_holes_are_about_a_quarter_and_differ():
    torch.manual_seed(0)
    holes = make_task(ContextEncoder).draw_holes(torch.rand(200, 3, 16, 16))
    assert holes.shape == (200, 1, 16, 16)
    assert 0.2 < holes.float().mean() < 0.32
    assert len({tuple(hole.flatten().tolist()) for hole in holes}) == 200
    assert holes.any(0).float().mean() > 0.95  # anywhere


@pytest.mark.parametrize("each", [False, True])
@pytest.mark.parametrize("dtype", ["uint8", "int64", "float32", "float64"])
def test_inpaint_changes_what_is_masked_and_nothing_else(dtype, each):
    X = make_images(12).astype(dtype)
    X[0] = 250  # brighter than what was fitted
    learner = fitted(ContextEncoder, X[1:])
    mask = np.zeros((12, 8, 8), bool)
    mask[:, 2:5, 3:7] = True
    mask[6:, 1] = each
    given = torch.from_numpy(mask) if each else mask[0]
    painted = learner.inpaint(X, given)
    assert painted.dtype == dtype
    assert np.array_equal(painted[~mask], X[~mask])
    assert (painted[mask] != X[mask]).mean() > 0.8
    hidden = np.where(mask[..., None], 0, X).astype(dtype)
    np.testing.assert_allclose(learner.inpaint(hidden, given)[mask], painted[mask], rtol=1e-4)


@pytest.mark.parametrize("shape", [(8,), (8, 7), (11, 8, 8), (12, 8, 8, 3), (12, 64)])
def test_masks_of_another_shape_are_refused(shape):
    learner = fitted(ContextEncoder, make_images(12))
    with pytest.raises(ValueError, match=r"one mask of \(8, 8\) .* \(12, 8, 8\)"):
        learner.inpaint(make_images(12), np.ones(shape, bool))


# Colors


def test_lab_of_known_colors():
    rgb = [(1, 1, 1), (0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1), (0.5, 0.5, 0.5)]
    # CIE L*a*b* under D65, as tabulated for sRGB
    lab = [(100, 0, 0), (0, 0, 0), (53.24, 80.09, 67.20), (87.73, -86.18, 83.18)]
    lab += [(32.30, 79.19, -107.86), (53.39, 0, 0)]
    found = rgb_to_lab(torch.tensor(rgb, dtype=torch.float32)[..., None, None])
    torch.testing.assert_close(found[..., 0, 0], torch.tensor(lab), atol=0.05, rtol=0)


def test_lab_is_that_of_scikit_image():
    color = pytest.importorskip("skimage.color")
    images = random_batch()
    images[0] *= 0.02  # where the curves are straight
    expected = color.rgb2lab(images.movedim(1, -1).double().numpy())
    torch.testing.assert_close(
        rgb_to_lab(images), torch.from_numpy(expected).movedim(-1, 1).float(), atol=0.05, rtol=0
    )
    back = torch.from_numpy(color.lab2rgb(expected)).movedim(-1, 1).float()
    torch.testing.assert_close(lab_to_rgb(rgb_to_lab(images)), back, atol=1e-3, rtol=0)


def test_lab_in_full_precision_under_autocast():
    images = random_batch()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        lab = rgb_to_lab(images)
        back = lab_to_rgb(rgb_to_lab(images.clone()).float())
    torch.testing.assert_close(lab, rgb_to_lab(images), atol=1e-2, rtol=0)
    torch.testing.assert_close(back, images, atol=1e-3, rtol=0)


@pytest.mark.parametrize("channels", [1, 3, 5])
def test_split_and_join(channels):
    images = random_batch(channels=channels)
    lightness, color = split_color(images)
    assert lightness.shape == (6, 1, 12, 10)
    assert color.shape == (6, 2 if channels == 3 else channels, 12, 10)
    assert 0 <= lightness.min() < lightness.max() <= 1
    assert -1 <= color.min() < color.max() <= 1
    torch.testing.assert_close(
        join_color(lightness, color, images.shape[1]), images, atol=1e-5, rtol=0
    )
    if channels == 5:
        torch.testing.assert_close(lightness[:, 0], images.mean(1))
    gray = torch.full((1, channels, 12, 10), 0.3)
    torch.testing.assert_close(split_color(gray)[1], torch.zeros(1, color.shape[1], 12, 10))


def naive_soft_target(value, centers, spacing):
    """Zhang et al. (2016), section 2.2: five nearest bins, by a Gaussian of half their spacing."""
    distance = [math.dist(value, center) for center in centers]
    target = np.zeros(len(centers))
    for q in np.argsort(distance)[:5]:
        target[q] = np.exp(-(distance[q] ** 2) / (2 * (spacing / 2) ** 2))
    return target / target.sum()


BINS = {  # bins, their spacing: 10 of a*, b* (sigma is 5), a grid of differences, 50 of lightness
    "rgb": (lambda: Bins.of_color(3, 0.7), 10 / 110),
    "five channels": (lambda: Bins.of_color(5, 0.7), 0.1),
    "lightness": (Bins.of_lightness, 1 / 49),
}
every_bins = pytest.mark.parametrize("name", BINS)


def bins_and_maps(name):
    make, spacing = BINS[name]
    bins = make()
    k = bins.centers.shape[1]
    values = random_batch(2, bins.groups * k, 3, 2) * 0.8 - (0.4 if name != "lightness" else 0)
    logits = 3 * torch.randn(
        2, bins.n_logits, 3, 2, generator=torch.Generator().manual_seed(1)
    )  # by group, and bin
    return bins, spacing, values, logits


@every_bins
def test_soft_targets(name):
    bins, spacing, values, _ = bins_and_maps(name)
    values = values.unflatten(1, (bins.groups, -1)).movedim(2, -1).flatten(0, -2)
    expected = [naive_soft_target(v, bins.centers.tolist(), spacing) for v in values.tolist()]
    nearest, near = bins.soften(values)
    found = torch.zeros(len(values), len(bins.centers)).scatter(1, nearest, near)
    np.testing.assert_allclose(found, expected, atol=1e-3)
    nearest, _ = bins.soften(bins.centers)
    assert torch.equal(nearest[:, 0], torch.arange(len(bins.centers)))


@every_bins
def test_loss_of_bins_and_their_shares(name):
    bins, spacing, values, logits = bins_and_maps(name)
    n_bins, k = bins.centers.shape
    with torch.no_grad():
        bins.share.copy_(torch.linspace(1, 9, n_bins) / torch.linspace(1, 9, n_bins).sum())
    share = bins.share.double().numpy()
    rebalance = 0.5 if name == "lightness" else 0.7
    # Zhang et al. (2016), equation 4, where lambda is 1 - rebalance; the mean of w is 1
    w = 1 / (rebalance * share + (1 - rebalance) / n_bins)
    w /= np.sum(share * w)
    losses, targets = [], []
    for g in range(bins.groups):
        for i, r, c in np.ndindex(2, 3, 2):
            value = values[i, g * k : (g + 1) * k, r, c].tolist()
            target = naive_soft_target(value, bins.centers.tolist(), spacing)
            scores = logits[i, g * n_bins : (g + 1) * n_bins, r, c].double().numpy()
            log_p = scores - np.log(np.exp(scores).sum())
            losses.append(w[target.argmax()] * -(target * log_p).sum())  # equation 2
            targets.append(target)
    before = bins.share.clone()
    loss, seen = bins(logits, values)
    assert_is(loss, np.mean(losses))
    assert torch.equal(bins.share, before)
    bins.update(seen)
    expected = 0.99 * share + 0.01 * np.mean(targets, axis=0)
    torch.testing.assert_close(bins.share, torch.from_numpy(expected).float())


@every_bins
def test_loss_of_bins_is_the_same_a_few_images_at_once(name, monkeypatch):
    bins, _, values, logits = bins_and_maps(name)
    logits.requires_grad_()
    results = []
    for at_once in (2**15, 1):  # all rows together, and an image after the other
        monkeypatch.setattr(_color, "_AT_ONCE", at_once)
        loss, seen = bins(logits, values)
        results.append((loss, seen, *torch.autograd.grad(loss, logits)))
    torch.testing.assert_close(*results)


@every_bins
def test_values_of_bins_are_their_annealed_mean(name):
    bins, _, _, logits = bins_and_maps(name)
    found = bins.values(logits)
    n_bins, k = bins.centers.shape
    assert found.shape == (2, bins.groups * k, 3, 2)
    for i, g, r, c in np.ndindex(2, bins.groups, 3, 2):  # equation 5, with its T
        p = np.exp(logits[i, g * n_bins : (g + 1) * n_bins, r, c].double().numpy() / 0.38)
        expected = p / p.sum() @ bins.centers.double().numpy()
        np.testing.assert_allclose(found[i, g * k : (g + 1) * k, r, c], expected, atol=1e-5)


def test_bins_cover_the_colors_and_no_more():
    centers = Bins.of_color(3).centers * 110
    assert torch.equal(centers, (centers / 10).round() * 10)
    assert len(centers.unique(dim=0)) == len(centers)
    _, color = split_color(random_batch(50))
    ab = color.movedim(1, -1).flatten(0, -2) * 110
    nearest = torch.cdist(ab, centers).amin(1)
    assert nearest.max() < 10 / math.sqrt(2) + 3  # few bins are missing at the border
    assert 200 < len(centers) < 330  # Zhang et al. have 313


def test_bins_that_were_never_seen_do_not_weigh_without_bound():
    bins = Bins.of_color(3, rebalance=1.0)
    with torch.no_grad():
        bins.share.zero_()[:2] = 0.5
    logits = torch.zeros(1, bins.n_logits, 1, 1)
    seen, unseen = (bins(logits, bins.centers[i].view(1, 2, 1, 1))[0] for i in (0, -1))
    assert 1 < unseen / seen < 100 * len(bins.centers)


# Colorization, split-brain autoencoder


def pooled(images):
    """Mean of blocks of 2 x 2."""
    return images.unflatten(2, (-1, 2)).unflatten(4, (-1, 2)).mean((3, 5))


@pytest.mark.parametrize("channels", [1, 3, 5])
@pytest.mark.parametrize("Learner", [Colorization, SplitBrainAutoencoder])
def test_color_losses(Learner, channels):
    means = {"mean": (0.4,) * channels, "std": (0.2,) * channels}
    task = make_task(Learner, *SIZE, channels=channels, views=unchanged(SIZE), **means)
    images = random_batch(channels=channels)
    terms = run(task, images)
    lightness, color = split_color(images)
    parts = task.encoder.parts
    maps = parts["lightness"].backbone((lightness - 0.5) / 0.25)
    if Learner is Colorization:
        assert_is(terms["loss"], task.bins(task.decoder(maps, (6, 5)), pooled(color))[0])
        return
    of_color, _ = task.color_bins(task.color_decoder(maps, (6, 5)), pooled(color))
    maps = parts["color"].backbone(color / 0.2)
    of_lightness, _ = task.lightness_bins(task.lightness_decoder(maps, (6, 5)), pooled(lightness))
    assert_is(terms["color"], of_color)
    assert_is(terms["lightness"], of_lightness)
    assert_is(terms["loss"], of_color + of_lightness)


def test_shares_of_colors_are_counted_in_a_fit():
    for Learner, names in (
        (Colorization, ["bins"]),
        (SplitBrainAutoencoder, ["color_bins", "lightness_bins"]),
    ):
        task = fitted(Learner, make_images(), max_epochs=1).net_.module_.task
        for share in (getattr(task, name).share for name in names):
            assert share.max() > 1.05 / len(share)
            assert_is(share.sum(), 1)


def hues_of_one_lightness(n=6):
    """Images (n, 3, 8, 8) with the same L*, and a*, b* that are turned from one to the next."""
    lightness = 50 + 10 * random_batch(1, 1, 8, 8).expand(n, -1, -1, -1)
    angle = torch.linspace(0, 2 * math.pi, n + 1)[:-1].view(n, 1, 1, 1).expand(n, 1, 8, 8)
    images = lab_to_rgb(torch.cat([lightness, 20 * angle.cos(), 20 * angle.sin()], 1))
    images[:, :, 0, :2] = torch.tensor([0.0, 1.0])  # floats are scaled by their range
    return images


def test_colorization_sees_lightness_alone():
    images = hues_of_one_lightness()
    assert (images[0] - images[3]).abs().max() > 0.1
    for Learner, alone in ((Colorization, True), (SplitBrainAutoencoder, False)):
        encoder = make_task(Learner, 8, 8).encoder.eval()
        for layer in encoder.layers:
            maps = encoder(images, layer)
            assert torch.allclose(maps, maps[:1], atol=1e-3) == alone, layer
            lightness = maps.chunk(2, 1)[0] if not alone else maps
            torch.testing.assert_close(
                lightness, lightness[:1].expand_as(lightness), atol=1e-3, rtol=0
            )
    learner = fitted(Colorization, images.movedim(1, -1).numpy())
    features = learner.transform(images)
    np.testing.assert_allclose(features, features[:1].repeat(6, 0), atol=1e-3)


def test_colorize_keeps_lightness_and_paints_what_is_predicted():
    images = hues_of_one_lightness()
    task = make_task(Colorization, 8, 8).eval()
    wanted = torch.tensor([20.0, -10.0]) / 110
    with torch.no_grad():
        task.decoder.head.weight.zero_()
        task.decoder.head.bias.copy_(-100 * (task.bins.centers - wanted).norm(dim=1))
        lab = rgb_to_lab(task.colorize(images))
    lightness, a, b = lab.unbind(1)
    torch.testing.assert_close(lightness[:, 1:], rgb_to_lab(images)[:, 0, 1:], atol=1e-2, rtol=0)
    for found, value in ((a, 20), (b, -10)):
        assert (found - value).abs()[:, 1:].max() < 0.5  # below black and white


# Images back


@every_redraw
@pytest.mark.parametrize("form", ["uint8", "float", "rows", "tensor", "gray", "two channels"])
def test_images_come_back_as_they_came(Learner, name, form):
    X = make_images(12, 8, 8, {"gray": 1, "two channels": 2}.get(form, 3))
    if form == "float":
        X = X.astype(np.float32) / 7 - 3
    elif form == "gray":
        X = X[..., 0].astype(np.float64) / 255
    given = X
    if form == "rows":
        given = X.reshape(12, -1)
    elif form == "tensor":
        given = torch.from_numpy(X).permute(0, 3, 1, 2)
    learner = fitted(Learner, X)
    more = [np.ones((8, 8), bool)] if name == "inpaint" else []
    out = getattr(learner, name)(given, *more)
    assert type(out) is type(given)
    assert out.shape == given.shape
    assert out.dtype == given.dtype
    assert (
        X.min() - 1e-4 <= out.min() <= out.max() <= (255 if X.dtype == np.uint8 else X.max() + 1e-4)
    )
    if form in ("rows", "tensor"):
        images = np.asarray(out if form == "rows" else out.permute(0, 2, 3, 1)).reshape(X.shape)
        assert np.array_equal(images, getattr(learner, name)(X, *more))


def redraw(learner, name, X):
    """What a method makes of X, and how far it is off."""
    mask = np.zeros(X.shape[1:3], bool)
    mask[2:6, 2:6] = True
    out = getattr(learner, name)(X, *([mask] if name == "inpaint" else []))
    return np.abs(out.astype(float) - X).mean()


@pytest.mark.slow
@every_redraw
def test_training_brings_images_nearer(Learner, name):
    X = np.repeat(make_images(4), 8, axis=0)  # few enough to know by heart
    options = {"views": unchanged(8), "lr": 1e-2, "batch_size": 8}
    before, after = (
        redraw(fitted(Learner, X, max_epochs=epochs, **options), name, X) for epochs in (0, 40)
    )
    assert after < 0.7 * before


def test_bigan_reconstructs_after_training_as_well_as_in_it():
    """Batch norm's averages have to suit the images of codes, not only those of noise."""
    X = np.repeat(make_images(4), 8, axis=0)
    options = {"views": unchanged(8), "lr": 1e-2, "batch_size": 8}
    task = fitted(BiGAN, X, max_epochs=25, **options).net_.module_.task
    images = torch.from_numpy(X).permute(0, 3, 1, 2) / 255
    errors = {}
    with torch.no_grad():
        for training in (False, True):
            task.train(training)
            codes = task.codes(images)
            made = task.decode(torch.cat([torch.randn_like(codes), codes]))[len(codes) :]
            errors[training] = (made - task.encoder.standardize(images)).square().mean()
    assert errors[False] < 1.5 * errors[True]


@every_redraw
@pytest.mark.parametrize(
    ("X", "reason"),
    [(None, "Expected 2D array"), (make_images(4, 9), "of the fit")],
    ids=["None", "9"],
)
def test_other_things_than_images_of_the_fit_are_refused(Learner, name, X, reason):
    mask = [np.ones((8, 8), bool)] if name == "inpaint" else []
    with pytest.raises(ValueError, match=reason):
        getattr(fitted(Learner, make_images(12)), name)(X, *mask)


@every_redraw
def test_drawing_makes_no_tensor_on_another_device(Learner, name):
    """On ``meta``, where an operation with a tensor of the CPU fails."""
    task = make_task(Learner).eval().to("meta")
    images = torch.rand(2, 3, 12, 12, device="meta")
    more = [torch.ones(2, 12, 12, dtype=torch.bool, device="meta")] if name == "inpaint" else []
    with torch.no_grad():
        assert getattr(task, name)(images, *more).shape == images.shape


@pytest.mark.parametrize("Learner", SAMPLERS)
def test_sampling_makes_no_tensor_on_another_device(Learner):
    task = make_task(Learner).eval().to("meta")
    with torch.no_grad():
        assert task.sample(3, torch.device("meta")).shape == (3, 3, 12, 12)


def test_patches_of_one_value_are_not_normalized():
    task = make_task(MaskedAutoencoder, 1, 20, channels=1)
    images = random_batch(4, 1, 1, 20)
    target, mean, std = task.targets(images)
    assert task.patch == (1, 1)
    assert target.std() > 0.1
    torch.testing.assert_close(target * std + mean, task.patches(task.encoder.standardize(images)))
