"""Students of frozen teachers."""

import pickle
from typing import ClassVar

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import TinyNet, make_images, random_batch, small
from sklearn.base import BaseEstimator, TransformerMixin, clone
from sklearn.decomposition import PCA
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from torch import nn
from torchvision import models

from sklearn_ssl import (
    CPC,
    Distillation,
    PatchDictionary,
    PretrainedEncoder,
    SimCLR,
    Views,
    load,
)
from sklearn_ssl.encoders import make_encoder
from sklearn_ssl.joint_embedding._distillation import DistillationTask, EncoderTeacher


class Given(nn.Module):
    def __init__(self, rows):
        super().__init__()
        self.rows = rows

    def forward(self, views, index):
        return self.rows[index]


def make_task(loss, n=10, width=5, **params):
    torch.manual_seed(0)
    encoder = make_encoder(TinyNet, (8, 8, 3), [0.0] * 3, [1.0] * 3)
    params = {"hidden_dim": 7, "queue_size": 6, "temperature": 0.3, **params}
    rows = torch.randn(n, width)
    task = DistillationTask(
        encoder,
        lambda images: images,
        teacher=Given(rows),
        width=width,
        loss=loss,
        **{"teacher_temperature": 0.2, **params},
    )
    return task.eval(), rows.double().numpy()


def units(rows):
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def outputs(task, images):
    with torch.no_grad():
        return units(task.predictor(task.encoder.embed(images)).double().numpy())


def test_feature_loss():
    task, rows = make_task("feature")
    images, index = random_batch(), torch.tensor([3, 1, 4, 1, 5, 9])
    predicted, target = outputs(task, images), units(rows)[index]
    expected = np.mean(((predicted - target) ** 2).sum(1))  # equation 1 of SimReg
    assert task(images, index).loss.item() == pytest.approx(expected, rel=1e-5)


def test_similarity_loss():
    task, rows = make_task("similarity")
    images, index = random_batch(), torch.tensor([3, 1, 4, 1, 5, 9])
    queue = task.queue.vectors.double().numpy()
    expected = []  # equations 3 to 6 of SEED
    for z, t in zip(outputs(task, images), units(rows)[index], strict=True):
        own = np.stack([t, *queue])
        known, found = own @ t / 0.2, own @ z / 0.3
        p = np.exp(known) / np.exp(known).sum()
        expected.append(-(p * (found - np.log(np.exp(found).sum()))).sum())
    output = task(images, index)
    assert output.loss.item() == pytest.approx(np.mean(expected), rel=1e-5)
    task.after_step(output, 0.5)
    np.testing.assert_allclose(task.queue.vectors, units(rows)[index], rtol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("loss", ["feature", "similarity"])
def test_a_student_comes_near_its_teacher(loss):
    X = make_images(200, seed=3)
    teacher = PretrainedEncoder(
        encoder=TinyNet, weights=None, layer="out", pool="avg", random_state=5
    ).fit(X)
    params = {"loss": loss, "encoder": "small_resnet", "max_epochs": 15, "layer": "layer4"}
    student = Distillation(teacher, **params, batch_size=20, random_state=0).fit(X)
    assert student.history_[-1]["cosine"] > (0.9 if loss == "feature" else 0.5)
    assert student.history_[-1]["cosine"] > student.history_[0]["cosine"]


def as_frame(X):
    return pd.DataFrame(np.reshape(X, (len(X), -1)))


def by_rows(X):
    return X.reshape(len(X), -1).astype(float)


def test_teachers_of_all_kinds(images, tmp_path):
    tiny = PretrainedEncoder(encoder=TinyNet, weights=None, pool="avg", random_state=0)
    pca = make_pipeline(FunctionTransformer(by_rows), PCA(5))
    torch.save(models.mobilenet_v3_small().state_dict(), tmp_path / "a.pth")
    file = PretrainedEncoder(
        encoder="mobilenet_v3_small", weights=tmp_path / "a.pth", input_size=None, pool="avg"
    )
    for teacher, params in (
        (tiny, {}),
        (clone(tiny).fit(images), {}),
        (FrozenEstimator(clone(tiny).fit(images)), {}),
        (small(SimCLR).fit(images), {}),
        (small(SimCLR), {"shared_views": False}),
        (pca, {"shared_views": False}),
        (file, {}),
    ):
        before = pickle.dumps(teacher)
        student = small(Distillation, teacher=teacher, **params).fit(images)
        assert np.isfinite(student.transform(images)).all()
        assert np.isfinite(student.history_[-1]["train_loss"])
        if params == {} and hasattr(teacher, "net_"):
            assert pickle.dumps(teacher) == before
        student.partial_fit(images)


def test_a_teacher_of_mirror_images(images):
    teacher = PretrainedEncoder(encoder=TinyNet, weights=None, mirror=True, random_state=0)
    teacher.fit(images)
    views = torch.rand(4, 3, 8, 8)
    known = EncoderTeacher(teacher)
    torch.testing.assert_close(known(views, None), known(views.flip(3), None))
    plain = EncoderTeacher(teacher.set_params(mirror=False))
    assert not torch.allclose(plain(views, None), plain(views.flip(3), None), atol=1e-4)


def test_views_are_shared_and_targets_are_not(images):
    class Seen(nn.Sequential):
        def __init__(self, in_channels):
            super().__init__(nn.Conv2d(in_channels, 4, 3), nn.ReLU())

    teacher = PretrainedEncoder(encoder=Seen, weights=None, pool="avg", random_state=0).fit(images)
    seen = {}

    def watch(name):
        return lambda module, args: seen.setdefault(name, []).append(args[0].detach().clone())

    for shared in (True, False):
        seen.clear()
        student = small(Distillation, teacher=teacher, shared_views=shared, max_epochs=0)
        student.fit(images)
        task = student.net_.module_.task
        if shared:
            encoder = task.teacher.held[0]
            encoder.backbone[0].register_forward_pre_hook(watch("teacher"))
            task.encoder.backbone.conv[0].register_forward_pre_hook(watch("student"))
            batch = torch.from_numpy(images[:8]).permute(0, 3, 1, 2) / 255
            task(batch, torch.arange(8))
            (a,), (b,) = seen["teacher"], seen["student"]
            torch.testing.assert_close(
                encoder.standardize.inverse(a), task.encoder.standardize.inverse(b)
            )
        else:
            assert task.teacher is None  # nothing of the images is kept


@pytest.mark.parametrize("shared_views", [True, False])
def test_the_teacher_is_neither_saved_nor_needed(images, tmp_path, shared_views):
    teacher = PretrainedEncoder(encoder="resnet18", weights=None, random_state=0, pool="avg")
    student = small(Distillation, teacher=teacher, shared_views=shared_views).fit(images)
    assert not any("held" in name or "rows" in name for name in student.net_.module_.state_dict())
    student.save(tmp_path / "a.safetensors")
    assert (tmp_path / "a.safetensors").stat().st_size < 20e6  # where the teacher has 45 MB
    loaded = load(tmp_path / "a.safetensors", encoder=TinyNet)
    np.testing.assert_array_equal(loaded.transform(images), student.transform(images))
    again = pickle.loads(pickle.dumps(student))
    np.testing.assert_array_equal(again.transform(images), student.transform(images))


def test_memory_tells_fitted_teachers_apart(images, tmp_path):
    features = []
    for seed in (0, 1, 0):
        teacher = PretrainedEncoder(encoder=TinyNet, weights=None, random_state=seed).fit(images)
        teacher.set_params(random_state=None)
        student = small(Distillation, teacher=teacher, memory=tmp_path).fit(images)
        features.append(student.transform(images))
    assert not np.array_equal(features[0], features[1])
    np.testing.assert_array_equal(features[0], features[2])


def test_x_unlabeled_has_targets_too(images):
    pca = make_pipeline(FunctionTransformer(by_rows), PCA(5))
    student = small(Distillation, teacher=pca, shared_views=False)
    student.fit(images, X_unlabeled=make_images(30, seed=1))
    assert student.n_images_seen_ >= 60


class Counter(TransformerMixin, BaseEstimator):
    """Notes how many images it was fitted to."""

    seen: ClassVar[list] = []

    def fit(self, X, y=None):
        self.seen.append(np.shape(X))
        self.fitted_ = True
        return self

    def transform(self, X):
        return np.zeros((len(X), 3)) + np.arange(3)


@pytest.mark.parametrize("form", [np.asarray, list, torch.as_tensor, as_frame])
def test_a_teacher_is_fitted_to_all_images(form):
    Counter.seen.clear()
    X, more = (form(make_images(n, channels=1)[..., 0]) for n in (24, 16))
    teacher = make_pipeline(Counter())
    small(Distillation, teacher=teacher, shared_views=False).fit(X, X_unlabeled=more)
    assert Counter.seen in ([(40, 8, 8)], [(40, 64)])


def test_images_that_cannot_be_put_together_for_a_teacher():
    X, more = list(make_images(24)), make_images(16)
    student = small(Distillation, teacher=make_pipeline(Counter()), shared_views=False)
    with pytest.raises(ValueError, match=r"Pipeline is not fitted.*list and ndarray.*Give arrays"):
        student.fit(X, X_unlabeled=more)


@pytest.mark.parametrize("shared_views", [True, False])
def test_a_teacher_of_this_package_is_fitted_to_all_images(shared_views):
    """Those of X_unlabeled have values that X has not, which the student has learned."""
    X, more = make_images(24) / 255, make_images(16, seed=1) / 220
    tiny = PretrainedEncoder(encoder=TinyNet, weights=None, pool="avg", random_state=0)
    student = small(Distillation, teacher=tiny, shared_views=shared_views)
    student.fit(X, X_unlabeled=more)
    expected = small(Distillation, teacher=tiny.fit(X, X_unlabeled=more), shared_views=shared_views)
    expected.fit(X, X_unlabeled=more)
    np.testing.assert_array_equal(student.transform(X), expected.transform(X))


@pytest.mark.parametrize("pool", [None, 4])
@pytest.mark.parametrize(
    "teacher",
    [
        PretrainedEncoder(encoder=TinyNet, weights=None, layer=["conv", "out"]),
        PatchDictionary(n_atoms=5, patch_size=4),
        small(CPC, patch_size=4, max_epochs=0),
    ],
)
def test_views_of_another_size_have_features_of_the_same_width(teacher, pool):
    X = make_images(24, 12, 12)
    teacher = clone(teacher).set_params(pool=pool, random_state=0, precision="float32").fit(X)
    features = teacher.transform(X)
    for size in (5, 15):  # smaller and larger maps
        student = small(Distillation, teacher=teacher, views=Views(size=size)).fit(X)
        task = student.net_.module_.task
        assert task.predictor[-1].out_features == features.shape[1]
    images = student.net_.module_.images(torch.from_numpy(X).permute(0, 3, 1, 2))
    np.testing.assert_allclose(task.teacher(images, None), features, rtol=1e-4, atol=1e-5)


def test_views_that_are_smaller_than_a_patch(images):
    teacher = small(CPC, patch_size=4, max_epochs=0).fit(images)
    with pytest.raises(ValueError, match=r"views of 3 x 3 pixels are smaller than patches.*4 x 4"):
        small(Distillation, teacher=teacher, views=Views(size=3)).fit(images)


@pytest.mark.parametrize(
    ("teacher", "params", "error", "message"),
    [
        (make_pipeline(FunctionTransformer(by_rows), PCA(5)), {}, ValueError, "shared_views=False"),
        (FunctionTransformer(), {"shared_views": False}, ValueError, "vectors"),
        (Ridge(), {}, ValueError, "teacher"),
        ("nonesuch", {}, ValueError, "nonesuch"),
    ],
)
def test_teachers_that_cannot_teach(images, teacher, params, error, message):
    student = Distillation(teacher, encoder=TinyNet, max_epochs=1, **params)
    with pytest.raises(error, match=message):
        student.fit(images)
    assert not [name for name in vars(student) if name.endswith("_")]


def test_a_teacher_of_other_images(images):
    tiny = PretrainedEncoder(encoder=TinyNet, weights=None, random_state=0)
    with pytest.raises(ValueError, match=r"\(9, 8, 3\)"):
        small(Distillation, teacher=clone(tiny).fit(make_images(20, 9))).fit(images)
    floats = images.astype(float)
    with pytest.raises(ValueError, match="another range"):
        small(Distillation, teacher=clone(tiny).fit(floats * 3)).fit(floats)


def test_widths_of_what_is_learned_from(images):
    tiny = PretrainedEncoder(
        encoder=TinyNet, weights=None, random_state=0, layer=["conv", "out"], pool=2
    )
    student = small(Distillation, teacher=tiny).fit(images)
    task = student.net_.module_.task
    assert task.predictor[-1].out_features == 4 * (8 + 16)
