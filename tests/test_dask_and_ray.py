"""Searches and features on Dask and Ray: what one process gives, and trained once."""

import os
from pathlib import Path
from unittest import mock

import joblib
import numpy as np
import pytest
import torch
from conftest import TinyNet, make_images, small
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from test_memory import Log, count

from sklearn_ssl import SimCLR, load

dask = pytest.importorskip("dask")
distributed = pytest.importorskip("distributed")

X = make_images(48)
y = np.arange(48) % 3
GRID = {
    "simclr__layer": ["conv", "out"],
    "simclr__pool": ["avg", 2],
    "logisticregression__C": [0.1, 1.0],
}


@pytest.fixture
def one_thread():
    """As workers have: another number of them changes the last bits."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def two_workers(tmp_path_factory):
    """Two processes of Dask, of one thread each."""
    folder = tmp_path_factory.mktemp("dask")
    with (
        mock.patch.dict(os.environ),  # in which Dask leaves what it sets for its workers
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, dashboard_address=None, local_directory=folder
        ) as cluster,
        distributed.Client(cluster) as client,
    ):
        yield client


@pytest.fixture(scope="module")
def ray():
    ray = pytest.importorskip("ray")
    here = {"PYTHONPATH": str(Path(__file__).parent)}
    niceness = {"RAY_worker_niceness": "0"}  # else it waits for all else that runs
    with mock.patch.dict(os.environ, niceness):
        ray.init(num_cpus=2, include_dashboard=False, runtime_env={"env_vars": here})
        yield ray
        ray.shutdown()


def search_with(tmp_path, backend):
    """A search on a backend, and how often it pretrained."""
    log = tmp_path / "log"
    log.touch()
    ssl = small(SimCLR, memory=tmp_path / "memory", callbacks=[Log(str(log))])
    search = GridSearchCV(make_pipeline(ssl, LogisticRegression()), GRID, cv=3, n_jobs=2)
    with joblib.parallel_config(backend):
        search.fit(X, y)
    return search, count(log)


def check_search(found, expected):
    (found, n_pretrainings), (expected, _) = found, expected
    assert n_pretrainings == 3 + 1
    assert found.best_params_ == expected.best_params_
    scores = (search.cv_results_["split2_test_score"] for search in (found, expected))
    np.testing.assert_array_equal(*scores)
    features = (search.best_estimator_[0].set_params(memory=None) for search in (found, expected))
    np.testing.assert_array_equal(*(ssl.transform(X) for ssl in features))


@pytest.mark.slow
def test_search_on_dask(two_workers, one_thread, tmp_path):
    (tmp_path / "plain").mkdir()
    expected = search_with(tmp_path / "plain", "sequential")
    check_search(search_with(tmp_path, "dask"), expected)
    assert len(two_workers.scheduler_info()["workers"]) == 2  # none was lost


@pytest.mark.slow
def test_search_on_ray(ray, one_thread, tmp_path):
    from ray.util.joblib import register_ray

    (tmp_path / "plain").mkdir()
    expected = search_with(tmp_path / "plain", "sequential")
    register_ray()
    check_search(search_with(tmp_path, "ray"), expected)


@pytest.mark.slow
def test_features_of_dask_arrays(two_workers, one_thread):
    import dask.array as da

    ssl = small(SimCLR).fit(X)
    features = da.from_array(X, chunks=(20, -1, -1, -1)).map_blocks(
        ssl.transform,
        dtype=np.float32,
        drop_axis=(1, 2, 3),
        new_axis=1,
        chunks=((20, 20, 8), (len(ssl.get_feature_names_out()),)),
    )
    expected = ssl.transform(X)
    assert features.shape == expected.shape
    for scheduler in ("synchronous", "threads", two_workers):
        np.testing.assert_array_equal(features.compute(scheduler=scheduler), expected)


@pytest.mark.slow
def test_features_of_dask_bags(two_workers, one_thread):
    import dask.bag as db

    ssl = small(SimCLR).fit(X)
    bag = db.from_sequence(list(X), npartitions=3)
    rows = bag.map_partitions(lambda images: list(ssl.transform(np.stack(list(images)))))
    np.testing.assert_array_equal(np.stack(rows.compute(scheduler=two_workers)), ssl.transform(X))


class Features:
    """A learner of a file, read once a worker."""

    def __init__(self, file):
        self.ssl = load(file, encoder=TinyNet)

    def __call__(self, batch):
        return {"row": batch["row"], "features": self.ssl.transform(batch["image"])}


@pytest.mark.slow
def test_features_of_ray_data(ray, one_thread, tmp_path):
    ssl = small(SimCLR).fit(X)
    ssl.save(tmp_path / "simclr.safetensors")
    table = ray.data.from_items([{"row": i, "image": image} for i, image in enumerate(X)])
    rows = table.map_batches(
        Features,
        fn_constructor_args=[tmp_path / "simclr.safetensors"],
        batch_size=20,
        concurrency=2,
    ).take_all()
    found = np.stack([row["features"] for row in sorted(rows, key=lambda row: row["row"])])
    np.testing.assert_array_equal(found, ssl.transform(X))
