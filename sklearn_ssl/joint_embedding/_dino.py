"""DINO: match the output distribution of an EMA teacher across crops."""

from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sklearn_ssl._utils._estimators import COUNT, POSITIVE, SHARE, are_finite
from sklearn_ssl._utils._torch import full_precision
from sklearn_ssl.base import MultiCropArguments, PretextLearner, PretextTask, TaskOutput, argument
from sklearn_ssl.nn import MomentumCopy, cosine, gather, mlp
from sklearn_ssl.views import Views


class DINOHead(nn.Module):
    """MLP head that outputs the cosine similarities of its unit vectors with prototypes."""

    def __init__(self, width: int, hidden_dim: int, projection_dim: int, out_dim: int):
        super().__init__()
        self.projector = mlp(width, hidden_dim, hidden_dim, projection_dim)
        self.prototypes = nn.Parameter(F.normalize(torch.randn(out_dim, projection_dim), dim=1))

    def forward(self, x: Tensor) -> Tensor:
        z = F.normalize(self.projector(x).float(), dim=1)
        with full_precision(z.device):
            return z @ F.normalize(self.prototypes, dim=1).T


def dino_loss(
    student: Tensor, teacher: Tensor, center: Tensor, temperature: float, teacher_temp: Tensor
) -> tuple[Tensor, Tensor]:
    """Compute the cross entropy of student views with other teacher views, and its minimum.

    The first views of ``student`` (v, n, k) are those of ``teacher`` (2, n, k). Each student view
    is compared with all teacher views except its own. The minimum is the teacher's entropy; the
    rest is the student's divergence from the teacher.
    """
    log_p = F.log_softmax((teacher - center) / teacher_temp, dim=2)
    p = log_p.exp()
    log_q = F.log_softmax(student / temperature, dim=2)
    with full_precision(student.device):
        losses = torch.einsum("tnk,vnk->tv", p, log_q).neg() / student.shape[1]
    same = torch.eye(len(teacher), len(student), dtype=torch.bool, device=losses.device)
    loss = losses.masked_fill(same, 0).sum() / (losses.numel() - len(teacher))
    return loss, -(p * log_p).sum(2).mean()


class DINOTask(PretextTask):
    center: Tensor
    teacher_temp: Tensor

    def __init__(
        self, encoder, views, *, hidden_dim, projection_dim, out_dim, momentum, center_momentum,
        temperature, teacher_temperature, temperature_warmup,
    ):  # fmt: skip
        super().__init__(encoder, views)
        self.head = DINOHead(encoder.out_shape[0], hidden_dim, projection_dim, out_dim)
        self.teacher_encoder = MomentumCopy(encoder)
        self.teacher_head = MomentumCopy(self.head)
        self.momentum = momentum
        self.center_momentum = center_momentum
        self.temperature = temperature
        self.teacher_temperature = teacher_temperature
        self.temperature_warmup = temperature_warmup
        self.register_buffer("center", torch.zeros(out_dim))
        first_temp = float(teacher_temperature[0 if temperature_warmup else 1])
        self.register_buffer("teacher_temp", torch.tensor(first_temp))

    def forward(self, images, index):
        n = len(images)
        crops = self.views(images)
        student = self.head(torch.cat([self.encoder.embed(size) for size in crops]))
        with torch.no_grad():
            teacher = self.teacher_head(self.teacher_encoder.module.embed(crops[0]))
        mean_output = gather(teacher).mean(0)
        student, teacher = (out.unflatten(0, (-1, n)) for out in (student, teacher))
        temps = (self.temperature, self.teacher_temp)
        loss, entropy = dino_loss(student, teacher, self.center, *temps)
        terms = {"teacher_entropy": entropy, "divergence": loss - entropy}
        return TaskOutput(loss, terms, mean_output)

    def after_step(self, output, progress):
        momentum = cosine(progress, self.momentum, 1.0)
        self.teacher_encoder.update(self.encoder, momentum)
        self.teacher_head.update(self.head, momentum)
        self.center.lerp_(output.state, 1 - self.center_momentum)
        if progress is not None:  # it stays constant if no end is known
            low, high = self.teacher_temperature
            share = min(1.0, progress / self.temperature_warmup) if self.temperature_warmup else 1.0
            self.teacher_temp.fill_(low + (high - low) * share)


class DINO(MultiCropArguments, PretextLearner):
    """Self-distillation with no labels [1]_.

    A student sees large and small crops of an image; a teacher, the student's EMA, sees the large
    ones. The student's output distribution must match the teacher's, which is centered over batches
    and sharpened to avoid collapse.

    ``history_`` records the teacher's entropy, which is 0 if each image has a single class and
    log(``out_dim``) if outputs are uniform, and the student's divergence from the teacher. The loss
    is their sum, so it may rise while the student learns.

    Unlike in the paper, the head has batch norm and ReLU for every encoder (the paper uses GELU,
    and batch norm only without transformers), its last layer is trained from the start, gradients
    are not clipped (add skorch's ``GradientNormClipping(3.0)`` to ``callbacks`` for that), and
    weight decay is constant (in the paper it rises from 0.04 to 0.4). In short training runs,
    neither GELU nor clipping made a difference. Features come from the student; the paper uses the
    teacher's.

    Parameters
    ----------
    out_dim : int, default=1024
        Output dimension of the head: the number of classes that student and teacher invent.
    momentum : float, default=0.98
        EMA momentum of the teacher at the start; it rises to 1 along half a cosine.
    center_momentum : float, default=0.9
        EMA momentum of the center, the teacher's mean output.
    temperature : float, default=0.1
        Temperature of the student's softmax.
    teacher_temperature : tuple of float, default=(0.02, 0.03)
        Temperatures of the teacher's softmax, at the start and after the warm-up. The paper uses
        (0.04, 0.07), with which outputs stay uniform in short training runs.
    temperature_warmup : float, default=0.3
        Fraction of the training in which the teacher's temperature rises; 0 uses the second one
        from the start. It does not rise with ``schedule="constant"`` or in :meth:`partial_fit`.
    hidden_dim : int, default=512
        Width of the head's hidden layers.
    projection_dim : int, default=128
        Dimension of the head's bottleneck.
    <shared parameters>

    Attributes
    ----------
    <attributes>

    References
    ----------
    .. [1] Caron, Touvron, Misra, Jégou, Mairal, Bojanowski and Joulin (2021), Emerging Properties
       in Self-Supervised Vision Transformers, https://arxiv.org/abs/2104.14294

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sklearn_ssl import DINO
    >>> X = load_digits().images[:256]
    >>> ssl = DINO(max_epochs=1, random_state=0).fit(X)
    >>> ssl.transform(X).shape
    (256, 512)
    """

    out_dim: int = argument(COUNT, default=1024)
    momentum: float = argument(SHARE, default=0.98)
    center_momentum: float = argument(SHARE, default=0.9)
    temperature: float = argument(POSITIVE, default=0.1)
    teacher_temperature: tuple[float, float] = argument(tuple, list, default=(0.02, 0.03))
    temperature_warmup: float = argument(SHARE, default=0.3)
    hidden_dim: int = argument(COUNT, default=512)
    projection_dim: int = argument(COUNT, default=128)
    local_crops: int = 2

    _usual_batch_size: ClassVar[int] = 64

    def _default_views(self):
        return Views(crop_scale=(0.2, 1.0), solarize=(0.0, 0.2))

    def _make_task(self, encoder, n_images):
        if not are_finite(self.teacher_temperature, 2) or min(self.teacher_temperature) <= 0:
            raise ValueError(
                f"teacher_temperature={self.teacher_temperature!r} must be two positive, finite "
                "temperatures: at the start and after the warm-up"
            )
        return self._new_task(DINOTask, encoder)
