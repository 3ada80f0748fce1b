"""The recipe for random views: one draw per image, and what each parameter does."""

import numpy as np
import pytest
import torch
from conftest import make_images, random_batch, small
from sklearn.base import clone
from torch.testing import assert_close
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as tv

from sklearn_ssl import CPC, DINO, Jigsaw, MultiTask, RotationPrediction, SimCLR, Views
from sklearn_ssl.views import view_size

OFF = {"crop_scale": None, "flip": 0.0, "jitter": None, "gray": 0.0, "blur": 0.0}
ON = {
    "rotate": True,
    "jitter_p": 0.9,
    "gray": 0.3,
    "blur": 0.5,
    "solarize": 0.5,
    "erase": 0.5,
    "noise": 0.1,
}


def alone(size=(12, 10), **params):
    """Views with everything off but ``params``."""
    return Views(**{**OFF, "size": size, **params})


def draw(views, images, view=0, seed=0):
    torch.manual_seed(seed)
    return views(images, view=view)


# One draw per image


@pytest.mark.parametrize(
    ("params", "results"),
    [
        ({"crop_scale": (0.1, 0.9)}, 64),
        ({"flip": 0.5}, 2),
        ({"rotate": True}, 4),
        ({"jitter": (0.5, 0, 0, 0), "jitter_p": 1.0}, 64),
        ({"jitter": (0, 0.5, 0, 0), "jitter_p": 1.0}, 64),
        ({"jitter": (0, 0, 0.5, 0), "jitter_p": 1.0}, 64),
        ({"jitter": (0, 0, 0, 0.5), "jitter_p": 1.0}, 64),
        ({"gray": 0.5}, 2),
        ({"blur": 1.0, "blur_sigma": (0.5, 2.0)}, 64),
        ({"solarize": 0.5}, 2),
        ({"erase": 1.0}, 64),
        ({"noise": 0.2}, 64),
    ],
    ids=str,
)
def test_every_image_has_its_own_draw(params, results):
    image = random_batch(n=1, height=16, width=16)
    got = draw(alone(size=16, **params), image.expand(64, -1, -1, -1))
    got = got.flatten(1)
    alike = torch.cdist(got, got, p=torch.inf) < 1e-4
    distinct = len(alike.unique(dim=0))
    if results < 64:
        assert distinct == results
    else:
        assert distinct > 48  # a few may coincide by chance


@pytest.mark.parametrize(
    ("jitter", "low", "high", "measure"),
    [
        ((0.4, 0, 0, 0), 0.6, 1.4, lambda x: x[:, 0] / 0.3),
        ((1.5, 0, 0, 0), 0.0, 2.5, lambda x: x[:, 0] / 0.3),  # factors are never negative
        ((0, 0, 0.3, 0), 0.7, 1.3, lambda x: (x[:, 0] - x[:, 1]) / 0.2),
        ((0, 0, 0, 0.1), -0.1, 0.1, lambda x: (x[:, 1] - x[:, 2]) / 0.2 / 6),
    ],
)
def test_jitter_is_drawn_from_its_whole_range(jitter, low, high, measure):
    red = torch.tensor([0.3, 0.1, 0.1])[:, None, None].expand(3000, 3, 2, 2)
    factor = measure(draw(alone(size=2, jitter=jitter, jitter_p=1.0), red)[:, :, 0, 0])
    share = (factor - low) / (high - low)
    assert 0 - 1e-4 < share.min() < 0.01
    assert 0.99 < share.max() < 1 + 1e-4
    assert abs(share.mean() - 0.5) < 0.03


@pytest.mark.parametrize("channels", [1, 3, 5])
def test_contrast_is_drawn_from_its_whole_range(channels):
    image = random_batch(n=1, channels=channels) * 0.2 + 0.4
    got = draw(alone(jitter=(0, 0.4, 0, 0), jitter_p=1.0), image.expand(3000, -1, -1, -1))
    factor = got.std((2, 3)).mean(1) / image.std((2, 3)).mean()
    assert 0.6 - 1e-4 < factor.min() < 0.61
    assert 1.39 < factor.max() < 1.4 + 1e-4


def test_deviation_of_the_blur_is_drawn_from_its_whole_range():
    images = torch.zeros(1000, 1, 9, 9)
    images[:, :, 4, 4] = 1
    got = draw(alone(size=9, blur=1.0, blur_sigma=(0.5, 2.0)), images)
    for neighbor in got[:, 0, 4, 5], got[:, 0, 5, 4]:
        sigma = (-0.5 / (neighbor / got[:, 0, 4, 4]).log()).sqrt()
        assert 0.5 - 1e-3 < sigma.min() < 0.52
        assert 1.98 < sigma.max() < 2 + 1e-3


def test_level_of_the_noise_is_drawn_for_each_image():
    got = draw(alone(size=20, noise=0.1), torch.full((300, 3, 20, 20), 0.5))
    level = (got - 0.5).std((1, 2, 3))
    assert level.min() < 0.01
    assert 0.09 < level.max() < 0.11
    assert abs(level.mean() - 0.05) < 0.01


def test_erased_boxes_are_black():
    image = random_batch(n=1, height=30, width=24) * 0.5 + 0.5
    got = draw(alone(size=(30, 24), erase=1.0), image.expand(500, -1, -1, -1))
    erased = (got == 0).all(1)
    assert torch.equal(torch.where(erased[:, None], image, got), image.expand_as(got))
    share = erased.float().mean((1, 2))
    assert 0.01 < share.min() < 0.05
    assert 0.25 < share.max() < 0.36


@pytest.mark.parametrize(
    ("params", "p"),
    [
        ({"flip": 0.5}, 0.5),
        ({"gray": 0.2}, 0.2),
        ({"jitter": (0.4, 0.4, 0.4, 0.1)}, 0.8),
        ({"jitter": (0.4, 0.4, 0.4, 0.1), "jitter_p": 0.3}, 0.3),
        ({"blur": 0.3, "blur_sigma": (1.0, 2.0)}, 0.3),
        ({"solarize": 0.7}, 0.7),
        ({"erase": 0.4}, 0.4),
        ({"rotate": True}, 0.75),
    ],
    ids=str,
)
def test_frequency(params, p):
    images = random_batch(n=4000, height=4, width=4)
    got = draw(alone(size=4, **params), images)
    changed = ((got - images).abs() > 1e-4).flatten(1).any(1).float().mean()
    assert abs(changed - p) < 0.03  # four standard deviations


def test_gray_and_jitter_are_drawn_apart():
    images = random_batch(n=4000, height=4, width=4)
    got = draw(alone(size=4, jitter=(0.4, 0, 0, 0.1), jitter_p=0.5, gray=0.5), images)
    grayed = (got - got.mean(1, keepdim=True)).abs().amax((1, 2, 3)) < 1e-4
    luma = tv.rgb_to_grayscale(images, num_output_channels=3)
    same = (got - torch.where(grayed[:, None, None, None], luma, images)).abs() < 1e-4
    unjittered = same.all(3).all(2).all(1)
    for a in grayed, ~grayed:
        for b in unjittered, ~unjittered:
            assert abs((a & b).float().mean() - 0.25) < 0.03


# Size and identity


@pytest.mark.parametrize("channels", [1, 3, 5])
@pytest.mark.parametrize("size", [(12, 10), [12, 10], None])
def test_identity_with_everything_off(size, channels):
    images = random_batch(channels=channels)
    # without a size: images of up to 16 pixels are not made smaller
    assert torch.equal(alone(size=size)(images), images)


@pytest.mark.parametrize("size", [(5, 4), (9, 30), (24, 20)])
def test_without_a_crop_the_whole_image_is_resized(size):
    images = random_batch()
    assert_close(alone(size=size)(images), tv.resize(images, size), atol=1e-5, rtol=0)
    got = alone(size=size, flip=1.0)(images)
    assert_close(got, tv.resize(images, size).flip(3), atol=1e-5, rtol=0)


def test_crop_keeps_to_its_scale_and_ratio():
    # the ramps show where the corners of a crop are
    rows, columns = torch.meshgrid(torch.arange(80.0), torch.arange(60.0), indexing="ij")
    images = torch.stack([rows / 80, columns / 60]).expand(300, 2, 80, 60)
    got = draw(alone(size=80, crop_scale=(0.2, 0.4), crop_ratio=(1.0, 1.5)), images)
    # away from the border, where the filter is cut off: 61 of 80 pixels
    height = (got[:, 0, -10, 0] - got[:, 0, 9, 0]) * 80 / 61
    width = (got[:, 1, 0, -10] - got[:, 1, 0, 9]) * 80 / 61
    area, ratio = height * width, (width * 60) / (height * 80)
    assert 0.19 < area.min() < 0.22
    assert 0.38 < area.max() < 0.41
    assert 0.97 < ratio.min() < 1.03
    assert 1.45 < ratio.max() < 1.53


@pytest.mark.parametrize("channels", [1, 3, 5])
@pytest.mark.parametrize(
    ("size", "shape"),
    [
        (7, (7, 7)),
        (np.int64(7), (7, 7)),  # as grids of parameters have it
        (20, (20, 20)),
        ((5, 14), (5, 14)),
        ((24, 3), (24, 3)),
        (None, (16, 15)),
    ],
)
def test_size_and_range(size, shape, channels):
    images = random_batch(n=64, channels=channels, height=32, width=15)
    images[0], images[1] = 0, 1
    rotate = shape[0] == shape[1]
    got = draw(Views(**{**ON, "size": size, "rotate": rotate}), images)
    assert got.shape == (64, channels, *shape)
    assert got.dtype == torch.float32
    assert got.min() >= -1e-6  # weights of a filter sum to one but for rounding
    assert got.max() <= 1 + 1e-6
    assert torch.equal(images[2:], random_batch(64, channels, 32, 15)[2:])  # not in place


@pytest.mark.parametrize(
    ("image", "view"),
    [((64, 48), (32, 24)), ((33, 20), (16, 16)), ((8, 40), (8, 20)), ((1, 16), (1, 16))],
)
def test_view_size(image, view):
    assert view_size(image) == view


def test_quarter_turns_need_square_views():
    with pytest.raises(ValueError, match="square"):
        alone(rotate=True)(random_batch())


# Parameters


@pytest.mark.parametrize("channels", [1, 2, 5])
def test_color_is_left_out_for_other_channel_counts(channels):
    images = random_batch(channels=channels)
    assert_close(alone(jitter=(0, 0, 0.9, 0.5), jitter_p=1.0, gray=1.0)(images), images)
    assert_close(alone(gray=1.0)(images), images)
    for jitter in (0.5, 0, 0, 0), (0, 0.5, 0, 0):
        got = alone(jitter=jitter, jitter_p=1.0)(images)
        assert ((got - images).abs().amax((1, 2, 3)) > 1e-4).all()


@pytest.mark.parametrize("off", [None, 0])
@pytest.mark.parametrize("name", ["blur", "erase", "flip", "gray", "jitter_p", "noise", "solarize"])
@pytest.mark.parametrize("channels", [3, 5])
def test_none_and_zero_turn_off(channels, name, off):
    images = random_batch(channels=channels)
    assert_close(alone(**{name: off})(images), images)
    if name == "jitter_p":
        assert_close(alone(jitter=(0.4, 0.4, 0.4, 0.1), jitter_p=off)(images), images)


@pytest.mark.parametrize("pair", [tuple, list])
@pytest.mark.parametrize(
    ("name", "changed"),
    [
        ("solarize", lambda x: torch.where(x >= 0.5, 1 - x, x)),
        ("gray", lambda x: tv.rgb_to_grayscale(x, num_output_channels=3)),
        ("blur", lambda x: tv.gaussian_blur(x, 3, 1.0)),
        ("erase", None),
    ],
)
def test_probabilities_for_each_view(name, changed, pair):
    images = random_batch()
    views = alone(**{name: pair((0.0, 1.0))}, blur_sigma=(1.0, 1.0))
    assert_close(views(images, view=0), images)
    assert_close(views(images, view=2), images)  # they start again
    got = views(images, view=1)
    if changed is None:
        assert (got != images).flatten(1).any(1).all()
    else:
        assert_close(got, changed(images), atol=1e-4, rtol=0)


def test_parameters_make_the_round_trip():
    views = Views(size=24, blur=(1.0, 0.1), crop_scale=None)
    assert clone(views).get_params() == views.get_params()
    assert Views().set_params(**views.get_params()).get_params() == views.get_params()
    assert repr(views) == "Views(blur=(1.0, 0.1), crop_scale=None, size=24)"
    images = random_batch(height=32, width=32)
    assert torch.equal(draw(clone(views), images), draw(views, images))
    assert views.set_params(size=8)(images).shape == (6, 3, 8, 8)


# Randomness and devices


def test_seed_of_torch_makes_the_view():
    images, views = random_batch(), Views(size=8, **ON)
    assert torch.equal(draw(views, images, seed=1), draw(views, images, seed=1))
    assert not torch.equal(draw(views, images, seed=1), draw(views, images, seed=2))


@pytest.mark.parametrize("channels", [1, 3, 5])
def test_autocast_does_not_reach_views(channels):
    images, views = random_batch(channels=channels), Views(size=8, **ON)
    want = draw(views, images)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        got = draw(views, images)
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.bfloat16  # still on
    assert got.dtype == torch.float32
    assert torch.equal(got, want)


@pytest.mark.parametrize("channels", [1, 3, 5])
@pytest.mark.parametrize("params", [{**ON, "size": 8}, {**OFF, "size": (7, 20)}], ids=["on", "off"])
def test_views_run_on_other_devices(params, channels):
    images, views = random_batch(channels=channels), Views(**params)
    got = views(images.to("meta"))
    assert got.is_meta
    assert got.shape == views(images).shape
    assert got.dtype == torch.float32


# Blur by size


@pytest.mark.parametrize("solarize", [0.0, (0.0, 0.0)])
@pytest.mark.parametrize(("side", "share"), [(12, 0), (64, 0), (80, 0.5), (96, 1), (120, 1)])
def test_blur_of_the_papers_depends_on_the_size(side, share, solarize):
    images = random_batch(n=1, height=12, width=12).expand(400, -1, -1, -1)
    views = alone(size=(side, side + 8), solarize=solarize, blur="auto", blur_sigma=(1.0, 1.0))
    unblurred = draw(alone(size=(side, side + 8)), images)
    for view, p in enumerate((1.0, 0.1) if solarize else (0.5, 0.5)):
        got = draw(views, images, view)
        blurred = ((got - unblurred).abs() > 1e-3).flatten(1).any(1).float().mean()
        assert abs(blurred - share * p) < 0.1  # four standard deviations


def test_a_probability_of_blur_holds_for_every_size():
    images = random_batch()
    torch.manual_seed(0)  # a sigma near its smallest changes hardly anything
    assert ((alone(blur=1.0)(images) - images).abs() > 1e-4).flatten(1).any(1).all()


# Functions as views

SEEN = {  # by learners that make their views in ways of their own
    "rotation": (RotationPrediction, {}),
    "jigsaw": (Jigsaw, {"grid": 2}),
    "cpc": (CPC, {"patch_size": 4}),
    "dino": (DINO, {"local_crops": 0}),
    "multi": (
        MultiTask,
        {"learners": [("simclr", SimCLR(), 1.0), ("rotation", RotationPrediction(), 1.0)]},
    ),
}
every_way = pytest.mark.parametrize(("Learner", "params"), SEEN.values(), ids=SEEN)


def darker(images):
    return images * 0.5


def halved(images):
    return images[:, :, ::2, ::2]


def of_view(images, view):
    return images * (1 - 0.5 * view)


TORCHVISION = v2.Compose([v2.RandomHorizontalFlip(), v2.RandomResizedCrop(8, antialias=True)])


@every_way
@pytest.mark.parametrize("views", [darker, halved, of_view, TORCHVISION])
def test_a_function_makes_the_views(Learner, params, views):
    seen = []

    def noted(images, **which):
        seen.append((images.clone(), views(images, **which)))
        return seen[-1][1]

    def noted_of_view(images, view):
        return noted(images, view=view)

    given = noted_of_view if views is of_view else lambda images: noted(images)
    learner = small(Learner, views=given, batch_size=24, **params).fit(make_images())
    assert np.isfinite(learner.history_[-1]["train_loss"])
    of_batches = [(before, after) for before, after in seen if len(before) >= 24]
    assert of_batches
    for before, _ in of_batches:
        assert before.dtype == torch.float32
        assert 0 <= before.min() < before.max() <= 1
    plain = small(Learner, batch_size=24, **params).fit(make_images())
    assert learner.history_[-1]["train_loss"] != plain.history_[-1]["train_loss"]


@every_way
@pytest.mark.parametrize(
    ("views", "found"),
    [
        (lambda images: images[:-1], "tensor of shape"),
        (lambda images: images[:, :1], "tensor of shape"),
        (lambda images: images[0], "tensor of shape"),
        (lambda images: (255 * images).byte(), "tensor of shape .* type torch.uint8"),
        (lambda images: images.numpy(), "ndarray"),
        (lambda images: [images, images], "list"),
        (lambda images: None, "NoneType"),
    ],
)
def test_a_function_that_makes_something_else_is_named(Learner, params, views, found):
    with pytest.raises(
        ValueError, match=rf"views=<function.* returned a {found}.* floats in \[0, 1\]"
    ):
        small(Learner, views=views, **params).fit(make_images(24))


def test_views_that_are_not_square_cannot_be_turned():
    with pytest.raises(ValueError, match="8 x 4 are not square"):
        small(RotationPrediction, views=lambda images: images[..., ::2]).fit(make_images(16))


def test_small_crops_need_a_recipe():
    with pytest.raises(ValueError, match="local_crops=0"):
        small(DINO, views=darker).fit(make_images(16))


def test_parameters_of_views_need_a_recipe():
    with pytest.raises(ValueError, match=r"views__size: views=<function darker.* Views object"):
        SimCLR(views=darker).set_params(views__size=8)
    with pytest.raises(ValueError, match="name__views__size"):
        MultiTask([("a", SimCLR(), 1.0)]).set_params(views__size=8)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
def test_images_of_other_float_types_keep_theirs(dtype):
    images = random_batch().to(dtype)
    views = Views(size=8, blur=1.0, solarize=0.5, erase=0.5, noise=0.1)
    assert views(images).dtype == dtype
