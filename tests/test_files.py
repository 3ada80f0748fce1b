"""Images in files: every source and format gives the features of the decoded array, or an error."""

import errno
import io
import multiprocessing
import os
import struct
import tarfile
import warnings
import zipfile
import zlib

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
import torch
from conftest import LEARNERS, TinyNet, make_images, small
from joblib import Parallel, delayed, parallel_config
from joblib.parallel import ThreadingBackend
from PIL import Image
from sklearn.base import clone
from sklearn.compose import ColumnTransformer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, cross_val_score, train_test_split
from sklearn.pipeline import make_pipeline
from skorch.callbacks import Callback
from torch.utils.data import DataLoader, IterableDataset, Subset, TensorDataset
from torchvision.datasets import ImageFolder

from sklearn_ssl import (
    Distillation,
    FineTunedClassifier,
    FineTunedRegressor,
    PatchDictionary,
    PretrainedEncoder,
    SelfSupervisedClassifier,
    SelfSupervisedRegressor,
    SimCLR,
    VariationalAutoencoder,
    Views,
    load_images,
)
from sklearn_ssl._utils._storage import write_file
from sklearn_ssl.exceptions import (
    ImageReadError,
    ImageReadWarning,
    ImageShapeWarning,
    MemoryWarning,
    PixelRangeWarning,
)
from sklearn_ssl.images import Images, list_images, prune_decoded, read_images
from sklearn_ssl.images._files import Files, Reading
from sklearn_ssl.images._listing import hint_for
from sklearn_ssl.inspection import MeasureMonitor, ProbeMonitor
from sklearn_ssl.metrics import (
    alignment_scorer,
    alpha_req_scorer,
    lidar_scorer,
    rank_me_scorer,
    uniformity_scorer,
)
from sklearn_ssl.training import Batches
from sklearn_ssl.views import CenteredImages

datasets = pytest.importorskip("datasets")
tifffile = pytest.importorskip("tifffile")

STILL = Views(crop_scale=None, flip=0, jitter=None, gray=0, blur=0)


def encoded(image, format="PNG", **options):
    if isinstance(image, np.ndarray):
        image = Image.fromarray(image)
    file = io.BytesIO()
    image.save(file, format, **options)
    return file.getvalue()


def smooth(height, width, channels=3, seed=0):
    """One image of few frequencies, which resizing changes little."""
    small_one = make_images(1, 6, 6, channels, seed)[0]
    planes = [
        Image.fromarray(small_one[..., c]).resize((width, height), Image.Resampling.BICUBIC)
        for c in range(channels)
    ]
    return np.stack(planes, axis=2)


@pytest.fixture(scope="module")
def array():
    return make_images()


@pytest.fixture(scope="module")
def folder(array, tmp_path_factory):
    """The images as files, in the folders of two classes."""
    folder = tmp_path_factory.mktemp("images")
    for row, image in enumerate(array):
        place = folder / f"class{row * 2 // len(array)}"
        place.mkdir(exist_ok=True)
        Image.fromarray(image).save(place / f"{row:02}.png")
    (folder / "notes.txt").write_text("no image")
    return folder


@pytest.fixture(scope="module")
def paths(folder):
    return list_images(folder)


@pytest.fixture(scope="module")
def learner(array):
    return small(SimCLR).fit(array)


@pytest.fixture(scope="module")
def shard(array, tmp_path_factory):
    """A tar archive, as WebDataset has them."""
    path = tmp_path_factory.mktemp("shards") / "train-000.tar"
    with tarfile.open(path, "w") as tar:
        for row, image in enumerate(array):
            for name, content in ((f"{row:02}.png", encoded(image)), (f"{row:02}.cls", b"1")):
                info = tarfile.TarInfo(name)
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
    return path


class WithLabels(torch.utils.data.Dataset):
    def __init__(self, images):
        self.images = images

    def __len__(self):
        return len(self.images)

    def __getitem__(self, row):
        return Image.fromarray(self.images[row]), row % 2


def zipped(folder, path):
    """The images in a zip archive, stored and compressed in turn."""
    with zipfile.ZipFile(path, "w") as file:
        for row, image in enumerate(list_images(folder)):
            how = zipfile.ZIP_DEFLATED if row % 2 else zipfile.ZIP_STORED
            file.write(image, os.path.relpath(image, folder), how)
    return path


def hugging_face(array):
    features = datasets.Features({"image": datasets.Image(), "label": datasets.Value("int64")})
    rows = {"image": [Image.fromarray(image) for image in array], "label": [0] * len(array)}
    return datasets.Dataset.from_dict(rows, features=features)


SOURCES = {
    "folder": lambda array, folder, shard: folder,
    "folder as a string": lambda array, folder, shard: str(folder),
    "pattern": lambda array, folder, shard: f"{folder}/**/*.png",
    "tar": lambda array, folder, shard: shard,
    "tars": lambda array, folder, shard: f"{shard.parent}/train-*.tar",
    "zip": lambda array, folder, shard: zipped(folder, shard.parent / "photos.ZIP"),
    "paths": lambda array, folder, shard: list(list_images(folder)),
    "array": lambda array, folder, shard: np.array(list(list_images(folder))),
    "pandas": lambda array, folder, shard: pd.Series(list_images(folder)),
    "pandas strings": lambda array, folder, shard: pd.Series(list_images(folder)).astype("string"),
    "data frame": lambda array, folder, shard: pd.DataFrame({"path": list_images(folder)}),
    "polars": lambda array, folder, shard: pl.Series(list_images(folder).tolist()),
    "polars frame": lambda array, folder, shard: pl.DataFrame({"p": list_images(folder).tolist()}),
    "Arrow": lambda array, folder, shard: pa.chunked_array([list_images(folder).tolist()]),
    "Arrow table": lambda array, folder, shard: pa.table({"p": list_images(folder).tolist()}),
    "bytes": lambda array, folder, shard: [encoded(image) for image in array],
    "PIL": lambda array, folder, shard: [Image.fromarray(image) for image in array],
    "ImageFolder": lambda array, folder, shard: ImageFolder(folder),
    "ImageFolder, transformed": lambda array, folder, shard: ImageFolder(folder, lambda im: im),
    "Subset": lambda array, folder, shard: Subset(ImageFolder(folder), range(len(array))),
    "Dataset": lambda array, folder, shard: WithLabels(array),
    "rows of a Dataset": lambda array, folder, shard: list(WithLabels(array)),
    "tensors": lambda array, folder, shard: TensorDataset(
        torch.from_numpy(array).permute(0, 3, 1, 2)
    ),
    "rows of tensors": lambda array, folder, shard: list(
        TensorDataset(torch.from_numpy(array).permute(0, 3, 1, 2), torch.zeros(len(array)))
    ),
    "dictionaries": lambda array, folder, shard: [{"pixels": image, "y": 0} for image in array],
    "Series of arrays": lambda array, folder, shard: pd.Series(list(array)),
    "Hugging Face": lambda array, folder, shard: hugging_face(array),
    "its column": lambda array, folder, shard: hugging_face(array)["image"],
    "its rows": lambda array, folder, shard: hugging_face(array)[list(range(len(array)))],
    "list of its rows": lambda array, folder, shard: list(hugging_face(array)),
    "transformed": lambda array, folder, shard: hugging_face(array).with_transform(lambda b: b),
    "transformed to other columns": lambda array, folder, shard: hugging_face(array).with_transform(
        lambda batch: {"pixels": [np.asarray(image) for image in batch["image"]]}
    ),
}


@pytest.mark.parametrize("source", SOURCES)
def test_sources_give_the_features_of_the_array(source, array, folder, shard, learner):
    X = SOURCES[source](array, folder, shard)
    np.testing.assert_array_equal(learner.transform(X), learner.transform(array))
    assert small(SimCLR).fit(X).image_shape_ == (8, 8, 3)
    np.testing.assert_array_equal(load_images(X), array)


class Stored:
    """An array that is read by slices, in increasing order, as HDF5's are."""

    def __init__(self, array):
        self.array, self.shape, self.dtype, self.ndim = array, array.shape, array.dtype, 4

    def __getitem__(self, rows):
        assert isinstance(rows, slice) or (np.diff(rows) > 0).all()
        return self.array[rows]


PARTLY_LABELED = {
    **{name: SOURCES[name] for name in ("folder", "tar", "Dataset", "tensors", "Hugging Face")},
    "stored": lambda array, folder, shard: Stored(array),
}


@pytest.mark.parametrize("source", PARTLY_LABELED)
def test_rows_of_sources_are_those_of_the_array(source, array, folder, shard):
    """With few labels, and with images that are held out."""
    X = PARTLY_LABELED[source](array, folder, shard)
    y = np.arange(48) % 3
    few = np.where(np.arange(48) % 5, -1, y)
    classifier = SelfSupervisedClassifier(
        PretrainedEncoder(encoder=TinyNet, weights=None, random_state=0)
    )
    tuned = FineTunedClassifier(
        encoder=TinyNet, max_epochs=1, early_stopping=True, views=STILL, random_state=0
    )
    for estimator, labels in ((classifier, few), (tuned, y)):
        found, known = clone(estimator).fit(X, labels), clone(estimator).fit(array, labels)
        np.testing.assert_array_equal(
            found.predict_proba(array[:9]), known.predict_proba(array[:9])
        )
        assert found.score(X, labels) == known.score(array, labels)


def test_files_are_the_array_to_every_learner(array, paths):
    for _, Learner in LEARNERS:
        fitted = small(Learner, max_epochs=0).fit(array)
        np.testing.assert_array_equal(fitted.transform(paths[:4]), fitted.transform(array[:4]))


def test_files_go_through_splits_and_searches(paths):
    y = np.array([0, 1] * (len(paths) // 2))
    pipe = make_pipeline(small(SimCLR), LogisticRegression())
    assert len(cross_val_score(pipe, paths, y, cv=2)) == 2
    search = GridSearchCV(pipe, {"simclr__pool": [1, 2]}, cv=2).fit(pd.Series(paths), y)
    train, test = train_test_split(paths, random_state=0)
    assert len(search.predict(test)) == len(test)
    assert len(train) + len(test) == len(paths)


@pytest.mark.parametrize("column", ["path", ["path"]])
@pytest.mark.parametrize("Learner", [SimCLR, PatchDictionary])
def test_a_column_of_paths_beside_others(Learner, column, paths):
    frame = pd.DataFrame({"path": paths, "age": np.arange(len(paths)) / 7}, index=paths)
    learner = Learner(encoder=TinyNet, max_epochs=0) if Learner is SimCLR else Learner(n_atoms=4)
    columns = ColumnTransformer(
        [("image", learner.set_params(pool="avg"), column), ("same", "passthrough", ["age"])]
    )
    found = columns.set_output(transform="pandas").fit_transform(frame)
    names = columns.named_transformers_["image"].get_feature_names_out()
    assert found.columns.tolist() == [*(f"image__{name}" for name in names), "same__age"]
    assert columns.get_feature_names_out().tolist() == found.columns.tolist()
    assert found.index.tolist() == list(paths)
    with pytest.raises(ValueError, match=r"length equal to number of features \(192\), got 2"):
        columns.named_transformers_["image"].get_feature_names_out(["path", "age"])


def test_images_are_given_back_as_arrays(array, paths):
    vae = small(VariationalAutoencoder).fit(paths)
    np.testing.assert_array_equal(vae.reconstruct(paths), vae.reconstruct(array))


class Items(torch.utils.data.Dataset):
    """Images and labels, as most data sets of torch give them."""

    def __init__(self, images):
        self.images = images

    def __len__(self):
        return len(self.images)

    def __getitem__(self, row):
        return self.images[row], 0


def channels_first(images):
    return np.ascontiguousarray(images.transpose(0, 3, 1, 2))


ITEMS = {
    "tensors": (lambda X: torch.from_numpy(channels_first(X)), "first"),
    "tensors (h, w, c)": (torch.from_numpy, "last"),
    "arrays": (lambda X: X, "last"),
    "arrays (c, h, w)": (channels_first, "first"),
}


@pytest.mark.parametrize("form", ITEMS)
def test_the_order_of_channels_in_items(form):
    X = make_images(12, 24, 24)
    make, order = ITEMS[form]
    images = Items(make(X))
    expected = small(SimCLR).fit(X)
    with warnings.catch_warnings():
        warnings.simplefilter("error", ImageShapeWarning)
        told = small(SimCLR, channel_order=order).fit(images)
    np.testing.assert_array_equal(told.transform(images), expected.transform(X))
    if order == ("first" if form.startswith("tensors") else "last"):
        with warnings.catch_warnings():
            warnings.simplefilter("error", ImageShapeWarning)
            small(SimCLR, max_epochs=0).fit(images)
        return
    for shape in (None, (16, 16)):
        with pytest.warns(ImageShapeWarning, match=f"channel_order='{order}' or give image"):
            small(SimCLR, max_epochs=0, image_shape=shape).fit(images)
    with pytest.raises(ImageReadError, match=f"row 0 of X.*24 channels.*channel_order='{order}'"):
        expected.transform(images)


def test_arrays_of_several_sizes_are_pictures_of_these():
    arrays = [smooth(20 + row, 30 - row, seed=row) for row in range(8)]
    pictures = [Image.fromarray(array) for array in arrays]
    learner = small(SimCLR, image_shape=(16, 16)).fit(pictures)
    expected = learner.transform(pictures)
    tensors = [torch.from_numpy(array).permute(2, 0, 1) for array in arrays]
    objects = np.empty(8, dtype=object)
    objects[:] = arrays
    for X in (arrays, tensors, objects, pd.Series(arrays)):
        assert small(SimCLR, max_epochs=0).fit(X).image_shape_ == (96, 96, 3)
        same = small(SimCLR, image_shape=(16, 16)).fit(X)
        features = same.transform(X)
        np.testing.assert_allclose(features, expected, atol=0.02)
        np.testing.assert_array_equal(same.transform(X[2:3]), features[2:3])
    with pytest.raises(ValueError, match=r"one image: give X\[None\]"):
        learner.transform(list(make_images(1, 16, 16)[0]))


# Sizes


def test_loaded_images_are_those_that_learners_read():
    X = [Image.fromarray(smooth(40, 20)), Image.fromarray(smooth(24, 60)[..., 0])]
    loaded = load_images(X, (12, 12))
    read = read_images(X, estimator=SimCLR(), image_shape=(12, 12)).take(np.arange(2))
    np.testing.assert_array_equal(loaded, read.permute(0, 2, 3, 1).numpy())
    assert load_images(X, (12, 12, 1)).shape == (2, 12, 12, 1)
    numbers = np.random.default_rng(0).normal(size=(2, 48))
    for given in (numbers, numbers.reshape(2, 4, 4, 3)):
        np.testing.assert_array_equal(load_images(given, (4, 4, 3)).reshape(2, 48), numbers)
    planes = torch.from_numpy(numbers.reshape(2, 4, 4, 3)).permute(0, 3, 1, 2)
    np.testing.assert_array_equal(load_images(planes).reshape(2, 48), numbers)
    np.testing.assert_array_equal(
        load_images(planes.numpy(), channel_order="first").reshape(2, 48), numbers
    )
    with pytest.raises(ValueError, match="image_shape"):
        load_images(X, (12,))
    with pytest.raises(ImageReadError, match="image"):
        load_images([encoded(RGB), b"no image"])
    with pytest.warns(ImageReadWarning, match="1 of 2 images could not be read and are NaN"):
        loaded = load_images([encoded(RGB), b"no image"], on_error="skip")
    np.testing.assert_array_equal(loaded[0], RGB)
    assert np.isnan(loaded[1]).all()


def test_other_sizes_are_resized_and_cut_around_the_middle():
    tall, wide = smooth(40, 20), smooth(24, 60)
    X = [Image.fromarray(tall), Image.fromarray(wide)]
    images = read_images(X, estimator=SimCLR(), image_shape=(12, 12))
    found = images.take(np.arange(2)).permute(0, 2, 3, 1).numpy()
    half = Image.Resampling.BILINEAR
    expected = np.asarray(Image.fromarray(tall).resize((12, 24), half))[6:18]
    np.testing.assert_array_equal(found[0], expected)
    expected = np.asarray(Image.fromarray(wide).resize((30, 12), half))[:, 9:21]
    np.testing.assert_array_equal(found[1], expected)


@pytest.mark.parametrize(
    ("sizes", "shape"),
    [([(20, 30)] * 2, (20, 30)), ([(20, 30), (20, 31)], (96, 96)), ([(300, 300)] * 2, (96, 96))],
)
def test_the_size_without_image_shape(sizes, shape):
    X = [Image.fromarray(smooth(*size)) for size in sizes]
    assert read_images(X, estimator=SimCLR()).shape[:2] == shape


def squares_of_bands(resize, whole=False):
    """A wide and a tall image of three bands, red, green and blue, as they are read."""
    bands = np.zeros((20, 60, 3), np.uint8)
    for channel in range(3):
        bands[:, 20 * channel : 20 * channel + 20, channel] = 255
    X = [Image.fromarray(bands), np.ascontiguousarray(bands.swapaxes(0, 1))]
    files = Files(X, Reading(resize=resize), (12, 12))
    return files.whole(np.arange(2), 1.0)[0] if whole else files[np.arange(2)]


@pytest.mark.parametrize("whole", [False, True])
def test_resize_keeps_or_cuts_the_ends(whole):
    found = {name: squares_of_bands(name, whole) for name in ("crop", "pad", "squash")}
    if not whole:
        assert (found["crop"][..., 1] > 150).all()  # the middle band
        assert all(images.shape == (2, 12, 12, 3) for images in found.values())
    for name in ("pad", "squash"):
        for image in (found[name][0], found[name][1].swapaxes(0, 1)):
            height, width = image.shape[:2]
            shown = [image[height // 2, int(width * share)].argmax() for share in (0.1, 0.5, 0.9)]
            assert shown == [0, 1, 2]
            ends = image[[0, -1]]
            assert (ends == 0).all() if name == "pad" else (ends.max(2) > 100).all()


def test_padded_images_fit_exactly():
    """Resized by Pillow to the longer side, and as far from one end as from the other."""
    tall = smooth(40, 20)
    loaded = load_images([Image.fromarray(tall)] * 2, (12, 12), resize="pad")
    inner = Image.fromarray(tall).resize((6, 12), Image.Resampling.BILINEAR)
    np.testing.assert_array_equal(loaded[0, :, 3:9], np.asarray(inner))
    assert (loaded[0, :, :3] == 0).all()
    assert (loaded[0, :, 9:] == 0).all()


def test_learners_resize_as_they_are_asked():
    images = [Image.fromarray(smooth(16, 40, seed=row)) for row in range(12)]
    X = [encoded(np.asarray(image)) for image in images]
    learner = small(SimCLR, image_shape=(12, 12), resize="squash").fit(X)
    loaded = load_images(X, (12, 12), resize="squash")
    np.testing.assert_allclose(learner.transform(X), learner.transform(loaded), atol=1e-6)
    squashed = images[3].resize((12, 12), Image.Resampling.BILINEAR)
    np.testing.assert_array_equal(loaded[3], np.asarray(squashed))
    with pytest.raises(ValueError, match="resize"):
        small(SimCLR, resize="stretch").fit(X)
    with pytest.raises(ValueError, match="resize"):
        load_images(X, resize="stretch")


@pytest.mark.parametrize("fast", [True, False])
def test_scaled_jpegs_look_like_whole_ones(fast, monkeypatch):
    """The tolerance that docs/images.md states: 2 of 255, on average."""
    if not fast:
        monkeypatch.setattr("sklearn_ssl.images._decoding._installed", lambda name: None)
    image = smooth(400, 560)
    X = [encoded(image, "JPEG", quality=95)] * 2
    images = read_images(X, estimator=SimCLR(), image_shape=(32, 32))
    found = images.take(np.arange(1))[0].permute(1, 2, 0).numpy()
    whole = Image.open(io.BytesIO(X[0])).resize((45, 32), Image.Resampling.BILINEAR)
    assert np.abs(found - np.asarray(whole)[:, 6:38].astype(float)).mean() < 2


def test_whole_images_keep_what_is_beyond_the_square():
    X = [Image.fromarray(smooth(16, 40)), Image.fromarray(smooth(32, 16))]
    files = Files(X, Reading(), (8, 8))
    images, sizes = Images(files, shape=files.shape).take_whole(np.arange(2), zoom=1.0)
    assert sizes.tolist() == [[8, 12], [12, 8]]  # the ends of the first one are too far away
    assert images.shape == (2, 3, 12, 12)
    centered = CenteredImages.of(images.float() / 255, sizes, (8, 8))
    cut = files[np.arange(2)].transpose(0, 3, 1, 2) / 255
    np.testing.assert_allclose(centered.numpy(), cut, atol=1 / 255)
    assert type(centered + 1) is torch.Tensor


@pytest.mark.parametrize("as_array", [True, False])
def test_an_image_like_a_thread(as_array):
    """To cover the square it would become 32 times as many pixels as Pillow can hold."""
    X = np.repeat(np.arange(3, dtype=np.uint8)[:, None], 3, axis=1).repeat(40_000, axis=0)[:, :1]
    X = np.dstack([X] * 3)
    files = Files([X if as_array else Image.fromarray(X)] * 2, Reading(), (64, 64))
    assert (files[np.arange(2)] == 1).all()


def test_small_files_are_not_enlarged_before_they_are_cropped():
    files = Files([Image.fromarray(smooth(10, 12))] * 2, Reading(), (32, 32))
    _, sizes = files.whole(np.arange(2), zoom=2.0)
    assert sizes.tolist() == [[10, 12]] * 2


def test_views_crop_from_whole_images():
    """The left third is white, and not in the middle square."""
    image = np.zeros((30, 45, 3), np.uint8)
    image[:, :7] = 255
    files = Files([Image.fromarray(image)] * 64, Reading(), (30, 30))
    batch, sizes = Images(files, shape=files.shape).take_whole(np.arange(64), 1.0)
    centered = CenteredImages.of(batch.float() / 255, sizes, (30, 30))
    views = Views(size=12, crop_scale=(0.1, 0.3), jitter=None, gray=0, blur=0)
    assert centered.max() == 0
    torch.manual_seed(0)
    white = views(centered).amax((1, 2, 3)) > 0.9
    assert 8 < white.sum() < 48
    assert views.set_params(crop_scale=None)(centered).max() == 0


# Formats and modes


def gradient(dtype, most):
    return np.linspace(0, most, 64).reshape(8, 8).astype(dtype)


RGB = smooth(8, 8)
ALPHA = np.dstack([RGB, np.repeat([[0, 255]], 8, 0).repeat(4, 1).astype(np.uint8)])
ON_WHITE = np.where(ALPHA[..., 3:] == 0, 255, RGB)
PALETTE = Image.fromarray(RGB).quantize(16)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (encoded(RGB, "PNG"), RGB),
        (encoded(RGB, "BMP"), RGB),
        (encoded(RGB, "TIFF"), RGB),
        (encoded(RGB, "WEBP", lossless=True), RGB),
        (encoded(RGB[..., 0], "PNG"), RGB[..., :1]),
        (encoded(Image.fromarray(RGB[..., 0] > 99), "PNG"), (RGB[..., :1] > 99) * 255),
        (encoded(ALPHA, "PNG"), ON_WHITE),
        (encoded(ALPHA, "WEBP", lossless=True), ON_WHITE),
        (encoded(PALETTE, "PNG"), np.asarray(PALETTE.convert("RGB"))),
        (encoded(PALETTE, "GIF"), np.asarray(PALETTE.convert("RGB"))),
        (encoded(gradient(np.uint16, 65535), "PNG"), gradient(np.uint16, 65535)[..., None]),
        (encoded(gradient(np.uint16, 65535), "TIFF"), gradient(np.uint16, 65535)[..., None]),
        (encoded(gradient(np.int32, 1e6), "TIFF"), gradient(np.int32, 1e6)[..., None]),
        (encoded(gradient(np.float32, 0.7), "TIFF"), gradient(np.float32, 0.7)[..., None]),
    ],
    ids=lambda value: "",
)
def test_modes(content, expected):
    images = read_images([content] * 2, estimator=SimCLR())
    np.testing.assert_array_equal(images.arrays[0][np.arange(1)][0], expected)


def test_cmyk_is_read_as_rgb():
    content = encoded(Image.fromarray(smooth(16, 16)).convert("CMYK"), "JPEG", quality=98)
    images = read_images([content] * 2, estimator=SimCLR())
    assert np.abs(images.arrays[0][np.arange(1)][0] - smooth(16, 16).astype(float)).mean() < 6


def test_channels_are_those_that_are_asked_for():
    X = [encoded(ALPHA), encoded(RGB[..., 0])]
    for shape, expected in (((8, 8, 4), 4), ((8, 8, 1), 1), ((8, 8), 3), (None, 3)):
        assert read_images(X, estimator=SimCLR(), image_shape=shape).shape == (8, 8, expected)
    with pytest.raises(ImageReadError, match="cannot be read with 5 channels"):
        read_images(X, estimator=SimCLR(), image_shape=(8, 8, 5)).take(np.arange(2))


def test_8_and_16_bits_have_the_same_brightness():
    deep, flat = gradient(np.uint16, 65535), gradient(np.uint8, 255)
    X = [encoded(deep), encoded(flat)]
    both = read_images(X, estimator=SimCLR()).arrays[0][np.arange(2)].astype(int)
    assert both.dtype.kind == "i"
    assert np.abs(both[0] - both[1]).max() <= 257
    learner = small(SimCLR).fit(np.stack([flat] * 4))  # of 8 bits: what comes later is, too
    with warnings.catch_warnings():
        warnings.simplefilter("error", PixelRangeWarning)
        features = learner.transform(X)
    np.testing.assert_allclose(features[0], features[1], atol=0.05)


def test_floats_do_not_mix_with_bytes():
    X = [encoded(gradient(np.float32, 0.7), "TIFF"), encoded(gradient(np.uint8, 255))]
    with pytest.raises(ImageReadError, match="values of type uint8, but the other"):
        small(SimCLR).fit(X * 2)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("format", ["JPEG", "PNG", "TIFF"])
@pytest.mark.parametrize("fast", [True, False])
def test_orientation(orientation, format, fast, monkeypatch):
    """What EXIF says of the camera's position."""
    if not fast:
        monkeypatch.setattr("sklearn_ssl.images._decoding._installed", lambda name: None)
    upright = Image.fromarray(smooth(24, 40))
    back = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}  # to Transpose, which EXIF's value undoes
    stored = upright if orientation == 1 else upright.transpose(back[orientation])
    exif = Image.Exif()
    exif[0x0112] = orientation
    content = encoded(stored, format, exif=exif, **({"quality": 98} if format == "JPEG" else {}))
    images = read_images([content] * 2, estimator=SimCLR())
    assert images.shape == (24, 40, 3)
    found = images.arrays[0][np.arange(1)][0].astype(float)
    assert np.abs(found - np.asarray(upright)).mean() < 3


def deep_png(pixels):
    """Of 16 bits, written without any library."""

    def chunk(kind, content):
        checked = kind + content
        return struct.pack(">I", len(content)) + checked + struct.pack(">I", zlib.crc32(checked))

    height, width, channels = pixels.shape
    color = {2: 4, 3: 2, 4: 6}[channels]
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 16, color, 0, 0, 0))
        + chunk(b"IDAT", zlib.compress(rows))
        + chunk(b"IEND", b"")
    )


def tiff(pixels, photometric="minisblack", **options):
    file = io.BytesIO()
    tifffile.imwrite(file, pixels, photometric=photometric, **options)
    return file.getvalue()


def noise(*shape, dtype=np.uint16, seed=0):
    info = np.iinfo(dtype)
    return np.random.default_rng(seed).integers(info.min, info.max, shape, dtype, endpoint=True)


def read(content, **options):
    """One image, and the shape that is learned from it."""
    images = read_images([content] * 2, estimator=SimCLR(), **options)
    return images.arrays[0][np.arange(1)][0]


DEEP = {
    "PNG": (deep_png(noise(8, 6, 3)), noise(8, 6, 3)),
    "TIFF": (tiff(noise(8, 6, 3), "rgb"), noise(8, 6, 3)),
    "LZW": (tiff(noise(8, 6, 3), "rgb", compression="lzw"), noise(8, 6, 3)),
    "big-endian": (tiff(noise(8, 6, 3), "rgb", byteorder=">"), noise(8, 6, 3)),
    "planes": (tiff(noise(3, 8, 6), "rgb", planarconfig="separate"), noise(3, 8, 6)),
    "turned": (
        tiff(noise(8, 6, 3), "rgb", extratags=[(274, 3, 1, 6, True)]),
        np.rot90(noise(8, 6, 3), -1),
    ),
    "infrared": (tiff(noise(8, 6, 4), "rgb", extrasamples=[0]), noise(8, 6, 4)),
    "infrared of 8 bits": (
        tiff(noise(8, 6, 4, dtype=np.uint8), "rgb", extrasamples=[0]),
        noise(8, 6, 4, dtype=np.uint8),
    ),
    "two bands": (
        tiff(noise(8, 6, 2, dtype=np.uint8), planarconfig="contig"),
        noise(8, 6, 2, dtype=np.uint8),
    ),
    "signed": (tiff(noise(8, 6, dtype=np.int8)), noise(8, 6, dtype=np.int8)),
    "unsigned": (tiff(noise(8, 6, dtype=np.uint32)), noise(8, 6, dtype=np.uint32)),
    "doubles": (tiff(noise(8, 6).astype(float)), noise(8, 6)),
}


@pytest.mark.parametrize("kind", DEEP)
def test_all_bits_and_bands_are_read(kind, monkeypatch):
    content, expected = DEEP[kind]
    if kind == "planes":
        expected = expected.transpose(1, 2, 0)
    expected = expected.reshape(*expected.shape[:2], -1).astype(np.float32)
    np.testing.assert_array_equal(read(content), expected)
    monkeypatch.setattr("sklearn_ssl.images._decoding._installed", lambda name: None)
    with pytest.raises(ImageReadError, match="cannot read fully; pip install"):
        read(content)


@pytest.mark.parametrize("channels", [1, 3])
def test_a_fourth_band_is_not_made_up(channels):
    """It would be 255 everywhere, as if it were transparency."""
    infrared = DEEP["infrared of 8 bits"][0]
    others = encoded(Image.fromarray(noise(8, 6, channels, dtype=np.uint8).squeeze()))
    for contents in ([infrared, others], [others, infrared]):
        for shape in (None, (8, 6, 4)):
            images = read_images(contents, estimator=SimCLR(), image_shape=shape)
            with pytest.raises(ImageReadError, match=f"it has {channels} channels, but 4 are"):
                images.take(np.arange(2))


@pytest.mark.parametrize("make", [deep_png, lambda p: tiff(p, "rgb", extrasamples=[2])])
def test_alpha_of_16_bits(make):
    pixels = noise(8, 6, 4)
    pixels[0, :3, 3] = 0, 65535, 65534
    found = read(make(pixels))
    assert found.shape == (8, 6, 3)
    opacity = pixels[..., 3:] / 65535
    expected = pixels[..., :3] * opacity + 65535 * (1 - opacity)
    np.testing.assert_allclose(found, expected, atol=0.51)
    np.testing.assert_array_equal(read(make(pixels), image_shape=(8, 6, 4)), pixels)
    of_8_bits = read(encoded((pixels // 257).astype(np.uint8)))
    assert np.abs(found // 257 - of_8_bits.astype(int)).max() <= 2


def test_gray_and_alpha_of_16_bits():
    pixels = noise(8, 6, 2)
    opacity = pixels[..., 1:] / 65535
    expected = pixels[..., :1] * opacity + 65535 * (1 - opacity)
    np.testing.assert_allclose(read(deep_png(pixels)), expected, atol=0.51)
    kept = read(deep_png(pixels), image_shape=(8, 6, 4))
    np.testing.assert_array_equal(kept, pixels[..., [0, 0, 0, 1]])


def test_a_fourth_channel_is_not_made_up():
    """In an image without alpha it would be opaque; in a band it would be wrong."""
    for content, most in ((encoded(RGB), 255), (deep_png(noise(8, 8, 3)), 65535)):
        assert (read(content, image_shape=(8, 8, 4))[..., 3] == most).all()
    for content in (encoded(RGB, "TIFF"), tiff(noise(8, 8, 3), "rgb")):
        with pytest.raises(ImageReadError, match="has 3 channels, but 4 are wanted"):
            read(content, image_shape=(8, 8, 4))
    bands = tiff(noise(8, 8, 4, dtype=np.uint8), "rgb", extrasamples=[0])
    with pytest.raises(ImageReadError, match="has 4 channels, but 3 are wanted"):
        read(bands, image_shape=(8, 8, 3))


def jpeg_2000(pixels):
    return pytest.importorskip("imagecodecs").jpeg2k_encode(pixels)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: b"P6 8 6 65535\n" + noise(6, 8, 3).astype(">u2").tobytes(), "16-bit colors"),
        (lambda: jpeg_2000(noise(8, 6, 3)), "16-bit colors"),
        (lambda: tiff(noise(8, 6, 4), "separated"), "CMYK"),
        (lambda: Image.open(io.BytesIO(DEEP["PNG"][0])), "16-bit colors, which PIL .* the path"),
        (lambda: Image.open(io.BytesIO(DEEP["infrared"][0])), "4 bands, which PIL .* the path"),
    ],
)
def test_what_would_lose_bits_is_refused(make, message):
    with pytest.raises(ImageReadError, match=message):
        read(make())


# Pages and frames


@pytest.mark.parametrize("format", ["GIF", "TIFF", "WEBP", "PNG"])
def test_frames_are_refused_or_chosen(format):
    frames = [Image.fromarray(make_images(1, seed=seed)[0]).quantize(16) for seed in range(3)]
    frames = [frame if format == "GIF" else frame.convert("RGB") for frame in frames]
    lossless = {"lossless": True} if format == "WEBP" else {}
    content = encoded(frames[0], format, save_all=True, append_images=frames[1:], **lossless)
    with pytest.raises(ImageReadError, match="frames or pages"):
        small(SimCLR).fit([content] * 4)
    learner = small(SimCLR, pages=2).fit([content] * 4)
    expected = learner.transform(np.stack([np.asarray(frames[2].convert("RGB"))]))
    np.testing.assert_array_equal(learner.transform([content]), expected)
    with pytest.raises(ImageReadError, match="pages=3 asks for page 3, but it has 3"):
        small(SimCLR, pages=3).fit([content] * 4)
    with pytest.raises(ImageReadError, match="frames or pages; give the one you want"):
        read(Image.open(io.BytesIO(content)))


CHANNELS = {
    "ImageJ": {"imagej": True},
    "ImageJ, tags of the first page only": {"imagej": True, "truncate": True},
    "OME": {"ome": True, "metadata": {"axes": "CYX"}},
    "tifffile": {"metadata": {"axes": "CYX"}},
}


@pytest.mark.parametrize("options", CHANNELS.values(), ids=CHANNELS)
def test_pages_that_are_channels(options):
    pixels = noise(2, 8, 6)
    content = tiff(pixels, **options)
    np.testing.assert_array_equal(read(content), pixels.transpose(1, 2, 0))
    learner = small(SimCLR, pages=1).fit([content] * 4)
    assert learner.image_shape_ == (8, 6, 1)
    np.testing.assert_array_equal(
        learner.transform([content]), learner.transform(pixels[1:, ..., None])
    )


STACKS = {
    "ImageJ": {"imagej": True, "metadata": {"axes": "ZYX"}},
    "tags of the first page only": {"truncate": True},
    "tifffile": {},
    "pages": {"metadata": None},
}


@pytest.mark.parametrize("options", STACKS.values(), ids=STACKS)
def test_pages_of_which_nothing_is_known(options):
    pixels = noise(5, 8, 6)
    content = tiff(pixels, **options)
    with pytest.raises(ImageReadError, match=r"pages='channels' reads all.*pages=0"):
        read(content)
    for pages, expected in (("channels", pixels.transpose(1, 2, 0)), (4, pixels[4][..., None])):
        found = read(content, reading={"pages": pages})
        np.testing.assert_array_equal(found, expected)
    with pytest.raises(ImageReadError, match="pages=5 asks for page 5, but it has 5"):
        read(content, reading={"pages": 5})


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("first", [True, False])
def test_reduced_pages_and_masks_do_not_count(bits, first):
    """GeoTIFFs have overviews."""
    pixels = noise(64, 48, 3, dtype=f"u{bits // 8}")
    pages = [(pixels, 0, "rgb"), (pixels[::2, ::2], 1, "rgb"), (pixels[..., 0] > 9, 4, "mask")]
    file = io.BytesIO()
    with tifffile.TiffWriter(file) as writer:
        for values, kind, photometric in pages if first else pages[::-1]:
            writer.write(values, subfiletype=kind, photometric=photometric, metadata=None)
    np.testing.assert_array_equal(read(file.getvalue()), pixels)
    np.testing.assert_array_equal(read(file.getvalue(), reading={"pages": 0}), pixels)


def test_pages_that_go_round_in_a_circle():
    content = bytearray(tiff(noise(8, 6)))
    (start,) = struct.unpack_from("<I", content, 4)
    (n,) = struct.unpack_from("<H", content, start)
    struct.pack_into("<I", content, start + 2 + 12 * n, start)
    np.testing.assert_array_equal(read(bytes(content))[..., 0], noise(8, 6))


def test_many_bands_are_read_in_silence(caplog):
    content = tiff(noise(8, 6, 13), planarconfig="contig")
    assert read(content).shape == (8, 6, 13)
    assert not caplog.records


@pytest.mark.parametrize("order", ["contig", "separate"])
def test_tiffs_of_many_bands(order):
    bands = make_images(4, channels=6).astype(np.uint16) * 100
    X = []
    for image in bands:
        values = image if order == "contig" else image.transpose(2, 0, 1)
        X.append(tiff(values, planarconfig=order))
    images = read_images(X, estimator=SimCLR())
    np.testing.assert_array_equal(images.arrays[0][np.arange(4)], bands)
    assert small(SimCLR).fit(X).transform(X).shape[0] == 4


# What cannot be read


def test_the_error_names_file_reason_and_place(array, tmp_path):
    for row, image in enumerate(array):
        Image.fromarray(image).save(tmp_path / f"{row:02}.png")
    whole = (tmp_path / "07.png").read_bytes()
    (tmp_path / "07.png").write_bytes(whole[: len(whole) // 2])  # its header is intact
    learner = small(SimCLR, max_epochs=2)
    with pytest.raises(ImageReadError, match=r"07\.png: .*truncated"):
        learner.fit(tmp_path)
    assert not hasattr(learner, "net_")
    (tmp_path / "07.png").write_bytes(b"no image")
    with pytest.raises(OSError, match=r"07\.png: Pillow does not recognize it as an image$"):
        learner.fit(tmp_path)


def test_a_file_deleted_during_training(array, tmp_path):
    from skorch.callbacks import Callback

    for row, image in enumerate(array):
        Image.fromarray(image).save(tmp_path / f"{row:02}.png")

    class Delete(Callback):
        def on_epoch_end(self, net, **kwargs):
            (tmp_path / "05.png").unlink(missing_ok=True)

    learner = small(SimCLR, max_epochs=3, callbacks=[Delete()])
    with pytest.raises(ImageReadError, match=r"05\.png: there is no such file \(in epoch 2, after"):
        learner.fit(tmp_path)


def test_skipping(array, tmp_path):
    for row, image in enumerate(array):
        Image.fromarray(image).save(tmp_path / f"{row:02}.png")
    paths = list_images(tmp_path)
    for row in (3, 4):
        open(paths[row], "wb").close()
    learner = small(SimCLR, on_error="skip", max_epochs=2, callbacks=[])
    with pytest.warns(ImageReadWarning, match=r"2 of 48 images could not be read.*03\.png") as seen:
        learner.fit(paths)
    assert len([w for w in seen if w.category is ImageReadWarning]) == 1
    assert list(learner.skipped_) == [3, 4]
    with pytest.warns(ImageReadWarning, match="2 of 10 images .* are NaN in the result"):
        features = learner.transform(paths[:10])
    assert np.flatnonzero(np.isnan(features).all(1)).tolist() == [3, 4]
    good = np.delete(np.arange(10), [3, 4])
    np.testing.assert_array_equal(features[good], learner.transform(array[good]))
    with pytest.raises(ImageReadError, match=r"03\.png"):
        learner.set_params(on_error="raise").transform(paths)
    with pytest.raises(ImageReadError, match="03"):
        learner.set_params(on_error="skip").fit(paths[3:5])


@pytest.fixture
def broken(array, tmp_path):
    """Paths of the images, of which the fourth and the fifth are empty files."""
    for row, image in enumerate(array):
        Image.fromarray(image).save(tmp_path / f"{row:02}.png")
    paths = list_images(tmp_path)
    for row in (3, 4):
        open(paths[row], "wb").close()
    return paths


GOOD = np.delete(np.arange(48), [3, 4])
skips = pytest.mark.filterwarnings("ignore:.*could not be read")


@skips
def test_measures_leave_out_files_that_cannot_be_read(array, broken):
    ssl = small(VariationalAutoencoder, on_error="skip", batch_size=8).fit(broken)
    assert ssl.score(broken) == pytest.approx(ssl.score(array[GOOD]), rel=1e-6)
    assert np.isfinite(ssl.pretext_loss(broken, random_state=0))
    for found in (ssl.draw_views(broken), ssl.transform_views(broken)):
        assert np.flatnonzero(np.isnan(found).reshape(48, -1).all(1)).tolist() == [3, 4]
    drawn = ssl.reconstruct(broken)
    np.testing.assert_array_equal(drawn[GOOD], ssl.reconstruct(array[GOOD]))
    assert (drawn[[3, 4]] == 0).all()


@skips
def test_blank_rows_are_no_other_range(array, broken):
    """They are in place of files, and are not looked at."""
    pixels = np.linspace(1e4, 2e4, 64, dtype=np.float32).reshape(8, 8)
    for path in np.delete(broken, [3, 4]):
        Image.fromarray(pixels).save(path, "TIFF")
    ssl = small(SimCLR, on_error="skip").fit(broken)
    with warnings.catch_warnings():
        warnings.simplefilter("error", PixelRangeWarning)
        ssl.transform(broken[:5])


@skips
def test_monitors_leave_out_files_that_cannot_be_read(array, broken):
    y = np.arange(48) % 3
    monitors = [MeasureMonitor(broken), ProbeMonitor(broken, y)]
    known = [MeasureMonitor(array[GOOD]), ProbeMonitor(array[GOOD], y[GOOD])]
    found, expected = (
        small(SimCLR, on_error="skip", callbacks=callbacks).fit(array).history_[-1]
        for callbacks in (monitors, known)
    )
    for name in ("rank_me", "probe"):
        assert found[name] == pytest.approx(expected[name], rel=1e-6)


@skips
def test_held_out_images_of_which_none_can_be_read(array, broken):
    """The advice is not to do what was done."""
    none = np.repeat(broken[3], 6)
    for callback in (MeasureMonitor(none), ProbeMonitor(none, [0, 1] * 3)):
        name = type(callback).__name__
        message = (
            rf"none of the 6 images of {name} can be read \(in epoch 1, after \d of \d steps\)"
        )
        with pytest.raises(ImageReadError, match=message):
            small(SimCLR, on_error="skip", callbacks=[callback]).fit(array)
    tuned = FineTunedRegressor(
        encoder=TinyNet, on_error="skip", early_stopping=True, image_shape=(8, 8), random_state=0
    )
    few = np.array(
        [broken[3] if row in tuned._split(np.ones(12))[1] else broken[0] for row in range(12)]
    )
    with pytest.raises(ImageReadError, match=r"that early_stopping=True holds out .* steps\)$"):
        tuned.fit(few, np.arange(12.0))


@skips
@pytest.mark.parametrize("early_stopping", [True, False])
@pytest.mark.parametrize("names", [True, False])
def test_classifiers_leave_out_files_that_cannot_be_read(broken, names, early_stopping):
    y = np.array(["a", "b", "c"])[np.arange(48) % 3] if names else np.arange(48) % 3
    few = SelfSupervisedClassifier(small(SimCLR, on_error="skip")).fit(broken, y)
    assert few.n_labeled_ == 46
    tuned = FineTunedClassifier(
        encoder=TinyNet,
        max_epochs=2,
        on_error="skip",
        early_stopping=early_stopping,
        random_state=0,
    ).fit(broken, y)
    assert tuned.skipped_.keys() <= {3, 4}
    for classifier in (few, tuned):
        predicted = classifier.predict(broken)
        assert [row for row in range(48) if predicted[row] is None] == [3, 4]
        np.testing.assert_array_equal(predicted[GOOD], classifier.predict(broken[GOOD]))
        assert classifier.predict(broken[GOOD]).dtype == y.dtype
        assert classifier.score(broken, y) == classifier.score(broken[GOOD], y[GOOD])
        found = classifier.predict_proba(broken)
        assert np.flatnonzero(np.isnan(found).all(1)).tolist() == [3, 4]
        with pytest.raises(ImageReadError, match=r"none of the 2 images|03\.png"):
            classifier.predict(broken[3:5])


@skips
def test_regressors_leave_out_files_that_cannot_be_read(broken):
    y = np.linspace(0, 1, 48)
    for regressor in (
        SelfSupervisedRegressor(small(SimCLR, on_error="skip")),
        FineTunedRegressor(encoder=TinyNet, max_epochs=1, on_error="skip", random_state=0),
    ):
        regressor.fit(broken, y)
        assert np.flatnonzero(np.isnan(regressor.predict(broken))).tolist() == [3, 4]
        assert regressor.score(broken, y) == regressor.score(broken[GOOD], y[GOOD])


@skips
def test_a_file_that_is_skipped_does_not_lend_its_label_to_another(broken):
    """The image in its place comes with its own."""
    files = read_images(
        broken, estimator=SimCLR(), image_shape=(8, 8), reading={"broken": "replace"}
    )
    batches = Batches(files, 48, torch.device("cpu"))
    for index in next(iter(batches.in_order(torch.arange(48))))[1:2]:
        assert index.tolist() == [0, 1, 2, 5, 5, *range(5, 48)]


@skips
@pytest.mark.parametrize(
    "scorer", [alignment_scorer, alpha_req_scorer, lidar_scorer, rank_me_scorer, uniformity_scorer]
)
def test_scorers_leave_out_files_that_cannot_be_read(broken, scorer):
    ssl = small(SimCLR, on_error="skip").fit(broken)
    assert scorer(ssl, broken) == pytest.approx(scorer(ssl, broken[GOOD]), abs=0.3)


@skips
@pytest.mark.parametrize("shared_views", [True, False])
def test_distillation_skips_with_its_teacher(broken, shared_views):
    student = small(Distillation, on_error="skip", shared_views=shared_views, max_epochs=2)
    features = student.fit(broken).transform(broken)
    assert np.flatnonzero(np.isnan(features).all(1)).tolist() == [3, 4]
    assert np.isfinite([row["train_loss"] for row in student.history_]).all()


@skips
def test_a_checkpoint_goes_on_without_a_file_that_broke(array, broken, tmp_path):
    for path, image in zip(broken, array, strict=True):
        Image.fromarray(image).save(path)
    params = {"checkpoint": tmp_path / "kept", "max_epochs": 2, "callbacks": [Break(broken[3])]}
    with pytest.raises(ImageReadError, match="on_error='skip' trains without"):
        small(SimCLR, **params).fit(broken)
    ssl = small(SimCLR, on_error="skip", **params).fit(broken)
    assert list(ssl.skipped_) == [3]
    assert len(ssl.history_) == 2


class Break(Callback):
    """Empties a file after an epoch."""

    def __init__(self, path):
        self.path = path

    def on_epoch_end(self, net, **kwargs):
        open(self.path, "wb").close()


def test_a_file_that_changes_is_named(array, tmp_path):
    from skorch.callbacks import Callback

    for row, image in enumerate(array):
        Image.fromarray(image).save(tmp_path / f"{row:02}.png")

    class Change(Callback):
        def on_epoch_end(self, net, **kwargs):
            Image.fromarray(array[0]).save(tmp_path / "05.png")
            os.utime(tmp_path / "05.png", (1, 1))

    with pytest.warns(ImageReadWarning, match=r"1 of 48 images changed .*05\.png"):
        small(SimCLR, max_epochs=2, callbacks=[Change()]).fit(tmp_path)


def test_bombs_are_refused(monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 20)
    with pytest.raises(ImageReadError, match=r"exceeds limit .*Set PIL\.Image\.MAX_IMAGE_PIXELS"):
        small(SimCLR).fit([encoded(RGB)] * 4)
    with pytest.raises(ImageReadError, match=r"Set PIL\.Image\.MAX_IMAGE_PIXELS"):
        small(SimCLR).fit([tiff(noise(8, 8, 6), planarconfig="contig")] * 4)


class Stream(IterableDataset):
    def __iter__(self):
        yield RGB


@pytest.mark.parametrize(
    ("X", "error", "message"),
    [
        (lambda folder: folder / "missing", FileNotFoundError, "there are none"),
        (lambda folder: folder / "notes.txt", FileNotFoundError, "there are none"),
        (lambda folder: [str(folder / "gone.png")] * 4, ImageReadError, "gone.png: there is no"),
        (lambda folder: [str(folder)] * 4, ImageReadError, "Is a directory"),
        (lambda folder: [b"", b"", b""], ImageReadError, "row 0 of X, given as bytes: Pillow"),
        (lambda folder: [encoded(RGB), 3, None], TypeError, "row 1 of X is 3"),
        (
            lambda folder: pd.Series([*list_images(folder), None]),
            TypeError,
            "row 48 of X is (None|nan)",
        ),
        (lambda folder: Stream(), TypeError, "only be read in order"),
        (lambda folder: (image for image in [RGB, RGB]), TypeError, r"generator, .*list\(X\)"),
        (lambda folder: map(np.asarray, [RGB, RGB]), TypeError, r"map, .*list\(X\)"),
        (lambda folder: DataLoader(WithLabels(RGB[None])), TypeError, r"X\.dataset"),
        (
            lambda folder: hugging_face([RGB]).with_transform(lambda b: {"label": b["label"]}),
            TypeError,
            "row 0 of the Dataset has the columns label, of which 0 hold images",
        ),
        (lambda folder: [(RGB, 0), RGB], TypeError, "row 1 of X must be a tuple with an image"),
        (
            lambda folder: Items([1, 2]),
            ImageReadError,
            "row 0 of X, given as int: it is not a path",
        ),
        (lambda folder: {"a": [1.0], "b": ["x"]}, TypeError, "of which 0 hold images"),
        (lambda folder: Image.fromarray(RGB), TypeError, "one PIL image"),
    ],
)
def test_what_is_no_collection_of_images(X, error, message, folder):
    learner = small(SimCLR)
    with pytest.raises(error, match=message):
        learner.fit(X(folder))
    assert not hasattr(learner, "net_")


BROKEN = {
    "bytes": lambda contents: contents,
    "pandas": pd.Series,
    "Arrow": lambda contents: pa.table({"image": contents}),
    "Arrow structs": lambda contents: pa.chunked_array(
        [[{"bytes": content, "path": None} for content in contents]]
    ),
    "Hugging Face": lambda contents: datasets.Dataset.from_dict(
        {"image": [{"bytes": content, "path": "a.png"} for content in contents]},
        features=datasets.Features({"image": datasets.Image()}),
    ),
}


@pytest.mark.parametrize("source", BROKEN)
def test_broken_rows_have_a_number(array, source):
    contents = [encoded(image) for image in array[:8]]
    contents[5] = contents[5][:60]
    X = BROKEN[source](contents)
    with pytest.raises(ImageReadError, match=r"cannot read row 5 of X\b"):
        small(SimCLR).fit(X)
    with pytest.raises(ImageReadError, match=r"cannot read row 5 of X_unlabeled\b"):
        small(SimCLR).fit(array, X_unlabeled=X)
    learner = small(SimCLR, on_error="skip")
    with pytest.warns(ImageReadWarning, match="row 5 of X"):
        learner.fit(X)
    assert list(learner.skipped_) == [5]


def test_a_compressed_archive_is_refused(shard, tmp_path):
    packed = tmp_path / "packed.tar"
    with tarfile.open(packed, "w:gz") as tar:
        tar.add(shard)
    with pytest.raises(ValueError, match="unpack it"):
        list_images(packed)


# What is an image in a folder


def place(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(encoded(RGB))


def names_of(folder, source=None):
    return [os.path.relpath(path, folder) for path in list_images(source or folder)]


HIDDEN = ("._0.jpg", ".ipynb_checkpoints/0.jpg", "__MACOSX/0.jpg", "a/@eaDir/0.jpg", "a/.x/0.jpg")


def test_what_is_hidden_is_no_image(tmp_path):
    place(tmp_path / ".photos", "0.jpg", "a/1.jpg", *HIDDEN)
    assert names_of(tmp_path / ".photos") == ["0.jpg", "a/1.jpg"]
    for pattern in ("**/*.jpg", "**", "*.jpg", "*/*.jpg"):
        found = names_of(tmp_path / ".photos", f"{tmp_path}/.photos/{pattern}")
        assert found == {"*.jpg": ["0.jpg"], "*/*.jpg": ["a/1.jpg"]}.get(
            pattern, ["0.jpg", "a/1.jpg"]
        )
    assert names_of(tmp_path, f"{tmp_path}/.photos/a/.x/*.jpg") == [".photos/a/.x/0.jpg"]


@pytest.mark.parametrize("kind", ["tar", "zip"])
def test_what_is_hidden_in_archives_is_no_image(kind, tmp_path):
    path = tmp_path / f"photos.{kind}"
    names = ["./b.jpg", "a/1.jpg", *HIDDEN]
    if kind == "zip":
        with zipfile.ZipFile(path, "w") as file:
            for name in names:
                file.writestr(name, encoded(RGB))
    else:
        with tarfile.open(path, "w") as file:
            for name in names:
                info = tarfile.TarInfo(name)
                info.size = len(encoded(RGB))
                file.addfile(info, io.BytesIO(encoded(RGB)))
    assert names_of(tmp_path) == [f"photos.{kind}::./b.jpg", f"photos.{kind}::a/1.jpg"]


def test_links_are_followed_and_may_form_loops(tmp_path):
    place(tmp_path, "photos/a/0.png", "elsewhere/1.png", "elsewhere/deep/2.png")
    links = {"a/up": "photos", "b": "elsewhere", "c": "elsewhere", "self": "photos/self"}
    for link, target in links.items():
        (tmp_path / "photos" / link).symlink_to(tmp_path / target)
    (tmp_path / "photos" / "linked.png").symlink_to(tmp_path / "photos" / "a" / "0.png")
    expected = ["a/0.png", "b/1.png", "b/deep/2.png", "linked.png"]
    for pattern in ("", "/**", "/**/*.png", "/**/**/*.png"):
        assert names_of(tmp_path / "photos", f"{tmp_path}/photos{pattern}") == expected


def test_links_in_tars_are_followed(tmp_path):
    place(tmp_path / "photos", "a/0.png")
    os.link(tmp_path / "photos" / "a" / "0.png", tmp_path / "photos" / "a" / "1.png")
    (tmp_path / "photos" / "b.png").symlink_to("a/0.png")
    (tmp_path / "photos" / "gone.png").symlink_to("a/9.png")
    with tarfile.open(tmp_path / "photos.tar", "w") as file:
        file.add(tmp_path / "photos", "photos")
    paths = list_images(tmp_path / "photos.tar")
    assert sorted(path.rpartition("/")[2] for path in paths) == sorted(
        ["0.png", "1.png", "b.png", "gone.png"]
    )
    *good, gone = sorted(paths)
    images = read_images(good, estimator=SimCLR()).take(np.arange(3))
    assert (images == images[0]).all()
    with pytest.raises(ImageReadError, match=r"gone\.png: there is no such file"):
        read_images([gone], estimator=SimCLR(), min_images=1)


@pytest.mark.parametrize("pattern", ["", "/**/*.png", "/*/*.png"])
def test_a_folder_that_cannot_be_listed(pattern, tmp_path, monkeypatch):
    """As without the permission, which root does not need."""
    place(tmp_path, "a/0.png", "b/1.png")
    scandir = os.scandir

    def refusing(path):
        if os.fspath(path).endswith("b"):
            raise PermissionError(13, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refusing)
    learner = small(SimCLR)
    with pytest.raises(PermissionError, match=r"cannot be listed \(Permission denied\).*/b'"):
        learner.fit(f"{tmp_path}{pattern}")
    assert not hasattr(learner, "net_")


def qoi(image):
    """The simplest file of this format, which Pillow reads and older ones cannot write."""
    height, width, _ = image.shape
    pixels = b"".join(b"\xfe" + bytes(pixel) for pixel in image.reshape(-1, 3).tolist())
    return struct.pack(">4sIIBB", b"qoif", width, height, 3, 0) + pixels + bytes(7) + b"\x01"


@pytest.mark.parametrize(
    "suffix",
    [
        *("jp2", "tga", "jpe", "pbm", "qoi"),
        pytest.param(
            "avif",
            marks=pytest.mark.skipif(
                Image.registered_extensions().get(".avif") not in Image.SAVE,
                reason="Pillow writes AVIF from 11.3 on; the package supports 10.1",
            ),
        ),
    ],
)
def test_whatever_pillow_reads(suffix, tmp_path):
    path = tmp_path / f"0.{suffix}"
    if suffix == "qoi":
        path.write_bytes(qoi(RGB))
    else:
        Image.fromarray(RGB).save(path)
    assert len(list_images(tmp_path)) == 1
    assert read_images(tmp_path, estimator=SimCLR(), min_images=1).shape[:2] == (8, 8)


def test_heic_is_read_where_its_plugin_is_installed(tmp_path):
    pytest.importorskip("pillow_heif").register_heif_opener()
    Image.fromarray(smooth(32, 32)).save(tmp_path / "0.heic", quality=95)
    (path,) = list_images(tmp_path)
    assert hint_for([".heic"]) == ""
    found = read_images([path], estimator=SimCLR(), min_images=1).take(np.arange(1))[0]
    assert np.abs(found.permute(1, 2, 0).numpy() - smooth(32, 32).astype(float)).mean() < 8


def test_what_an_extra_would_read_is_told(tmp_path, monkeypatch):
    place(tmp_path, "0.png")
    (tmp_path / "1.dcm").write_bytes(bytes(128) + b"DICM")
    monkeypatch.setattr("sklearn_ssl.images._listing.find_spec", lambda name: None)
    monkeypatch.setattr("sklearn_ssl.images._decoding._installed", lambda name: None)
    with pytest.warns(ImageReadWarning, match=r"left out.*sklearn-ssl\[dicom\]' to read \.dcm"):
        assert names_of(tmp_path) == ["0.png"]
    with pytest.raises(ImageReadError, match=r"it is a DICOM file; pip install.*\[dicom\]"):
        load_images([str(tmp_path / "1.dcm")])


def test_what_is_left_out_is_counted(tmp_path):
    place(tmp_path, "0.png", "1.png")
    for name in ("2.ai", "3.AI", "4", "labels.csv", "5.h5", "6.mpg"):
        (tmp_path / name).write_bytes(b"")
    message = r"5 of 8 files in .* are left out.*: \.ai \(2\), no extension \(1\), \.h5 \(1\)"
    with pytest.warns(ImageReadWarning, match=message):
        assert names_of(tmp_path) == ["0.png", "1.png"]
    with pytest.raises(FileNotFoundError, match=r"none that can be read, only \.ai \(1\)"):
        list_images(tmp_path / "2.ai")


@pytest.mark.parametrize("damage", ["a bit", "not an archive", "encrypted"])
def test_archives_that_cannot_be_read(damage, folder, tmp_path):
    path = zipped(folder, tmp_path / "photos.zip")
    content = bytearray(path.read_bytes())
    if damage == "a bit":
        content[100] ^= 8  # within the first image
    elif damage == "encrypted":
        content[content.index(b"PK\1\2") + 8] |= 1
    path.write_bytes(b"no zip" if damage == "not an archive" else content)
    error = ImageReadError if damage == "a bit" else ValueError
    messages = {"a bit": "damaged in the archive", "encrypted": "encrypted"}
    with pytest.raises(error, match=messages.get(damage, "is not a zip")):
        read_images(path, estimator=SimCLR()).take(np.arange(1))


# How they are read


def test_decoders_do_not_change_the_result(array, paths):
    one, two = (small(SimCLR, n_jobs=n).fit(paths) for n in (1, 3))
    np.testing.assert_array_equal(one.transform(paths), two.transform(paths))


@pytest.mark.slow
def test_one_decoder_in_workers():
    n_threads = Parallel(n_jobs=2)(delayed(Reading(n_jobs=-1).n_threads)() for _ in range(2))
    assert n_threads == [1, 1]
    assert Reading(n_jobs=3).n_threads() == 3


def n_threads_in_silence(n_jobs):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return Reading(n_jobs).n_threads()


def test_one_decoder_in_daemons():
    with multiprocessing.get_context("fork").Pool(1) as pool:
        assert pool.map(n_threads_in_silence, [-1, 3, None]) == [1, 1, 1]


class Cluster(ThreadingBackend):
    """Has cores elsewhere, where threads cannot decode."""

    def effective_n_jobs(self, n_jobs):
        return 99


def test_decoders_are_counted_in_cores_of_this_machine():
    with parallel_config(Cluster(), n_jobs=2):
        assert [n_threads_in_silence(n_jobs) for n_jobs in (3, None)] == [3, 2]


def test_arrays_and_files_together(array, paths):
    learner = small(SimCLR).fit(array[:24], X_unlabeled=paths[24:])
    assert np.isfinite(learner.transform(paths)).all()
    learner.fit(paths[:24], X_unlabeled=list(paths[24:]))
    assert np.isfinite(learner.transform(array)).all()


def test_rows_of_files_are_read_in_any_order(array, paths):
    files = Files(paths, Reading(), (8, 8, 3), "uint8")
    rows = np.array([5, 3, 3, 40])
    np.testing.assert_array_equal(files[rows], array[rows])


def flipped(content):
    """As a bad disk gives them back: one bit is another."""
    return content[:-9] + bytes([content[-9] ^ 64]) + content[-8:]


def test_the_decoded_cache(array, tmp_path):
    (tmp_path / "images").mkdir()
    for row, image in enumerate(array):
        Image.fromarray(image).save(tmp_path / "images" / f"{row:02}.png")
    paths, cache = list_images(tmp_path / "images"), tmp_path / "cache"
    plain = small(SimCLR, max_epochs=2).fit(paths)
    cached = small(SimCLR, max_epochs=2, decoded_cache=cache).fit(paths)
    np.testing.assert_array_equal(plain.transform(paths), cached.transform(paths))
    places = sorted(place for place in cache.rglob("*") if place.is_file())
    assert len(places) >= len(paths)

    def decoding(**options):
        raise AssertionError("it is in the cache")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sklearn_ssl.images._files.decode", decoding)
        np.testing.assert_array_equal(plain.transform(array), cached.transform(paths))
    for damage in (flipped, lambda whole: whole[:-9], lambda whole: b""):
        for place in places:  # what is damaged is decoded again
            place.write_bytes(damage(place.read_bytes()))
        np.testing.assert_array_equal(plain.transform(paths), cached.transform(paths))
    for place in places:  # and what is another image
        write_file(place, torch.zeros(3, 3, 1, dtype=torch.uint8))
    np.testing.assert_array_equal(plain.transform(paths), cached.transform(paths))
    Image.fromarray(array[1]).save(paths[0])  # and so is what has changed
    os.utime(paths[0], (1, 1))
    np.testing.assert_array_equal(cached.transform(paths[:1]), plain.transform(array[1:2]))
    left = prune_decoded(cache, 1000)
    assert left == sum(place.stat().st_size for place in cache.rglob("*.*")) <= 1000


@pytest.mark.parametrize("n_jobs", [1, 3])
def test_no_room_in_the_decoded_cache(n_jobs, array, paths, tmp_path, monkeypatch):
    tried = []

    def full(*args, **options):
        tried.append(args)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("sklearn_ssl.images._decoded_cache.write_file", full)
    learner = small(SimCLR, decoded_cache=tmp_path / "cache", n_jobs=n_jobs)
    for call in (learner.fit, learner.transform):
        with pytest.warns(MemoryWarning, match=r"decoded_cache= \(No space left") as seen:
            call(paths)
        assert len([w for w in seen if w.category is MemoryWarning]) == 1
    assert len(tried) <= 2 * n_jobs


def test_a_decoded_cache_that_is_no_folder(paths, tmp_path):
    (tmp_path / "cache").write_text("a file")
    learner = small(SimCLR, decoded_cache=tmp_path / "cache")
    with pytest.raises(OSError, match=r"decoded_cache must be a folder.*/cache'"):
        learner.fit(paths)
    assert not hasattr(learner, "net_")


def test_reading_a_million_paths_touches_few(paths, monkeypatch):
    """Links to few files: what is looked at is a sample."""
    touched = []
    for name in ("stat", "lstat"):
        real = getattr(os, name)
        monkeypatch.setattr(os, name, lambda *a, real=real, **k: touched.append(0) or real(*a, **k))
    images = read_images(list(paths) * 20_000, estimator=SimCLR())
    assert len(images) == 960_000
    assert len(touched) < 5000
