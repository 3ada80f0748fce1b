"""SimSiam: predict the embedding of another view, behind a stop-gradient."""

from typing import ClassVar

from sklearn_ssl._utils._estimators import COUNT
from sklearn_ssl.base import MultiCropArguments, PretextLearner, PretextTask, TaskOutput, argument
from sklearn_ssl.nn import mlp, negative_cosine


class SimSiamTask(PretextTask):
    def __init__(self, encoder, views, *, hidden_dim, projection_dim, prediction_dim):
        super().__init__(encoder, views)
        width = encoder.out_shape[0]
        self.projector = mlp(width, hidden_dim, hidden_dim, projection_dim, last_norm=True)
        self.predictor = mlp(projection_dim, prediction_dim, projection_dim)

    def forward(self, images, index):
        n = len(images)
        z = self.projector(self.embed_crops(images))  # (views * n, d)
        return TaskOutput(negative_cosine(self.predictor(z), z[: 2 * n], n))


class SimSiam(MultiCropArguments, PretextLearner):
    """Simple siamese representation learning [1]_.

    From the embedding of one view, a predictor estimates that of the other, behind a stop-gradient.
    It needs neither negatives nor an EMA. It may collapse; a warning then says so. The predictor's
    learning rate decays like all others; in the paper, a constant one is best.

    Parameters
    ----------
    hidden_dim : int, default=512
        Width of the projector's hidden layers.
    projection_dim : int, default=512
        Dimension of the embeddings.
    prediction_dim : int, default=128
        Width of the predictor's hidden layer, a bottleneck: in the paper, a quarter of the
        dimension of the embeddings.
    <shared parameters>

    Attributes
    ----------
    <attributes>

    References
    ----------
    .. [1] Chen and He (2021), Exploring Simple Siamese Representation Learning,
       https://arxiv.org/abs/2011.10566

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sklearn_ssl import SimSiam
    >>> X = load_digits().images[:256]
    >>> ssl = SimSiam(max_epochs=1, random_state=0).fit(X)
    >>> ssl.transform(X).shape
    (256, 512)
    """

    hidden_dim: int = argument(COUNT, default=512)
    projection_dim: int = argument(COUNT, default=512)
    prediction_dim: int = argument(COUNT, default=128)
    lr: float = 1e-3  # at 2e-3, one of two seeds nearly collapsed

    _usual_batch_size: ClassVar[int] = 64

    _task_class: ClassVar = SimSiamTask
