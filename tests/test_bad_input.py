"""What cannot be used is refused with a message that says what is wrong, and changes nothing."""

import contextlib
import copy
import functools
import warnings

import numpy as np
import pandas as pd
import pytest
import scipy.sparse
import torch
from conftest import (
    KINDS,
    LEARNERS,
    TinyNet,
    TinyViT,
    make_images,
    needs_transformer,
    one_of_each_kind,
    small,
)
from sklearn.base import clone, is_regressor
from sklearn.exceptions import NotFittedError
from skorch.callbacks import Callback
from torch import nn

from sklearn_ssl import (
    CPC,
    AutoFeatures,
    DenoisingAutoencoder,
    FineTunedClassifier,
    FineTunedRegressor,
    InstanceDiscrimination,
    PatchCore,
    PatchDictionary,
    PretrainedEncoder,
    SelfSupervisedClassifier,
    SelfSupervisedRegressor,
    SimCLR,
    Views,
    all_estimators,
)
from sklearn_ssl.base._learner import all_or_nothing
from sklearn_ssl.exceptions import DivergenceError

pytestmark = pytest.mark.filterwarnings("ignore::sklearn_ssl.exceptions.ImageShapeWarning")


@contextlib.contextmanager
def refused(error, *parts):
    """The block raises ``error``, and its message has all ``parts``."""
    with pytest.raises(error) as caught:
        yield
    for part in parts:
        assert part in str(caught.value)


@functools.cache
def fitted(Learner, height=8):
    return small(Learner).fit(make_images(height=height))


def rows(X):
    return X.reshape(len(X), -1)


def tensor(X):
    return torch.from_numpy(np.ascontiguousarray(X.transpose(0, 3, 1, 2)))


def with_value(value):
    def change(X):
        X = X.astype(np.float64)
        X[3, 2, 1, 0] = value
        return X

    return change


def paths_beside_numbers(X):
    return pd.DataFrame({"path": ["a.png"] * len(X), "age": np.arange(len(X))})


# Images

IN_ROW = "first in row 3; "

BAD_IMAGES = {
    "sparse array": (lambda X: scipy.sparse.csr_array(rows(X)), TypeError, ["Sparse", "dense"]),
    "sparse matrix": (lambda X: scipy.sparse.coo_matrix(rows(X)), TypeError, ["Sparse", "dense"]),
    "sparse images": (lambda X: scipy.sparse.coo_array(X), TypeError, ["Sparse", "dense"]),
    "sparse tensor": (lambda X: torch.from_numpy(rows(X)).to_sparse(), TypeError, ["to_dense"]),
    "complex": (lambda X: X + 1j, ValueError, ["Complex data not supported"]),
    "complex rows": (lambda X: rows(X) + 1j, ValueError, ["Complex data not supported"]),
    "complex tensor": (lambda X: tensor(X) + 1j, ValueError, ["Complex data not supported"]),
    "NaN": (with_value(np.nan), ValueError, ["NaN", IN_ROW]),
    "NaN in rows": (lambda X: rows(with_value(np.nan)(X)), ValueError, ["NaN", IN_ROW]),
    "NaN in a tensor": (lambda X: tensor(with_value(np.nan)(X)), ValueError, ["NaN", IN_ROW]),
    "NaN in a list": (lambda X: with_value(np.nan)(X).tolist(), ValueError, ["NaN", IN_ROW]),
    "infinity": (with_value(np.inf), ValueError, ["infinity", IN_ROW]),
    "minus infinity": (with_value(-np.inf), ValueError, ["infinity"]),
    "infinite as float32": (with_value(1e300), ValueError, ["too large", "float32"]),
    "objects": (lambda X: np.full(X.shape, "a", dtype=object), ValueError, ["to float", "'a'"]),
    "strings": (lambda X: rows(X).astype(str), ValueError, ["strings", "numeric"]),
    "no images": (lambda X: X[:0], ValueError, ["0 sample(s)", "minimum of"]),
    "no rows": (lambda X: rows(X)[:0], ValueError, ["0 sample(s)", "minimum of"]),
    "empty list": (lambda X: [], ValueError, ["2D array", "[]"]),
    "no pixels": (lambda X: rows(X)[:, :0], ValueError, ["0 feature(s)", "minimum of 1"]),
    "ragged list": (
        lambda X: [X[0].tolist(), X[1][:7].tolist()],
        ValueError,
        ["different shapes", "one shape"],
    ),
    "ragged rows": (lambda X: [[1, 2], [1, 2, 3]], ValueError, ["different shapes"]),
    "5-D": (lambda X: X[None], ValueError, ["5 dimensions", "(n, height, width, channels)"]),
    "5-D tensor": (lambda X: tensor(X)[None], ValueError, ["5 dimensions", "(n, height, width"]),
    "1-D": (lambda X: X.ravel(), ValueError, ["Expected 2D array, got 1D array"]),
    "labels": (lambda X: np.arange(len(X)) % 3, ValueError, ["has shape (48,), like labels"]),
    "paths beside numbers": (paths_beside_numbers, ValueError, ["'path' holds str", "X['path']"]),
    "paths beside more": (lambda X: np.array([["x", 1]] * 9, "O"), ValueError, ["X[:, 0]"]),
    "1-D list": (lambda X: [1, 2, 3], ValueError, ["Expected 2D array, got 1D array"]),
    "a number": (lambda X: 3, ValueError, ["Expected 2D array, got scalar array"]),
    "None": (lambda X: None, ValueError, ["Expected 2D array", "None"]),
    "a path": (lambda X: "images.npy", FileNotFoundError, ["='images.npy'", "there are none"]),
}

bad_images = pytest.mark.parametrize(
    ("make", "error", "parts"), BAD_IMAGES.values(), ids=BAD_IMAGES
)


@bad_images
@one_of_each_kind
def test_fit_refuses(Learner, images, make, error, parts):
    with refused(error, *parts):
        small(Learner).fit(make(images))


@bad_images
def test_fit_refuses_with_a_shape_without_channels(images, make, error, parts):
    with pytest.raises(error):
        small(SimCLR, image_shape=(8, 8)).fit(make(images))


def test_values_that_span_more_than_float32_are_refused(images):
    X = np.where(images > images.mean(), 3e38, -3e38).astype(np.float32)
    with refused(ValueError, "larger than float32"):
        small(SimCLR).fit(X)


@bad_images
@one_of_each_kind
def test_partial_fit_refuses(Learner, images, make, error, parts):
    with refused(error, *parts):
        small(Learner).partial_fit(make(images))


@bad_images
@one_of_each_kind
def test_transform_refuses(Learner, images, make, error, parts):
    with refused(error, *parts):
        fitted(Learner).transform(make(images))


@pytest.mark.parametrize(
    ("make", "error", "parts"),
    [case for name, case in BAD_IMAGES.items() if name != "None"],  # which is no more images
)
def test_unlabeled_images_refuse(images, make, error, parts):
    with refused(error, *parts, "X_unlabeled"):
        small(SimCLR).fit(images.astype(np.float64), X_unlabeled=make(images))


def test_no_advice_about_other_estimators(images):
    with pytest.raises(ValueError, match="NaN") as caught:
        small(SimCLR).fit(with_value(np.nan)(images))
    assert "HistGradientBoosting" not in str(caught.value)


@pytest.mark.parametrize(
    ("argument", "meant"),
    [
        ({"layer": "cov"}, "conv"),
        ({"layer": ["conv", "uot"]}, "out"),
        ({"layer": "conv", "pool": "mx"}, "max"),
        ({"layer": ["conv", "out"], "pool": ["max", "avgg"]}, "avg"),
        ({"precision": "bf16"}, "bfloat16"),
        ({"optimizer": "adam-w"}, "adamw"),
        ({"schedule": "Cosine"}, "cosine"),
        ({"views": Views(blur="Auto")}, "auto"),
    ],
)
def test_a_name_that_is_nearly_right(argument, meant, images):
    with pytest.raises(ValueError, match=f" Did you mean '{meant}'"):
        small(SimCLR, **argument).fit(images)


@bad_images
def test_reconstruct_refuses(images, make, error, parts):
    with refused(error, *parts):
        fitted(DenoisingAutoencoder).reconstruct(make(images))


@pytest.mark.parametrize("cut", [np.s_[:, :0], np.s_[:, :, :0], np.s_[..., :0]])
def test_images_without_pixels(images, cut):
    with refused(ValueError, "0 feature(s)"):
        small(SimCLR).fit(images[cut])
    with refused(ValueError, str(images[cut].shape[1:]), "(8, 8, 3)"):
        fitted(SimCLR).transform(images[cut])


@one_of_each_kind
def test_one_image_is_enough_for_features_but_not_to_learn_from(Learner, images):
    with refused(ValueError, "1 sample(s)", "minimum of 2"):
        small(Learner).fit(images[:1])
    ssl = fitted(Learner)
    np.testing.assert_array_equal(ssl.transform(images[:1]), ssl.transform(images)[:1])


# Shapes


@pytest.mark.parametrize("form", [lambda X: X, rows], ids=["array", "rows"])
@pytest.mark.parametrize(
    "shape",
    [
        (),
        (8,),
        (8, 8, 3, 1),
        (-8, -8, 3),
        (8, -8, -3),
        (0, 8, 3),
        (0, 0),
        (8.0, 8.0, 3.0),
        (8.5, 8.5),
        ("8", "8", "3"),
        (None, 8, 3),
    ],
)
def test_image_shape_must_be_positive_integers(images, shape, form):
    with refused(ValueError, f"image_shape={shape}", "(height, width, channels)", "positive int"):
        small(SimCLR, image_shape=shape).fit(form(images))


@pytest.mark.parametrize("shape", [8, "8x8"])
def test_image_shape_must_be_a_tuple(images, shape):
    with refused(ValueError, "'image_shape'", "tuple", repr(shape)):
        small(SimCLR, image_shape=shape).fit(images)


@one_of_each_kind
@pytest.mark.parametrize(("shape", "n_values"), [((8, 8, 4), 256), ((16, 16), 256), ((7, 9), 189)])
def test_rows_must_fill_image_shape(Learner, images, shape, n_values):
    with refused(ValueError, "image_shape=", str(n_values), "192"):
        small(Learner, image_shape=shape).fit(rows(images))


@one_of_each_kind
@pytest.mark.parametrize("shape", [(8, 8, 4), (4, 16), (4, 16, 3)])
def test_images_must_have_image_shape(Learner, images, shape):
    wanted = str(shape) if len(shape) == 3 else "(4, 16, 3)"
    with refused(ValueError, "(8, 8, 3)", "image_shape", wanted):
        small(Learner, image_shape=shape).fit(images)


@one_of_each_kind
@pytest.mark.parametrize(
    "other", [{"width": 9}, {"height": 3}, {"channels": 1}, {"height": 4, "width": 12}]
)
@pytest.mark.parametrize("form", [lambda X: X, tensor], ids=["array", "tensor"])
def test_transform_wants_the_shape_of_fit(Learner, other, form):
    X = make_images(**{"height": 6, **other})
    with refused(ValueError, str(X.shape[1:]), "of the fit", "(6, 8, 3)"):
        fitted(Learner, height=6).transform(form(X))


@one_of_each_kind
def test_transform_wants_as_many_columns_as_fit(Learner, images):
    with refused(ValueError, "192 features", "144 features"):
        fitted(Learner, height=6).transform(rows(images))


@one_of_each_kind
def test_transposed_images_are_told_apart(Learner):
    X = make_images(height=6).transpose(0, 2, 1, 3)
    with refused(ValueError, "(8, 6, 3)", "(6, 8, 3)", "height and width look swapped"):
        fitted(Learner, height=6).transform(X)
    with refused(ValueError, "height and width look swapped"):
        small(Learner, image_shape=(6, 8, 3)).fit(X)


@one_of_each_kind
def test_channels_first_are_told_apart(Learner):
    X = make_images(height=6).transpose(0, 3, 1, 2)
    with refused(ValueError, "(3, 6, 8)", "(6, 8, 3)", "X.transpose(0, 2, 3, 1)"):
        fitted(Learner, height=6).transform(X)
    with refused(ValueError, "X.transpose(0, 2, 3, 1)"):
        small(Learner, image_shape=(6, 8, 3)).fit(X)


def test_reconstruct_wants_the_shape_of_fit(images):
    ssl = fitted(DenoisingAutoencoder, height=6)
    with refused(ValueError, "(8, 8, 3)", "of the fit", "(6, 8, 3)"):
        ssl.reconstruct(images)
    with refused(ValueError, "height and width look swapped"):
        ssl.reconstruct(make_images(height=6).transpose(0, 2, 1, 3))


def test_reconstruct_wants_images_not_features(images):
    ssl = fitted(DenoisingAutoencoder)
    with refused(ValueError, "72 features", "192 features"):
        ssl.reconstruct(ssl.transform(images))


# Parameters


def not_a_module():
    return 3


def named(value):
    """The same in every process: no address of an object."""
    of_type = type(value).__name__
    return getattr(value, "__name__", of_type if " at 0x" in repr(value) else repr(value))


def row(error, *parts, **params):
    name = ", ".join(f"{key}={named(value)}" for key, value in params.items())
    return pytest.param(params, error, parts, id=name)


@one_of_each_kind
@pytest.mark.parametrize(
    ("params", "error", "parts"),
    [
        row(ValueError, "'resnet7'", "small_resnet", "resnet18", "timm/NAME", encoder="resnet7"),
        row(TypeError, "instance of TinyNet", "the class itself", encoder=TinyNet(3)),
        row(TypeError, "not_a_module", "int", "module", encoder=not_a_module),
        row(TypeError, "'encoder'", "None", encoder=None),
        row(ValueError, "'DEFAULT'", "TinyNet", "use None", weights="DEFAULT"),
        row(ValueError, "'small_resnet'", "None", encoder="small_resnet", weights="DEFAULT"),
        row(ValueError, "NOPE", "IMAGENET1K_V1", encoder="resnet18", weights="NOPE"),
        row(ValueError, "'conv9'", "TinyNet", "conv.0", "conv.1", "out", layer="conv9"),
        row(ValueError, "'pool'", "'mean'", "'avg'", "'max'", "int", pool="mean"),
        row(ValueError, "'pool'", "[1, inf)", "Got 0", pool=0),
        row(ValueError, "'pool'", "Got 2.5", pool=2.5),
        row(TypeError, "'views'", "Views", "'strong'", views="strong"),
        row(TypeError, "'views'", "Views", views=Views),
        row(TypeError, "'views'", "Views", views=[Views(), Views()]),
        row(ValueError, "'max_epochs'", "[0, inf)", "Got -1", max_epochs=-1),
        row(TypeError, "'max_epochs'", "int", "Got 1.5", max_epochs=1.5),
        row(TypeError, "'max_epochs'", "int", "Got '2'", max_epochs="2"),
        row(ValueError, "'batch_size'", "[2, inf)", "Got 1", batch_size=1),
        row(ValueError, "'batch_size'", "[2, inf)", "Got 0", batch_size=0),
        row(TypeError, "'batch_size'", "int", "Got 8.0", batch_size=8.0),
        row(ValueError, "'lr'", "(0.0, inf)", "Got 0", lr=0),
        row(ValueError, "'lr'", "Got nan", lr=float("nan")),
        row(ValueError, "'weight_decay'", "[0.0, inf)", "Got -0.1", weight_decay=-0.1),
        row(ValueError, "'warmup'", "[0.0, 1.0]", "Got 1.1", warmup=1.1),
        row(ValueError, "'warmup'", "[0.0, 1.0]", "Got -0.1", warmup=-0.1),
        row(ValueError, "'adamax'", "'adamw'", "'sgd'", "'lars'", optimizer="adamax"),
        row(TypeError, "'dict'", "torch.optim", optimizer=dict),
        row(TypeError, "Rprop", "weight_decay", optimizer=torch.optim.Rprop),
        row(ValueError, "'float16'", "'auto'", "'bfloat16'", "'float32'", precision="float16"),
        row(ValueError, "'nonsense'", "'auto'", "'cpu'", device="nonsense"),
        row(ValueError, "'cuda:99'", "not available", "'cpu'", device="cuda:99"),
        row(ValueError, "'meta'", "not available", "'cpu'", device="meta"),
        row(TypeError, "'device'", "Got 3", device=3),
        row(ValueError, "'random_state'", "Got -1", random_state=-1),
        row(TypeError, "'warm_start'", "bool", "Got 'yes'", warm_start="yes"),
        row(TypeError, "'callbacks'", "list", "Got ()", callbacks=()),
        row(TypeError, "'callbacks'", "list", callbacks=Callback()),
        row(ValueError, "'verbose'", "[0, inf)", "Got -1", verbose=-1),
    ],
)
def test_every_learner_refuses(Learner, images, params, error, parts):
    if needs_transformer(Learner):
        names = {"TinyNet": "TinyViT", "conv.0": "patches", "conv.1": "patches.0", "out": "block"}
        parts = [names.get(part, part) for part in parts]
    with refused(error, *parts):
        Learner(**{**small(Learner).get_params(deep=False), **params}).fit(images)


@pytest.mark.parametrize(
    ("Learner", "params", "error", "parts"),
    [
        pytest.param(Learner, *case.values, id=f"{Learner.__name__} {case.id}")
        for Learner, case in [
            (SimCLR, row(ValueError, "'temperature'", "(0.0, inf)", "Got 0", temperature=0)),
            (SimCLR, row(ValueError, "'hidden_dim'", "[1, inf)", "Got 0", hidden_dim=0)),
            (SimCLR, row(ValueError, "'projection_dim'", "[1, inf)", projection_dim=0)),
            (
                DenoisingAutoencoder,
                row(
                    ValueError,
                    "'blur'",
                    "'masking'",
                    "'gaussian'",
                    "'salt_and_pepper'",
                    corruption="blur",
                ),
            ),
            (DenoisingAutoencoder, row(ValueError, "'corruption_level'", corruption_level=-1)),
            (CPC, row(ValueError, "'back'", "down, up, right, left", directions=("back",))),
            (CPC, row(ValueError, "directions=()", "down, up, right, left", directions=())),
            (CPC, row(TypeError, "'directions'", "tuple", "Got 'down'", directions="down")),
            (CPC, row(ValueError, "'overlap'", "[0.0, 1.0)", "Got 1", overlap=1)),
            (CPC, row(ValueError, "'patch_size'", "[1, inf)", "Got 0", patch_size=0)),
            (CPC, row(ValueError, "(8, 8)", "two", "smaller patch_size", patch_size=100)),
            (CPC, row(ValueError, "'prediction_steps'", "Got 0", prediction_steps=0)),
            (CPC, row(ValueError, "'context_blocks'", "Got 0", context_blocks=0)),
            (CPC, row(ValueError, "'negative_images'", "Got 0", negative_images=0)),
            (CPC, row(ValueError, "'norm'", "'layer'", "'batch'", "'instance'", norm="instance")),
        ]
    ],
)
def test_a_learner_refuses_its_own(Learner, images, params, error, parts):
    with refused(error, *parts):
        small(Learner, **params).fit(images)


def test_unknown_model_of_timm(images):
    pytest.importorskip("timm")
    with refused(ValueError, "timm/resnet7"):
        small(SimCLR, encoder="timm/resnet7").fit(images)


def test_directions_need_a_grid(images):
    with refused(ValueError, "('up',)", "too small for 'up'", "patch_size"):
        small(CPC, directions=("up",), patch_size=8).fit(images)


@pytest.mark.parametrize("shape", [None, (8,), (8, 0), (8, 8, 3, 1)])
def test_encoder_layers_needs_a_shape(shape):
    with refused(ValueError, "image_shape", "(height, width)"):
        SimCLR().encoder_layers(shape)


def test_parameters_are_also_checked_by_transform(images):
    ssl = small(SimCLR).fit(images)
    with refused(ValueError, "'conv9'", "conv.0", "out"):
        ssl.set_params(layer="conv9").transform(images)
    with refused(ValueError, "'pool'", "'mean'", "'avg'"):
        ssl.set_params(layer=None, pool="mean").transform(images)


# Views


BAD_VIEWS = [
    ("size", 0),
    ("size", -3),
    ("size", "big"),
    ("size", 4.5),
    ("size", (8,)),
    ("size", (8, 8, 3)),
    ("size", (8, 0)),
    ("crop_scale", (0.9, 0.1)),
    ("crop_scale", (0, 2)),
    ("crop_scale", (-1, 0.5)),
    ("crop_scale", (0.5,)),
    ("crop_scale", 0.5),
    ("crop_ratio", (4 / 3, 3 / 4)),
    ("crop_ratio", (0, 1)),
    ("crop_ratio", None),
    ("flip", 2.0),
    ("flip", -1.0),
    ("flip", "often"),
    ("rotate", "yes"),
    ("jitter", 0.4),
    ("jitter", (0.4,)),
    ("jitter", (0.4, 0.4, 0.4)),
    ("jitter", (0.4, 0.4, 0.4, 0.1, 0.1)),
    ("jitter", (-0.4, 0.4, 0.4, 0.1)),
    ("jitter_p", 2.0),
    ("gray", 2.0),
    ("gray", (0.5, 2.0)),
    ("blur", 2.0),
    ("blur", ()),
    ("blur", (0.5, "a")),
    ("blur_sigma", (2.0, 0.1)),
    ("blur_sigma", (-1.0, 1.0)),
    ("blur_sigma", 1.0),
    ("solarize", 2.0),
    ("erase", 2.0),
    ("noise", -1.0),
]


@pytest.mark.parametrize(("name", "value"), BAD_VIEWS, ids=[f"{n}={v}" for n, v in BAD_VIEWS])
def test_views_refuse(images, name, value):
    views = Views(**{"blur": 1.0, name: value})
    with refused((ValueError, TypeError), name, repr(value)):
        small(SimCLR, views=views).fit(images)


@one_of_each_kind
@pytest.mark.parametrize(("name", "value"), [("size", "big"), ("flip", 2.0)])
def test_views_of_every_learner_refuse(Learner, images, name, value):
    with refused((ValueError, TypeError), name, repr(value)):
        small(Learner, views=Views(**{name: value})).fit(images)


# Before fit


@one_of_each_kind
@pytest.mark.parametrize("method", ["transform", "score"])
def test_nothing_before_fit(Learner, images, method):
    with refused(NotFittedError, Learner.__name__, "'fit'"):
        getattr(small(Learner), method)(images)
    with refused(NotFittedError, Learner.__name__):
        small(Learner).get_feature_names_out()


def test_no_reconstruction_before_fit(images):
    with refused(NotFittedError, "DenoisingAutoencoder", "'fit'"):
        small(DenoisingAutoencoder).reconstruct(images)


# A failed fit changes nothing


class RaisesAt(Callback):
    """Raise at a moment of the training."""

    def __init__(self, moment, error):
        def fail(*args, **kwargs):
            raise error

        setattr(self, moment, fail)


class Breaks(nn.Module):
    """An identity that raises in training."""

    def forward(self, x):
        if torch.is_grad_enabled():
            raise RuntimeError("out of memory, say")
        return x


def fails_to_build(in_channels):
    raise RuntimeError("no such weights, say")


def fails_in_forward(in_channels):
    return nn.Sequential(TinyNet(in_channels), Breaks())


def fails_in_forward_of_tokens(in_channels, image_shape):
    return nn.Sequential(TinyViT(in_channels, image_shape), Breaks())


FAILURES = {
    "error after an epoch": (
        {"callbacks": [RaisesAt("on_epoch_end", RuntimeError("disk full"))]},
        RuntimeError,
        "disk full",
    ),
    "Ctrl-C in an epoch": (
        {"callbacks": [RaisesAt("on_batch_end", KeyboardInterrupt("enough"))]},
        KeyboardInterrupt,
        "enough",
    ),
    "error before training": (
        {"callbacks": [RaisesAt("on_train_begin", RuntimeError("no server"))]},
        RuntimeError,
        "no server",
    ),
    "error after training": (
        {"callbacks": [RaisesAt("on_train_end", RuntimeError("no server"))]},
        RuntimeError,
        "no server",
    ),
    "divergence": ({"lr": 1e38, "optimizer": "sgd", "warmup": 0.0}, DivergenceError, "smaller lr"),
}
REFIT_FAILURES = {
    "no network": ({"encoder": fails_to_build}, RuntimeError, "no such weights"),
    "error in the network": ({"encoder": fails_in_forward}, RuntimeError, "out of memory"),
    "unknown layer": ({"layer": "conv9"}, ValueError, "conv9"),
    "unknown device": ({"device": "nonsense"}, ValueError, "nonsense"),
}


def failures(cases):
    return pytest.mark.parametrize(("params", "error", "part"), cases.values(), ids=cases)


def learners_and(cases):
    """All failures for SimCLR, and the first for one learner of each kind; more if slow."""

    def marks(name, Learner):
        return () if Learner is SimCLR or name == "error after an epoch" else pytest.mark.slow

    return pytest.mark.parametrize(
        ("Learner", "params", "error", "part"),
        [
            pytest.param(
                Learner, *case, id=f"{name}-{Learner.__name__}", marks=marks(name, Learner)
            )
            for Learner in (dict(LEARNERS)[kind] for kind in sorted(KINDS))
            for name, case in list(cases.items())[: None if Learner is SimCLR else 2]
        ],
    )


@one_of_each_kind
@failures(FAILURES | REFIT_FAILURES)
def test_unfitted_stays_unfitted(Learner, images, params, error, part):
    if params.get("encoder") is fails_in_forward and needs_transformer(Learner):
        params = {"encoder": fails_in_forward_of_tokens}
    ssl = small(Learner, **params)
    before = dict(vars(ssl))
    with refused(error, part):
        ssl.fit(images)
    assert vars(ssl) == before
    assert not [name for name in vars(ssl) if name.endswith("_")]
    with pytest.raises(NotFittedError):
        ssl.transform(images)


@one_of_each_kind
@pytest.mark.parametrize("make", [with_value(np.nan), lambda X: X[:1]], ids=["NaN", "one image"])
def test_bad_images_leave_no_attributes(Learner, images, make):
    ssl = small(Learner)
    before = dict(vars(ssl))
    with pytest.raises(ValueError, match=r"NaN|minimum of 2"):
        ssl.fit(make(images))
    with pytest.raises(ValueError, match="NaN"):
        ssl.fit(images, X_unlabeled=with_value(np.nan)(images))
    assert vars(ssl) == before


def check_failure_leaves_no_trace(fail, ssl, images, params, error, part):
    """``fail`` raises, and ``ssl`` goes on as a copy that was left alone does."""
    ssl.fit(images)
    alone, features = copy.deepcopy(ssl), ssl.transform(images)
    before = dict(vars(ssl))
    old_params = {name: getattr(ssl, name) for name in params}
    ssl.set_params(**params)
    with refused(error, part):
        fail(ssl)
    ssl.set_params(**old_params)
    assert vars(ssl).keys() == before.keys()
    assert all(vars(ssl)[name] is value for name, value in before.items() if name.endswith("_"))
    np.testing.assert_array_equal(ssl.transform(images), features)
    assert ssl.history_ == alone.history_
    # weights, optimizer and batch norm statistics are all as they were
    ssl.partial_fit(images)
    alone.partial_fit(images)
    np.testing.assert_array_equal(ssl.transform(images), alone.transform(images))


@learners_and(FAILURES | REFIT_FAILURES)
def test_failed_refit(Learner, images, params, error, part):
    def refit(ssl):
        ssl.fit(make_images(height=10, channels=1))

    check_failure_leaves_no_trace(refit, small(Learner), images, params, error, part)


def more_images(Learner, images):
    """What a learner can go on with: other images, unless it keeps something of each."""
    return images if Learner is InstanceDiscrimination else make_images(seed=1)


@learners_and(FAILURES)
def test_failed_warm_start(Learner, images, params, error, part):
    def go_on(ssl):
        ssl.fit(more_images(Learner, images))

    ssl = small(Learner, warm_start=True)
    check_failure_leaves_no_trace(go_on, ssl, images, params, error, part)


@learners_and(FAILURES)
def test_failed_partial_fit(Learner, images, params, error, part):
    def go_on(ssl):
        ssl.partial_fit(more_images(Learner, images))

    check_failure_leaves_no_trace(go_on, small(Learner), images, params, error, part)


@one_of_each_kind
def test_failed_first_partial_fit(Learner, images):
    ssl = small(Learner, callbacks=[RaisesAt("on_batch_end", KeyboardInterrupt())])
    with pytest.raises(KeyboardInterrupt):
        ssl.partial_fit(images)
    assert not [name for name in vars(ssl) if name.endswith("_")]


def test_feature_names_survive_a_failed_refit(images):
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(rows(images)).add_prefix("pixel")
    ssl = small(SimCLR).fit(frame)
    ssl.set_params(callbacks=[RaisesAt("on_epoch_end", RuntimeError("disk full"))])
    with pytest.raises(RuntimeError, match="disk full"):
        ssl.fit(make_images(height=10))
    assert list(ssl.feature_names_in_) == list(frame.columns)
    assert ssl.n_features_in_ == 192


SOME_OF_ALL = {
    **{name: small(Learner) for name, Learner in LEARNERS if name in KINDS},
    "FineTunedClassifier": FineTunedClassifier(encoder=TinyNet, max_epochs=1),
    "FineTunedRegressor": FineTunedRegressor(encoder=TinyNet, max_epochs=1),
    "AutoFeatures": AutoFeatures(
        plan={"parts": {"dictionary": PatchDictionary(n_atoms=8, patch_size=3)}, "seed": 0}
    ),
    "PatchDictionary": PatchDictionary(n_atoms=8, patch_size=3),
    "PretrainedEncoder": PretrainedEncoder(encoder=TinyNet, weights=None),
    "PatchCore": PatchCore(small(SimCLR), n_patches=20),
    "SelfSupervisedClassifier": SelfSupervisedClassifier(small(SimCLR)),
    "SelfSupervisedRegressor": SelfSupervisedRegressor(small(SimCLR)),
}
OF_PIXELS = {"DenseClassifier": None}  # labels of another shape: see test_dense.py
SOME_OF_ALL |= {
    name: Estimator()
    for name, Estimator in all_estimators(None)
    if hasattr(Estimator, "fit") and name not in {**SOME_OF_ALL, **dict(LEARNERS), **OF_PIXELS}
}


def takes_one_class(name, estimator):
    return (
        name in ("NeighborsProbe", "PatchCore")
        or not hasattr(estimator, "predict")
        or is_regressor(estimator)
    )


@pytest.mark.parametrize(
    ("name", "fault"),
    [
        (name, fault)
        for name, estimator in SOME_OF_ALL.items()
        for fault in ("image", "label", "late")
        if fault != "label" or not takes_one_class(name, estimator)
    ],
)
def test_a_failed_refit_of_any_estimator_leaves_it_as_it_was(name, fault, images, monkeypatch):
    pandas = pytest.importorskip("pandas")
    estimator = clone(SOME_OF_ALL[name])
    use = "predict" if hasattr(estimator, "predict") else "transform"
    frame = pandas.DataFrame(rows(images)).add_prefix("pixel")
    other = pandas.DataFrame(rows(make_images(height=10, width=10)) / 255)
    other = other.add_prefix("other")
    labels = np.arange(48) % 3
    with warnings.catch_warnings(action="ignore"):
        estimator.fit(frame, labels)
        before, given = dict(vars(estimator)), getattr(estimator, use)(frame)
        if fault == "image":
            other.iloc[-1, -1] = np.nan
        elif fault == "label":
            labels = labels * 0
        else:  # in what a fit sets last
            fit = type(estimator).fit.__wrapped__
            failing = all_or_nothing(lambda *args: 1 / fit(*args))
            monkeypatch.setattr(type(estimator), "fit", failing)
        with pytest.raises((ValueError, TypeError)):
            estimator.fit(other, labels)
    assert vars(estimator).keys() == before.keys()
    assert all(vars(estimator)[key] is value for key, value in before.items())
    np.testing.assert_array_equal(getattr(estimator, use)(frame), given)


def test_a_failed_fit_can_be_repeated(images):
    ssl = small(SimCLR, callbacks=[RaisesAt("on_epoch_end", RuntimeError("disk full"))])
    with pytest.raises(RuntimeError, match="disk full"):
        ssl.fit(images)
    ssl.set_params(callbacks=None).fit(images)
    np.testing.assert_array_equal(
        ssl.transform(images), small(SimCLR).fit(images).transform(images)
    )


def test_cuda_is_refused_where_there_is_none(images, monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    with refused(ValueError, "'cuda'", "not available", "'cpu'"):
        SimCLR(device="cuda").fit(images)
