"""Labels: their forms, and what marks those that are missing."""

import warnings

import numpy as np
import pandas as pd
import polars as pl
import pytest
import torch

from sklearn_ssl._utils._labels import read_labels, read_targets
from sklearn_ssl.exceptions import LabelWarning

NAMES = ["cat", "dog"]


@pytest.mark.parametrize(
    ("y", "labels", "missing"),
    [
        (["cat", -1, "dog"], NAMES, 1),
        (["cat", "-1", "dog"], NAMES, 1),
        (["cat", np.nan, "dog", None], NAMES, (1, 3)),
        (["cat", "", "dog"], NAMES, 1),
        (np.array(["cat", -1, "dog"]), NAMES, 1),
        (np.array(["cat", np.nan, "dog"]), NAMES, 1),
        (np.array(["cat", pd.NA, "dog"], dtype=object), NAMES, 1),
        (np.array(["cat", "", "dog"], dtype=np.dtypes.StringDType()), NAMES, 1),
        (pd.Series(["cat", None, "dog"]), NAMES, 1),
        (pd.Series(["cat", None, "dog"], dtype="string"), NAMES, 1),
        (pd.Series(["cat", None, "dog"], dtype="category"), NAMES, 1),
        (pl.Series(["cat", None, "dog"], dtype=pl.Categorical), NAMES, 1),
        ([0, -1, 2], [0, 2], 1),
        ([0, None, 2], [0, 2], 1),
        (np.array([0, -1, 2], dtype=object), [0, 2], 1),
        (np.array([0, -1, np.nan, 2.0]), [0.0, 2.0], (1, 2)),
        (np.ma.array([0, 1, 2], mask=[False, True, False]), [0, 2], 1),
        (pd.Series([0, pd.NA, 2], dtype="Int64"), [0, 2], 1),
        (pd.Series([0, -1, 2], dtype="category"), [0, 2], 1),
        (pd.Series([True, pd.NA, False], dtype="boolean"), [True, False], 1),
        (torch.tensor([0, -1, 2]), [0, 2], 1),
    ],
    ids=lambda y: f"{type(y).__name__} {getattr(y, 'dtype', '')}",
)
def test_what_is_no_label(y, labels, missing):
    with warnings.catch_warnings(action="error"):
        found, is_labeled = read_labels(y, len(y))
    assert found.tolist() == labels
    assert [type(label) for label in found.tolist()] == [type(label) for label in labels]
    np.testing.assert_array_equal(np.flatnonzero(~is_labeled), missing)


def test_minus_one_and_one_are_two_classes():
    for y in ([-1, 1, -1], np.array([-1.0, 1.0, -1.0]), ["-1", "1", "-1"]):
        with pytest.warns(LabelWarning, match="two classes"):
            labels, is_labeled = read_labels(y)
        assert is_labeled.all()
        assert len(np.unique(labels)) == 2
    _, is_labeled = read_labels([-1, 1, -1], classes=np.array([0, 1]))
    assert is_labeled.tolist() == [False, True, False]
    _, is_labeled = read_labels([-1, -1, None], classes=np.array([-1, 1]))
    assert is_labeled.tolist() == [True, True, False]


def test_what_minus_one_becomes_without_negative_numbers_is_told():
    y = np.arange(6, dtype=np.uint8) % 3
    wrapped = np.where(np.arange(6) < 3, y, -1)
    assert wrapped.max() == 255
    with pytest.warns(LabelWarning, match="3 of 6 labels are 255"):
        read_labels(wrapped)
    with warnings.catch_warnings(action="error", category=LabelWarning):
        read_labels(np.arange(256).astype(np.uint8))
        read_labels(wrapped.astype(int))


def test_several_labels():
    y = [[0, 1], [1, None], [1, 1], [-1, -1], [np.nan, 0]]
    for given in (y, pd.DataFrame(y), np.array(y, dtype=float)):
        labels, is_labeled = read_labels(given, 5, multilabel=True)
        assert labels.tolist() == [[0, 1], [1, 1]]
        assert labels.dtype == np.int64
        assert is_labeled.tolist() == [True, False, True, False, False]
    for bad, said in (([[0, 2], [1, 0]], "contains 2"), ([[1, -1], [1, 1]], "use 0")):
        with pytest.raises(ValueError, match=said):
            read_labels(bad, multilabel=True)
    assert read_labels([[1, 1], [1, -1]], classes=[0, 1], multilabel=True)[0].tolist() == [[1, 1]]
    with pytest.raises(ValueError, match="1d array"):
        read_labels(y)


def test_targets_of_which_some_are_missing():
    for y in ([0.5, None, -1], [0.5, np.nan, -1], pd.Series([0.5, pd.NA, -1], dtype="Float64")):
        targets, is_labeled = read_targets(y, 3)
        assert targets.tolist() == [0.5, -1]
        assert is_labeled.tolist() == [True, False, True]
    targets, is_labeled = read_targets([[0.5, 1], [None, 2], [3, 4]])
    assert targets.tolist() == [[0.5, 1], [3, 4]]
    assert is_labeled.tolist() == [True, False, True]


@pytest.mark.parametrize(
    ("y", "error", "said"),
    [
        ([0, 1], ValueError, "X has 3 rows, but y has 2"),
        ([-1, None, np.nan], ValueError, "y has no label"),
        (["cat", 1, 2], TypeError, "numbers, such as 1, and text, such as 'cat'"),
        ([0.2, 0.5, 0.7], ValueError, "Unknown label type"),
        (None, ValueError, "y to be passed"),
    ],
)
def test_what_is_refused(y, error, said):
    with pytest.raises(error, match=said):
        read_labels(y, 3)
