"""The extension API: arguments declared once, methods written outside of the package."""

import inspect
import pickle
import re
import sys
from dataclasses import dataclass
from numbers import Real

import numpy as np
import pytest
import sklearn
import torch.nn.functional as F
from conftest import Constant, TinyNet, every_kind, every_learner, small
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV
from sklearn.utils.estimator_checks import parametrize_with_checks
from sklearn.utils.fixes import parse_version
from skorch.callbacks import Callback

from sklearn_ssl import (
    FineTunedClassifier,
    FineTunedRegressor,
    MultiTask,
    PretrainedEncoder,
    SimCLR,
    Views,
)
from sklearn_ssl._utils._estimators import DeclaredArguments
from sklearn_ssl.base import PretextLearner, PretextTask, TaskOutput, argument
from sklearn_ssl.exceptions import CollapseWarning, StaleFeaturesWarning


class AgreeTask(PretextTask):
    def __init__(self, encoder, views, *, weight):
        super().__init__(encoder, views)
        self.weight = weight

    def forward(self, images, index):
        first, second = self.encoder.embed(self.pair(images)).chunk(2)
        spread = first.std(0).mean()
        loss = self.weight * F.mse_loss(first, second) - spread
        return TaskOutput(loss, {"spread": spread})


class Agree(PretextLearner):
    """Embeddings of two views agree.

    Parameters
    ----------
    weight : float, default=1.0
        Of the distance.
    <shared parameters>

    Attributes
    ----------
    <attributes>
    """

    weight: float = argument(Real, default=1.0)
    lr: float = 1e-3

    def _default_views(self):
        return Views(size=6)

    def _make_task(self, encoder, n_images):
        return AgreeTask(encoder, self._make_views(), weight=self.weight)


@pytest.mark.filterwarnings("ignore::sklearn_ssl.exceptions.ImageShapeWarning")
@parametrize_with_checks([Agree(encoder=TinyNet, max_epochs=1, random_state=0)])
def test_a_method_of_ones_own_passes_the_checks_of_scikit_learn(estimator, check):
    check(estimator)


def test_a_method_of_ones_own(images):
    learner = Agree(encoder=TinyNet, weight=0.5, max_epochs=2, random_state=0).fit(images)
    assert "spread" in learner.history_[-1]
    assert learner.history_[0]["lr"] < 1e-3
    with pytest.raises(ValueError, match="'weight' parameter of Agree"):
        clone(learner).set_params(weight="much").fit(images)
    with pytest.raises(ValueError, match="'lr' parameter of Agree"):
        clone(learner).set_params(lr=-1).fit(images)
    assert pickle.loads(pickle.dumps(learner)).weight == 0.5
    doc = inspect.getdoc(Agree)
    assert "lr : float, default=0.001" in doc
    assert "n_epochs_ : int" in doc


def test_a_decorator_from_habit_does_no_harm():
    @dataclass(kw_only=True, eq=False, repr=False)
    class Decorated(Agree):
        more: int = argument(int, default=3)

    assert Decorated(more=4, weight=2.0).get_params()["more"] == 4
    assert Decorated()._parameter_constraints["more"] == [int]
    assert Decorated() != Decorated()


def test_an_init_of_ones_own_is_refused():
    with pytest.raises(TypeError, match=r"__init__ of its own.*name: type = argument"):

        class Hides(Agree):
            def __init__(self, weight=1.0):
                self.weight = weight


def test_an_argument_without_a_type_is_refused():
    with pytest.raises(TypeError, match=r"give weight2 a type.*weight2: float"):

        class Untyped(Agree):
            weight2 = argument(Real, default=1.0)


def test_another_default_without_a_type_is_refused():
    with pytest.raises(TypeError, match=r"give lr a type"):

        class Untyped(Agree):
            lr = 1e-2


def test_arguments_without_constraints(images):
    class Loose(Agree):
        more: float = argument(default=0.5)
        bare: float = 0.5

    assert small(Loose, more="anything").fit(images).more == "anything"
    assert inspect.getdoc(Loose).startswith("Embeddings of two views")


def test_arguments_of_several_bases():
    class Named(DeclaredArguments):
        name: str = argument(str, default="")

    class Both(Named, Agree):
        pass

    assert {"name", "weight", "encoder"} <= Both._arguments.keys()
    assert Both._parameter_constraints["name"] == [str]
    assert Both._parameter_constraints["weight"] == [Real]
    assert Both._arguments["lr"]["changeable"]


def test_what_is_no_output_of_a_task_is_named(images):
    class BareTask(AgreeTask):
        def forward(self, images, index):
            return super().forward(images, index).loss

    class Bare(Agree):
        def _make_task(self, encoder, n_images):
            return BareTask(encoder, self._make_views(), weight=1.0)

    with pytest.raises(TypeError, match=r"BareTask.forward returned .* TaskOutput"):
        small(Bare).fit(images)


def test_terms_may_be_numbers_and_have_any_name(images):
    class TermsTask(AgreeTask):
        def forward(self, images, index):
            output = super().forward(images, index)
            return TaskOutput(output.loss, {"loss": output.loss * 0, "constant": 3.0})

    class Terms(Agree):
        def _make_task(self, encoder, n_images):
            return TermsTask(encoder, self._make_views(), weight=1.0)

    record = small(Terms).fit(images).history_[-1]
    assert record["constant"] == 3.0
    assert record["train_loss"] != 0


def test_without_a_task_there_is_no_learner():
    class Nothing(PretextLearner):
        pass

    with pytest.raises(TypeError, match="_task_class, or define _make_task"):
        Nothing().fit(np.eye(16))


@every_learner
def test_arguments_are_declared_once(Learner):
    """Constraints, constructor and docstring follow from the declaration."""
    names = set(inspect.signature(Learner).parameters)
    assert names == set(Learner._parameter_constraints) == set(Learner._arguments)
    assert all(Learner._parameter_constraints.values())


def test_the_signature_has_positional_arguments_in_their_order():
    class First(DeclaredArguments):
        shared: int = argument(default=1, kw_only=False, group="G")

    class Second(First):
        own: int = argument(default=2, kw_only=False)
        other: int = argument(default=3)

    given = inspect.signature(Second).bind(7)
    assert given.arguments == {"shared": 7}
    assert Second(7).shared == 7


def test_a_new_default_keeps_the_rest_of_a_declaration():
    assert Agree().lr == 1e-3
    assert Agree._arguments["lr"] is PretextLearner._arguments["lr"]


# Parameters of views and callbacks


@every_kind
def test_parameters_of_the_methods_own_views(Learner, images):
    """None stands for the recipe of the method, whose parameters can be set."""
    learner = small(Learner)
    if Learner is MultiTask:
        with pytest.raises(ValueError, match=r"no default views.*name__views__size"):
            learner.set_params(views__gray=0.1)
        learner.set_params(rotation__views__size=8).fit(images)
        return
    recipe = learner._default_views()
    learner.set_params(views__gray=0.1, views__flip=0.25)
    assert learner.views.get_params() == {**recipe.get_params(), "gray": 0.1, "flip": 0.25}
    clone(learner).fit(images)


def test_search_over_parameters_of_views_and_callbacks(images):
    from skorch.callbacks import EarlyStopping

    stop = EarlyStopping(monitor="train_loss", patience=1, threshold=1e9, sink=str)
    learner = small(SimCLR, max_epochs=4, callbacks=[("stop", stop)])
    grid = {"views__size": [6, 8], "callbacks__stop__patience": [2, 3]}
    search = GridSearchCV(learner, grid, cv=2).fit(images)
    patience = search.best_params_["callbacks__stop__patience"]
    assert search.best_estimator_.n_epochs_ == patience + 1
    assert search.best_estimator_.views.size == search.best_params_["views__size"]
    assert stop.patience == 1  # is not touched


def test_a_callback_can_be_switched_off_or_exchanged():
    learner = small(SimCLR, callbacks=[("a", Callback()), Callback()])
    other = Callback()
    assert learner.set_params(callbacks__a=other).callbacks[0] == ("a", other)
    assert len(learner.set_params(callbacks__a=None).callbacks) == 1


def test_one_transform_of_torchvision_as_views(images):
    """scikit-learn took its get_params for that of an estimator."""
    v2 = pytest.importorskip("torchvision.transforms.v2")
    learner = small(SimCLR, views=v2.RandomResizedCrop(8, antialias=True))
    assert learner.get_params()["views"] is learner.views
    assert learner.fit(images).n_epochs_ == 1


def test_a_callback_that_is_not_there():
    with pytest.raises(ValueError, match=r"no callback of this name.*pairs"):
        small(SimCLR).set_params(callbacks__stop__patience=2)


def test_views_and_a_parameter_of_them_in_one_call():
    learner = small(SimCLR).set_params(views=Views(size=9), views__flip=0)
    assert (learner.views.size, learner.views.flip) == (9, 0)
    assert learner.set_params(views=None).views is None


# What is shown


@pytest.mark.skipif(
    parse_version(sklearn.__version__) < parse_version("1.9"),
    reason="scikit-learn shows descriptions from 1.9 on; the package supports 1.6",
)
@every_kind
def test_html_has_the_description_of_every_parameter(Learner):
    html = small(Learner)._repr_html_()
    for name in Learner._arguments:
        assert f"--doc-link-{name};" in html, name


def test_warnings_point_at_the_line_of_the_user(images):
    from sklearn.pipeline import make_pipeline

    learner = small(SimCLR, encoder=Constant)
    pipe = make_pipeline(learner)
    for fit in (learner.fit, pipe.fit, learner.partial_fit, learner.fit_transform):
        here = sys._getframe().f_lineno + 2
        with pytest.warns(CollapseWarning) as caught:
            fit(images)
        found = [(w.filename, w.lineno) for w in caught if w.category is CollapseWarning]
        assert found == [(__file__, here)]


def test_features_that_others_hold_are_told_of_when_the_training_goes_on(images):
    learner = small(SimCLR, warm_start=True)
    learner.fit_transform(images)
    learner.fit_transform(images)  # who asked has the new ones
    with pytest.warns(StaleFeaturesWarning, match="fitted again"):
        learner.partial_fit(images)
    learner.partial_fit(images)  # once is enough


def test_a_failed_fit_transform_does_not_forget_that_features_were_given(images):
    learner = small(SimCLR)
    learner.fit_transform(images)
    with pytest.raises(ValueError, match="NaN"):
        learner.fit_transform(np.full((8, 8, 8, 3), np.nan))
    with pytest.warns(StaleFeaturesWarning):
        learner.partial_fit(images)


def test_score_under_pandas_output_does_not_warn(images, recwarn):
    learner = small(SimCLR).set_output(transform="pandas").fit(images)
    assert learner.score(images) > 1
    assert not [w for w in recwarn if "read-only" in str(w.message)]


def test_verbose_2_tells_of_every_epoch(images, capsys):
    small(SimCLR, max_epochs=2, verbose=2).fit(images)
    lines = [line for line in capsys.readouterr().err.split("\n") if "feature_spread" in line]
    assert len(lines) == 2
    assert "train_loss" in lines[0]


@pytest.mark.parametrize("pool", [0, "3", -3, "mean"])
def test_pool_is_checked_wherever_it_acts(pool, images):
    learner = small(SimCLR).fit(images).set_params(pool=pool)
    for method in (learner.get_feature_names_out, lambda: learner.transform(images)):
        with pytest.raises(ValueError, match="'pool'"):
            method()


def test_layer_is_checked_wherever_it_acts(images):
    learner = small(SimCLR).fit(images).set_params(layer="nowhere")
    for method in (learner.get_feature_names_out, lambda: learner.transform(images)):
        with pytest.raises(ValueError, match="layer='nowhere'"):
            method()


def test_nothing_is_asked_of_a_learner_that_is_not_fitted():
    with pytest.raises(NotFittedError):
        small(SimCLR).transform(np.zeros((2, 8, 8, 3), np.uint8))
    with pytest.raises(NotFittedError):
        small(SimCLR).get_feature_names_out()


class Borrowed(DeclaredArguments, like=PretextLearner, only={"lr", "warmup"}):
    lr: float = 0.5


def test_another_default_keeps_the_declaration_of_another_class():
    assert (Borrowed().lr, Borrowed().warmup) == (0.5, PretextLearner.warmup)
    assert Borrowed._parameter_constraints["lr"] == PretextLearner._parameter_constraints["lr"]
    assert Borrowed._arguments["lr"]["doc"].startswith("float\nPeak learning rate")


@pytest.mark.parametrize(
    ("estimator", "name"),
    [
        (FineTunedClassifier(lr=-1), "lr"),
        (FineTunedRegressor(lr=-1), "lr"),
        (PretrainedEncoder(input_size=-4), "input_size"),
        (PretrainedEncoder(weights=3), "weights"),
    ],
    ids=str,
)
def test_borrowed_arguments_are_validated_and_described(estimator, name):
    kind = type(estimator)
    with pytest.raises(ValueError, match=f"The '{name}' parameter of {kind.__name__}"):
        estimator.fit(np.eye(16), np.arange(16) % 2)
    assert f"\n{name} : " in kind.__doc__
    assert "time_budget" not in re.findall(r"- encoder: ([^-]*)", kind.__doc__)[0]
