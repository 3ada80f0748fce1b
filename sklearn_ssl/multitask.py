"""Several pretext tasks on one encoder."""

import math
from collections.abc import Sequence
from dataclasses import replace
from numbers import Real
from typing import Any, Self

import torch
from sklearn.utils.metaestimators import _BaseComposition
from torch import Tensor, nn

from sklearn_ssl._utils._estimators import plain
from sklearn_ssl.base import PretextLearner, PretextTask, TaskOutput, argument
from sklearn_ssl.encoders import Encoder

__all__ = ["MultiTask"]


def __dir__() -> list[str]:
    return __all__


class WeightedTasks(PretextTask):
    """Tasks that share an encoder; each draws its own views of the images."""

    def __init__(
        self,
        encoder: Encoder,
        views: Any,
        *,
        tasks: dict[str, PretextTask],
        weights: Sequence[float],
    ):
        super().__init__(encoder, views)
        self.names = list(tasks)
        self.tasks: Any = nn.ModuleList(tasks.values())
        self.weights = list(weights)
        self.n_images = next((task.n_images for task in tasks.values() if task.n_images), None)

    def forward(self, images, index):
        losses: list[Tensor] = []
        outputs: list[TaskOutput] = []
        terms: dict[str, Tensor] = {}
        for name, task, weight in zip(self.names, self.tasks, self.weights, strict=True):
            output = task(images, index)
            detached = {term: torch.as_tensor(v).detach() for term, v in output.terms.items()}
            outputs.append(replace(output, loss=output.loss.detach(), terms=detached))
            losses.append(weight * output.loss)
            terms[f"{name}__loss"] = output.loss
            terms |= {f"{name}__{term}": value for term, value in output.terms.items()}
        return TaskOutput(torch.stack(losses).sum(), terms, outputs)

    def zoom_for(self, image_shape):
        return max(task.zoom_for(image_shape) for task in self.tasks)

    def after_step(self, output, progress):
        for task, of_task in zip(self.tasks, output.state, strict=True):
            task.after_step(of_task, progress)

    def forget(self):
        for task in self.tasks:
            task.forget()


class MultiTask(_BaseComposition, PretextLearner):
    """Training of one encoder on several pretext tasks at once [1]_.

    Every step minimizes the weighted sum of the learners' losses for the same images. Each learner
    has its own views and heads; in the paper, each task also has its own batches. Only the
    arguments of a learner's method and its ``views`` are used; all others are set on ``MultiTask``.
    ``views`` given here apply to all learners without their own. Some learners have a lower default
    ``lr`` or ``batch_size`` and may need that here, too. Parameters of learners are set as
    ``name__parameter``, weights as ``name__weight``.

    Learners that build their own kind of encoder (:class:`CPC`, :class:`Colorization`,
    :class:`SplitBrainAutoencoder`) cannot take part, nor can :class:`Distillation`.

    Parameters
    ----------
    learners : list of (str, PretextLearner, float)
        Name, learner and weight of each task.
    <shared parameters>

    Attributes
    ----------
    <attributes>

    References
    ----------
    .. [1] Doersch and Zisserman (2017), Multi-task Self-Supervised Visual Learning,
       https://arxiv.org/abs/1708.07860

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sklearn_ssl import MultiTask, RotationPrediction, SimCLR
    >>> X = load_digits().images[:256]
    >>> tasks = [("simclr", SimCLR(), 1.0), ("rotation", RotationPrediction(), 0.5)]
    >>> ssl = MultiTask(tasks, max_epochs=1, random_state=0)
    >>> ssl.set_params(simclr__temperature=0.1, rotation__weight=0.2).fit(X).transform(X).shape
    (256, 512)
    """

    learners: list[tuple[str, PretextLearner, float]] = argument(list, tuple, kw_only=False)

    def _make_views(self, size: Any = None) -> Any:
        """Return the views given here, or those of the first learner."""
        if self.views is None:
            return self._pairs[0][1]._make_views(size)
        return super()._make_views(size)

    # Parameters of the learners, like those of a pipeline's steps

    def _are_triples(self) -> bool:
        """Return whether ``learners`` is well-formed; if not, a fit raises an error."""
        return isinstance(self.learners, (list, tuple)) and all(
            isinstance(item, (list, tuple)) and len(item) == 3 and isinstance(item[0], str)
            for item in self.learners
        )

    @property
    def _pairs(self) -> list[tuple[str, Any]]:
        return [(name, child) for name, child, _ in self.learners] if self._are_triples() else []

    @_pairs.setter
    def _pairs(self, pairs: Any) -> None:
        self.learners = [
            (name, learner, weight)
            for (name, learner), (*_, weight) in zip(pairs, self.learners, strict=True)
        ]

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Return the parameters of this learner and, if ``deep``, of its learners."""
        params = self._get_params("_pairs", deep=deep)
        if deep and self._are_triples():
            params |= {f"{name}__weight": weight for name, _, weight in self.learners}
        return params

    def set_params(self, **params: Any) -> Self:
        """Set parameters: of learners as ``name__parameter``, weights as ``name__weight``."""
        if "learners" in params:
            self.learners = params.pop("learners")
        names = [name for name, _ in self._pairs]
        weights = {n: params.pop(f"{n}__weight") for n in names if f"{n}__weight" in params}
        if weights:
            self.learners = [(n, c, weights.get(n, weight)) for n, c, weight in self.learners]
        self._set_params("_pairs", **params)
        return self

    def _default_views(self):
        raise ValueError(
            "MultiTask has no default views: each learner has its own, whose parameters are set as "
            "name__views__size and so on. Set these, or give MultiTask a Views object"
        )

    # The task

    def _make_task(self, encoder, n_images):
        self._check_learners()
        tasks = {}
        for name, child in self._pairs:
            child = child._with_python_scalars()
            if child.views is None:
                child.views = self.views
            try:
                tasks[name] = child._make_task(encoder, n_images)
            except ValueError as error:
                raise ValueError(f"{name!r} cannot take part: {error}") from error
        weights = [weight for *_, weight in plain(self.learners)]
        return WeightedTasks(encoder, nn.Identity(), tasks=tasks, weights=weights)

    def _check_learners(self) -> None:
        pairs = self._pairs
        if not pairs or not all(isinstance(child, PretextLearner) for _, child in pairs):
            raise ValueError(
                f"learners={self.learners!r} must be a list of (name, learner, weight), with at "
                "least one entry"
            )
        self._validate_names([name for name, _ in pairs])
        weights = [weight for *_, weight in self.learners]
        usable = all(isinstance(w, Real) and math.isfinite(w) and w >= 0 for w in weights)
        if not usable or max(weights) == 0:
            raise ValueError(
                f"weights {weights} must be finite and not negative, with at least one above 0"
            )
        for name, child in pairs:
            kind = type(child)
            if not kind._shares_encoder:
                raise ValueError(
                    f"{kind.__name__} ({name!r}) builds its own kind of encoder and cannot share "
                    "one; fit it alone"
                )
            if kind._needs_a_teacher:
                raise ValueError(
                    f"{kind.__name__} ({name!r}) needs features of its teacher, which only its own "
                    "fit computes; fit it alone"
                )
            if child.encoder not in (kind.encoder, self.encoder):
                raise ValueError(
                    f"{name!r} has encoder={child.encoder!r}, but one encoder is shared; set "
                    f"it on MultiTask, which has {self.encoder!r}"
                )
            if child.weights not in (None, self.weights):
                raise ValueError(
                    f"{name!r} has weights={child.weights!r}, but one encoder is shared; set "
                    "weights on MultiTask"
                )
            child._validate()
