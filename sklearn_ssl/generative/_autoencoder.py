"""Autoencoder: reconstruct the image through a low-dimensional code."""

from typing import ClassVar

import torch.nn.functional as F

from sklearn_ssl._utils._estimators import COUNT
from sklearn_ssl.base import PretextLearner, TaskOutput, argument
from sklearn_ssl.generative._shared import CodeTask, ReconstructionMixin
from sklearn_ssl.nn import MapToVector
from sklearn_ssl.views import Views


class AutoencoderTask(CodeTask):
    def __init__(self, encoder, views, *, code_dim):
        super().__init__(encoder, views, code_dim)
        self.code = MapToVector(self.map_shape, code_dim)

    def codes(self, images):
        return self.code(self.encoder(images))

    def forward(self, images, index):
        images = self.views(images)
        output = self.decode(self.codes(images))
        return TaskOutput(F.mse_loss(output, self.encoder.standardize(images)))


class Autoencoder(ReconstructionMixin, PretextLearner):
    """Deep convolutional autoencoder [1]_.

    Encoder and decoder reconstruct the image through a low-dimensional code (mean squared error on
    standardized pixels). It is the baseline of the generative family. The paper's layers are fully
    connected and pretrained one by one; these are convolutions, trained together.

    Output images have the resolution of the views, by default half that of the images;
    ``views=Views(size=...)`` changes it.

    Parameters
    ----------
    code_dim : int, default=128
        Dimension of the code.
    <shared parameters>

    Attributes
    ----------
    <attributes>

    References
    ----------
    .. [1] Hinton and Salakhutdinov (2006), Reducing the Dimensionality of Data with Neural
       Networks, https://doi.org/10.1126/science.1127647

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sklearn_ssl import Autoencoder
    >>> X = load_digits().images[:256]
    >>> ssl = Autoencoder(max_epochs=1, random_state=0).fit(X)
    >>> ssl.reconstruct(X).shape
    (256, 8, 8)
    """

    code_dim: int = argument(COUNT, default=128)

    _usual_batch_size: ClassVar[int] = 32

    _task_class: ClassVar = AutoencoderTask

    def _default_views(self):
        return Views(jitter=None, gray=0, blur=0)
