"""Every way to give the same images: arrays, memory maps, tensors, lists and data frames."""

import warnings

import numpy as np
import pytest
import torch
from conftest import make_images, small

import sklearn_ssl.images._pixel_range
import sklearn_ssl.training._loop
from sklearn_ssl import DenoisingAutoencoder, SimCLR
from sklearn_ssl._utils._torch import isolated
from sklearn_ssl.exceptions import ImageShapeWarning, PixelRangeWarning
from sklearn_ssl.images import Form, Images, learn_pixels, read_images
from sklearn_ssl.training import Batches

CPU = torch.device("cpu")


def rows(X):
    return X.reshape(len(X), -1)


def tensor(X):
    return torch.from_numpy(np.ascontiguousarray(X.transpose(0, 3, 1, 2)))


def features(X, **params):
    return small(SimCLR, **params).fit(X).transform(X)


def as_images(X, **options):
    return read_images(X, estimator=SimCLR(), **options)


@pytest.fixture(scope="module")
def of_uint8():
    return features(make_images())


@pytest.fixture(scope="module")
def of_float():
    return features(make_images().astype(np.float32))


# One set of images, many forms


def read_only(X):
    X = X.copy()
    X.flags.writeable = False
    return X


def every_other(X):
    spread = np.zeros((len(X) * 2, *X.shape[1:]), X.dtype)
    spread[::2] = X
    return spread[::2]


def with_margin(X):
    return np.pad(X, ((0, 0), (1, 1), (2, 2), (0, 1)))[:, 1:-1, 2:-2, :-1]


UINT8_FORMS = {
    "array": lambda X: X,
    "rows": rows,
    "read-only": read_only,
    "read-only rows": lambda X: read_only(rows(X)),
    "fortran order": np.asfortranarray,
    "every other image of an array": every_other,
    "cut out of larger images": with_margin,
    "channels first in memory": lambda X: tensor(X).numpy().transpose(0, 2, 3, 1),
    "negative strides": lambda X: X[::-1, ::-1, ::-1, ::-1].copy()[::-1, ::-1, ::-1, ::-1],
    "list of arrays": list,
    "tensor": tensor,
    "tensor, channels last in memory": lambda X: tensor(X).to(memory_format=torch.channels_last),
    "tensor of rows": lambda X: torch.from_numpy(rows(X)),
}


@pytest.mark.parametrize("form", UINT8_FORMS.values(), ids=UINT8_FORMS)
def test_forms_of_uint8_give_the_same_features(images, form, of_uint8):
    np.testing.assert_array_equal(features(form(images)), of_uint8)


# whole numbers up to 255 are exact in all of these
FLOAT_FORMS = {
    "int16": lambda X: X.astype(np.int16),
    "int64": lambda X: X.astype(np.int64),
    "float16": lambda X: X.astype(np.float16),
    "float64": lambda X: X.astype(np.float64),
    "big-endian": lambda X: X.astype(">f4"),
    "objects": lambda X: X.astype(object),
    "nested list": lambda X: X.tolist(),
    "nested list of rows": lambda X: rows(X).tolist(),
    "float32 tensor": lambda X: tensor(X).float(),
    "bfloat16 tensor": lambda X: tensor(X).bfloat16(),
    "int64 tensor": lambda X: tensor(X).long(),
    "tensor with gradient": lambda X: tensor(X).float().requires_grad_(),
}


@pytest.mark.parametrize("form", FLOAT_FORMS.values(), ids=FLOAT_FORMS)
def test_all_types_but_uint8_give_the_same_features(images, form, of_float):
    np.testing.assert_array_equal(features(form(images)), of_float)


@pytest.mark.parametrize("shape", [(6, 10, 3), [6, 10, 3], (6, 10)])
def test_rows_are_images_of_image_shape(shape):
    X = make_images(height=6, width=10)
    ssl = small(SimCLR, image_shape=shape).fit(rows(X))
    assert ssl.image_shape_ == (6, 10, 3)
    np.testing.assert_array_equal(ssl.transform(rows(X)), features(X))
    np.testing.assert_array_equal(ssl.transform(X), features(X))


@pytest.mark.parametrize("shape", [(8, 8), (8, 8, 3)])
def test_image_shape_may_say_what_the_array_says(images, shape, of_uint8):
    np.testing.assert_array_equal(features(images, image_shape=shape), of_uint8)


def test_a_list_of_tensors_is_their_stack(images, of_float):
    X = list(tensor(images).float())
    np.testing.assert_array_equal(features(X), of_float)


def test_gray_images_need_no_channel_dimension():
    X = make_images(channels=1)
    forms = [X, X[..., 0], rows(X), torch.from_numpy(X[..., 0].copy()), tensor(X)]
    for form in forms:
        np.testing.assert_array_equal(features(form), features(X))


@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_data_frame_of_pixels(images, library, of_uint8):
    module = pytest.importorskip(library)
    names = [f"pixel{i}" for i in range(192)]
    frame = module.DataFrame(dict(zip(names, rows(images).T.copy(), strict=True)))
    ssl = small(SimCLR).fit(frame)
    np.testing.assert_array_equal(ssl.transform(frame), of_uint8)
    assert list(ssl.feature_names_in_) == names
    assert ssl.image_shape_ == (8, 8, 3)
    with pytest.raises(ValueError, match="feature names"):
        ssl.transform(frame.rename({"pixel0": "other"}, **rename_columns(library)))
    with pytest.raises(ValueError, match="feature names"):
        ssl.transform(frame[names[::-1]])


def rename_columns(library):
    return {"axis": "columns"} if library == "pandas" else {}


def test_feature_names_are_forgotten_by_a_fit_to_an_array(images):
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(rows(images)).add_prefix("pixel")
    ssl = small(SimCLR).fit(frame).fit(images)
    assert not hasattr(ssl, "feature_names_in_")


# Memory maps


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_read_only_memory_map(images, tmp_path, dtype, of_uint8, of_float):
    np.save(tmp_path / "images.npy", images.astype(dtype))
    X = np.load(tmp_path / "images.npy", mmap_mode="r")
    expected = of_uint8 if dtype == np.uint8 else of_float
    np.testing.assert_array_equal(features(X), expected)
    np.testing.assert_array_equal(features(rows(X)), expected)
    assert np.shares_memory(as_images(X).arrays[0], X)


class RecordingArray:
    """An array that notes which rows are read."""

    def __init__(self, array):
        self.array, self.dtype, self.read = array, array.dtype, []

    def __len__(self):
        return len(self.array)

    def __getitem__(self, wanted):
        self.read.extend(np.asarray(wanted).tolist())
        return self.array[wanted]


def test_take_reads_the_rows_that_are_asked_for(images):
    arrays = RecordingArray(rows(images)[:20]), RecordingArray(rows(images)[20:])
    Images(*arrays, shape=(8, 8, 3)).take(np.array([30, 4, 21]))
    assert arrays[0].read == [4]
    assert arrays[1].read == [10, 1]


def test_fit_never_reads_more_than_a_few_images_at_once(images, monkeypatch):
    sizes = []
    take = Images.take

    def recorded(self, wanted):
        sizes.append(len(wanted))
        return take(self, wanted)

    monkeypatch.setattr(Images, "take", recorded)
    monkeypatch.setattr(sklearn_ssl.images._pixel_range, "_VALUES_AT_ONCE", 10 * 192)
    small(SimCLR, batch_size=12, device="cpu").fit(images)
    assert sizes[:5] == [10, 10, 10, 10, 8]
    assert sizes[5:] == [12] * 4


# Shapes that are guessed


@pytest.mark.parametrize(
    ("n_values", "shape"), [(64, (8, 8, 1)), (192, (8, 8, 3)), (4, (2, 2, 1)), (12, (2, 2, 3))]
)
def test_rows_are_guessed_to_be_squares(n_values, shape):
    X = np.random.default_rng(0).random((16, n_values))
    with warnings.catch_warnings():
        warnings.simplefilter("error", ImageShapeWarning)
        assert as_images(X).shape == shape


@pytest.mark.parametrize("n_values", [1, 3, 60, 128])
def test_other_rows_are_strips_with_a_warning(n_values):
    X = np.random.default_rng(0).random((16, n_values))
    with pytest.warns(ImageShapeWarning, match=rf"strips of shape \(1, {n_values}, 1\).*image_sh"):
        ssl = small(SimCLR).fit(X)
    assert ssl.image_shape_ == (1, n_values, 1)
    with warnings.catch_warnings():
        warnings.simplefilter("error", ImageShapeWarning)
        assert np.isfinite(ssl.transform(X)).all()


@pytest.mark.parametrize("channels", [1, 3])
def test_arrays_with_channels_first_warn(channels):
    X = make_images(channels=channels).transpose(0, 3, 1, 2)
    with pytest.warns(ImageShapeWarning, match=r"last in NumPy.*transpose\(0, 2, 3, 1\)"):
        small(SimCLR).fit(X)


def test_tensors_with_channels_last_warn(images):
    with pytest.warns(ImageShapeWarning, match="channels"):
        small(SimCLR).fit(torch.from_numpy(images))


# Another range of values


def as_floats(X):
    return X.astype(np.float32) / 255


OTHER_RANGES = {
    "uint8, then up to 1": (lambda X: X, as_floats),
    "uint8, then -1 to 1": (lambda X: X, lambda X: as_floats(X) * 2 - 1),
    "uint8, then uint16": (lambda X: X, lambda X: X.astype(np.uint16) * 257),
    "up to 1, then uint8": (as_floats, lambda X: X),
    "up to 1, then up to 255": (as_floats, lambda X: X.astype(np.float32)),
    "up to 255, then up to 1": (lambda X: X.astype(np.float32), as_floats),
    "up to 1, then -1 to 1": (as_floats, lambda X: as_floats(X) * 2 - 1),
    "-1 to 1, then up to 1": (lambda X: as_floats(X) * 2 - 1, as_floats),
    "standardized, then up to 1": (lambda X: (X - X.mean()) / X.std(), as_floats),
    "int16, then uint16": (lambda X: X.astype(np.int16), lambda X: X.astype(np.uint16) * 257),
}


@pytest.mark.parametrize(("first", "second"), OTHER_RANGES.values(), ids=OTHER_RANGES)
def test_another_range_than_that_of_the_fit_warns(images, first, second):
    ssl = small(DenoisingAutoencoder).fit(first(images))
    other = second(images)
    message = f"X has values from .*{other.dtype}.*images of the fit.*{first(images).dtype}"
    for method in (ssl.transform, ssl.score, ssl.reconstruct, ssl.partial_fit):
        with pytest.warns(PixelRangeWarning, match=message):
            method(other)
    ssl.set_params(warm_start=True)
    with pytest.warns(PixelRangeWarning, match=message):
        ssl.fit(other)


@pytest.mark.parametrize("second", [lambda X: X.astype(np.uint16) * 257, lambda X: X * 1e6 + 0.5])
def test_one_image_far_out_of_range_warns(images, second):
    ssl = small(SimCLR).fit(as_floats(images))
    with pytest.warns(PixelRangeWarning):
        ssl.transform(second(images[:1]))


def test_one_image_of_another_type_and_range_warns(images):
    ssl = small(SimCLR).fit(images)
    with pytest.warns(PixelRangeWarning):
        ssl.transform(as_floats(images[:1]))


@pytest.fixture
def no_range_warning():
    with warnings.catch_warnings():
        warnings.simplefilter("error", PixelRangeWarning)
        yield


@pytest.mark.usefixtures("no_range_warning")
@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.float32, np.float64])
@pytest.mark.parametrize(
    "change",
    [
        lambda X: X[:1] // 8,
        lambda X: X[:1] * 0,
        lambda X: X[:1] // 50,
        lambda X: X[:1] * 0 + 255,
        lambda X: 255 - X[:1] // 8,
        lambda X: np.minimum(X[:1] * 2.0, 255),
        lambda X: X[:4],
        lambda X: X[::-1],
        lambda X: X // 2,
        lambda X: 255 - X,
    ],
)
def test_dark_and_bright_images_do_not_warn(images, dtype, change):
    ssl = small(SimCLR, max_epochs=0).fit(images.astype(dtype))
    ssl.transform(change(images).astype(dtype))


@pytest.mark.usefixtures("no_range_warning")
@pytest.mark.parametrize("first", [np.uint8, np.float32, np.int32])
@pytest.mark.parametrize("second", [np.uint8, np.float64, np.int64])
def test_the_same_values_of_another_type_do_not_warn(images, first, second):
    ssl = small(SimCLR).fit(images.astype(first))
    features = ssl.transform(images.astype(first))
    np.testing.assert_array_equal(ssl.transform(images.astype(second)), features)
    ssl.partial_fit(images.astype(second))


@pytest.mark.usefixtures("no_range_warning")
@pytest.mark.parametrize(("n", "n_values"), [(2, 3), (2, 64), (3, 3), (10, 1), (10, 64)])
@pytest.mark.parametrize("mean", [0, 100])
@pytest.mark.filterwarnings("ignore::sklearn_ssl.exceptions.ImageShapeWarning")
def test_tables_do_not_warn(n, n_values, mean):
    rng = np.random.default_rng(0)
    ssl = small(SimCLR, max_epochs=0).fit(rng.normal(mean, 1, (n, n_values)))
    for size in (1, n, 50):
        ssl.transform(rng.normal(mean, 1, (size, n_values)))


def test_features_are_never_nan(images):
    ssl = small(SimCLR, precision="bfloat16").fit(as_floats(images))
    with pytest.raises(ValueError, match=r"NaN or infinite.*values from .* images of the fit"):
        ssl.transform(images.astype(np.float64) * 1e36)


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_a_network_that_gives_nan_says_so(images, dtype):
    ssl = small(SimCLR).fit(images.astype(dtype))
    ssl.encoder_.backbone.conv[0].weight.data.fill_(torch.nan)
    with pytest.raises(ValueError, match="network returns NaN"):
        ssl.transform(images.astype(dtype))


def test_range_warnings_depend_on_no_padding(images):
    """A chunk is filled up with its last image."""
    seen = []
    ssl = small(SimCLR).fit(as_floats(images))
    ssl.net_.module_.pixels.compare = lambda extremes, *_: seen.append(extremes)
    ssl.transform(as_floats(images[:5]))
    pixels = torch.from_numpy(as_floats(images[:5]))
    assert seen[0].n == 5
    scaled = ssl.net_.module_.pixels(pixels.permute(0, 3, 1, 2))
    torch.testing.assert_close(seen[0].highs, scaled.amax((2, 3)).sum(0))


def test_plain_images_do_not_warn(images):
    with warnings.catch_warnings():
        warnings.simplefilter("error", ImageShapeWarning)
        for X in (images, rows(images), tensor(images), images[..., 0]):
            small(SimCLR).fit(X)


# Types and ranges of pixels


@pytest.mark.parametrize(
    ("scale", "shift"), [(5, 3), (1 / 255, 0), (2 / 255, -1), (1, 100), (1e-3, 0), (1e4, -1e5)]
)
def test_features_do_not_depend_on_the_range_of_float_pixels(images, scale, shift, of_float):
    other = features(images.astype(np.float32) * scale + shift)
    np.testing.assert_allclose(other, of_float, atol=0.1)  # another seed is off by 2


def test_channels_may_have_ranges_of_their_own(images, of_float):
    other = features(images * np.array([1.0, 1e-3, 40.0]) + np.array([0.0, 5.0, -100.0]))
    np.testing.assert_allclose(other, of_float, atol=0.1)


@pytest.mark.parametrize("dtype", [bool, np.int8, np.uint16, np.int16, np.int64, np.float16])
def test_other_types_work(images, dtype):
    X = (images > 100) if dtype is bool else (images // 2).astype(dtype)
    result = features(X)
    assert result.dtype == np.float32
    assert np.isfinite(result).all()
    assert result.std(0).max() > 0


def test_bool_is_0_and_1(images):
    X = images > 100
    np.testing.assert_array_equal(features(X), features(X.astype(np.float32)))


def test_uint8_does_not_depend_on_the_values_that_occur(images):
    pixels, _, _ = learn_pixels(as_images(images // 4))
    assert pixels(torch.full((1, 3, 1, 1), 255.0)).unique().tolist() == [1]


def random_pixels(low, high):
    return low + (high - low) * np.random.default_rng(0).random((10, 4, 5, 3))


def learned(X):
    """What is learned of the range of X, X in [0, 1], and X back from there, (n, h, w, c)."""
    images = as_images(X)
    pixels, mean, std = learn_pixels(images)
    values = pixels(images.take(np.arange(len(X))))
    back = pixels.restore(pixels.inverse(values).numpy()).transpose(0, 2, 3, 1)
    np.testing.assert_allclose(mean, values.mean((0, 2, 3)), atol=1e-5)
    np.testing.assert_allclose(std, values.std((0, 2, 3), correction=0), atol=1e-5)
    return pixels, values, back


@pytest.mark.parametrize(("low", "high"), [(0, 1), (-1, 1), (0, 255), (-500, 3000), (99, 101)])
def test_range_of_floats_and_its_inverse(low, high):
    X = random_pixels(low, high)
    _, values, back = learned(X)
    assert values.amin((0, 2, 3)).tolist() == [0, 0, 0]
    assert values.amax((0, 2, 3)).tolist() == [1, 1, 1]
    np.testing.assert_allclose(back, X, rtol=0, atol=1e-6 * max(abs(low), abs(high)))


def test_range_of_uint8_and_its_inverse(images):
    _, values, back = learned(images)
    np.testing.assert_allclose(values.permute(0, 2, 3, 1), images / 255, rtol=1e-6)
    np.testing.assert_allclose(back, images, rtol=1e-6)


@pytest.mark.parametrize("value", [0.0, 3.0, -7.5, 1e9, -1e20])
def test_a_constant_channel_becomes_0(value):
    X = random_pixels(0, 1)
    X[..., 1] = value
    images = as_images(X)
    pixels, _, std = learn_pixels(images)
    values = pixels(images.take(np.arange(10)))
    assert values[:, 1].unique().tolist() == [0]
    assert std[1] == 1
    back = pixels.restore(pixels.inverse(values).numpy()).transpose(0, 2, 3, 1)
    np.testing.assert_allclose(back, X, atol=1e-6, rtol=1e-6)


# More images, unlabeled


@pytest.mark.parametrize("n", [2, 24, 47])
def test_unlabeled_images_are_added(images, n, of_uint8):
    ssl = small(SimCLR).fit(images[:n], X_unlabeled=images[n:])
    np.testing.assert_array_equal(ssl.transform(images), of_uint8)


@pytest.mark.parametrize("form", [rows, tensor, list])
def test_unlabeled_images_may_have_another_form(images, form, of_uint8):
    ssl = small(SimCLR).fit(images[:10], X_unlabeled=form(images[10:]))
    np.testing.assert_array_equal(ssl.transform(images), of_uint8)


def test_unlabeled_images_count_for_the_batch_size(images):
    ssl = small(SimCLR, batch_size=40).fit(images[:24], X_unlabeled=images[24:])
    assert ssl.net_.batch_size == 40


def test_unlabeled_rows_follow_image_shape():
    X = rows(make_images(height=6, width=10))
    ssl = small(SimCLR, image_shape=(6, 10)).fit(X[:24], X_unlabeled=X[24:])
    assert ssl.image_shape_ == (6, 10, 3)


@pytest.mark.parametrize("dtype", [np.float32, np.int64])
def test_unlabeled_images_of_another_range_are_refused(images, dtype):
    other = images.astype(dtype)
    for X, X_unlabeled in [(images, other), (other, images)]:
        with pytest.raises(ValueError, match=rf"{X.dtype} and X_unlabeled {X_unlabeled.dtype}"):
            small(SimCLR).fit(X, X_unlabeled=X_unlabeled)


@pytest.mark.parametrize("scale", [1 / 255, 257.0])
def test_unlabeled_images_of_other_values_warn(images, scale):
    X = images.astype(np.float32)
    for X_labeled in (X, X[:10], X[:2]) if scale > 1 else (X, X[:10]):
        with pytest.warns(PixelRangeWarning, match="X_unlabeled has values from"):
            small(SimCLR, max_epochs=0).fit(X_labeled, X_unlabeled=X * scale)


@pytest.mark.usefixtures("no_range_warning")
@pytest.mark.parametrize("n", [2, 10, 40])
def test_unlabeled_images_of_the_same_range_do_not_warn(images, n):
    X = images / 255
    small(SimCLR, max_epochs=0).fit(X[:n], X_unlabeled=X)
    small(SimCLR, max_epochs=0).fit(X, X_unlabeled=X[:n])


def test_unlabeled_images_of_another_float_type_are_taken(images, of_float):
    ssl = small(SimCLR).fit(images[:20].astype(np.float64), X_unlabeled=images[20:].astype("f2"))
    np.testing.assert_array_equal(ssl.transform(images.astype(np.float32)), of_float)


@pytest.mark.parametrize("other", [{"height": 9}, {"channels": 1}])
def test_unlabeled_images_of_another_shape_are_refused(images, other):
    X_unlabeled = make_images(**other)
    with pytest.raises(ValueError, match="shape") as caught:
        small(SimCLR).fit(images, X_unlabeled=X_unlabeled)
    assert str(images.shape[1:]) in str(caught.value)
    assert str(X_unlabeled.shape[1:]) in str(caught.value)
    with pytest.raises(ValueError, match=f"{X_unlabeled[0].size} features.*192 features"):
        small(SimCLR).fit(images, X_unlabeled=rows(X_unlabeled))


# Images


def counting(*lengths, shape=(2, 2, 1), dtype=np.int64):
    """Images over several arrays; every pixel of the i-th image is i."""
    ends = np.cumsum(lengths)
    arrays = np.split(np.repeat(np.arange(ends[-1], dtype=dtype)[:, None], np.prod(shape), 1), ends)
    return Images(*arrays[:-1], shape=shape)


@pytest.mark.parametrize("lengths", [(12,), (5, 7), (1, 0, 10, 1)])
@pytest.mark.parametrize("dtype", [np.uint8, np.int64])
def test_take_crosses_arrays_in_any_order(lengths, dtype):
    images = counting(*lengths, dtype=dtype)
    wanted = np.array([11, 0, 5, 4, 4, 10, 1])
    taken = images.take(wanted)
    assert len(images) == 12
    assert taken.shape == (7, 1, 2, 2)
    assert taken.dtype == (torch.uint8 if dtype == np.uint8 else torch.float32)
    assert (taken == torch.from_numpy(wanted).view(-1, 1, 1, 1)).all()


def test_take_gives_a_fresh_tensor_with_channels_last_in_memory(images):
    original = images.copy()
    taken = as_images(images).take(np.arange(5))
    np.testing.assert_array_equal(taken.permute(0, 2, 3, 1), images[:5])
    assert taken.is_contiguous(memory_format=torch.channels_last)
    taken.zero_()
    np.testing.assert_array_equal(images, original)


def test_nbytes_is_the_size_of_what_is_given_out(images):
    for X in (images, images.astype(np.float64), images.astype(np.int16)):
        read = as_images(X)
        taken = read.take(np.arange(len(X)))
        assert read.nbytes == taken.nbytes


# Batches


def epoch_of(batches):
    return batches.in_order(batches.draw_order())


@pytest.fixture(params=["streamed", "resident"])
def path(request, monkeypatch):
    monkeypatch.setattr(Batches, "_fits", lambda self: request.param == "resident")
    return request.param


def test_every_image_comes_at_most_once_an_epoch(path):
    batches = Batches(counting(20, 30), 8, CPU)
    assert (batches.resident is not None) == (path == "resident")
    epoch = list(epoch_of(batches))
    assert len(epoch) == len(batches) == 6
    assert {len(index) for _, index in epoch} == {8}
    index = torch.cat([index for _, index in epoch])
    assert len(index.unique()) == 48
    assert ((index >= 0) & (index < 50)).all()


@pytest.mark.usefixtures("path")
def test_the_index_is_that_of_the_images():
    for images, index in epoch_of(Batches(counting(20, 30), 8, CPU)):
        assert (images == index.view(-1, 1, 1, 1)).all()


@pytest.mark.usefixtures("path")
def test_epochs_differ_and_leave_none_out_for_good():
    batches = Batches(counting(50), 8, CPU)
    with isolated(CPU, seed=0):
        epochs = [torch.cat([index for _, index in epoch_of(batches)]) for _ in range(10)]
    assert not torch.equal(epochs[0], epochs[1])
    assert len(torch.cat(epochs).unique()) == 50


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_resident_and_streamed_batches_are_the_same(dtype, monkeypatch):
    epochs = []
    for fits in (True, False):
        monkeypatch.setattr(Batches, "_fits", lambda self, fits=fits: fits)
        with isolated(CPU, seed=0):
            epochs.append(list(epoch_of(Batches(counting(20, 30, dtype=dtype), 8, CPU))))
    for resident, streamed in zip(*epochs, strict=True):
        assert resident[0].dtype == streamed[0].dtype
        assert torch.equal(resident[0], streamed[0])
        assert torch.equal(resident[1], streamed[1])


def test_images_are_moved_in_parts(monkeypatch):
    monkeypatch.setattr(Batches, "_fits", lambda self: True)
    monkeypatch.setattr(sklearn_ssl.training._loop, "_VALUES_MOVED_AT_ONCE", 12)
    sizes, take = [], Images.take
    monkeypatch.setattr(
        Images, "take", lambda self, rows: sizes.append(len(rows)) or take(self, rows)
    )
    images = counting(20)
    assert torch.equal(Batches(images, 8, CPU).resident, take(images, np.arange(20)))
    assert max(sizes) == 3


@pytest.mark.usefixtures("path")
def test_one_batch_of_everything():
    [(images, index)] = epoch_of(Batches(counting(8), 8, CPU))
    assert len(images) == 8
    assert index.sort().values.tolist() == list(range(8))


def test_batches_on_the_meta_device():
    for images, index in epoch_of(Batches(counting(20), 8, torch.device("meta"))):
        assert images.shape == (8, 1, 2, 2)
        assert images.device.type == index.device.type == "meta"


def test_an_error_while_reading_ahead_reaches_the_caller():
    class Broken(RecordingArray):
        def __getitem__(self, wanted):
            raise OSError("disk is gone")

    batches = Batches(Images(Broken(np.zeros((20, 4))), shape=(2, 2, 1)), 8, CPU)
    with pytest.raises(OSError, match="disk is gone"):
        list(epoch_of(batches))


# Back to the form of X

BACK = {
    "uint8": lambda X: X,
    "uint8 rows": rows,
    "uint8 gray": lambda X: X[..., 0],
    "int16": lambda X: X.astype(np.int16) - 100,
    "int16 rows": lambda X: rows(X).astype(np.int16) - 100,
    "float32": lambda X: (X / 255).astype(np.float32),
    "float64": lambda X: X.astype(np.float64),
    "float64 rows": lambda X: rows(X).astype(np.float64),
    "float16": lambda X: X.astype(np.float16),
    "bool": lambda X: X > 100,
    "uint8 tensor": tensor,
    "int16 tensor": lambda X: tensor(X).short() - 100,
    "float32 tensor": lambda X: tensor(X) / 255,
    "bfloat16 tensor": lambda X: tensor(X).bfloat16(),
    "bool tensor": lambda X: tensor(X) > 100,
    "gray tensor": lambda X: torch.from_numpy(X[..., 0].copy()),
    "tensor of rows": lambda X: torch.from_numpy(rows(X)),
}


def noisy_pixels(X, noise):
    """Images of X as float32 (n, c, h, w), a little off."""
    images = as_images(X)
    pixels = images.take(np.arange(len(images))).float().numpy()
    return pixels + np.float32(noise)


def back_like(X, images, **options):
    form = Form(X, as_images(X), **options)
    return form.wrap(form.convert(images))


@pytest.mark.parametrize("form", BACK.values(), ids=BACK)
@pytest.mark.parametrize("noise", [0, 0.3, -0.3])
def test_images_come_back_in_their_form(images, form, noise):
    X = form(images)
    floating = X.is_floating_point() if isinstance(X, torch.Tensor) else X.dtype.kind == "f"
    back = back_like(X, noisy_pixels(X, 0 if floating else noise))  # whole numbers are rounded
    assert type(back) is type(X)
    assert back.dtype == X.dtype
    assert back.shape == X.shape
    assert (back == X).all()


@pytest.mark.parametrize("form", [lambda X: X, tensor], ids=["array", "tensor"])
def test_images_come_back_like_clips_integers(images, form):
    X = form(images)
    assert back_like(X, noisy_pixels(X, 300)).min() == 255
    assert back_like(X, noisy_pixels(X, -300)).max() == 0


@pytest.mark.parametrize("form", [lambda X: X, tensor], ids=["array", "tensor"])
@pytest.mark.parametrize("dtype", [np.int32])
def test_images_come_back_like_keeps_white_white_where_float32_rounds_it_up(images, form, dtype):
    limits = np.iinfo(dtype)
    X = form(np.where(images > 50, limits.max, limits.min).astype(dtype))
    back = back_like(X, noisy_pixels(X, 0))
    np.testing.assert_array_equal(back > 0, X > 0)


@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_images_come_back_like_a_data_frame_are_rows(images, library):
    module = pytest.importorskip(library)
    frame = module.DataFrame({f"pixel{i}": column for i, column in enumerate(rows(images).T)})
    back = back_like(frame, noisy_pixels(frame, 0))
    np.testing.assert_array_equal(back, rows(images))


def test_images_come_back_like_a_nested_list(images):
    X = images.tolist()
    np.testing.assert_array_equal(back_like(X, noisy_pixels(X, 0)), images)


def test_images_come_back_like_a_list_of_tensors(images):
    X = list(tensor(images))
    np.testing.assert_array_equal(back_like(X, noisy_pixels(X, 0)), tensor(images))
