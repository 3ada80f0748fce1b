"""Every image operation against torchvision's, image by image."""

import inspect
import re

import pytest
import torch
from conftest import random_batch
from torch.testing import assert_close
from torchvision.transforms.v2 import functional as tv

from sklearn_ssl.views import functional

FACTORS = [0.0, 0.4, 0.9, 1.0, 1.7, 3.0]  # some of them clip
SHIFTS = [-0.5, -0.23, 0.0, 0.08, 0.37, 0.5]
SIGMAS = [0.1, 0.4, 0.8, 1.3, 2.0, 5.0]
# top, left, height, width in images of 12 x 10 pixels: the whole, one pixel, one row, borders
BOXES = [(0, 0, 12, 10), (11, 9, 1, 1), (4, 0, 1, 10), (2, 3, 7, 5), (0, 4, 12, 6), (5, 0, 6, 9)]
WHICH = torch.tensor([True, False, False, True, True, False])
FACTOR = torch.tensor(FACTORS)

# one call of each operation with tensors: for what holds for all of them
CALLS = {
    "add_noise": {"sigma": FACTOR, "noise": random_batch(seed=1)},
    "adjust_brightness": {"factor": FACTOR},
    "adjust_contrast": {"factor": FACTOR},
    "adjust_hue": {"shift": torch.tensor(SHIFTS)},
    "adjust_saturation": {"factor": FACTOR},
    "color_matrix": {"brightness": FACTOR, "contrast": FACTOR, "saturation": FACTOR},
    "crop_resize": {"boxes": torch.tensor(BOXES) * 1.0, "size": (7, 13), "mirrored": WHICH},
    "erase": {"boxes": torch.tensor(BOXES), "value": 0.3},
    "flip": {"which": WHICH},
    "gaussian_blur": {"sigma": torch.tensor(SIGMAS), "kernel_size": 5},
    "gray": {"which": WHICH},
    "rotate90": {"turns": torch.arange(6)},
    "solarize": {"threshold": FACTOR},
}
DRAWS = {"random_boxes"}
RGB_ONLY = ["adjust_hue", "adjust_saturation", "color_matrix", "gray"]


def test_the_list_of_calls_is_complete():
    assert set(functional.__all__) == set(CALLS) | DRAWS


@pytest.mark.parametrize("name", functional.__all__)
def test_all_operations_are_documented(name):
    function = getattr(functional, name)
    described = re.findall(r"^    (\w[\w, ]*) : ", function.__doc__.split("Returns\n")[0], re.M)
    names = [one for several in described for one in several.split(", ")]
    assert sorted(names) == sorted(inspect.signature(function).parameters)
    assert "\n    Returns\n    -------\n    Tensor" in function.__doc__


def batch_for(name):
    return random_batch(height=10 if name == "rotate90" else 12)


def one_by_one(function, images, *parameters):
    """torchvision's result: RGB at once, other images channel by channel, which it may refuse."""
    out = []
    for image, *values in zip(images, *parameters, strict=True):
        parts = [image] if len(image) == 3 else list(image[:, None])
        out.append(torch.cat([function(part, *values) for part in parts]))
    return torch.stack(out)


# Geometry


@pytest.mark.parametrize("channels", [1, 2, 3, 5])
@pytest.mark.parametrize("antialias", [True, False])
@pytest.mark.parametrize("size", [(5, 4), (3, 24), (12, 10), (30, 7), (25, 33)])
def test_crop_resize(size, antialias, channels):
    images = random_batch(channels=channels)
    want = one_by_one(
        lambda image, box: tv.resized_crop(image, *box, size, antialias=antialias), images, BOXES
    )
    boxes = torch.tensor(BOXES)
    assert_close(
        functional.crop_resize(images, boxes, size, antialias=antialias), want, atol=1e-5, rtol=0
    )
    want[WHICH] = tv.horizontal_flip(want[WHICH])
    got = functional.crop_resize(images, boxes, size, WHICH, antialias)
    assert_close(got, want, atol=1e-5, rtol=0)


FRACTIONAL = torch.tensor([[0.3, 1.6, 7.2, 5.5], [9.1, 0.0, 2.9, 9.9], [4.5, 3.5, 1.0, 1.0]])


@pytest.mark.parametrize("antialias", [True, False])
@pytest.mark.parametrize("size", [(3, 4), (24, 30)])
def test_fractional_boxes(size, antialias):
    constant = torch.tensor([0.2, 0.5, 1.0])[:, None, None, None].expand(3, 2, 12, 10)
    got = functional.crop_resize(constant, FRACTIONAL, size, antialias=antialias)
    assert_close(got, constant[:, :, :1, :1].expand(3, 2, *size))

    images = random_batch(n=3)
    got = functional.crop_resize(images, FRACTIONAL, size, torch.ones(3) > 0, antialias)
    want = functional.crop_resize(images, FRACTIONAL, size, antialias=antialias).flip(3)
    assert_close(got, want, atol=1e-5, rtol=0)

    # nothing jumps where a box crosses the border of a pixel
    whole = torch.tensor([[2.0, 3.0, 8.0, 6.0]]).expand(3, 4)
    got = functional.crop_resize(images, whole + 1e-4, size, antialias=antialias)
    want = functional.crop_resize(images, whole, size, antialias=antialias)
    assert_close(got, want, atol=1e-3, rtol=0)


def test_fractional_boxes_lie_where_they_should():
    rows, columns = torch.meshgrid(torch.arange(12) + 0.5, torch.arange(10) + 0.5, indexing="ij")
    ramps = torch.stack([rows, columns])[None]
    boxes = torch.tensor([[2.3, 1.7, 8.0, 6.0]])
    got = functional.crop_resize(ramps, boxes, (8, 6))[0, :, 1:-1, 1:-1]
    assert_close(got[0], (2.3 + torch.arange(8) + 0.5)[1:-1, None].expand(6, 4))
    assert_close(got[1], (1.7 + torch.arange(6) + 0.5)[1:-1].expand(6, 4))


def test_crop_of_the_whole_image_at_its_size_is_the_identity():
    images = random_batch(channels=5)
    boxes = torch.tensor([0, 0, 12, 10]).expand(6, 4)
    assert_close(functional.crop_resize(images, boxes, (12, 10)), images)


@pytest.mark.parametrize("channels", [1, 2, 3, 5])
def test_flip(channels):
    images = random_batch(channels=channels)
    for dim, function in (3, tv.horizontal_flip), (2, tv.vertical_flip):
        want = torch.where(WHICH[:, None, None, None], function(images), images)
        assert torch.equal(functional.flip(images, WHICH, dim), want)
    assert torch.equal(functional.flip(images, WHICH), functional.flip(images, WHICH, 3))


@pytest.mark.parametrize("side", [9, 10])
@pytest.mark.parametrize("channels", [1, 2, 3, 5])
def test_rotate90(channels, side):
    images = random_batch(channels=channels, height=side, width=side)
    turns = [0, 1, 2, 3, 5, -1]
    want = one_by_one(lambda image, k: tv.rotate(image, 90.0 * k), images, turns)
    assert_close(functional.rotate90(images, torch.tensor(turns)), want)


def test_rotate90_refuses_oblong_images():
    with pytest.raises(ValueError, match=r"square images, not \(12, 10\)"):
        functional.rotate90(random_batch(), torch.arange(6))


# Color


@pytest.mark.parametrize("channels", [1, 2, 3, 5])
@pytest.mark.parametrize("name", ["adjust_brightness", "adjust_contrast"])
def test_brightness_and_contrast(name, channels):
    images = random_batch(channels=channels)
    want = one_by_one(getattr(tv, name), images, FACTORS)
    assert_close(getattr(functional, name)(images, FACTOR), want, atol=1e-5, rtol=0)


def test_saturation():
    images = random_batch()
    want = one_by_one(tv.adjust_saturation, images, FACTORS)
    assert_close(functional.adjust_saturation(images, FACTOR), want, atol=1e-5, rtol=0)


@pytest.mark.parametrize("levels", [1, 2, 255])
def test_hue(levels):
    # few levels give black, white, grays and channels that tie
    images = (random_batch(height=24) * levels).round() / levels
    want = one_by_one(tv.adjust_hue, images, SHIFTS)
    assert_close(functional.adjust_hue(images, torch.tensor(SHIFTS)), want, atol=1e-5, rtol=0)


def test_hue_of_almost_gray_pixels():
    images = 0.5 + random_batch() * 1e-6
    got = functional.adjust_hue(images, torch.tensor(SHIFTS))
    assert_close(got, images, atol=2e-6, rtol=0)


def test_gray():
    images = random_batch()
    want = torch.where(
        WHICH[:, None, None, None], tv.rgb_to_grayscale(images, num_output_channels=3), images
    )
    assert_close(functional.gray(images, WHICH), want)


def test_color_matrix_is_the_three_functions():
    images = 0.4 + 0.2 * random_batch()
    factors = torch.tensor(
        [
            [1.0, 1.0, 1.0],
            [0.8, 1.0, 1.0],
            [1.0, 1.3, 1.0],
            [1.0, 1.0, 0.0],
            [1.1, 0.7, 1.5],
            [0.9, 1.2, 0.4],
        ]
    )

    def composed(image, brightness, contrast, saturation):
        image = tv.adjust_contrast(tv.adjust_brightness(image, brightness), contrast)
        return tv.adjust_saturation(image, saturation)

    want = one_by_one(composed, images, *factors.T.tolist())
    assert 0.05 < want.min() < want.max() < 0.95  # nothing was clipped on the way
    # the weights of the luma sum to 0.9999
    assert_close(functional.color_matrix(images, *factors.T), want, atol=3e-5, rtol=0)


def test_color_matrix_clips():
    images = random_batch()
    got = functional.color_matrix(images, FACTOR, FACTOR, FACTOR)
    assert got.min() == 0
    assert got.max() == 1


@pytest.mark.parametrize("channels", [1, 2, 3, 5])
def test_solarize(channels):
    images = (random_batch(channels=channels) * 10).round() / 10  # some are at the threshold
    thresholds = [0.0, 0.2, 0.5, 0.7, 0.9, 1.0]
    want = one_by_one(tv.solarize, images, torch.tensor(thresholds))
    assert_close(functional.solarize(images, torch.tensor(thresholds)), want)
    assert torch.equal(functional.solarize(images, torch.full((6,), 2.0)), images)


@pytest.mark.parametrize("channels", [1, 2, 4, 5])
@pytest.mark.parametrize("name", RGB_ONLY)
def test_operations_for_rgb_name_the_channels_they_refuse(name, channels):
    with pytest.raises(ValueError, match=f"RGB.* {channels} channel"):
        getattr(functional, name)(random_batch(channels=channels), **CALLS[name])


# Blur, noise, holes


@pytest.mark.parametrize("channels", [1, 2, 3, 5])
@pytest.mark.parametrize("kernel_size", [1, 3, 5, 9])
def test_gaussian_blur(kernel_size, channels):
    images = random_batch(channels=channels)
    want = one_by_one(
        lambda image, sigma: tv.gaussian_blur(image, kernel_size, sigma), images, SIGMAS
    )
    got = functional.gaussian_blur(images, torch.tensor(SIGMAS), kernel_size)
    assert_close(got, want, atol=1e-5, rtol=0)


@pytest.mark.parametrize(("height", "kernel_height"), [(4, 7), (3, 5), (1, 1)])
def test_gaussian_blur_of_images_smaller_than_the_kernel(height, kernel_height):
    images = random_batch(height=height)
    want = one_by_one(
        lambda image, sigma: tv.gaussian_blur(image, [9, kernel_height], sigma), images, SIGMAS
    )
    assert_close(functional.gaussian_blur(images, torch.tensor(SIGMAS), 9), want, atol=1e-5, rtol=0)


def test_gaussian_blur_without_deviation_changes_nothing():
    images = random_batch()
    assert_close(functional.gaussian_blur(images, torch.zeros(6), 5), images)


@pytest.mark.parametrize("kernel_size", [0, 4])
def test_gaussian_blur_refuses_even_kernels(kernel_size):
    with pytest.raises(ValueError, match=f"odd, got {kernel_size}"):
        functional.gaussian_blur(random_batch(), torch.tensor(SIGMAS), kernel_size)


@pytest.mark.parametrize("channels", [1, 2, 3, 5])
def test_add_noise(channels):
    images = random_batch(channels=channels)
    noise = torch.randn(images.shape, generator=torch.Generator().manual_seed(0))
    want = [(image + s * e).clip(0, 1) for image, s, e in zip(images, FACTORS, noise, strict=True)]
    assert_close(functional.add_noise(images, FACTOR, noise), torch.stack(want))


@pytest.mark.parametrize("value", [0.0, 0.3])
@pytest.mark.parametrize("channels", [1, 2, 3, 5])
def test_erase(channels, value):
    images = random_batch(channels=channels)
    want = one_by_one(lambda image, box: tv.erase(image, *box, torch.tensor(value)), images, BOXES)
    assert torch.equal(functional.erase(images, torch.tensor(BOXES), value), want)
    assert torch.equal(functional.erase(images, torch.tensor(BOXES) * 1.0, value), want)


@pytest.mark.parametrize("box", [(2, 3, 0, 4), (2, 3, 4, 0), (0, 0, 0, 0)])
def test_erase_of_an_empty_box_changes_nothing(box):
    images = random_batch()
    assert torch.equal(functional.erase(images, torch.tensor(box).expand(6, 4), 0.3), images)


# Draws


def test_random_boxes_have_the_area_and_ratio_asked_for():
    torch.manual_seed(0)
    boxes = functional.random_boxes(4000, 1000, 1000, (0.1, 0.5), (0.5, 2.0))
    assert boxes.shape == (4000, 4)
    top, left, height, width = boxes.unbind(1)
    area, ratio = height * width / 1e6, width / height
    position = torch.stack([top / (1000 - height), left / (1000 - width)])
    for values, low, high in (area, 0.1, 0.5), (ratio.log2(), -1, 1), (position, 0, 1):
        values = (values - low) / (high - low)
        assert values.min() > -1e-3
        assert values.max() < 1 + 1e-3
        # evenly in between
        assert_close(values.mean(), torch.tensor(0.5), atol=0.02, rtol=0)
        assert_close(values.var(), torch.tensor(1 / 12), atol=0.005, rtol=0)
    # no two of the four go together
    correlation = torch.corrcoef(torch.stack([area, ratio.log(), *position]))
    assert_close(correlation, torch.eye(4), atol=0.07, rtol=0)


def test_random_boxes_have_ratios_of_width_to_height():
    torch.manual_seed(0)
    _, _, height, width = functional.random_boxes(9, 900, 900, (0.2, 0.3), (1.9, 2.1)).unbind(1)
    assert ((width / height - 2).abs() < 0.11).all()


@pytest.mark.parametrize("size", [(12, 10), (3, 200), (200, 1)])
@pytest.mark.parametrize("scale", [(0.001, 0.01), (0.1, 1.0), (1.0, 1.0)])
def test_random_boxes_are_inside_and_no_smaller_than_a_pixel(size, scale):
    torch.manual_seed(0)
    boxes = functional.random_boxes(500, *size, scale, (3 / 4, 4 / 3))
    assert (boxes[:, :2] >= 0).all()
    assert (boxes[:, 2:] >= 1).all()
    assert (boxes[:, :2] + boxes[:, 2:] <= torch.tensor(size) + 1e-4).all()


# What holds for all operations


@pytest.mark.parametrize("name", CALLS)
def test_nothing_is_changed_in_place(name):
    images = batch_for(name)
    arguments = {k: v.clone() if isinstance(v, torch.Tensor) else v for k, v in CALLS[name].items()}
    getattr(functional, name)(images, **arguments)
    assert torch.equal(images, batch_for(name))
    for key, argument in arguments.items():
        if isinstance(argument, torch.Tensor):
            assert torch.equal(argument, CALLS[name][key])


@pytest.mark.parametrize("name", CALLS)
def test_memory_may_have_any_order(name):
    images = batch_for(name)
    want = getattr(functional, name)(images, **CALLS[name])
    channels_last = images.contiguous(memory_format=torch.channels_last)
    assert_close(getattr(functional, name)(channels_last, **CALLS[name]), want)
    turned = images.transpose(2, 3).contiguous().transpose(2, 3)
    assert_close(getattr(functional, name)(turned, **CALLS[name]), want)


@pytest.mark.parametrize("name", CALLS)
def test_operations_run_on_other_devices(name):
    want = getattr(functional, name)(batch_for(name), **CALLS[name])
    arguments = {
        k: v.to("meta") if isinstance(v, torch.Tensor) else v for k, v in CALLS[name].items()
    }
    got = getattr(functional, name)(batch_for(name).to("meta"), **arguments)
    assert got.is_meta
    assert got.shape == want.shape
    assert got.dtype == torch.float32


def test_draws_run_on_other_devices():
    boxes = functional.random_boxes(5, 12, 10, (0.1, 1.0), (0.5, 2.0), "meta")
    assert boxes.is_meta
    assert boxes.shape == (5, 4)
