"""Numbers of NumPy, NaN and infinities, wherever an argument takes a number."""

import numpy as np
import pytest
from conftest import make_images, one_of_each_kind, small
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from skorch.callbacks import EarlyStopping

from sklearn_ssl import BYOL, DINO, LeJEPA, MoCo, MultiTask, SimCLR, SwAV, Views

TYPES = {bool: (np.bool_, np.bool_), int: (np.int64, np.uint8), float: (np.float64, np.float32)}


def as_numpy(value, which):
    """A default, with numbers of NumPy where there are Python's; which of the two types."""
    if type(value) in TYPES:
        kind = TYPES[type(value)][which]
        return np.int64(value) if kind is np.uint8 and not 0 <= value < 256 else kind(value)
    if type(value) is tuple:
        return tuple(as_numpy(v, which) for v in value)
    return value


def as_python(value):
    """The same number, as Python has it."""
    if type(value) is tuple:
        return tuple(as_python(v) for v in value)
    return value.item() if isinstance(value, np.generic) else value


def features(Learner, params, views):
    learner = small(Learner, **params)
    if Learner is not MultiTask:
        views = {**learner._default_views().get_params(), **views}
    learner.views = Views(**views)
    return learner.fit(make_images(64)).transform(make_images(8)), learner.history_[-1][
        "train_loss"
    ]


@one_of_each_kind
@pytest.mark.parametrize(
    "which", [pytest.param(0, marks=pytest.mark.slow), 1], ids=["64 bits", "few bits"]
)
def test_numbers_of_numpy_give_the_same_bits(Learner, which):
    """Few bits wrap around, where they are not made plain: an epoch of them has no steps."""
    params = {"max_epochs": 2, "batch_size": 8, "lr": 1e-3, "random_state": 0, "pool": 2}
    known = small(Learner).get_params(deep=False)
    params |= {name: v for name, v in known.items() if name not in params and name != "views"}
    params = {name: as_numpy(value, which) for name, value in params.items()}
    views = {**Views().get_params(), "size": 6, "blur": (0.5, 0.1), "noise": 0.1}
    if Learner is not MultiTask:
        views |= small(Learner)._default_views().get_params()
    else:
        params["learners"] = [
            ("byol", BYOL(momentum=as_numpy(0.9, which), hidden_dim=np.uint8(200)), np.float32(0.3))
        ]
    views = {name: as_numpy(value, which) for name, value in views.items()}
    assert any(isinstance(value, np.generic) for value in (*params.values(), *views.values()))
    found, loss = features(Learner, params, views)
    params = {name: as_python(value) for name, value in params.items()}
    if Learner is MultiTask:
        momentum = as_python(as_numpy(0.9, which))
        child = BYOL(momentum=momentum, hidden_dim=200)
        params["learners"] = [("byol", child, float(np.float32(0.3)))]
    expected, same_loss = features(Learner, params, {k: as_python(v) for k, v in views.items()})
    np.testing.assert_array_equal(found, expected)
    assert loss == same_loss


@pytest.mark.slow
def test_few_bits_do_not_wrap_around():
    """64 steps an epoch and 5 epochs are more than a number of 8 bits holds."""
    images = make_images(128)
    options = {"batch_size": 2, "views": Views(size=4)}
    found = small(SimCLR, max_epochs=np.uint8(5), **options).fit(images).history_
    expected = small(SimCLR, max_epochs=5, **options).fit(images).history_
    assert [row["lr"] for row in found] == [row["lr"] for row in expected]


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, np.float32("nan")])
@pytest.mark.parametrize(
    ("name", "place"),
    [
        *(("jitter", i) for i in range(4)),
        *((name, i) for name in ("crop_scale", "crop_ratio", "blur_sigma") for i in (0, 1)),
        *((name, 1) for name in ("gray", "blur", "solarize", "erase", "size")),
        *((name, None) for name in ("flip", "jitter_p", "gray", "blur", "solarize", "erase")),
        *((name, None) for name in ("noise", "size")),
    ],
)
def test_views_refuse_what_is_not_finite_by_name(name, place, bad):
    pairs = {"gray": (0.1, 0.2), "blur": (0.1, 0.2), "solarize": (0, 0.2), "erase": (0, 0.1)}
    value = bad
    if place is not None:
        value = list({**Views().get_params(), **pairs, "size": (6, 6)}[name])
        value[place] = bad
    with pytest.raises(ValueError, match=name):
        small(SimCLR, views=Views(**{name: value})).fit(make_images(16))


@pytest.mark.parametrize("bad", [np.nan, np.inf, "a", None])
@pytest.mark.parametrize("place", [0, 1])
@pytest.mark.parametrize(
    ("Learner", "name"),
    [(DINO, "teacher_temperature"), *((cls, "local_scale") for cls in (DINO, SwAV, LeJEPA))],
)
def test_pairs_of_learners_refuse_what_is_not_finite_by_name(Learner, name, place, bad):
    value = [0.1, 0.2]
    value[place] = bad
    with pytest.raises(ValueError, match=name):
        small(Learner, **{name: tuple(value)}).fit(make_images(16))


@one_of_each_kind
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_learners_refuse_what_is_not_finite_by_name(Learner, bad):
    numbers = [n for n, v in small(Learner).get_params(deep=False).items() if type(v) is float]
    assert "lr" in numbers
    for name in numbers:
        with pytest.raises(ValueError, match=name):
            small(Learner, **{name: bad}).fit(make_images(16))


# What learners hold, in a search


@pytest.mark.parametrize("Learner", [SimCLR, BYOL])
def test_search_over_the_recipe_of_the_method(Learner):
    search = GridSearchCV(small(Learner), {"views__size": [4, np.int64(6)]}, cv=2)
    search.fit(make_images())
    assert len(set(search.cv_results_["mean_test_score"])) == 2  # it makes a difference
    expected = Learner()._default_views().set_params(size=search.best_params_["views__size"])
    assert search.best_estimator_.views.get_params() == expected.get_params()


def test_the_recipe_is_that_of_the_arguments_set_with_it():
    learner = MoCo().set_params(version=3, views__size=8)
    assert learner.views.solarize == (0.0, 0.2)
    assert MoCo().set_params(views__size=8, version=3).views.solarize == (0.0, 0.2)
    assert BYOL(views=Views(size=4)).set_params(views=None, views__flip=0).views.size is None


@pytest.mark.parametrize("Learner", [SimCLR, MultiTask])
@pytest.mark.slow
def test_search_over_parameters_of_callbacks(Learner):
    stop = EarlyStopping(patience=1, threshold=1e9)  # nothing is ever good enough
    pipe = make_pipeline(small(Learner, max_epochs=6, callbacks=[("stop", stop)]))
    name = f"{Learner.__name__.lower()}__callbacks__stop__patience"
    search = GridSearchCV(pipe, {name: [2, 4]}, cv=2, refit=False).fit(make_images())
    assert len(set(search.cv_results_["mean_test_score"])) == 2
    for patience in (2, 4):
        fitted = pipe.set_params(**{name: patience}).fit(make_images())[0]
        assert fitted.n_epochs_ == patience + 1
    assert stop.patience == 1  # the user's own is left as it is
    with pytest.raises(ValueError, match="no callback of this name"):
        pipe.set_params(**{name.replace("stop", "halt"): 2})
