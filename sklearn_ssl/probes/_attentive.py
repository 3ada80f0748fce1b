"""Attentive probe: learned attention over the positions of a feature map, then a linear layer."""

import math
from typing import Any, Self

import numpy as np
import torch
import torch.nn.functional as F
from scipy.special import softmax
from sklearn.base import BaseEstimator
from sklearn.model_selection import StratifiedShuffleSplit
from sklearn.utils import compute_class_weight
from sklearn.utils.validation import check_is_fitted, validate_data
from torch import Tensor, nn

from sklearn_ssl._labeled._mixins import LabeledClassifierMixin, encoded
from sklearn_ssl._labeled._to_torch import ExportMixin
from sklearn_ssl._utils._estimators import (
    COUNT,
    NOT_NEGATIVE,
    POSITIVE,
    DeclaredArguments,
    StrOptions,
    all_or_nothing,
    argument,
)
from sklearn_ssl._utils._messages import naming
from sklearn_ssl._utils._saving import SavedMixin
from sklearn_ssl._utils._torch import draw_seed, isolated, own_settings, resolve_device
from sklearn_ssl.images import count_images
from sklearn_ssl.nn import cosine

_DECAYS = (0.01, 0.1, 1.0)  # weight decays that "auto" chooses from
_HELD_OUT = 0.25
_STEPS, _EPOCHS = 400, 20  # at least so many of each
_ROWS_AT_ONCE = 1024


class _AttentiveHead(nn.Module):
    """Attention of several queries over positions, and a linear layer.

    Parameters
    ----------
    width : int
        Features of a position.
    n_queries : int
    n_classes : int
    """

    mean: Tensor
    scale: Tensor

    def __init__(self, width: int, n_queries: int, n_classes: int):
        super().__init__()
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("scale", torch.ones(width))
        self.queries = nn.Parameter(torch.randn(n_queries, width) * 0.02)
        self.values = nn.Linear(width, n_queries * math.ceil(width / n_queries), bias=False)
        self.classes = nn.Linear(self.values.out_features, n_classes)

    def attention(self, features: Tensor) -> Tensor:
        """Compute the attention (n, positions, n_queries) to standardized features."""
        return (features @ self.queries.T * features.shape[2] ** -0.5).softmax(1)

    def forward(self, features: Tensor) -> Tensor:
        """Compute scores (n, n_classes) of features (n, positions, width)."""
        features = (features - self.mean) / self.scale
        # each query averages dimensions of its own
        values = self.values(features).unflatten(2, (len(self.queries), -1))
        averages = torch.einsum("npq,npqd->nqd", self.attention(features), values)
        return self.classes(averages.flatten(1))


class AttentiveProbe(
    LabeledClassifierMixin, ExportMixin, SavedMixin, DeclaredArguments, BaseEstimator
):
    """Linear classifier of feature maps that learns where to look: efficient probing [1]_.

    Several learned queries attend to the positions of a feature map; each averages its own part of
    linearly transformed features, and a linear layer classifies the result. Use it where averaging
    over positions loses what matters: small objects, or features of masked image modeling, whose
    information is spread over positions. Where things are always at the same place, as in digits, a
    :class:`LinearProbe` on a 3 x 3 grid is better, as attention does not know about places.

    Parameters
    ----------
    n_queries : int, default=8
        Number of queries.
    n_channels : int or None, default=None
        Number of features of each position, if ``X`` has maps as rows, as ``transform`` returns
        them with ``pool=None``; ``None`` reads rows as a single position.
    weight_decay : float or "auto", default="auto"
        Weight decay of AdamW; ``"auto"`` chooses 0.01, 0.1 or 1 by the log loss on a quarter of the
        samples, and then fits to all.
    lr : float, default=0.003
        Peak learning rate, with a cosine schedule.
    batch_size : int, default=64
    max_epochs : int or None, default=None
        Number of passes over the samples. ``None`` means 20, or more with few samples: enough for
        400 steps.
    class_weight : dict, {"balanced"} or None, default=None
        Class weights, as in scikit-learn.
    random_state : int, RandomState instance or None, default=0
        Seed for the initial queries, the order of samples, and the split that ``"auto"`` uses.
    device : str or torch.device, default="auto"
        Device of the computation; ``"auto"`` means a GPU if there is one.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
    weight_decay_ : float
        Value used.
    weights_ : dict of str to ndarray
        Weights: the mean and scale of channels, queries, values and the linear layer.
    n_features_in_ : int
        Number of values per map.

    References
    ----------
    .. [1] Psomas et al. (2025), Attention, Please! Revisiting Attentive Probing Through the Lens of
       Efficiency, https://arxiv.org/abs/2506.10178

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sklearn_ssl import SimCLR
    >>> from sklearn_ssl.probes import AttentiveProbe
    >>> X, y = load_digits(return_X_y=True)
    >>> ssl = SimCLR(max_epochs=2, layer="layer2", random_state=0).fit(X[:1000])
    >>> probe = AttentiveProbe(max_epochs=20).fit(ssl.feature_maps(X[:1000]), y[:1000])
    >>> bool(probe.score(ssl.feature_maps(X[1000:]), y[1000:]) > 0.8)
    True
    """

    n_queries: int = argument(COUNT, default=8)
    n_channels: int | None = argument(COUNT, None, default=None)
    weight_decay: float | str = argument(NOT_NEGATIVE, StrOptions({"auto"}), default="auto")
    lr: float = argument(POSITIVE, default=3e-3)
    batch_size: int = argument(COUNT, default=64)
    max_epochs: int | None = argument(COUNT, None, default=None)
    class_weight: Any = argument(dict, StrOptions({"balanced"}), None, default=None)
    random_state: int | np.random.RandomState | None = argument("random_state", default=0)
    device: str | torch.device = argument(str, torch.device, default="auto")

    @all_or_nothing
    def fit(self, X: Any, y: Any) -> Self:
        """Fit the probe to feature maps and labels.

        Parameters
        ----------
        X : array-like of shape (n, rows, columns, d), (n, positions, d) or (n, n_features)
            Maps, as from ``feature_maps``, or rows (see ``n_channels``).
        y : array-like of shape (n,)
            Labels; samples without one (None, NaN, NA or -1) are left out.

        Returns
        -------
        self
        """
        self._validate_params()
        labels, is_labeled = self._read_y(y, count_images(X))
        features = self._positions(X, reset=True)[is_labeled]
        classes, codes = encoded(labels)
        weights = None
        if self.class_weight is not None:
            weights = compute_class_weight(self.class_weight, classes=classes, y=labels)
        seed, device = draw_seed(self.random_state), resolve_device(self.device)
        decay = self.weight_decay
        if decay == "auto":
            decay = self._chosen(features, codes, weights, seed, device)
        head = self._trained(features, codes, weights, float(decay), seed, device)
        self.weights_ = {name: v.cpu().numpy() for name, v in head.state_dict().items()}
        self.classes_, self.weight_decay_ = classes, float(decay)
        return self

    def _positions(self, X: Any, reset: bool) -> np.ndarray:
        """Check X, and return features (n, positions, d)."""
        X = X if hasattr(X, "shape") else np.asarray(X)
        shape = X.shape
        are_maps = len(shape) in (3, 4)
        with naming("X"):
            flat = np.reshape(X, (shape[0], -1)) if are_maps else X
            flat = validate_data(self, flat, dtype=np.float32, reset=reset)
        width = shape[-1] if are_maps else self.n_channels or flat.shape[1]
        expected = (self.n_channels or width) if reset else len(self.weights_["mean"])
        if width != expected:
            raise ValueError(
                f"X has {width} features at each position, but {expected} are expected; give "
                "n_channels for maps as rows, and maps of the same layer as in the fit"
            )
        if are_maps:
            return flat.reshape(len(flat), -1, width)
        if flat.shape[1] % width:
            raise ValueError(
                f"n_channels={width} does not divide the {flat.shape[1]} features of X; maps as "
                "rows have all positions of the first channel, then of the second, and so on"
            )
        return np.ascontiguousarray(flat.reshape(len(flat), width, -1).swapaxes(1, 2))

    def _chosen(
        self, features: np.ndarray, codes: np.ndarray, weights: Any, seed: int, device: torch.device
    ) -> float:
        """Choose the weight decay with the least log loss on held-out samples."""
        n_classes, counts = codes.max() + 1, np.bincount(codes)
        if counts.min() < 2 or len(codes) * min(_HELD_OUT, 1 - _HELD_OUT) < n_classes:
            return _DECAYS[-1]  # too few to hold some out
        split = StratifiedShuffleSplit(1, test_size=_HELD_OUT, random_state=seed)
        ((train, held_out),) = split.split(features, codes)
        losses = []
        for decay in _DECAYS:
            head = self._trained(features[train], codes[train], weights, decay, seed, device)
            scores = torch.from_numpy(self._scores(head, features[held_out], device))
            wanted = torch.from_numpy(codes[held_out])
            of_class = None if weights is None else torch.tensor(weights, dtype=torch.float32)
            losses.append(float(F.cross_entropy(scores, wanted, weight=of_class)))
        return _DECAYS[int(np.argmin(losses))]

    def _trained(
        self,
        features: np.ndarray,
        codes: np.ndarray,
        class_weights: Any,
        decay: float,
        seed: int,
        device: torch.device,
    ) -> _AttentiveHead:
        """Train a head by AdamW."""
        n, _, width = features.shape
        n_classes = len(class_weights) if class_weights is not None else int(codes.max()) + 1
        size = min(int(self.batch_size), n)
        steps = max(1, n // size)
        epochs = self.max_epochs or max(_EPOCHS, math.ceil(_STEPS / steps))
        with isolated(device, seed):
            head = _AttentiveHead(width, int(self.n_queries), n_classes).to(device)
            seen, wanted = torch.from_numpy(features).to(device), torch.from_numpy(codes).to(device)
            head.mean.copy_(seen.mean((0, 1)))
            scale = seen.std((0, 1), correction=0)
            head.scale.copy_(torch.where(scale > 0, scale, 1.0))
            weights = torch.ones(n_classes, device=device)
            if class_weights is not None:
                weights = torch.tensor(class_weights, dtype=torch.float32, device=device)
            mass = weights * torch.bincount(wanted, minlength=n_classes)
            nn.init.zeros_(head.classes.weight)  # at first, it predicts how frequent classes are
            head.classes.bias.data.copy_((mass / mass.sum()).clamp(min=1e-6).log())
            matrices = [p for p in head.parameters() if p.ndim > 1]
            groups = [
                {"params": matrices, "weight_decay": decay},
                {"params": [head.classes.bias], "weight_decay": 0.0},
            ]
            optimizer = torch.optim.AdamW(groups, lr=self.lr)
            total, done = steps * epochs, 0
            for _ in range(epochs):
                order = torch.randperm(n, device=device)
                for rows in order[: steps * size].split(size):
                    for group in optimizer.param_groups:
                        group["lr"] = cosine(done / total, self.lr, 0.0)
                    loss = F.cross_entropy(head(seen[rows]), wanted[rows], weight=weights)
                    optimizer.zero_grad()
                    loss.backward()
                    optimizer.step()
                    done += 1
        return head.requires_grad_(False)

    @staticmethod
    def _scores(head: _AttentiveHead, features: np.ndarray, device: torch.device) -> np.ndarray:
        """Compute scores (n, n_classes)."""
        found = [np.empty((0, head.classes.out_features), np.float32)]
        with own_settings(device), torch.no_grad():
            for start in range(0, len(features), _ROWS_AT_ONCE):
                some = torch.from_numpy(features[start : start + _ROWS_AT_ONCE]).to(device)
                found.append(head(some).cpu().numpy())
        return np.concatenate(found)

    def _head(self) -> _AttentiveHead:
        """Rebuild the head from its weights."""
        check_is_fitted(self)
        n_queries, width = self.weights_["queries"].shape
        head = _AttentiveHead(width, n_queries, len(self.classes_))
        head.load_state_dict({name: torch.from_numpy(v) for name, v in self.weights_.items()})
        return head.requires_grad_(False)

    def predict_proba(self, X: Any) -> np.ndarray:
        """Predict class probabilities.

        Parameters
        ----------
        X : array-like
            Maps or rows, as in :meth:`fit`.

        Returns
        -------
        ndarray of shape (n, n_classes), float32
        """
        device = resolve_device(self.device)
        head = self._head().to(device)
        return softmax(self._scores(head, self._positions(X, reset=False), device), axis=1)

    def predict(self, X: Any) -> np.ndarray:
        """Predict the most probable class of each sample.

        Parameters
        ----------
        X : array-like
            Maps or rows, as in :meth:`fit`.

        Returns
        -------
        ndarray of shape (n,)
        """
        best = self.predict_proba(X).argmax(1)
        return self.classes_[best]

    def attention(self, X: Any) -> np.ndarray:
        """Compute where each query looks.

        Parameters
        ----------
        X : array-like
            Maps or rows, as in :meth:`fit`.

        Returns
        -------
        ndarray of shape (n, n_queries, positions), float32
            Shares of the positions; those of a query sum to 1.
        """
        head = self._head()
        features = torch.from_numpy(self._positions(X, reset=False))
        with own_settings(torch.device("cpu")), torch.no_grad():
            return head.attention((features - head.mean) / head.scale).mT.contiguous().numpy()

    def to_torch(self) -> nn.Module:
        """Return the probe as a plain torch module.

        Returns
        -------
        nn.Module
            Maps rows (n, n_features) with ``n_channels``, or else features (n, positions, d), to
            class probabilities (n, n_classes), float32.
        """
        return _Probabilities(self._head(), self.n_channels).eval()

    def _example(self) -> tuple[Tensor, str]:
        width = len(self.weights_["mean"])
        if self.n_channels or self.n_features_in_ == width:
            return torch.zeros(2, self.n_features_in_), "features"
        return torch.zeros(2, self.n_features_in_ // width, width), "features"


class _Probabilities(nn.Module):
    """Module from maps, or maps as rows, to class probabilities."""

    def __init__(self, head: _AttentiveHead, n_channels: int | None):
        super().__init__()
        self.head = head
        self.n_channels = n_channels

    def forward(self, features: Tensor) -> Tensor:
        if features.ndim == 2:
            features = features.unflatten(1, (self.n_channels or features.shape[1], -1)).mT
        return self.head(features).softmax(1)
