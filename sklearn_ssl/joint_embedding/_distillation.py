"""Distillation: a small network learns the features of a larger, frozen one."""

import copy
from typing import Any, ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.base import clone
from sklearn.frozen import FrozenEstimator
from sklearn.utils.validation import has_fit_parameter
from torch import Tensor, nn

from sklearn_ssl._utils._estimators import COUNT, POSITIVE, HasMethods, StrOptions
from sklearn_ssl._utils._messages import lost_if_interrupted
from sklearn_ssl._utils._saving import is_fitted
from sklearn_ssl._utils._torch import full_precision
from sklearn_ssl.base import ImageTransformer, PretextLearner, PretextTask, TaskOutput, argument
from sklearn_ssl.encoders import fixed_pool
from sklearn_ssl.fixed import PretrainedEncoder
from sklearn_ssl.images import READING
from sklearn_ssl.nn import Queue, mlp
from sklearn_ssl.views import Views

_SHARED = (*READING, "precision", "device")  # with a teacher that is given by name


class EncoderTeacher(nn.Module):
    """Frozen encoder that computes features of the student's views.

    It moves to the device of the task, but is not part of the task's parameters or state dict.

    Parameters
    ----------
    teacher : ImageTransformer
        A fitted transformer.
    """

    def __init__(self, teacher: Any):
        super().__init__()
        self.width = len(teacher.get_feature_names_out())
        encoder = copy.deepcopy(teacher.encoder_).requires_grad_(False).eval()
        # maps of views may have other sizes, but must yield as many features as those of images
        self.wanted = [
            (layer, fixed_pool(encoder.layers[layer], pool))
            for layer, pool in teacher._feature_spec(encoder)
        ]
        self.mirror = teacher.mirror
        self.held = (encoder,)  # in a tuple, torch does not register it
        self.image_shape = teacher.image_shape_
        self.pixels = copy.deepcopy(teacher.net_.module_.pixels).cpu().state_dict()

    def check(self, image_shape: tuple[int, int, int], pixels: nn.Module) -> None:
        """Raise ValueError if the teacher was fitted to images of another shape or range."""
        if self.image_shape != image_shape:
            raise ValueError(
                f"the teacher was fitted to images of shape {self.image_shape}, but those of X "
                f"have {image_shape}; use an unfitted teacher, which is then fitted to X"
            )
        for name, value in pixels.state_dict().items():
            if not torch.allclose(value.cpu(), self.pixels[name]):
                raise ValueError(
                    "the teacher was fitted to another range of values than that of X; use an "
                    "unfitted teacher, which is then fitted to X"
                )

    def _apply(self, fn, recurse=True):
        self.held[0]._apply(fn, recurse)
        return super()._apply(fn, recurse)

    def __deepcopy__(self, memo: dict) -> "EncoderTeacher":
        return self  # it never changes, so copies share it

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "held": (copy.deepcopy(self.held[0]).cpu(),)}

    def forward(self, views: Tensor, index: Tensor) -> Tensor:
        """Compute features (n, width) of the views."""
        with torch.no_grad():
            features = self.held[0].features(views, self.wanted, self.mirror)
            return features.to(views.device, torch.float32)


class Targets(nn.Module):
    """Teacher features of each image, computed once.

    Parameters
    ----------
    rows : Tensor of shape (n_images, width)
    """

    rows: Tensor

    def __init__(self, rows: Tensor):
        super().__init__()
        self.width = rows.shape[1]
        self.register_buffer("rows", rows, persistent=False)

    def forward(self, views: Tensor, index: Tensor) -> Tensor:
        """Return the features (n, width) of the images, independent of their views."""
        return self.rows[index]


class DistillationTask(PretextTask):
    def __init__(
        self, encoder, views, *, teacher, width, loss, hidden_dim, queue_size, temperature,
        teacher_temperature,
    ):  # fmt: skip
        super().__init__(encoder, views)
        self.teacher = teacher
        self.loss = loss
        self.temperature = temperature
        self.teacher_temperature = teacher_temperature
        d = encoder.out_shape[0]
        self.predictor = mlp(d, hidden_dim, hidden_dim, width)
        self.queue = Queue(queue_size, width) if loss == "similarity" else None

    def forward(self, images, index):
        views = self.views(images)
        target = F.normalize(self.teacher(views, index), dim=1)
        predicted = F.normalize(self.predictor(self.encoder.embed(views)).float(), dim=1)
        cosine = (predicted * target).sum(1).mean()
        if self.queue is None:  # the squared distance of unit vectors
            return TaskOutput(2 - 2 * cosine, {"cosine": cosine.detach()})
        # similarity to the teacher's features of this image and of earlier ones
        others = self.queue.vectors
        with full_precision(target.device):
            known, found = (
                torch.cat([(z * target).sum(1, keepdim=True), z @ others.T], dim=1)
                for z in (target, predicted)
            )
        wanted = F.softmax(known / self.teacher_temperature, dim=1)
        loss = F.cross_entropy(found / self.temperature, wanted)
        return TaskOutput(loss, {"cosine": cosine.detach()}, target)

    @torch.no_grad()
    def after_step(self, output, progress):
        if self.queue is not None:
            self.queue.push(output.state)


class Distillation(PretextLearner):
    """Distillation of a frozen teacher into a smaller network, without labels [1]_ [2]_.

    A large pretrained network passes on what it knows about your images to a network that is fast
    and fits their size and channels. Student and teacher see the same views. An MLP head on the
    student predicts the teacher's features and is dropped afterward: features are the student's.

    The papers train for several weeks on ImageNet, with other widths; the optimizer here is AdamW.

    Parameters
    ----------
    teacher : str or transformer, default="resnet18"
        Transformer whose features are learned. A fitted one is used as it is; an unfitted one is
        cloned and fitted to all images, including ``X_unlabeled``. ``clone``, which a search calls,
        discards a fit: wrap the teacher in a :class:`~sklearn.frozen.FrozenEstimator` to keep it. A
        name means :class:`PretrainedEncoder` with torchvision's or timm's best weights, and
        features averaged over positions.
    shared_views : bool, default=True
        If True, the teacher sees the student's views; it must be an image transformer of this
        package. Its feature maps are pooled to the same grid for views as for images, whatever
        their size. If False, it is applied to each image once, which is faster and works with any
        transformer; views should then preserve what an image shows.
    loss : {"feature", "similarity"}, default="feature"
        Squared distance of normalized features, as in SimReg [1]_, or cross entropy of the
        similarities to a queue of teacher features, as in SEED [2]_.
    hidden_dim : int, default=1024
        Width of the head's hidden layers.
    queue_size : int, default=4096
        Number of teacher features in the queue, for ``loss="similarity"``.
    temperature : float, default=0.2
        Temperature that divides the student's cosine similarities.
    teacher_temperature : float, default=0.01
        Temperature that divides the teacher's.
    <shared parameters>

    Attributes
    ----------
    <attributes>

    See Also
    --------
    sklearn_ssl.PretrainedEncoder : Features of the network itself.

    References
    ----------
    .. [1] Navaneet, Koohpayegani, Tejankar and Pirsiavash (2021), SimReg: Regression as a Simple
       Yet Effective Tool for Self-supervised Knowledge Distillation,
       https://arxiv.org/abs/2201.05131
    .. [2] Fang, Wang, Wang, Zhang, Yang and Liu (2021), SEED: Self-supervised Distillation For
       Visual Representation, https://arxiv.org/abs/2101.04731

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sklearn_ssl import Distillation, PatchDictionary
    >>> X = load_digits().images[:256]
    >>> teacher = PatchDictionary(n_atoms=50, patch_size=4, pool=2, random_state=0)
    >>> ssl = Distillation(teacher, max_epochs=1, random_state=0).fit(X)
    >>> ssl.transform(X).shape
    (256, 512)
    """

    teacher: Any = argument(
        str, HasMethods(["fit", "transform"]), default="resnet18", kw_only=False
    )
    shared_views: bool = argument("boolean", default=True)
    loss: str = argument(StrOptions({"feature", "similarity"}), default="feature")
    hidden_dim: int = argument(COUNT, default=1024)
    queue_size: int = argument(COUNT, default=4096)
    temperature: float = argument(POSITIVE, default=0.2)
    teacher_temperature: float = argument(POSITIVE, default=0.01)

    _saved_attributes: ClassVar = (*PretextLearner._saved_attributes, "_teacher_width_")
    _needs_a_teacher: ClassVar[bool] = True
    _taught_by = None  # the teacher, during a fit

    def _default_views(self):
        return Views(crop_scale=(0.4, 1.0), blur=0)

    def _make_task(self, encoder, n_images):
        return self._new_task(
            DistillationTask,
            encoder,
            teacher=self._taught_by,
            width=self._teacher_width_,
            queue_size=min(self.queue_size, n_images),
        )

    def _unseeded(self):
        unseeded, teacher = super()._unseeded(), self.teacher
        if unseeded or not hasattr(teacher, "get_params") or is_fitted(teacher):
            return unseeded
        if isinstance(teacher, PretrainedEncoder) and teacher.weights is not None:
            return None  # no random numbers are drawn
        seeds = {n: v for n, v in teacher.get_params().items() if n.endswith("random_state")}
        return next((f"teacher__{name}" for name, seed in seeds.items() if seed is None), None)

    # The teacher is added to the task once there are images

    def _fit(self, X, X_unlabeled, **how):
        # a time_budget includes the teacher's fit
        of_teacher = getattr(self.teacher, "encoder", self.teacher)
        how = {"began": self._start_clock(self.encoder, of_teacher), **how}
        self._validate()
        self._taught_by = teacher = self._make_teacher(X, X_unlabeled)
        self._teacher_width_ = teacher.width
        try:
            return super()._fit(X, X_unlabeled, **how)
        finally:
            del self._taught_by
            if self.__sklearn_is_fitted__() and not self.shared_views:
                self.net_.module_.task.teacher = None  # a continued fit computes new targets

    def _next_net(self, fit, continued):
        net = super()._next_net(fit, continued)
        teacher: Any = self._taught_by
        if self.shared_views:
            teacher.check(fit.images.shape, net.module_.pixels)
        net.module_.task.teacher = teacher.to(net.device)
        return net

    def _with_python_scalars(self):
        plain_self = super()._with_python_scalars()
        plain_self._taught_by = self._taught_by
        plain_self._teacher_width_ = getattr(self, "_teacher_width_", 1)
        return plain_self

    def _restore(self, values, rebuild=None):
        self._teacher_width_ = values["attributes"]["_teacher_width_"]
        return super()._restore(values, rebuild)

    def _make_teacher(self, X: Any, X_unlabeled: Any) -> EncoderTeacher | Targets:
        teacher = self.teacher
        if isinstance(teacher, str):
            shared = {name: getattr(self, name) for name in _SHARED}
            teacher = PretrainedEncoder(encoder=teacher, **shared)
        while isinstance(teacher, FrozenEstimator):
            teacher = teacher.estimator
        name = type(teacher).__name__
        if not is_fitted(teacher):
            teacher = self._with_own_errors(clone(teacher))
            with lost_if_interrupted(self, teacher):
                teacher = _fitted(teacher, X, X_unlabeled)
        if self.shared_views:
            if not isinstance(teacher, ImageTransformer):
                raise ValueError(
                    f"teacher={name} cannot transform views of images; use shared_views=False, "
                    "which applies it to each image once"
                )
            return EncoderTeacher(teacher)
        teacher = self._with_own_errors(copy.copy(teacher))
        parts = [teacher.transform(part) for part in (X, X_unlabeled) if part is not None]
        rows = np.concatenate([np.asarray(part, dtype=np.float32) for part in parts])
        unread = np.isnan(rows).all(-1) if self.on_error == "skip" else np.zeros(len(rows), bool)
        if rows.ndim != 2 or unread.all() or not np.isfinite(rows[~unread]).all():
            raise ValueError(
                f"teacher={name} returned features of shape {rows.shape}, or NaN or infinite "
                "values; use a teacher that returns finite vectors (n, d)"
            )
        return Targets(torch.from_numpy(rows))

    def _with_own_errors(self, teacher: Any) -> Any:
        """Make a teacher handle unreadable files as the student does."""
        if isinstance(teacher, ImageTransformer):
            teacher.set_params(on_error=self.on_error)
        return teacher


def _fitted(teacher: Any, X: Any, X_unlabeled: Any) -> Any:
    """Fit the teacher to all images and return it."""
    if X_unlabeled is None:
        return teacher.fit(X)
    if has_fit_parameter(teacher, "X_unlabeled"):
        return teacher.fit(X, X_unlabeled=X_unlabeled)
    both = X, X_unlabeled
    if all(isinstance(part, (list, tuple)) for part in both):
        return teacher.fit([*X, *X_unlabeled])
    if all(isinstance(part, Tensor) for part in both):
        return teacher.fit(torch.cat(both))
    if all(hasattr(part, "iloc") for part in both):
        import pandas as pd

        return teacher.fit(pd.concat(both))
    if all(hasattr(part, "__array__") for part in both):
        return teacher.fit(np.concatenate([np.asarray(part) for part in both]))
    raise ValueError(
        f"teacher={type(teacher).__name__} is not fitted, and X and X_unlabeled, of types "
        f"{' and '.join(type(part).__name__ for part in both)}, cannot be concatenated to fit "
        "it. Give arrays, tensors, data frames or lists, or a fitted teacher in a FrozenEstimator"
    )
