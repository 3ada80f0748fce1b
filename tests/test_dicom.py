"""DICOM files are read as viewers show them."""

import io

import numpy as np
import pytest
from conftest import small

from sklearn_ssl import SimCLR, list_images, load_images
from sklearn_ssl.exceptions import ImageReadError, ImageReadWarning

pydicom = pytest.importorskip("pydicom")

VALUES = np.arange(16 * 20, dtype=np.uint16).reshape(16, 20) * 12  # below 2 ** 12


def dicom(values, **tags):
    """The bytes of a file with these values (rows, columns), of 12 bits or of 8-bit colors."""
    file = pydicom.FileDataset(io.BytesIO(), {}, preamble=bytes(128))
    file.file_meta = pydicom.dataset.FileMetaDataset()
    file.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    color = values.dtype == np.uint8
    file.PhotometricInterpretation = "RGB" if color else "MONOCHROME2"
    file.SamplesPerPixel = 3 if color else 1
    if color:
        file.PlanarConfiguration = 0
    file.Rows, file.Columns = values.shape[-3:-1] if color else values.shape[-2:]
    file.BitsAllocated = 8 * values.itemsize
    file.BitsStored = 8 if color else 12
    file.HighBit = file.BitsStored - 1
    file.PixelRepresentation = int(values.dtype.kind == "i")
    file.PixelData = values.tobytes()
    for name, value in tags.items():
        setattr(file, name, value)
    buffer = io.BytesIO()
    file.save_as(buffer, enforce_file_format=False)
    return buffer.getvalue()


def read(content, **options):
    return load_images([content], **options)[0]


def of_16_bits(shares):
    return np.round(np.clip(shares, 0, 1) * 65535)[..., None]


def test_all_values_without_a_window():
    found = read(dicom(VALUES))
    assert found.dtype == np.uint16
    np.testing.assert_allclose(found, of_16_bits(VALUES / 4095), atol=1)


def test_signed_values_are_above_their_least():
    found = read(dicom(VALUES.astype(np.int16) - 2000))
    np.testing.assert_allclose(found, of_16_bits((VALUES + 48.0) / 4095), atol=1)


def test_monochrome1_is_turned_so_that_large_values_are_dark():
    found = read(dicom(VALUES, PhotometricInterpretation="MONOCHROME1"))
    np.testing.assert_allclose(found, of_16_bits(1 - VALUES / 4095), atol=1)


def test_the_window_is_in_units_after_slope_and_intercept():
    """Formula of the standard, PS3.3 C.11.2.1.2.1."""
    tags = {"RescaleSlope": 2, "RescaleIntercept": -1024, "WindowCenter": 40, "WindowWidth": 400}
    found = read(dicom(VALUES, **tags))
    shares = (VALUES * 2.0 - 1024 - (40 - 0.5)) / (400 - 1) + 0.5
    np.testing.assert_allclose(found, of_16_bits(shares), atol=2)
    assert (found == 0).any()
    assert (found == 65535).any()


def test_the_first_of_several_windows_counts():
    several = {"WindowCenter": [2000, 100], "WindowWidth": [1000, 50]}
    first = {"WindowCenter": 2000, "WindowWidth": 1000}
    np.testing.assert_array_equal(read(dicom(VALUES, **several)), read(dicom(VALUES, **first)))


def test_a_table_instead_of_a_window():
    table = pydicom.Dataset()
    table.LUTDescriptor = [4096, 0, 16]
    table.LUTData = (np.arange(4096, dtype=np.uint16)[::-1] * 16).tobytes()
    found = read(dicom(VALUES, VOILUTSequence=[table]))
    np.testing.assert_allclose(found, of_16_bits((4095 - VALUES) * 16 / 65535), atol=1)


def test_colors_are_rgb():
    colors = np.random.default_rng(0).integers(0, 256, (8, 10, 3), dtype=np.uint8)
    np.testing.assert_array_equal(read(dicom(colors)), colors)


def test_colors_of_more_bits_keep_their_brightness():
    colors = np.random.default_rng(0).integers(0, 4096, (8, 10, 3), dtype=np.uint16)
    tags = {"PhotometricInterpretation": "RGB", "SamplesPerPixel": 3, "PlanarConfiguration": 0}
    content = dicom(colors, Rows=8, Columns=10, **tags)
    np.testing.assert_array_equal(read(content), (colors * (255 / 4095)).round())


def test_frames_are_told_and_chosen():
    frames = np.stack([VALUES, VALUES[::-1]])
    content = dicom(frames, NumberOfFrames=2)
    np.testing.assert_array_equal(read(content, pages=1), read(dicom(VALUES[::-1].copy())))
    with pytest.raises(ImageReadError, match="it has 2 frames; pages=0 reads the first one"):
        read(content)
    with pytest.raises(ImageReadError, match="pages=2 asks for page 2, but it has 2"):
        read(content, pages=2)


def test_folders_of_dicom_files_are_pretrained_on(tmp_path):
    for number in range(12):
        (tmp_path / f"{number:02}.dcm").write_bytes(dicom(np.roll(VALUES, 20 * number)))
    paths = list_images(tmp_path)
    assert len(paths) == 12
    features = small(SimCLR, image_shape=(12, 12)).fit(tmp_path).transform(paths)
    assert np.isfinite(features).all()
    assert features.std(0).max() > 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda content: content[:-100], "cannot read row 0 of X"),
        (lambda content: content[:132], "a DICOM file without an image"),
    ],
)
def test_damaged_files_are_named(change, message):
    with pytest.raises(ImageReadError, match=message):
        read(change(dicom(VALUES)))
    with pytest.warns(ImageReadWarning, match="1 of 2 images could not be read"):
        found = load_images([dicom(VALUES), change(dicom(VALUES))], on_error="skip")
    assert np.isnan(found[1]).all()
