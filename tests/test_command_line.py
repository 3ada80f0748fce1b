"""python -m sklearn_ssl embed"""

import os
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from conftest import make_images, small
from PIL import Image

from sklearn_ssl import SimCLR, list_images
from sklearn_ssl.__main__ import main


@pytest.fixture
def place(tmp_path):
    """A folder of images, and a saved learner."""
    (tmp_path / "photos").mkdir()
    X = make_images()
    for row, image in enumerate(X):
        Image.fromarray(image).save(tmp_path / "photos" / f"{row:02}.png")
    small(SimCLR, encoder="small_resnet", pool=1).fit(X).save(tmp_path / "learner")
    return tmp_path


def embed(place, output, *more):
    photos, learner, output = (str(place / name) for name in ("photos", "learner", output))
    main(["embed", photos, "--learner", learner, "--output", output, *more])


@pytest.mark.parametrize("output", ["features.parquet", "features.csv"])
def test_a_table_of_features(output, place):
    embed(place, output)
    read = pd.read_parquet if output.endswith("parquet") else pd.read_csv
    table = read(place / output)
    assert list(table["path"]) == list(list_images(place / "photos"))
    from sklearn_ssl import load

    learner = load(place / "learner")
    names = list(learner.get_feature_names_out())
    assert list(table.columns) == ["path", *names]
    np.testing.assert_allclose(table[names], learner.transform(place / "photos"), rtol=1e-5)
    assert sorted(os.listdir(place)) == sorted([output, "learner", "photos"])


def test_it_goes_on_where_it_was_stopped(place, monkeypatch):
    monkeypatch.setattr("sklearn_ssl.__main__._ROWS_AT_ONCE", 20)
    transformed = []
    whole = SimCLR.transform

    def stops(self, X):
        if len(transformed) == 2:
            raise KeyboardInterrupt
        transformed.append(len(X))
        return whole(self, X)

    monkeypatch.setattr(SimCLR, "transform", stops)
    with pytest.raises(KeyboardInterrupt):
        embed(place, "features.parquet")
    assert not (place / "features.parquet").exists()
    transformed.clear()
    embed(place, "features.parquet")
    assert transformed == [8]
    assert len(pd.read_parquet(place / "features.parquet")) == 48
    transformed.clear()
    with pytest.raises(KeyboardInterrupt):
        embed(place, "features.parquet", "--layer", "layer1")
    assert transformed == [20, 20]  # of another layer nothing is there yet


def test_images_that_were_replaced_are_read_again(place, monkeypatch):
    """So are parts that a power cut has damaged."""
    monkeypatch.setattr("sklearn_ssl.__main__._ROWS_AT_ONCE", 20)
    embed(place, "once.csv")

    def stopped(*args):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("sklearn_ssl.__main__._write", stopped)
        with pytest.raises(KeyboardInterrupt):
            embed(place, "again.csv")
    parts = sorted((place / ".again.csv.parts").glob("0*"))
    assert len(parts) == 3
    parts[0].write_bytes(b"")
    os.replace(place / "photos" / "30.png", place / "photos" / "31.png")
    Image.fromarray(make_images(1, seed=7)[0]).save(place / "photos" / "30.png")
    embed(place, "again.csv")
    embed(place, "anew.csv")
    once, again, anew = (pd.read_csv(place / f"{name}.csv") for name in ("once", "again", "anew"))
    assert again.equals(anew)
    assert np.flatnonzero((again != once).any(axis=1)).tolist() == [30, 31]


@pytest.mark.skipif(
    sys.platform != "linux", reason="macOS and Windows refuse file names that are not Unicode"
)
@pytest.mark.parametrize("output", ["features.parquet", "features.csv"])
def test_names_that_are_not_unicode(output, place, capsys):
    os.replace(
        place / "photos" / "05.png", os.path.join(os.fsencode(place / "photos"), b"\xe9.png")
    )
    embed(place, output, "--quiet")
    read = pd.read_parquet if output.endswith("parquet") else pd.read_csv
    paths = read(place / output)["path"]
    assert paths.iloc[-1] == str(place / "photos" / "\\xe9.png")
    said = f"1 of 48 paths are not UTF-8; the table escapes their bytes, as in {paths.iloc[-1]}\n"
    assert capsys.readouterr().err == said  # and no progress


def test_broken_files(place, capsys):
    (place / "photos" / "05.png").write_bytes(b"no image")
    with pytest.raises(SystemExit):
        embed(place, "features.parquet")
    assert "05.png: Pillow does not recognize it" in capsys.readouterr().err
    with pytest.warns(UserWarning, match="NaN"):
        embed(place, "features.parquet", "--skip")
    assert np.flatnonzero(pd.read_parquet(place / "features.parquet").isna().any(axis=1)) == [5]


def test_the_home_directory(place, monkeypatch):
    """Shells do not expand ``--output=~/features.csv``."""
    for name in ("HOME", "USERPROFILE"):
        monkeypatch.setenv(name, str(place))
    main(["embed", "~/photos", "--learner=~/learner", "--output=~/new/features.csv", "--quiet"])
    assert len(pd.read_csv(place / "new" / "features.csv")) == 48


def test_a_folder_as_output_is_refused_first(place, capsys):
    (place / "features.csv").mkdir()
    with pytest.raises(SystemExit):
        embed(place, "features.csv")
    assert "--output is a folder" in capsys.readouterr().err


def test_from_a_shell(place):
    command = [sys.executable, "-m", "sklearn_ssl", "embed", "missing", "--learner", "learner"]
    done = subprocess.run(
        [*command, "--output", "features.txt"],
        cwd=place,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr == "python -m sklearn_ssl: --output must end in .parquet or .csv\n"
