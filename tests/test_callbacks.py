"""What skorch documents of callbacks works on a learner's net, with train_loss as the monitor."""

import numpy as np
import pytest
import torch
from conftest import small
from skorch.callbacks import (
    BatchScoring,
    Checkpoint,
    EarlyStopping,
    EpochScoring,
    Freezer,
    GradientNormClipping,
    LoadInitState,
    PrintLog,
    TrainEndCheckpoint,
)

from sklearn_ssl import SimCLR


def rank(net, X, y=None):
    """Label-free: what a user would score features by."""
    images = X if isinstance(X, torch.Tensor) else X.take(np.arange(len(X)))
    with torch.no_grad():
        features = net.encoder.embed(net.module_.pixels(images))
    return float(torch.linalg.matrix_rank(features))


@pytest.mark.parametrize("caching", [False, True])
def test_epoch_and_batch_scoring(caching, images):
    options = {"on_train": True, "lower_is_better": False, "use_caching": caching}
    callbacks = [
        EpochScoring(rank, name="rank", **options),
        BatchScoring(rank, name="batch_rank", **options),
    ]
    learner = small(SimCLR, max_epochs=2, batch_size=12, callbacks=callbacks).fit(images)
    for record in learner.history_:
        assert record["rank"] > 1
        assert record["batch_rank"] > 1
    assert learner.history_[0]["rank_best"]


def test_scoring_on_a_validation_set_that_is_not_there_is_left_out(images):
    learner = small(SimCLR, callbacks=[EpochScoring(rank, name="rank")]).fit(images)
    assert "rank" not in learner.history_[-1]


def test_early_stopping_with_its_defaults(images):
    stop = EarlyStopping(patience=2, threshold=1e9, sink=str)
    assert small(SimCLR, max_epochs=9, callbacks=[stop]).fit(images).n_epochs_ == 3


@pytest.mark.parametrize("monitor", ["valid_loss_best", "train_loss_best", "feature_spread", None])
def test_checkpoints(monitor, images, tmp_path):
    save = Checkpoint(monitor=monitor, dirname=tmp_path, sink=str)
    learner = small(SimCLR, max_epochs=2, callbacks=[save]).fit(images)
    found = {path.name for path in tmp_path.iterdir()}
    assert {"params.pt", "optimizer.pt", "criterion.pt", "history.json"} <= found
    expected = learner.transform(images)
    with torch.no_grad():
        for p in learner.encoder_.parameters():
            p.zero_()
    learner.net_.load_params(checkpoint=save)
    if monitor in (None, "feature_spread"):  # the last epoch was saved
        np.testing.assert_array_equal(learner.transform(images), expected)
    assert np.abs(learner.transform(images)).max() > 0


def test_a_training_goes_on_from_a_checkpoint(images, tmp_path):
    save = Checkpoint(monitor=None, dirname=tmp_path, sink=str)
    small(SimCLR, max_epochs=2, callbacks=[save]).fit(images)
    again = Checkpoint(monitor=None, dirname=tmp_path, sink=str)
    learner = small(SimCLR, max_epochs=1, callbacks=[LoadInitState(again)]).fit(images)
    assert learner.n_epochs_ == 3
    losses = [record["train_loss"] for record in learner.history_]
    assert len(set(losses)) == 3


def test_other_callbacks(images, tmp_path, capsys):
    callbacks = [
        TrainEndCheckpoint(dirname=tmp_path, sink=str),
        GradientNormClipping(1.0),
        PrintLog(),
        Freezer("task.projector*"),
    ]
    learner = small(SimCLR, max_epochs=2, callbacks=callbacks).fit(images)
    assert (tmp_path / "train_end_params.pt").exists()
    assert "train_loss" in capsys.readouterr().out
    assert learner.n_epochs_ == 2


def test_history_is_skorchs(images):
    learner = small(SimCLR, max_epochs=2, batch_size=12).fit(images)
    history = learner.net_.history
    batches = history[:, "batches", :, "train_loss"]
    assert np.shape(batches) == (2, 4)
    np.testing.assert_allclose(np.mean(batches, 1), history[:, "train_loss"], rtol=1e-6)
    assert history[:, "valid_loss"] == history[:, "train_loss"]
    assert "valid_loss" not in learner.history_[-1]


@pytest.mark.parametrize("method", ["fit", "partial_fit", "predict", "predict_proba", "forward"])
def test_what_the_net_leaves_to_its_learner_says_so(method, images):
    net = small(SimCLR).fit(images).net_
    with pytest.raises(TypeError, match="use the learner's fit"):
        getattr(net, method)(images)


def test_a_schedule_as_a_callback_is_said_to_have_no_effect(images):
    from skorch.callbacks import LRScheduler

    with pytest.warns(UserWarning, match="LRScheduler has no effect.*schedule="):
        small(SimCLR, callbacks=[LRScheduler()]).fit(images)
