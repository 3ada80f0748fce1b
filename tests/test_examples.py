"""The code that is shown to people runs: README, docs, and the scripts in examples/."""

import json
import os
import re
import sys
import tempfile
import warnings
from pathlib import Path
from unittest import mock

import matplotlib.pyplot as plt
import numpy as np
import pytest
import sklearn.datasets
import torch
from conftest import make_images
from PIL import Image
from sklearn.datasets import load_digits

ROOT = Path(__file__).parents[1]
SLOW = pytest.mark.slow
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCKS = [
    pytest.param(
        block,
        id=f"{page.name}-{i}",
        # those that people read first, and how to write a method; others hardly differ
        marks=() if page.stem in ("README", "getting_started", "architecture") else SLOW,
    )
    for page in PAGES
    for i, block in enumerate(re.findall(r"```python\n(.*?)```", page.read_text(), re.S))
]


@pytest.fixture
def benchmarks(monkeypatch):
    """The folder of the benchmark scripts can be imported from."""
    monkeypatch.syspath_prepend(str(ROOT / "examples" / "benchmarks"))
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


@pytest.mark.parametrize("block", BLOCKS)
def test_code_in_the_docs_runs(block, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)  # files that it writes
    (tmp_path / "photos").mkdir()
    for i, photo in enumerate(make_images(24, 16, 20)):
        Image.fromarray(photo).save(tmp_path / "photos" / f"{i}.jpg")
    digits = load_digits()
    X, y = digits.images, digits.target = digits.images[:120], digits.target[:120]
    monkeypatch.setattr(sklearn.datasets, "load_digits", lambda: digits)
    names = {
        "X_unlabeled": X,
        "X_labeled": X[:80],
        "y_labeled": y[:80],
        "X_test": X[80:],
        "y_test": y[80:],
    }
    quick = re.sub(r"max_epochs=\d+", "max_epochs=1", block)
    quick = re.sub(r"time_budget=\d+", "time_budget=2", quick)
    quick = re.sub(r"n_atoms=\d+, patch_size=8", "n_atoms=40, patch_size=3", quick)
    quick = quick.replace("n_labels=(20, 50), verbose=1", "n_labels=(20,), n_splits=2, n_fits=1")
    quick = quick.replace("n_labels=(20, 50), n_splits=3", "n_labels=(20,), n_splits=2")
    quick = quick.replace("n_labels=(20, 50), n_fits=2", "n_labels=(20,), n_splits=2, n_fits=2")
    assert quick != block or "SimCLR(" not in block
    # Ray's workers wait for all else that runs, and Dask leaves in it what it sets for its own
    with mock.patch.dict(os.environ, {"RAY_worker_niceness": "0"}):
        exec(quick, names)


@pytest.mark.slow
def test_auto_features_benchmark(benchmarks, monkeypatch, tmp_path, capsys):
    import auto_features

    images, labels = make_images(200, 16, 16), np.arange(200) % 2
    monkeypatch.setattr(auto_features, "load_images", lambda *args: (images, labels))
    output = tmp_path / "auto.jsonl"
    argv = ["auto_features.py", "--output", str(output), "--seeds", "0", "--minutes", "0.03"]
    offline = [name for name in auto_features.NAMES if name != "frozen weights"]
    monkeypatch.setattr(sys, "argv", [*argv, "--labels", "50", "--methods", *offline])
    auto_features.main()
    lines = [json.loads(line) for line in output.read_text().splitlines()]
    assert [line["method"] for line in lines] == offline
    assert all(0 < line["accuracy"] <= 1 for line in lines)
    auto_features.main()  # all is done
    assert len(output.read_text().splitlines()) == len(lines)
    monkeypatch.setattr(sys, "argv", [*argv, "--table"])
    capsys.readouterr()
    auto_features.main()
    shown = capsys.readouterr().out.splitlines()
    assert len(shown) == 5
    assert "points from its best part on average" in shown[-1]


@pytest.mark.slow
def test_minutes_benchmark(benchmarks, monkeypatch, tmp_path, capsys):
    import minutes

    images, labels = make_images(200, 16, 16), np.arange(200) % 2
    monkeypatch.setattr(minutes, "load_images", lambda *args: (images, labels))
    output = tmp_path / "minutes.jsonl"
    argv = ["minutes.py", "--output", str(output), "--seeds", "0", "--minutes", "0.02"]
    argv += ["--labels", "150", "--methods", "features", "supervised", "--rivals", "PCA", "HOG"]
    monkeypatch.setattr(sys, "argv", argv)
    minutes.main()
    lines = [json.loads(line) for line in output.read_text().splitlines()]
    methods = ["features, 0.02 min", "linear, 0.02 min", "supervised, 0.02 min", "PCA", "HOG"]
    assert [line["method"] for line in lines] == methods
    assert all(0 < line["accuracy"] <= 1 for line in lines)
    minutes.main()  # all is done
    assert len(output.read_text().splitlines()) == 5
    monkeypatch.setattr(sys, "argv", [*argv, "--table"])
    capsys.readouterr()
    minutes.main()
    assert len(capsys.readouterr().out.splitlines()) == 7


@pytest.mark.slow
@pytest.mark.parametrize(
    "row",
    [
        *("simclr-200", "byol-200", "moco-200", "emp-ssl-1", "resnet50-224"),
        *("patches-triangle", "patches-kernel"),
    ],
)
def test_published_figures(row, benchmarks, monkeypatch, tmp_path, capsys):
    """Each kind of row runs, with 200 images."""
    import published

    images, labels = make_images(250, 32, 32), np.arange(250) % 2
    images[labels == 1, ..., 1] //= 4
    monkeypatch.setattr(published, "load_images", lambda *args, **kw: (images, labels))
    for i in range(120):
        Image.fromarray(images[i]).save(tmp_path / f"{i}.jpg")
    output = tmp_path / "published.jsonl"
    argv = ["published.py", "--output", str(output)]
    run = [row, "--data", str(tmp_path), "--dry-run", "--checkpoint", str(tmp_path / "runs")]
    monkeypatch.setattr(sys, "argv", [*argv, *run])
    published.main()
    line = json.loads(output.read_text())
    assert line["row"] == row
    if "n_features" in line:  # the last layer's average, as in the publications
        assert line["n_features"] == 128
    assert all(line[probe] > 0.9 for probe in ("linear", "SVM", "kernel") if probe in line)
    monkeypatch.setattr(sys, "argv", [*argv, "--table"])
    capsys.readouterr()
    published.main()
    assert capsys.readouterr().out.splitlines()[-1].startswith(f"| {row} | ")


@pytest.mark.slow
def test_published_rows_continue(benchmarks, monkeypatch, tmp_path):
    import published

    images, options = make_images(100, 16, 16), {"encoder": "small_convnet", "batch_size": 25}
    options |= {"max_epochs": 30, "checkpoint": tmp_path, "random_state": 0}
    # imports that the first step makes must not be interrupted
    published.SimCLR(encoder="small_convnet", batch_size=25, max_epochs=1).fit(images)
    assert published.train(published.SimCLR(**options), images, 1.0) is None
    learner = published.SimCLR(**options)
    assert published.train(learner, images, None) > 0
    assert learner.n_epochs_ == 30


def test_squared_hinge_svm(benchmarks):
    """It finds what liblinear finds."""
    from published import SquaredHingeSVM
    from sklearn.svm import LinearSVC

    X, y = load_digits(return_X_y=True)
    X = ((X - X.mean(0)) / (X.std(0) + 1)).astype(np.float32)
    X, others = X[:800], X[800:]
    ours = SquaredHingeSVM(0.01).fit(X, y[:800])
    theirs = LinearSVC(C=0.01, intercept_scaling=100).fit(X, y[:800])
    np.testing.assert_allclose(ours.coef_.numpy().T[:10], theirs.coef_, atol=2e-3)
    assert (ours.predict(others) == theirs.predict(others)).mean() > 0.995


def test_blocks_solve_what_lapack_solves(benchmarks):
    from published import solved

    generator = torch.Generator().manual_seed(0)
    factor = torch.randn(70, 70, generator=generator, dtype=torch.float64)
    matrix = factor @ factor.T + torch.eye(70)
    targets = torch.randn(70, 3, generator=generator, dtype=torch.float64)
    expected = torch.linalg.solve(matrix, targets)
    lower = matrix.tril() + torch.full((70, 70), 9.0).triu(1)  # is not read
    np.testing.assert_allclose(solved(lower, targets, size=16), expected, rtol=1e-8)


@pytest.mark.parametrize(
    "name",
    [
        "SimCLR",
        pytest.param("MaskedAutoencoder", marks=pytest.mark.slow),
        pytest.param("MultiTask", marks=pytest.mark.slow),
    ],
)
def test_methods_benchmark(name, benchmarks, tmp_path, capsys):
    import methods

    parts = make_images(60, 16, 16), make_images(30, 16, 16, seed=1), *np.ogrid[:60, :30]
    for i, part in enumerate(parts):
        np.save(tmp_path / f"{i}.npy", part if i < 2 else part.ravel() % 3)
    lines = [methods.run("digits", tmp_path, 0.01, name, 0, random) for random in (True, False)]
    start, trained = lines
    assert start["epochs"] == 0 < trained["epochs"]
    assert start["history"] is None
    assert np.isfinite(trained["history"]["train_loss"])
    assert min(start["accuracy"], trained["accuracy"]) > 0
    assert trained["peak_mib"] > 10
    methods.print_table([start | {"method": methods.start_of(name)}, trained], "digits")
    table = capsys.readouterr().out.splitlines()
    assert len(table) == 3
    assert table[2].startswith(f"| {name} | ")
    assert "nan" not in table[2]


def test_methods_benchmark_takes_a_share_where_an_epoch_is_too_long(
    benchmarks, monkeypatch, tmp_path
):
    import methods

    parts = make_images(400, 8, 8), make_images(30, 8, 8, seed=1), *np.ogrid[:400, :30]
    for i, part in enumerate(parts):
        np.save(tmp_path / f"{i}.npy", part if i < 2 else part.ravel() % 3)
    monkeypatch.setattr(methods, "images_in", lambda *args: 299.5)
    line = methods.run("digits", tmp_path, None, "SimCLR", 0, random=False)
    assert line["epochs"] == 300 / 400
    assert line["history"]["epoch"] == 1


def test_costs_say_what_no_gpu_was_measured_for(benchmarks, monkeypatch, tmp_path, capsys):
    import costs

    measured = json.loads((ROOT / "examples" / "benchmarks" / "costs.json").read_text())
    for of_gpu in ({}, {"step": 1e-3, "views": 1e-4, "transform": 3e-4}):
        (tmp_path / "costs.json").write_text(json.dumps(measured | of_gpu))
        monkeypatch.setattr(sys, "argv", ["costs.py", "--output", str(tmp_path / "costs.json")])
        costs.main()
        said = capsys.readouterr().out
        assert "| 64 | 16,384 | 8.8 ms | 2.0 ms | 21.5 ms | 0.73 |" in said
        assert ("has no GPU measurements" in said) == (not of_gpu)
        assert ("speedup" in said) == bool(of_gpu)
    assert "| 1 | 256 | 230 ms | 26 ms | 0 ms | 1,000 | 1.0 | GPU |" in said


@pytest.mark.slow
def test_encoders_benchmark(benchmarks, monkeypatch, tmp_path, capsys):
    import encoders

    images, labels = make_images(200, 16, 16), np.arange(200) % 2
    monkeypatch.setattr(encoders, "load_images", lambda path: (images, labels))
    output = tmp_path / "encoders.jsonl"
    argv = ["encoders.py", "--output", str(output), "--seeds", "0", "--seconds", "0.1"]
    argv += ["--encoders", "small_resnet", "small_convnet"]
    monkeypatch.setattr(sys, "argv", argv)
    with warnings.catch_warnings(action="ignore"):
        encoders.main()
    monkeypatch.setattr(sys, "argv", [*argv, "--table"])
    capsys.readouterr()
    encoders.main()
    table = capsys.readouterr().out.splitlines()
    assert [row.split("`")[1] for row in table[2:]] == ["small_resnet", "small_convnet"]
    assert "nan" not in "".join(table)


@pytest.mark.slow
def test_pictures_of_the_families(benchmarks, monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(str(ROOT / "examples"))
    import family_pictures

    images = make_images(64, 16, 16), np.zeros(64)
    monkeypatch.setattr(family_pictures, "load_images", lambda path, side: images)
    argv = ["family_pictures.py", "--seconds", "0", "--output", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", argv)
    family_pictures.main()
    found = {path.stem: np.asarray(Image.open(path)) for path in tmp_path.glob("*.png")}
    assert found.keys() == {
        *("contrastive", "generative", "joint_embedding", "multitask", "predictive")
    }
    assert all(len(np.unique(pixels)) > 50 for pixels in found.values())  # of a palette of 256


TASKS = sorted((ROOT / "examples" / "tasks").glob("*.py"))


@pytest.mark.parametrize(
    "script",
    [pytest.param(x, id=x.stem, marks=() if x.stem == "retrieval" else SLOW) for x in TASKS],
)
def test_examples_of_the_gallery(script, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(tempfile, "mkdtemp", lambda: str(tmp_path))
    code = re.sub(r"max_epochs=\d+", "max_epochs=1", script.read_text())
    code = re.sub(r"time_budget=\d+", "time_budget=2", code)
    code = code.replace("side, step = 12, 4", "side, step = 12, 10")
    code = code.replace("n_labels=(20, 100), n_splits=3", "n_labels=(20,), n_splits=2")
    try:
        exec(compile(code, script, "exec"), {"__name__": script.stem})
        figures = [plt.figure(number) for number in plt.get_fignums()]
        assert all(figure.axes for figure in figures)
        assert figures or script.stem == "many_files"
    finally:
        plt.close("all")
    shown = capsys.readouterr().out
    assert re.search(r"\d", shown)
    assert "nan" not in shown.lower()
