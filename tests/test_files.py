"""Images in files: every source and format gives the features of the decoded array, or an error."""

import io
import os
import tarfile
import warnings

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
import torch
from conftest import LEARNERS, TinyNet, make_images, small
from joblib import Parallel, delayed
from PIL import Image
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, cross_val_score, train_test_split
from sklearn.pipeline import make_pipeline
from skorch.callbacks import Callback
from torch.utils.data import IterableDataset, Subset, TensorDataset
from torchvision.datasets import ImageFolder

from sklearn_ssl import (
    Distillation,
    FineTunedClassifier,
    FineTunedRegressor,
    PretrainedEncoder,
    SelfSupervisedClassifier,
    SelfSupervisedRegressor,
    SimCLR,
    VariationalAutoencoder,
    Views,
    load_images,
)
from sklearn_ssl.exceptions import ImageReadError, ImageReadWarning, PixelRangeWarning
from sklearn_ssl.images import Files, Images, Reading, list_images, prune_decoded, read_images
from sklearn_ssl.inspection import MeasureMonitor, ProbeMonitor
from sklearn_ssl.training import Batches
from sklearn_ssl.views import CenteredImages

datasets = pytest.importorskip("datasets")

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
    "Hugging Face": lambda array, folder, shard: hugging_face(array),
    "its column": lambda array, folder, shard: hugging_face(array)["image"],
    "its rows": lambda array, folder, shard: hugging_face(array)[list(range(len(array)))],
    "transformed": lambda array, folder, shard: hugging_face(array).with_transform(lambda b: b),
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
        TinyNet, max_epochs=1, early_stopping=True, views=STILL, random_state=0
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


def test_images_are_given_back_as_arrays(array, paths):
    vae = small(VariationalAutoencoder).fit(paths)
    np.testing.assert_array_equal(vae.reconstruct(paths), vae.reconstruct(array))


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
    with pytest.warns(ImageReadWarning, match="1 of 2 images could not be read, and are NaN"):
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
    with pytest.raises(ImageReadError, match="no 5 channels"):
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


@pytest.mark.parametrize("format", ["GIF", "TIFF", "WEBP", "PNG"])
def test_several_frames_are_refused(format):
    frames = [Image.fromarray(make_images(1, seed=seed)[0]) for seed in range(3)]
    content = encoded(frames[0], format, save_all=True, append_images=frames[1:])
    with pytest.raises(ImageReadError, match="frames or pages"):
        small(SimCLR).fit([content] * 4)


@pytest.mark.parametrize("order", ["contig", "separate"])
def test_tiffs_of_many_bands(order):
    tifffile = pytest.importorskip("tifffile")
    bands = make_images(4, channels=6).astype(np.uint16) * 100
    X = []
    for image in bands:
        file = io.BytesIO()
        values = image if order == "contig" else image.transpose(2, 0, 1)
        tifffile.imwrite(file, values, planarconfig=order, photometric="minisblack")
        X.append(file.getvalue())
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
    with pytest.raises(OSError, match=r"07\.png: it is no image that Pillow knows$"):
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
    with pytest.warns(ImageReadWarning, match="2 of 10 images .* have NaN in their rows"):
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
@pytest.mark.parametrize("early_stopping", [True, False])
@pytest.mark.parametrize("names", [True, False])
def test_classifiers_leave_out_files_that_cannot_be_read(broken, names, early_stopping):
    y = np.array(["a", "b", "c"])[np.arange(48) % 3] if names else np.arange(48) % 3
    few = SelfSupervisedClassifier(small(SimCLR, on_error="skip")).fit(broken, y)
    assert few.n_labeled_ == 46
    tuned = FineTunedClassifier(
        TinyNet, max_epochs=2, on_error="skip", early_stopping=early_stopping, random_state=0
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
        FineTunedRegressor(TinyNet, max_epochs=1, on_error="skip", random_state=0),
    ):
        regressor.fit(broken, y)
        assert np.flatnonzero(np.isnan(regressor.predict(broken))).tolist() == [3, 4]
        assert regressor.score(broken, y) == regressor.score(broken[GOOD], y[GOOD])


@skips
def test_a_file_that_is_skipped_does_not_lend_its_label_to_another(broken):
    """The image in its place comes with its own."""
    files = read_images(
        broken, estimator=SimCLR(), image_shape=(8, 8), reading=Reading(broken="replace")
    )
    batches = Batches(files, 48, torch.device("cpu"))
    for index in next(iter(batches.in_order(torch.arange(48))))[1:2]:
        assert index.tolist() == [0, 1, 2, 5, 5, *range(5, 48)]


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
    with pytest.raises(ImageReadError, match="on_error='skip' goes on"):
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
    tifffile = pytest.importorskip("tifffile")
    file = io.BytesIO()
    tifffile.imwrite(file, np.zeros((8, 8, 6), np.uint16), photometric="minisblack")
    with pytest.raises(ImageReadError, match=r"Set PIL\.Image\.MAX_IMAGE_PIXELS"):
        small(SimCLR).fit([file.getvalue()] * 4)


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
        (lambda folder: [b"", b"", b""], ImageReadError, "bytes: it is no image"),
        (lambda folder: [encoded(RGB), 3, None], TypeError, "row 1 of X is 3"),
        (
            lambda folder: pd.Series([*list_images(folder), None]),
            TypeError,
            "row 48 of X is (None|nan)",
        ),
        (lambda folder: Stream(), TypeError, "one order only"),
        (lambda folder: {"a": [1.0], "b": ["x"]}, TypeError, "of which 0 hold images"),
        (lambda folder: Image.fromarray(RGB), TypeError, "one PIL image"),
    ],
)
def test_what_is_no_collection_of_images(X, error, message, folder):
    learner = small(SimCLR)
    with pytest.raises(error, match=message):
        learner.fit(X(folder))
    assert not hasattr(learner, "net_")


def test_a_compressed_archive_is_refused(shard, tmp_path):
    packed = tmp_path / "packed.tar"
    with tarfile.open(packed, "w:gz") as tar:
        tar.add(shard)
    with pytest.raises(ValueError, match="unpack it"):
        list_images(packed)


# How they are read


def test_decoders_do_not_change_the_result(array, paths):
    one, two = (small(SimCLR, n_jobs=n).fit(paths) for n in (1, 3))
    np.testing.assert_array_equal(one.transform(paths), two.transform(paths))


def test_one_decoder_in_workers():
    n_threads = Parallel(n_jobs=2)(delayed(Reading(n_jobs=-1).n_threads)() for _ in range(2))
    assert n_threads == [1, 1]
    assert Reading(n_jobs=3).n_threads() == 3


def test_arrays_and_files_together(array, paths):
    learner = small(SimCLR).fit(array[:24], X_unlabeled=paths[24:])
    assert np.isfinite(learner.transform(paths)).all()
    learner.fit(paths[:24], X_unlabeled=list(paths[24:]))
    assert np.isfinite(learner.transform(array)).all()


def test_rows_of_files_are_read_in_any_order(array, paths):
    files = Files(paths, Reading(), (8, 8, 3), "uint8")
    rows = np.array([5, 3, 3, 40])
    np.testing.assert_array_equal(files[rows], array[rows])


def test_the_decoded_cache(array, tmp_path):
    (tmp_path / "images").mkdir()
    for row, image in enumerate(array):
        Image.fromarray(image).save(tmp_path / "images" / f"{row:02}.png")
    paths, cache = list_images(tmp_path / "images"), tmp_path / "cache"
    plain = small(SimCLR, max_epochs=2).fit(paths)
    cached = small(SimCLR, max_epochs=2, decoded_cache=cache).fit(paths)
    np.testing.assert_array_equal(plain.transform(paths), cached.transform(paths))
    places = sorted(cache.rglob("*.npy"))
    assert len(places) >= len(paths)

    def decoding(**options):
        raise AssertionError("it is in the cache")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sklearn_ssl.images._files.decode", decoding)
        np.testing.assert_array_equal(plain.transform(array), cached.transform(paths))
    for place in places:  # what is damaged is decoded again
        place.write_bytes(b"\x93NUMPY damaged")
    np.testing.assert_array_equal(plain.transform(paths), cached.transform(paths))
    Image.fromarray(array[1]).save(paths[0])  # and so is what has changed
    os.utime(paths[0], (1, 1))
    np.testing.assert_array_equal(cached.transform(paths[:1]), plain.transform(array[1:2]))
    left = prune_decoded(cache, 1000)
    assert left == sum(place.stat().st_size for place in cache.rglob("*.npy")) <= 1000


def test_reading_a_million_paths_touches_few(paths, monkeypatch):
    """Links to few files: what is looked at is a sample."""
    touched = []
    for name in ("stat", "lstat"):
        real = getattr(os, name)
        monkeypatch.setattr(os, name, lambda *a, real=real, **k: touched.append(0) or real(*a, **k))
    images = read_images(list(paths) * 20_000, estimator=SimCLR())
    assert len(images) == 960_000
    assert len(touched) < 5000
