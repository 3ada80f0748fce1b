"""Learners in pipelines and searches, pickled, seeded, continued and watched."""

import functools
import io
import os
import pickle
import random
import subprocess
import sys
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import joblib
import numpy as np
import pytest
import skorch.callbacks
import torch
from conftest import LEARNERS, TinyNet, every_kind, every_learner, make_images, small
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils import check_random_state
from torch import nn

import sklearn_ssl
from sklearn_ssl import DenoisingAutoencoder, SimCLR
from sklearn_ssl.exceptions import DivergenceError, LittleTrainingWarning
from sklearn_ssl.images import read_images
from sklearn_ssl.training import Batches, PretextNet, ProgressBar
from sklearn_ssl.training._pickling import module_from_bytes, module_to_bytes

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


@pytest.fixture
def labels(images):
    """Whether the upper half is brighter than the lower one."""
    return (images[:, :4].mean((1, 2, 3)) > images[:, 4:].mean((1, 2, 3))).astype(int)


def pipeline(**params):
    return Pipeline(
        [
            ("ssl", small(SimCLR, **params)),
            ("scale", StandardScaler()),
            ("logisticregression", LogisticRegression()),
        ]
    )


# Pipelines and searches


def test_all_estimators_lists_the_public_learners():
    found = dict(sklearn_ssl.all_estimators())
    assert {"SimCLR", "CPC", "DenoisingAutoencoder", "RotationPrediction"} <= set(found)
    assert all(getattr(sklearn_ssl, name) is cls for name, cls in found.items())


@every_kind
def test_pipeline_scores_and_cross_validates(Learner, images, labels):
    pipe = make_pipeline(small(Learner), StandardScaler(), LogisticRegression())
    bright = (images.mean((1, 2, 3)) > np.median(images.mean((1, 2, 3)))).astype(int)
    assert pipe.fit(images, bright).score(images, bright) > 0.9
    scores = cross_val_score(pipe, images, labels, cv=2)
    assert scores.shape == (2,)
    np.testing.assert_array_equal(scores, cross_val_score(pipe, images, labels, cv=2))


def test_grid_search_in_workers_finds_what_one_process_finds(images, labels):
    grid = {
        "ssl__lr": [1e-3, 1e-2],
        "ssl__layer": ["conv", "out"],
        "logisticregression__C": [0.1, 1],
    }
    one_thread = torch.get_num_threads()
    torch.set_num_threads(1)  # as workers have
    try:
        here = GridSearchCV(pipeline(), grid, cv=2).fit(images, labels)
    finally:
        torch.set_num_threads(one_thread)
    with joblib.parallel_config("loky", inner_max_num_threads=1):
        there = GridSearchCV(pipeline(), grid, cv=2, n_jobs=2).fit(images, labels)
    assert len(here.cv_results_["params"]) == 8
    np.testing.assert_array_equal(
        here.cv_results_["mean_test_score"], there.cv_results_["mean_test_score"]
    )
    assert here.best_params_ == there.best_params_


def test_search_over_views(images, labels):
    pipe = pipeline(views=sklearn_ssl.Views(size=8))
    search = GridSearchCV(pipe, {"ssl__views__size": [6, 8]}, cv=2).fit(images, labels)
    sizes = [params["ssl__views__size"] for params in search.cv_results_["params"]]
    assert sizes == [6, 8]
    task = search.best_estimator_["ssl"].net_.module_.task
    size = search.best_params_["ssl__views__size"]
    assert task.views(torch.zeros(2, 3, 8, 8))[0].shape[2:] == (size, size)


def test_unlabeled_images_through_a_pipeline(images, labels):
    few, rest = images[:16], images[16:]
    pipe = pipeline().fit(few, labels[:16], ssl__X_unlabeled=rest)
    expected = small(SimCLR).fit(images).transform(images)
    np.testing.assert_array_equal(pipe["ssl"].transform(images), expected)


# Seeds


@every_kind
def test_clone_and_refit_are_identical(Learner, images):
    learner = small(Learner).fit(images)
    expected = learner.transform(images)
    np.testing.assert_array_equal(clone(learner).fit(images).transform(images), expected)
    np.testing.assert_array_equal(learner.fit(images).transform(images), expected)
    other = small(Learner, random_state=1).fit(images).transform(images)
    assert np.abs(other - expected).max() > 1e-3


def fitted_features(Learner, threads):
    torch.set_num_threads(threads)
    return small(Learner).fit(make_images()).transform(make_images())


@every_kind
def test_worker_gives_the_same_bits(Learner):
    threads = torch.get_num_threads()
    try:
        here = fitted_features(Learner, 1)
    finally:
        torch.set_num_threads(threads)
    there = joblib.Parallel(n_jobs=2, backend="loky")(
        joblib.delayed(fitted_features)(Learner, 1) for _ in range(2)
    )
    np.testing.assert_array_equal(here, there[0])
    np.testing.assert_array_equal(here, there[1])


def features_of_two_encoders():
    """Features, as learned with two threads."""
    torch.set_num_threads(2)
    learners = (
        small(SimCLR, encoder=encoder, batch_size=16) for encoder in ("small_resnet", "small_vit")
    )
    X = make_images(32)
    return np.concatenate([learner.fit(X).transform(X) for learner in learners], axis=1)


def test_a_fit_in_a_new_process_gives_the_same_bits(tmp_path):
    threads = torch.get_num_threads()
    try:
        here = features_of_two_encoders()
    finally:
        torch.set_num_threads(threads)
    code = (
        "import numpy as np, test_learner\n"
        f"np.save({str(tmp_path / 'there.npy')!r}, test_learner.features_of_two_encoders())"
    )
    patient = {**os.environ, "OMP_WAIT_POLICY": "passive"}  # beside other tests
    subprocess.run([sys.executable, "-c", code], check=True, env=patient, cwd=Path(__file__).parent)
    np.testing.assert_array_equal(np.load(tmp_path / "there.npy"), here)


@every_kind
@pytest.mark.parametrize("seed", [0, None])
def test_global_generators_are_left_alone(Learner, images, seed):
    of_numpy = check_random_state(None)  # the global one
    before = of_numpy.get_state()[1].copy(), random.getstate(), torch.get_rng_state()
    learner = small(Learner, random_state=seed).fit(images)
    learner.transform(images)
    learner.partial_fit(images)
    np.testing.assert_array_equal(of_numpy.get_state()[1], before[0])
    assert random.getstate() == before[1]
    assert torch.equal(torch.get_rng_state(), before[2])


def test_global_seed_does_not_matter(images):
    torch.manual_seed(1)
    first = small(SimCLR).fit(images).transform(images)
    torch.manual_seed(2)
    np.testing.assert_array_equal(small(SimCLR).fit(images).transform(images), first)


def test_features_do_not_depend_on_the_other_images(images):
    learner = small(SimCLR).fit(images)
    together = learner.transform(images)
    np.testing.assert_array_equal(learner.transform(images[7:8])[0], together[7])


# Pickles


LOAD = """
import pickle, sys, numpy as np
sys.path.insert(0, {folder!r})
learners, X = pickle.load(open({path!r}, "rb"))
np.savez({out!r}, *[learner.transform(X) for learner in learners])
for learner in learners:
    learner.partial_fit(X)  # the optimizer came along
"""


@pytest.mark.slow
def test_pickles_in_a_new_process(images, tmp_path):
    learners = [small(Learner).fit(images) for _, Learner in LEARNERS]
    path, out = str(tmp_path / "learners.pkl"), str(tmp_path / "features.npz")
    with open(path, "wb") as file:
        pickle.dump((learners, images), file)
    folder = str(sys.modules["conftest"].__file__).rsplit("/", 1)[0]
    code = LOAD.format(path=path, out=out, folder=folder)
    subprocess.run([sys.executable, "-c", code], check=True)
    there = np.load(out)
    for i, learner in enumerate(learners):
        expected = learner.transform(images)
        np.testing.assert_array_equal(there[f"arr_{i}"], expected, type(learner).__name__)


@every_kind
def test_joblib_dump_and_load(Learner, images, tmp_path):
    learner = small(Learner).fit(images)
    joblib.dump(learner, tmp_path / "learner.joblib")
    loaded = joblib.load(tmp_path / "learner.joblib")
    np.testing.assert_array_equal(loaded.transform(images), learner.transform(images))
    assert loaded.history_ == learner.history_


def test_pickle_of_a_gpu_fit_loads_without_one(images):
    """Stands in for a GPU: the learner asks for a device that is gone when it is loaded."""
    learner = small(SimCLR).fit(images)
    expected = learner.transform(images)
    learner.device = learner.net_.device = "cuda:7"
    data = pickle.dumps(learner)
    with pytest.warns(sklearn_ssl.exceptions.UnavailableDeviceWarning, match="using the CPU"):
        loaded = pickle.loads(data)
    assert learner.net_.device == "cuda:7"  # stays where it is
    assert loaded.device == "cuda:7"
    assert loaded.net_.device == "cpu"
    assert loaded.device_ == torch.device("cpu")
    np.testing.assert_array_equal(loaded.transform(images), expected)


@pytest.mark.gpu
@every_learner
def test_gpu_steps_do_not_wait_for_the_device(Learner, images, monkeypatch):
    step = PretextNet.train_step

    def strict(self, batch, **params):
        torch.cuda.set_sync_debug_mode("error")
        try:
            return step(self, batch, **params)
        finally:
            torch.cuda.set_sync_debug_mode("default")

    monkeypatch.setattr(PretextNet, "train_step", strict)
    assert small(Learner, device="cuda").fit(images).n_epochs_ == 1


@pytest.mark.gpu
def test_gpu_generators_are_left_alone_and_images_stay_uint8(images):
    before = torch.cuda.get_rng_state()
    learner = small(SimCLR, device="cuda").fit(images)
    learner.transform(images)
    assert torch.equal(torch.cuda.get_rng_state(), before)
    read = read_images(images, estimator=clone(learner))
    batches = Batches(read, 16, torch.device("cuda"))
    assert batches.resident.dtype == torch.uint8
    assert batches.resident.device.type == "cuda"


@pytest.mark.gpu
@every_learner
def test_gpu_fit_and_pickle(Learner, images, monkeypatch):
    learner = small(Learner, device="cuda").fit(images)
    features = learner.transform(images)
    np.testing.assert_array_equal(clone(learner).fit(images).transform(images), features)
    data = pickle.dumps(learner)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    with pytest.warns(sklearn_ssl.exceptions.UnavailableDeviceWarning):
        loaded = pickle.loads(data)
    np.testing.assert_allclose(loaded.transform(images), features, rtol=0.1, atol=0.05)


# Images of any shape


@every_kind
@pytest.mark.parametrize(
    "shape",
    [(8, 8, 1), (14, 20, 5), (9, 9, 2), pytest.param((96, 96, 3), marks=pytest.mark.slow)],
)
def test_images_of_any_shape(Learner, shape):
    X = make_images(7, *shape)  # the last batch would be of one image
    learner = small(Learner, batch_size=3).fit(X)
    features = learner.transform(X)
    assert features.shape == (7, learner.get_feature_names_out().size)
    assert np.isfinite(features).all()
    assert features.std(0).max() > 1e-4


# Epochs and continued fits


@every_kind
def test_no_epochs_give_the_encoder_as_it_starts(Learner, images):
    learner = small(Learner, max_epochs=0).fit(images)
    assert learner.history_ == []
    assert learner.n_epochs_ == 0
    trained = small(Learner, max_epochs=1).fit(images)
    assert np.abs(learner.transform(images) - trained.transform(images)).max() > 1e-3


@every_kind
def test_history_has_a_record_for_each_epoch(Learner, images):
    learner = small(Learner, max_epochs=2).fit(images)
    assert learner.n_epochs_ == len(learner.history_) == 2
    for epoch, record in enumerate(learner.history_, start=1):
        assert record["epoch"] == epoch
        assert np.isfinite(record["train_loss"])
        assert record["lr"] > 0
        assert record["seconds"] > 0
        assert record["images_per_second"] > 0
        assert record["feature_spread"] > 0


@every_kind
def test_continues_from_a_file_as_if_it_had_not_been_away(Learner, images):
    learner = small(Learner, max_epochs=2, warm_start=True).fit(images)
    loaded = pickle.loads(pickle.dumps(learner))
    for other in (learner, loaded):
        other.fit(images).partial_fit(images)
    assert loaded.n_epochs_ == 5
    found, expected = (other.net_.module_.state_dict() for other in (loaded, learner))
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], value) for name, value in expected.items())
    np.testing.assert_array_equal(loaded.transform(images), learner.transform(images))


def test_warm_start_continues(images):
    learner = small(SimCLR, warm_start=True).fit(images)
    first = learner.transform(images)
    learner.fit(images)
    assert learner.n_epochs_ == 2
    assert np.abs(learner.transform(images) - first).max() > 1e-4
    cold = small(SimCLR).fit(images).fit(images)
    assert cold.n_epochs_ == 1


def test_warm_start_takes_another_optimizer_and_rate(images):
    learner = small(SimCLR, warm_start=True).fit(images)
    learner.set_params(optimizer="sgd", lr=0.1, batch_size=8).fit(images)
    assert isinstance(learner.net_.optimizer_, torch.optim.SGD)
    assert learner.history_[-1]["lr"] < 0.1


@pytest.mark.parametrize(
    "change",
    [{"encoder": "small_resnet"}, {"temperature": 0.5}, {"views": sklearn_ssl.Views(size=6)}],
)
def test_warm_start_refuses_what_is_built_in(images, change):
    learner = small(SimCLR, warm_start=True).fit(images).set_params(**change)
    with pytest.raises(ValueError, match=f"{next(iter(change))}.* changed since"):
        learner.fit(images)
    assert learner.set_params(warm_start=False).fit(images).n_epochs_ == 1


def test_partial_fit_learns_from_batches_of_images(images):
    learner = small(SimCLR, lr=1e-3)
    for part in (images[:24], images[24:], images[:3]):
        learner.partial_fit(part)
    assert learner.n_epochs_ == 3
    assert {record["lr"] for record in learner.history_} == {1e-3}


def test_score_is_the_effective_rank(images):
    learner = small(SimCLR).fit(images)
    values = np.linalg.svd(learner.transform(images).astype(float), compute_uv=False)
    p = values / values.sum() + 1e-7
    assert learner.score(images) == pytest.approx(np.exp(-(p * np.log(p)).sum()), rel=1e-4)
    assert learner.set_output(transform="pandas").score(images) == learner.score(images)


# Callbacks


class Counter(skorch.callbacks.Callback):
    """Counts in a list that clones share."""

    def __init__(self, calls):
        self.calls = calls

    def on_epoch_end(self, net, **kwargs):
        self.calls.append(net.history[-1, "train_loss"])

    def on_grad_computed(self, net, named_parameters, **kwargs):
        self.calls.append("grad")


def test_skorch_callbacks_see_the_training(images):
    calls = []
    learner = small(SimCLR, max_epochs=2, batch_size=24, callbacks=[Counter(calls)]).fit(images)
    losses = [record["train_loss"] for record in learner.history_]
    assert calls == ["grad", "grad", losses[0], "grad", "grad", losses[1]]


def test_skorch_callbacks_that_stop_and_clip(images):
    stop = skorch.callbacks.EarlyStopping(monitor="train_loss", patience=1, threshold=1e9, sink=str)
    clip = skorch.callbacks.GradientNormClipping(1e-12)
    learner = small(SimCLR, max_epochs=9, callbacks=[stop, clip]).fit(images)
    assert learner.n_epochs_ < 9


def test_checkpoint_of_skorch_keeps_the_last_epoch_of_a_broken_fit(images, tmp_path):
    class CtrlC(skorch.callbacks.Callback):
        def on_batch_end(self, net, **kwargs):
            if len(net.history) == 2:
                raise KeyboardInterrupt

    save = skorch.callbacks.Checkpoint(monitor=None, dirname=tmp_path)
    with pytest.raises(KeyboardInterrupt):
        small(SimCLR, max_epochs=3, callbacks=[save, CtrlC()]).fit(images)
    state = torch.load(tmp_path / "params.pt", weights_only=True)
    assert any(name.startswith("task.encoder.backbone") for name in state)


def test_progress_bar(images, capsys):
    small(SimCLR, max_epochs=2, verbose=1).fit(images)
    shown = capsys.readouterr().err
    assert "SimCLR: 100%" in shown
    assert "loss=" in shown


@pytest.fixture
def sklearn_callback():
    """Since scikit-learn 1.9."""
    return pytest.importorskip("sklearn.callback")


class Recorder:
    """A callback of scikit-learn that notes the names of the tasks it sees, and which end."""

    def __init__(self):
        self.seen, self.ended = [], []

    def setup(self, estimator, context):
        self.seen.append("setup")

    def teardown(self, estimator, context):
        self.seen.append("teardown")

    def on_fit_task_begin(self, estimator, context, **kwargs):
        self.seen.append(context.task_name)

    def on_fit_task_end(self, estimator, context, **kwargs):
        self.ended.append(context.task_name)
        return False


def test_callbacks_of_scikit_learn_see_fit_and_epochs(images, sklearn_callback):
    recorder = Recorder()
    small(SimCLR, max_epochs=3).set_callbacks(recorder).fit(images)
    assert recorder.seen.count("epoch") == 3
    assert recorder.seen[0] == "setup"
    assert recorder.seen[-1] == "teardown"


def test_epochs_end_for_all_callbacks_when_one_stops_the_training(images, sklearn_callback):
    recorder, calls = Recorder(), []
    stop = skorch.callbacks.EarlyStopping(monitor="train_loss", patience=1, threshold=1e9, sink=str)
    learner = small(SimCLR, max_epochs=9, callbacks=[stop, Counter(calls)])
    learner.set_callbacks(recorder).fit(images)
    assert learner.n_epochs_ < 9
    losses = [call for call in calls if call != "grad"]
    assert len(losses) == recorder.seen.count("epoch") == learner.n_epochs_
    assert recorder.ended.count("epoch") == learner.n_epochs_


def test_progress_bar_of_scikit_learn_on_learner_and_search(
    images, labels, capsys, sklearn_callback
):
    pytest.importorskip("rich")
    bar = sklearn_callback.ProgressBar()
    small(SimCLR, max_epochs=2).set_callbacks(bar).fit(images)
    assert "SimCLR" in capsys.readouterr().out
    search = GridSearchCV(pipeline(), {"ssl__lr": [1e-3, 1e-2]}, cv=2)
    search.set_callbacks(sklearn_callback.ProgressBar()).fit(images, labels)
    assert "GridSearchCV" in capsys.readouterr().out
    assert search.best_params_


# Other faces


def test_mirror_images_have_the_same_features_with_mirror(images, tmp_path):
    turned = np.ascontiguousarray(images[:, :, ::-1])
    ssl = small(SimCLR, precision="float32", memory=tmp_path / "kept").fit(images)
    apart = [ssl.transform(some) for some in (images, turned)]
    assert not np.allclose(*apart, atol=1e-3)
    ssl.set_params(mirror=True)
    features = ssl.transform(images)  # and not those that are kept
    np.testing.assert_allclose(features, (apart[0] + apart[1]) / 2, atol=1e-6)
    np.testing.assert_allclose(ssl.transform(turned), features, atol=1e-6)
    np.testing.assert_array_equal(ssl.transform(images), features)
    bare = ssl.to_torch()(torch.from_numpy(images).permute(0, 3, 1, 2))
    np.testing.assert_allclose(bare, features, atol=1e-5)
    np.testing.assert_array_equal(ssl.set_params(mirror=False).transform(images), apart[0])


def test_layers_and_pools_can_change_after_the_fit(images):
    learner = small(SimCLR).fit(images)
    steps = learner.history_
    widths = set()
    for layer, pool, width in (("conv", "avg", 8), ("out", None, 256), ("out", 2, 64)):
        F = learner.set_params(layer=layer, pool=pool).transform(images)
        assert F.shape == (48, width)
        assert len(learner.get_feature_names_out()) == width
        widths.add(width)
    assert learner.history_ == steps


def test_repr_and_params_are_those_of_scikit_learn():
    learner = SimCLR(encoder=TinyNet, temperature=0.5)
    assert repr(learner).startswith("SimCLR(encoder=<class")
    assert learner.get_params()["temperature"] == 0.5
    with pytest.raises(TypeError, match="positional"):
        SimCLR("resnet18")


def test_reconstruction_in_a_frame_of_pixels(images):
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(images.reshape(48, -1)).rename(columns=str)
    out = small(DenoisingAutoencoder, image_shape=(8, 8)).fit(frame).reconstruct(frame)
    assert np.shape(out) == (48, 192)


def test_fitted_learner_can_be_written_to_any_file(images):
    buffer = io.BytesIO()
    joblib.dump(small(SimCLR).fit(images), buffer)
    buffer.seek(0)
    assert joblib.load(buffer).transform(images).shape == (48, 72)


def test_fits_in_threads_do_not_disturb_each_other(images):
    learners = [small(SimCLR, random_state=seed, max_epochs=2) for seed in range(4)]
    alone = [clone(learner).fit_transform(images) for learner in learners]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda learner: learner.fit_transform(images), learners))
    for found, expected in zip(together, alone, strict=True):
        np.testing.assert_array_equal(found, expected)


def test_weight_decay_can_be_turned_on_in_a_continued_fit(images):
    learner = small(SimCLR, weight_decay=0, warm_start=True).fit(images)
    learner.set_params(weight_decay=0.1).fit(images)
    decays = {
        group["decays"]: group["weight_decay"] for group in learner.net_.optimizer_.param_groups
    }
    assert decays == {True: 0.1, False: 0.0}


@every_kind
def test_encoder_layers_are_the_same_before_and_after_a_fit(Learner, images):
    learner = small(Learner, max_epochs=0)
    before = learner.encoder_layers((8, 8, 3))
    assert learner.fit(images).encoder_layers() == before


def test_the_bar_ends_with_a_failed_fit(images, monkeypatch):
    closed = []
    monkeypatch.setattr(ProgressBar, "close", lambda self: closed.append(self))
    with pytest.raises(DivergenceError):
        small(SimCLR, lr=1e30, warmup=0, optimizer="sgd", verbose=1).fit(images)
    assert len(closed) == 1


@pytest.mark.parametrize("which", ["encoder_", "all"])
def test_a_learner_whose_weights_were_frozen_can_be_loaded(images, which):
    learner = small(SimCLR).fit(images)
    frozen = learner.encoder_ if which == "encoder_" else learner.net_.module_
    frozen.requires_grad_(False)
    loaded = pickle.loads(pickle.dumps(learner))
    np.testing.assert_array_equal(loaded.transform(images), learner.transform(images))
    if which == "encoder_":
        weights = [p.clone() for p in loaded.encoder_.parameters()]
        loaded.partial_fit(images)
        assert all(map(torch.equal, weights, loaded.encoder_.parameters()))


def test_an_optimizer_from_a_callable_goes_on_where_it_was(images):
    """Its copy was another object, and passed for another optimizer."""
    sizes = []

    class Look(skorch.callbacks.Callback):
        def on_train_begin(self, net, **kwargs):
            sizes.append(len(net.optimizer_.state))

    optimizer = functools.partial(torch.optim.AdamW, betas=(0.9, 0.95))
    learner = small(SimCLR, optimizer=optimizer, callbacks=[Look()])
    for _ in range(2):
        learner.partial_fit(images)
    assert sizes[0] == 0 < sizes[1]
    assert learner.net_.optimizer_.defaults["betas"] == (0.9, 0.95)


def test_a_fit_that_fails_on_another_device_leaves_the_network_where_it_is(images):
    learner = small(SimCLR).fit(images)
    learner.device = "meta"
    learner.net_.move_to = None  # nobody may move it
    with pytest.raises(ValueError, match="meta"):
        learner.fit(images)
    learner.device = "cpu"
    learner._with_python_scalars()
    assert learner.transform(images).shape == (48, 72)


def test_views_between_buffers_and_tied_weights_survive_a_pickle(images):
    class Odd(TinyNet):
        def __init__(self, in_channels):
            super().__init__(in_channels)
            self.out.register_buffer("expanded", torch.ones(1).expand(5))
            self.out.register_buffer("nothing", None)
            self.out.register_buffer("passing", torch.arange(3.0), persistent=False)
            self.out.register_buffer("phases", torch.tensor([1 + 2j], dtype=torch.complex128))
            self.tied = nn.Sequential(nn.Conv2d(16, 16, 1), nn.Conv2d(16, 16, 1))
            self.tied[1].weight = self.tied[0].weight

    learner = small(SimCLR, encoder=Odd).fit(images)
    skeleton, values = module_to_bytes(learner.net_.module_)
    module = module_from_bytes(skeleton, values)
    backbone = module.task.encoder.backbone
    assert backbone.out.passing.tolist() == [0, 1, 2]
    assert backbone.out.expanded.tolist() == [1] * 5
    assert backbone.out.phases.tolist() == [1 + 2j]
    assert backbone.tied[1].weight is backbone.tied[0].weight


class Noting(torch.optim.SGD):
    """Its state has more in it than tensors and numbers."""

    def step(self, closure=None):
        for group in self.param_groups:
            group["kind"] = torch.float32
            for p in group["params"]:
                self.state[p] |= {"shape": p.shape, "at": (1, torch.ones(2))}
        return super().step(closure)


def test_any_state_of_an_optimizer_survives_a_pickle(images):
    learner = small(SimCLR, optimizer=Noting).fit(images)
    again = pickle.loads(pickle.dumps(learner)).net_.optimizer_
    (group, *_), (_, state) = again.param_groups, next(iter(again.state.items()))
    assert group["kind"] is torch.float32
    assert isinstance(state["shape"], torch.Size)
    assert state["at"][1].tolist() == [1, 1]
    learner.partial_fit(images)


def test_a_batch_larger_than_the_images_is_cut(images):
    with pytest.warns(LittleTrainingWarning, match="batch_size=100 is larger.*it is reduced to 48"):
        cut = small(SimCLR, batch_size=100).fit(images)
    whole = small(SimCLR, batch_size=48).fit(images)
    np.testing.assert_array_equal(cut.transform(images), whole.transform(images))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        small(SimCLR, batch_size=100, max_epochs=0).fit(images)


@pytest.mark.parametrize("same", [True, False])
@pytest.mark.parametrize(("n", "small"), [(1, 8), (8, 8), (9, 64), (65, None)])
def test_a_few_images_take_a_small_chunk_if_bits_are_the_same(n, small, same, monkeypatch):
    X = make_images(100)
    ssl = SimCLR(encoder=TinyNet, max_epochs=0, random_state=0).fit(X)
    expected = ssl.transform(X)
    if not same:
        monkeypatch.setattr(torch, "equal", lambda *_: False)
    ssl.transform(X[:n])  # tries it
    sizes = []
    ssl.encoder_.backbone.conv.register_forward_hook(
        lambda _, images, __: sizes.append(len(images[0]))
    )
    np.testing.assert_array_equal(ssl.transform(X[:n]), expected[:n])
    assert sizes == [small if same and small else 512]
