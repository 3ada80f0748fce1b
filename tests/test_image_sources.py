"""Images from outside of NumPy, in other orders and ranges: read right, or refused by name."""

import datetime
import decimal
import itertools
import tracemalloc
import warnings

import numpy as np
import pytest
import torch
from conftest import make_images, small
from PIL import Image
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

from sklearn_ssl import (
    BiGAN,
    Colorization,
    ContextEncoder,
    DenoisingAutoencoder,
    SimCLR,
    VariationalAutoencoder,
    Views,
)
from sklearn_ssl.exceptions import ImageShapeWarning


def rows(X):
    return X.reshape(len(X), -1)


def planes(X):
    return np.ascontiguousarray(X.transpose(0, 3, 1, 2))


def tensor(X):
    return torch.from_numpy(planes(X))


def features(X, **params):
    return small(SimCLR, **params).fit(X).transform(X)


@pytest.fixture(scope="module")
def of_uint8():
    return features(make_images())


@pytest.fixture
def no_warning():
    with warnings.catch_warnings():
        warnings.simplefilter("error", ImageShapeWarning)
        yield


# The range that is learned


def test_the_range_is_that_of_all_images(images):
    """Frames of which every second one is dark."""
    X = np.concatenate([images] * 300).astype(np.float32) / 255
    X[::2] /= 100
    pixels = small(SimCLR, max_epochs=0).fit(X).net_.module_.pixels
    values = pixels(torch.from_numpy(X).permute(0, 3, 1, 2))
    assert values.min() == 0
    assert values.max() == 1


def traced(function):
    """Bytes at the peak beyond those before, of what NumPy and Python allocate."""
    tracemalloc.start()
    try:
        function()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("scale", [1e5, 1e6, 1e8, -1e8])
def test_large_offsets_lose_nothing(images, scale):
    X = images.astype(np.float64) / 255
    ssl, moved = (small(DenoisingAutoencoder).fit(X + offset) for offset in (0, scale))
    np.testing.assert_allclose(moved.transform(X + scale), ssl.transform(X), atol=0.05)
    back = moved.reconstruct(X + scale)
    assert back.dtype == np.float64
    np.testing.assert_allclose(back - scale, ssl.reconstruct(X), atol=0.02)
    np.testing.assert_allclose(moved.score(X + scale), ssl.score(X), rtol=0.05)


@pytest.mark.parametrize("dtype", [np.int32, np.uint32, np.int64])
def test_large_offsets_of_integers(images, dtype):
    X = images.astype(dtype)
    offset = dtype(2**30)
    np.testing.assert_allclose(features(X + offset), features(X), atol=0.05)


def test_large_offsets_in_a_continued_fit(images):
    X = images / 255
    ssl, moved = (small(SimCLR).partial_fit(X + offset) for offset in (0, 1e8))
    ssl.partial_fit(X)
    moved.partial_fit(X + 1e8)
    np.testing.assert_allclose(moved.transform(X + 1e8), ssl.transform(X), atol=0.05)


def test_samples_have_the_offset_of_the_images(images):
    X = images[:12] / 255 + 1e8
    made = small(VariationalAutoencoder).fit(X).sample(3, random_state=0)
    assert made.dtype == np.float64
    assert X.min() <= made.min() < made.max() <= X.max()


def test_uint8_after_floats_with_an_offset(images):
    ssl = small(SimCLR).fit(images + 1e6)
    with pytest.warns(UserWarning, match="X has values from"):
        assert np.isfinite(ssl.transform(images)).all()


# Order of channels


@pytest.mark.parametrize("channels", [1, 2, 3, 4, 8, 13])
def test_arrays_with_channels_first_warn(channels):
    X = planes(make_images(24, 16, 16, channels))
    with pytest.warns(ImageShapeWarning, match=r"last in NumPy.*channel_order='first'.*transpose"):
        ssl = small(SimCLR, max_epochs=0).fit(X)
    assert ssl.image_shape_ == X.shape[1:]


@pytest.mark.parametrize("channels", [1, 2, 3, 4, 8, 13])
def test_tensors_with_channels_last_warn(channels):
    X = torch.from_numpy(make_images(24, 16, 16, channels))
    with pytest.warns(ImageShapeWarning, match=r"first in torch.*channel_order='last'.*permute"):
        small(SimCLR, max_epochs=0).fit(X)


@pytest.mark.parametrize("form", [lambda X: X, tensor], ids=["array", "tensor"])
@pytest.mark.parametrize("shape", [(16, 16, 13), (8, 8, 8), (24, 20, 30), (1, 100, 6), (3, 5, 1)])
@pytest.mark.usefixtures("no_warning")
def test_other_shapes_do_not_warn(form, shape):
    small(SimCLR, max_epochs=0).fit(form(make_images(12, *shape)))


FIRST = {
    "array": planes,
    "tensor": tensor,
    "rows": lambda X: rows(planes(X)),
    "tensor of rows": lambda X: torch.from_numpy(rows(planes(X))),
    "list": lambda X: list(planes(X)),
}
LAST = {
    "array": lambda X: X,
    "tensor": torch.from_numpy,
    "rows": rows,
    "list of tensors": lambda X: list(torch.from_numpy(X)),
}
ORDERS = [("first", form) for form in FIRST.values()] + [("last", form) for form in LAST.values()]


@pytest.mark.parametrize(("order", "form"), ORDERS, ids=[*FIRST, *LAST])
@pytest.mark.usefixtures("no_warning")
def test_channel_order_settles_it(images, order, form, of_uint8):
    np.testing.assert_array_equal(features(form(images), channel_order=order), of_uint8)
    wide = make_images(height=6)
    ssl = small(SimCLR, channel_order=order, image_shape=(6, 8)).fit(form(wide))
    assert ssl.image_shape_ == (6, 8, 3)
    np.testing.assert_array_equal(ssl.transform(form(wide)), features(wide))


@pytest.mark.parametrize(("order", "form"), ORDERS, ids=[*FIRST, *LAST])
def test_images_come_back_in_the_order_of_x(order, form):
    X = make_images(12)
    given = form(X)
    expected = small(DenoisingAutoencoder).fit(X).reconstruct(X)
    ssl = small(DenoisingAutoencoder, channel_order=order).fit(given)
    back = ssl.reconstruct(given)
    np.testing.assert_array_equal(np.asarray(back), np.asarray(form(expected)))
    mask = np.zeros((8, 8), bool)
    mask[2:5, 1:7] = True
    ssl = small(ContextEncoder, channel_order=order, max_epochs=0).fit(given)
    painted = np.asarray(ssl.inpaint(given, mask))
    expected = small(ContextEncoder, max_epochs=0).fit(X).inpaint(X, mask)
    np.testing.assert_array_equal(painted, np.asarray(form(expected)))
    np.testing.assert_array_equal(expected[:, ~mask], X[:, ~mask])
    assert (expected[:, mask] != X[:, mask]).any()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float8_e5m2, torch.int16, torch.bool])
def test_inpainting_tensors_keeps_the_rest(images, dtype):
    X = tensor(images // 8).to(dtype)
    mask = np.eye(8, dtype=bool)
    painted = small(ContextEncoder, max_epochs=0).fit(X).inpaint(X, mask)
    assert painted.dtype == dtype
    kept = torch.from_numpy(~mask)
    assert torch.equal(painted.float()[..., kept], X.float()[..., kept])


def test_channel_order_of_gray_images_does_not_matter(images):
    X = images[..., 0]
    for order in ("first", "last"):
        np.testing.assert_array_equal(features(X, channel_order=order), features(X))


def test_channel_order_is_checked_and_cannot_change(images):
    with pytest.raises(ValueError, match=r"'channel_order'.*'first'"):
        small(SimCLR, channel_order="middle").fit(images)
    ssl = small(SimCLR).partial_fit(images)
    with pytest.raises(ValueError, match="channel_order changed"):
        ssl.set_params(channel_order="last").partial_fit(images)


# Rows that are planes


def photographs(n=24, side=16, seed=0):
    """Smooth images of three channels that go together, with some noise."""
    rng = np.random.default_rng(seed)
    waves = rng.normal(size=(n, 3, 4, 2))
    y, x = np.mgrid[:side, :side] / side * np.pi
    light = sum(
        waves[:, None, None, 0, k] * np.cos((k + 1) * y)[..., None]
        + waves[:, None, None, 1, k] * np.cos((k + 1) * x)[..., None]
        for k in range(2)
    ).mean(-1, keepdims=True)
    color = waves[:, None, None, 2, :3, 0] * 0.3
    X = light + color + rng.normal(0, 0.05, (n, side, side, 3))
    return ((X - X.min()) / np.ptp(X) * 255).astype(np.uint8)


PLANES_OF_ROWS = {
    "photographs": photographs,
    "blobs": make_images,
    "gray photographs": lambda: np.repeat(photographs()[..., :1], 3, axis=3),
    "floats": lambda: photographs() / 255,
    "four channels": lambda: np.concatenate([photographs(), photographs()[..., :1]], axis=3),
}


@pytest.mark.parametrize("make", PLANES_OF_ROWS.values(), ids=PLANES_OF_ROWS)
def test_rows_of_planes_are_noticed(make):
    X = make()
    ssl = small(SimCLR, image_shape=X.shape[1:], max_epochs=0)
    with pytest.warns(ImageShapeWarning, match="look like planes.*channel_order='first'"):
        ssl.fit(rows(planes(X)))
    with pytest.warns(ImageShapeWarning, match="look like planes"):
        ssl.transform(rows(planes(X)))
    with pytest.warns(ImageShapeWarning, match="look like planes"):
        ssl.fit(X, X_unlabeled=rows(planes(X)))


@pytest.mark.usefixtures("no_warning")
@pytest.mark.parametrize("make", PLANES_OF_ROWS.values(), ids=PLANES_OF_ROWS)
def test_rows_of_pixels_are_not_taken_for_planes(make):
    X = make()
    small(SimCLR, image_shape=X.shape[1:], max_epochs=0).fit(rows(X)).transform(rows(X))


@pytest.mark.usefixtures("no_warning")
@pytest.mark.parametrize(
    "X",
    [
        np.random.default_rng(0).random((24, 192)),
        np.random.default_rng(0).normal(size=(2, 3072)),
        np.random.default_rng(0).integers(0, 2, (8, 192)),
        np.zeros((24, 192)),
        np.repeat(np.arange(24.0)[:, None], 192, axis=1),
        np.random.default_rng(0).normal(size=(4, 12)),
    ],
    ids=["uniform", "normal", "bits", "zeros", "constant images", "table"],
)
def test_other_rows_are_not_taken_for_planes(X):
    small(SimCLR, max_epochs=0).fit(X)


@pytest.mark.usefixtures("no_warning")
def test_real_rows_of_pixels_are_not_taken_for_planes():
    from sklearn.datasets import load_digits, load_sample_images

    small(SimCLR, max_epochs=0).fit(load_digits().data)
    for image in load_sample_images().images:
        tiles = image[:416, :640].reshape(13, 32, 20, 32, 3).swapaxes(1, 2).reshape(-1, 32, 32, 3)
        small(SimCLR, max_epochs=0, batch_size=2).fit(rows(tiles))
        with pytest.warns(ImageShapeWarning, match="look like planes"):
            small(SimCLR, max_epochs=0, batch_size=2).fit(rows(planes(tiles)))


# Arrays that are not in memory


class OnDisk:
    """What the libraries have in common: shape, dtype, slices; whatever is read is noted."""

    def __init__(self, array):
        self.array, self.shape, self.dtype, self.ndim = array, array.shape, array.dtype, array.ndim
        self.read = []

    def __getitem__(self, wanted):
        part = self.array[wanted]
        self.read.append(len(part))
        return part

    def __array__(self, *args, **kwargs):
        raise AssertionError("read as a whole")


NUMBER = itertools.count()  # of a file


def of_h5py(X, folder):
    h5py = pytest.importorskip("h5py")
    file = h5py.File(folder / f"{next(NUMBER)}.h5", "w")
    return file.create_dataset("images", data=X, chunks=(5, *X.shape[1:]))


def of_zarr(X, folder):
    zarr = pytest.importorskip("zarr")
    array = zarr.open(str(folder / f"{next(NUMBER)}.zarr"), mode="w", shape=X.shape, dtype=X.dtype)
    array[:] = X
    return array


def of_xarray(X, folder):
    xarray = pytest.importorskip("xarray")
    return xarray.DataArray(X, dims=[f"dim{i}" for i in range(X.ndim)])


SOURCES = {
    "h5py": of_h5py,
    "zarr": of_zarr,
    "xarray": of_xarray,
    "any": lambda X, folder: OnDisk(X),
}

every_source = pytest.mark.parametrize("store", SOURCES.values(), ids=SOURCES)


@every_source
@pytest.mark.parametrize("form", [lambda X: X, rows], ids=["images", "rows"])
def test_stored_arrays_are_read(images, store, form, tmp_path, of_uint8):
    X = store(form(images), tmp_path)
    ssl = small(SimCLR).fit(X)
    assert ssl.n_features_in_ == 192
    np.testing.assert_array_equal(ssl.transform(X), of_uint8)
    np.testing.assert_array_equal(ssl.transform(images), of_uint8)
    ssl = small(SimCLR).fit(images[:20], X_unlabeled=store(form(images[20:]), tmp_path))
    np.testing.assert_array_equal(ssl.transform(X), of_uint8)


@every_source
def test_stored_arrays_of_planes_and_of_floats(images, store, tmp_path, of_uint8):
    ssl = small(SimCLR, channel_order="first")
    X = store(planes(images), tmp_path)
    np.testing.assert_array_equal(ssl.fit(X).transform(X), of_uint8)
    floats = images.astype(np.float64)
    expected = features(floats)
    X = store(floats, tmp_path)
    np.testing.assert_array_equal(small(SimCLR).fit(X).transform(X), expected)


@every_source
def test_images_come_back_from_stored_arrays(images, store, tmp_path):
    X = store(images, tmp_path)
    mask = np.eye(8, dtype=bool)
    for Learner, name, more in [
        (DenoisingAutoencoder, "reconstruct", ()),
        (ContextEncoder, "inpaint", (mask,)),
    ]:
        ssl = small(Learner).fit(X)
        back = getattr(ssl, name)(X, *more)
        assert isinstance(back, np.ndarray)
        np.testing.assert_array_equal(back, getattr(ssl, name)(images, *more))


def test_stored_arrays_are_never_read_whole(images):
    X = OnDisk(np.concatenate([images] * 40))
    ssl = small(SimCLR, batch_size=16).fit(X)
    ssl.transform(X)
    assert max(X.read) <= 2**18 // 64


@every_source
@pytest.mark.parametrize("value", [np.nan, np.inf, 1e300])
def test_stored_arrays_are_checked_as_they_are_read(images, store, value, tmp_path):
    X = images.astype(np.float64)
    good = store(X, tmp_path)
    ssl = small(SimCLR).fit(good)
    X[30, 2, 3, 1] = value
    bad = store(X, tmp_path)
    message = "NaN" if np.isnan(value) else "infinity|too large"
    for use in (ssl.transform, ssl.partial_fit, ssl.score, small(SimCLR).fit):
        with pytest.raises(ValueError, match=message):
            use(bad)


def test_stored_arrays_of_other_things_are_refused(images):
    ssl = small(SimCLR).fit(images)
    for X, message in [
        (images.astype(str), "numeric"),
        (images.astype("M8[s]"), "datetime64"),
        (images + 1j, "Complex"),
        (images[:0], "0 sample"),
        (images[:, :7], r"\(7, 8, 3\)"),
        (rows(images)[:, :100], "100 features.*192 features"),
    ]:
        with pytest.raises(ValueError, match=message):
            ssl.transform(OnDisk(X))


def test_a_transposed_memory_map_is_not_copied(tmp_path):
    X = np.lib.format.open_memmap(tmp_path / "a.npy", "w+", np.float32, (2000, 3, 24, 24))
    X[:] = np.random.default_rng(0).random((1, 3, 24, 24))
    ssl = small(SimCLR, max_epochs=0).fit(make_images(12, 24, 24) / np.float32(255))
    for whole in (X, X.astype(np.float64)):
        for view in (whole.transpose(0, 2, 3, 1), whole[:, ::-1].transpose(0, 2, 3, 1)):
            assert traced(lambda view=view: ssl.transform(view)) < X.nbytes / 2
            learner = small(SimCLR, max_epochs=0)
            assert traced(lambda view=view, ssl=learner: ssl.fit(view)) < X.nbytes / 2


def test_tensors_with_channels_first_are_not_copied():
    X = torch.rand(2000, 3, 24, 24)
    for of_one_kind in (X, X.to(memory_format=torch.channels_last)):
        learner = small(SimCLR, max_epochs=0)
        assert traced(lambda X=of_one_kind, ssl=learner: ssl.fit(X).transform(X)) < X.nbytes / 2


# Masked arrays


def test_masked_arrays(images, of_uint8):
    free = np.ma.masked_array(images)
    np.testing.assert_array_equal(features(free), of_uint8)
    masked = np.ma.masked_array(images, images > 200, fill_value=255)
    assert masked.mask.any()
    ssl = small(SimCLR).fit(images)
    for X in (masked, rows(masked), list(masked), OnDisk(masked)):
        for use in (ssl.transform, small(SimCLR).fit):
            with pytest.raises(ValueError, match=r"masked.*X\.filled"):
                use(X)


# What is no number


def column_of(images, library, values, **options):
    """A data frame of pixels, with one column of other values."""
    module = pytest.importorskip(library)
    frame = {f"pixel{i}": column for i, column in enumerate(rows(images[:, :2, :2]).T)}
    if library == "pyarrow":
        return module.table(frame | {"pixel3": module.array(values, **options)})
    make = module.Series if library == "polars" else module.array
    if library == "polars":
        options = {"strict": False}
    return module.DataFrame(frame | {"pixel3": make(values, **options)})


N = 48
BOOLS = [None, *[True, False] * 24][:N]
DECIMALS = [None, *[decimal.Decimal("1.5")] * N][:N]
DATES = [datetime.datetime(2020, 1, 1 + i % 20) for i in range(N)]
TIMES = [datetime.timedelta(i) for i in range(N)]


@pytest.mark.parametrize(
    ("library", "values", "options"),
    [
        ("polars", BOOLS, {}),
        ("polars", DECIMALS, {}),
        ("pandas", BOOLS, {"dtype": "bool[pyarrow]"}),
        ("pandas", BOOLS, {"dtype": "boolean"}),
        ("pandas", [None, *range(N)][:N], {"dtype": "Int64"}),
        ("pyarrow", BOOLS, {}),
        ("pyarrow", DECIMALS, {}),
    ],
)
def test_nulls_are_refused(images, library, values, options):
    pytest.importorskip("pyarrow")
    X = column_of(images, library, values, **options)
    for use in (small(SimCLR).fit, small(SimCLR).partial_fit):
        with pytest.raises(ValueError, match="NaN"):
            use(X)
    good = column_of(images, library, [values[1]] * N, **options)
    ssl = small(SimCLR).fit(good)
    assert np.isfinite(ssl.transform(good)).all()
    with pytest.raises(ValueError, match="NaN"):
        ssl.transform(X)


@pytest.mark.parametrize("values", [BOOLS, DECIMALS], ids=["bools", "decimals"])
def test_nulls_are_refused_by_the_name_of_their_column(values):
    polars = pytest.importorskip("polars")
    X = polars.DataFrame({"pixel0": values[1:], "pixel1": values[:-1], "pixel2": values[1:]})
    with pytest.raises(ValueError, match=r"NaN or null in 1 columns.*'pixel1'"):
        small(SimCLR).fit(X)


@pytest.mark.parametrize("values", [DATES, TIMES], ids=["dates", "times"])
@pytest.mark.parametrize("library", ["pandas", "polars", "pyarrow"])
@pytest.mark.parametrize("all_of_them", [True, False])
def test_dates_are_refused(images, library, values, all_of_them):
    module = pytest.importorskip(library)
    if all_of_them:
        make = module.table if library == "pyarrow" else module.DataFrame
        X = make({"pixel3": values, "pixel4": values})
    else:
        X = column_of(images, library, values)
    with pytest.raises((ValueError, TypeError), match=r"(?i)date|time") as caught:
        small(SimCLR).fit(X)
    if library != "pyarrow":
        assert "pixel3" in str(caught.value)


@pytest.mark.parametrize("dtype", ["M8[s]", "m8[ms]"])
@pytest.mark.parametrize("form", [lambda X: X, rows, lambda X: X.transpose(0, 2, 1, 3)])
def test_arrays_of_dates_are_refused(images, dtype, form):
    X = form(images).astype(dtype)
    X[0, 0] = "NaT"
    with pytest.raises(ValueError, match=r"X has dtype (date|timedelta).*numbers"):
        small(SimCLR).fit(X)
    with pytest.raises(TypeError, match=r"not numbers.*date|not numbers.*NoneType"):
        small(SimCLR).fit(X.astype(object))


def test_objects_that_are_numbers_are_taken(images):
    numbers = rows(images[:12, :2, :2])
    X = np.array([[decimal.Decimal(value) for value in row] for row in numbers.tolist()])
    expected = features(numbers.astype(float))
    np.testing.assert_array_equal(features(X), expected)
    np.testing.assert_array_equal(features(X.tolist()), expected)


def test_memory_views(images, of_uint8):
    np.testing.assert_array_equal(features(memoryview(images)), of_uint8)
    np.testing.assert_array_equal(features([memoryview(image) for image in images]), of_uint8)


def test_pil_images(images, of_uint8):
    several = [Image.fromarray(image) for image in images]
    np.testing.assert_array_equal(features(several), of_uint8)
    for use in (small(SimCLR).fit, small(SimCLR).fit(images).transform):
        with pytest.raises(TypeError, match=r"one PIL image.*\[X\]"):
            use(several[0])


STRANGE_TENSORS = {
    "meta": (lambda X: X.to("meta"), ValueError, "meta device.*no values"),
    "sparse": (lambda X: X.to_sparse(), TypeError, "sparse.*to_dense"),
    "sparse rows": (lambda X: X.flatten(1).to_sparse_csr(), TypeError, "sparse.*to_dense"),
    "mkldnn": (lambda X: X.float().to_mkldnn(), TypeError, "to_dense"),
    "complex": (lambda X: X + 1j, ValueError, "Complex data not supported"),
    "conjugate": (lambda X: (X + 1j).conj(), ValueError, "Complex data not supported"),
    "half complex": (lambda X: X.to(torch.complex32), ValueError, "Complex data not supported"),
    "nested": (
        lambda X: torch.nested.nested_tensor([X[0].float(), X[1, :, 1:].float()]),
        ValueError,
        "nested tensor.*resize.*stack",
    ),
}


@pytest.mark.parametrize(
    ("make", "error", "message"), STRANGE_TENSORS.values(), ids=STRANGE_TENSORS
)
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_strange_tensors_are_refused(images, make, error, message):
    X = make(tensor(images))
    ssl = small(DenoisingAutoencoder).fit(images)
    for use in (small(SimCLR).fit, ssl.transform, ssl.reconstruct):
        with pytest.raises(error, match=message):
            use(X)


def negative_bit(X):
    return torch.complex(torch.zeros(X.shape), -X.float()).conj().imag


def quantized(X):
    return torch.quantize_per_tensor(X.float(), 1.0, 0, torch.quint8)


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::DeprecationWarning")
@pytest.mark.parametrize("make", [negative_bit, quantized, lambda X: X.to(torch.float8_e5m2)])
def test_other_tensors_are_numbers(images, make):
    whole = 2 ** (images // 40)  # exact with few bits
    X = make(tensor(whole))
    np.testing.assert_array_equal(features(X), features(whole.astype(np.float32)))


# Hints


def test_one_image_without_an_axis_for_several(images):
    ssl = small(SimCLR).fit(images)
    for X in (images[0], planes(images)[0], tensor(images)[0], images[0].ravel()):
        with pytest.raises(ValueError, match=r"one image: give X\[None\]"):
            ssl.transform(X)
    gray = images[..., 0]
    ssl = small(SimCLR).fit(gray)
    for X in (gray[0], gray[0].ravel()):
        with pytest.raises(ValueError, match=r"one image: give X\[None\]"):
            ssl.transform(X)
    assert ssl.transform(gray[0][None]).shape[0] == 1


def test_rows_of_another_width_say_what_is_wanted(images):
    ssl = small(SimCLR).fit(images)
    with pytest.raises(ValueError, match=r"100 features.*192 features.*\(8, 8, 3\).*image_shape"):
        ssl.transform(rows(images)[:, :100])


# Images where labels are wanted


def as_frame(X):
    return pytest.importorskip("pandas").DataFrame(rows(X))


@pytest.mark.parametrize(
    "form", [lambda X: X, rows, list, tensor, as_frame, lambda X: rows(X).tolist()]
)
@pytest.mark.parametrize("other", [lambda X: X, rows, list])
def test_images_given_as_labels_are_refused(images, form, other):
    X, y = other(images[:24]), form(images[24:])
    pipeline = make_pipeline(small(SimCLR), LogisticRegression())
    ssl = small(SimCLR)
    for use in (ssl.fit, ssl.partial_fit, ssl.fit_transform, pipeline.fit):
        with pytest.raises(ValueError, match=r"y .*looks like images.*fit\(X, X_unlabeled=...\)"):
            use(X, y)


@pytest.mark.parametrize("kind", ["list", "one-hot", "column", "frame", "strings", "multi-output"])
def test_labels_are_ignored(images, kind, of_uint8):
    labels = np.arange(48) % 10
    y = {
        "list": labels.tolist(),
        "one-hot": np.eye(10)[labels],
        "column": labels[:, None],
        "frame": as_frame(labels),
        "strings": [str(label) for label in labels],
        "multi-output": np.eye(10)[labels].tolist(),
    }[kind]
    np.testing.assert_array_equal(small(SimCLR).fit(images, y).transform(images), of_uint8)


# Memory


def beside_its_result(Learner, name, X, *arguments):
    """Bytes that a method takes at its peak beside its result."""
    ssl = small(Learner, max_epochs=0, views=Views(size=8)).fit(X[:12])
    results = []
    peak = traced(lambda: results.append(getattr(ssl, name)(*arguments)))
    return peak - getattr(results[0], "nbytes", 0)


@pytest.mark.parametrize(
    ("Learner", "name"),
    [
        (DenoisingAutoencoder, "reconstruct"),
        (Colorization, "colorize"),
        (SimCLR, "score"),
    ],
)
@pytest.mark.parametrize(
    "dtype", [np.uint8, pytest.param(np.float32, marks=pytest.mark.slow), np.float64]
)
def test_methods_work_in_chunks(Learner, name, dtype):
    X = np.concatenate([make_images(48, 16, 16)] * 100).astype(dtype)
    assert beside_its_result(Learner, name, X, X) < max(X.nbytes / 2, 8 * 2**20)


def test_inpainting_works_in_chunks():
    X = np.concatenate([make_images(48, 16, 16)] * 100).astype(np.float32)
    mask = np.eye(16, dtype=bool)
    assert beside_its_result(ContextEncoder, "inpaint", X, X, mask) < X.nbytes / 2


@pytest.mark.parametrize("Learner", [VariationalAutoencoder, BiGAN])
def test_samples_are_drawn_in_chunks(Learner, images, monkeypatch):
    ssl, sizes = small(Learner, max_epochs=0).fit(images), []
    task = ssl.net_.module_.task
    draw = task.sample

    def recorded(n, device):
        sizes.append(n)
        return draw(n, device)

    monkeypatch.setattr(task, "sample", recorded)
    made = ssl.sample(1000, random_state=0)
    assert sizes == [256, 256, 256, 232]
    assert len(np.unique(made.reshape(1000, -1), axis=0)) == 1000


# Warnings


@pytest.mark.parametrize(
    "X",
    [
        np.random.default_rng(0).random((16, 60)),
        planes(make_images(16)),
        rows(planes(make_images(16))),
    ],
    ids=["strips", "order", "planes"],
)
def test_warnings_point_at_the_line_of_the_user(X):
    pipeline = make_pipeline(small(SimCLR, max_epochs=0), LogisticRegression())
    with pytest.warns(ImageShapeWarning) as caught:
        pipeline.fit(X, np.arange(16) % 2)
    assert {warning.filename for warning in caught if "image" in str(warning.message)} == {__file__}


def test_range_warnings_point_at_the_line_of_the_user(images):
    pipeline = make_pipeline(small(SimCLR, max_epochs=0), LogisticRegression())
    pipeline.fit(images, np.arange(48) % 2)
    with pytest.warns(UserWarning, match="images of the fit") as caught:
        pipeline.predict(images / 255)
    assert [warning.filename for warning in caught] == [__file__]
