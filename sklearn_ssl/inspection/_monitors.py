"""Callbacks that monitor a learner's features during training."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np
from sklearn.model_selection import cross_val_score
from sklearn.preprocessing import StandardScaler
from skorch.callbacks import Callback

from sklearn_ssl._utils._estimators import COUNT, HasMethods, StrOptions, check_arguments
from sklearn_ssl._utils._labels import read_labels
from sklearn_ssl._utils._messages import did_you_mean
from sklearn_ssl.base import apply
from sklearn_ssl.exceptions import ImageReadError
from sklearn_ssl.images import count_images
from sklearn_ssl.inspection._given import check_folds
from sklearn_ssl.metrics import rank_me
from sklearn_ssl.probes import NeighborsProbe


class _Monitor(Callback, ABC):
    """Callback that records a measure of the features of some images every few epochs.

    Other callbacks find a value in every epoch; epochs without a measurement repeat the last one.
    """

    def __init__(self, X: Any, every: int, layer: str | None, pool: Any, name: str):
        self.X = X
        self.every = every
        self.layer = layer
        self.pool = pool
        self.name = name

    _constraints: ClassVar[dict[str, Any]] = {
        "every": [COUNT],
        "layer": [str, None],
        "pool": [StrOptions({"avg", "max"}), COUNT, None],
        "name": [str],
    }

    def initialize(self):
        """Check the arguments before training."""
        values = {name: getattr(self, name) for name in self._constraints}
        check_arguments(self._constraints, values, type(self).__name__)
        return super().initialize()

    def on_train_begin(self, net, **kwargs):
        callbacks = [callback for _, callback in net.callbacks_]
        if sum(getattr(callback, "name", None) == self.name for callback in callbacks) > 1:
            raise ValueError(
                f"callbacks has several that record name={self.name!r}; give each a different name"
            )
        for callback in callbacks[: callbacks.index(self)]:
            if getattr(callback, "monitor", None) == self.name:
                raise ValueError(
                    f"callbacks has {type(callback).__name__}(monitor={self.name!r}) before the "
                    f"{type(self).__name__} that records it; put the monitor first"
                )
        known = net.encoder.layers
        if self.layer is not None and self.layer not in known:
            raise ValueError(
                f"layer={self.layer!r} of {type(self).__name__} is not a layer of the encoder, "
                f"which has {', '.join(known)}.{did_you_mean(self.layer, known)}"
            )

    def on_epoch_end(self, net, **kwargs):
        if self.name in net.history[-1]:
            raise ValueError(
                f"{type(self).__name__} has name={self.name!r}, which the history already has in "
                "every epoch; give it another name"
            )
        epoch = len(net.history)
        before = net.history[-2].get(self.name) if epoch > 1 else None
        if before is None or epoch % self.every == 0 or net.progress_.is_over:
            before = float(self._value(*self._features(net)))
        net.history.record(self.name, before)

    def _features(self, net: Any) -> tuple[np.ndarray, np.ndarray]:
        """Compute features with the current encoder; return them and their rows of X."""
        encoder, images = net.encoder, net.read_(self.X)
        wanted = [(self.layer or encoder.default_layer, self.pool)]
        features = apply(net, lambda batch: encoder.features(batch, wanted), images)
        rows = np.delete(np.arange(len(images)), list(images.skipped))
        if not len(rows):
            raise ImageReadError(
                f"none of the {len(images)} images of {type(self).__name__} can be read"
            )
        return features[rows], rows

    @abstractmethod
    def _value(self, features: np.ndarray, rows: np.ndarray) -> float:
        """Compute the value to record from the features of some rows of X."""


class ProbeMonitor(_Monitor):
    """Callback that records the accuracy of a classifier on the features every few epochs.

    The labels never reach the encoder: only the classifier learns from them, and it is discarded.

    Parameters
    ----------
    X : array-like
        Labeled images, of the same shape and range as those of the fit. They are read as the
        learner reads images, with its ``channel_order``, ``on_error``, ``decoded_cache`` and
        ``n_jobs``.
    y : array-like of shape (n,)
        Labels; images without one (None, NaN, NA or -1) are left out.
    every : int, default=1
        Number of epochs from one measurement to the next. The first and the last epoch are always
        measured; epochs in between repeat the last value.
    probe : classifier or None, default=None
        ``None`` means :class:`NeighborsProbe` with 20 neighbors, which is fast.
    cv : int or splitter, default=3
        Cross-validation that measures the accuracy.
    layer : str or None, default=None
        Layer of the encoder; ``None`` means its default layer.
    pool : {"avg", "max"}, int or None, default=3
        Pooling of the feature map, as for a learner.
    name : str, default="probe"
        Name in ``history_``, which other callbacks can monitor.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sklearn_ssl import SimCLR
    >>> from sklearn_ssl.inspection import ProbeMonitor
    >>> X, y = load_digits().images, load_digits().target
    >>> monitor = ProbeMonitor(X[:200], y[:200])
    >>> ssl = SimCLR(max_epochs=2, callbacks=[monitor], random_state=0).fit(X[200:700])
    >>> [round(row["probe"], 1) for row in ssl.history_]
    [0.9, 0.9]
    """

    _constraints: ClassVar[dict[str, Any]] = {
        **_Monitor._constraints,
        "probe": [HasMethods(["fit", "predict"]), None],
        "cv": ["cv_object"],
    }

    def __init__(
        self, X: Any, y: Any, every: int = 1, probe: Any = None, cv: Any = 3,
        layer: str | None = None, pool: Any = 3, name: str = "probe",
    ):  # fmt: skip
        super().__init__(X, every, layer, pool, name)
        self.y = y
        self.probe = probe
        self.cv = cv

    def on_train_begin(self, net, **kwargs):
        super().on_train_begin(net, **kwargs)
        self.labels_, self.is_labeled_ = read_labels(self.y, count_images(self.X))
        check_folds(self.cv, self.labels_)

    def _value(self, features: np.ndarray, rows: np.ndarray) -> float:
        features = features[self.is_labeled_[rows]]
        labels = self.labels_[np.isin(np.flatnonzero(self.is_labeled_), rows)]
        probe = NeighborsProbe(20) if self.probe is None else self.probe
        standardized = StandardScaler().fit_transform(features)
        return cross_val_score(probe, standardized, labels, cv=self.cv).mean()


class MeasureMonitor(_Monitor):
    """Callback that records a measure without labels every few epochs.

    Parameters
    ----------
    X : array-like
        Images, of the same shape and range as those of the fit. They are read as the learner reads
        images, with its ``channel_order``, ``on_error``, ``decoded_cache`` and ``n_jobs``.
    measure : callable or None, default=None
        Function of features (n, d) that returns a number, such as those of
        :mod:`sklearn_ssl.metrics`; ``None`` means :func:`~sklearn_ssl.metrics.rank_me`.
    every : int, default=1
        Number of epochs from one measurement to the next. The first and the last epoch are always
        measured; epochs in between repeat the last value.
    layer : str or None, default=None
        Layer of the encoder; ``None`` means its default layer.
    pool : {"avg", "max"}, int or None, default=3
        Pooling of the feature map, as for a learner.
    name : str, default="rank_me"
        Name in ``history_``, which other callbacks can monitor:
        ``EarlyStopping(monitor="rank_me", lower_is_better=False)``.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sklearn_ssl import SimCLR
    >>> from sklearn_ssl.inspection import MeasureMonitor
    >>> X = load_digits().images
    >>> monitor = MeasureMonitor(X[:200], every=2)
    >>> ssl = SimCLR(max_epochs=4, callbacks=[monitor], random_state=0).fit(X[200:700])
    >>> [row["rank_me"] == ssl.history_[1]["rank_me"] for row in ssl.history_]
    [False, True, True, False]
    """

    _constraints: ClassVar[dict[str, Any]] = {**_Monitor._constraints, "measure": [callable, None]}

    def __init__(
        self, X: Any, measure: Callable[[np.ndarray], float] | None = None, every: int = 1,
        layer: str | None = None, pool: Any = 3, name: str = "rank_me",
    ):  # fmt: skip
        super().__init__(X, every, layer, pool, name)
        self.measure = measure

    def _value(self, features: np.ndarray, rows: np.ndarray) -> float:
        return float((self.measure or rank_me)(features))
