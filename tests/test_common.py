"""Checks of scikit-learn that every learner passes, none expected to fail."""

import warnings

import pytest
from conftest import KINDS, LEARNERS, every_learner, one_of_each_kind, small
from sklearn.utils import estimator_checks
from sklearn.utils.estimator_checks import parametrize_with_checks

from sklearn_ssl.exceptions import ImageShapeWarning

pytestmark = pytest.mark.filterwarnings("ignore::sklearn_ssl.exceptions.ImageShapeWarning")


@parametrize_with_checks([small(cls) for name, cls in LEARNERS if name in KINDS])
def test_scikit_learn_check(estimator, check):
    passes(estimator, check)


@pytest.mark.slow
@parametrize_with_checks([small(cls) for name, cls in LEARNERS if name not in KINDS])
def test_scikit_learn_check_of_the_others(estimator, check):
    passes(estimator, check)


def passes(estimator, check):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ImageShapeWarning)  # tables are taken as strips
        check(estimator)


# checks that the suite knows but does not yield
@pytest.mark.slow
@pytest.mark.parametrize(
    "check",
    [
        "check_set_output_transform",
        "check_set_output_transform_pandas",
        "check_global_output_transform_pandas",
        "check_set_output_transform_polars",
        "check_global_set_output_transform_polars",
        "check_transformer_get_feature_names_out",
        "check_transformer_get_feature_names_out_pandas",
        "check_get_feature_names_out_error",
        "check_dataframe_column_names_consistency",
        "check_inplace_ensure_writeable",
        "check_param_validation",
    ],
)
@one_of_each_kind
def test_check_called_by_hand(Learner, check):
    getattr(estimator_checks, check)(Learner.__name__, small(Learner))


@every_learner
def test_no_tag_dodges_a_check(Learner):
    tags = small(Learner).__sklearn_tags__()
    assert tags.requires_fit
    assert not tags.no_validation
    assert not tags.non_deterministic
    assert not tags._skip_test
    assert not tags.input_tags.positive_only
    assert tags.input_tags.two_d_array


@every_learner
def test_every_argument_says_what_it_takes(Learner):
    taken = Learner._parameter_constraints
    assert [name for name in taken if taken[name] == "no_validation"] == []
