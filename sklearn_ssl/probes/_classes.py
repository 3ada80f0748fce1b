"""Parts of classifiers on features: labels as numbers, and a choice by scores."""

from typing import Any

import numpy as np
from sklearn.utils.multiclass import check_classification_targets

from sklearn_ssl.probes._labeled import LabeledClassifierMixin

__all__ = ["DecisionMixin", "best_of", "encoded"]


def encoded(y: Any) -> tuple[np.ndarray, np.ndarray]:
    """Return the classes of labels, at least two, and for each label the index of its class."""
    check_classification_targets(y)
    classes, codes = np.unique(y, return_inverse=True)
    if len(classes) < 2:
        raise ValueError(f"there is one class, {classes[0]!r}; a classifier needs two at least")
    return classes, codes


def best_of(scores: np.ndarray) -> np.ndarray:
    """Return indices of the best classes by scores (n, n_classes), or (n,) or (n, 1) for two."""
    scores = scores.reshape(len(scores), -1)
    return (scores[:, 0] > 0).astype(int) if scores.shape[1] == 1 else scores.argmax(1)


class DecisionMixin(LabeledClassifierMixin):
    """Mixin for ``predict`` by ``decision_function``."""

    classes_: Any
    decision_function: Any

    def predict(self, X: Any) -> np.ndarray:
        """Predict the class with the highest score for each sample.

        Parameters
        ----------
        X : array-like of shape (n, n_features)

        Returns
        -------
        ndarray of shape (n,)
        """
        places = best_of(self.decision_function(X))
        return self.classes_[places]
