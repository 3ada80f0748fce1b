"""Base of all transformers of images into features, which have an encoder."""

from abc import ABCMeta, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar, Self

from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin

from sklearn_ssl._utils._arguments import plain
from sklearn_ssl._utils._docstrings import fill_docstring
from sklearn_ssl.base._features import FeaturesMixin
from sklearn_ssl.base._persistence import PersistenceMixin
from sklearn_ssl.encoders import BackboneEncoder, Encoder, make_encoder
from sklearn_ssl.images import Reading

__all__ = ["ImageTransformer"]


class ImageTransformer(
    FeaturesMixin,
    PersistenceMixin,
    ClassNamePrefixFeaturesOutMixin,
    TransformerMixin,
    BaseEstimator,
    metaclass=ABCMeta,
):
    """Base of learners, and of encoders that are not trained.

    Its docstring may have ``<shared parameters>`` and ``<attributes>`` where the text that all
    share goes.
    """

    _arguments: Any
    decoded_cache: Any
    input_size: Any
    n_jobs: Any
    normalization: Any
    on_error: Any
    pages: Any
    weights: Any

    _filled: ClassVar[bool] = True  # False while the encoder is made to restore weights into

    # Where scikit-learn's HTML pages link to
    _doc_link_module = "sklearn_ssl"
    _doc_link_template = "https://sklearn-ssl.readthedocs.io/stable/{estimator_name}.html"

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Take the declared arguments, and fill in the shared parts of the docstring."""
        super().__init_subclass__(**kwargs)
        fill_docstring(cls)

    def _doc_link_url_param_generator(self) -> dict[str, str]:
        return {"estimator_name": type(self).__name__}

    @abstractmethod
    def _make_encoder(
        self, image_shape: tuple[int, int, int], mean: Sequence[float], std: Sequence[float]
    ) -> Encoder:
        """Make the encoder for images of a shape, with these statistics of their channels."""

    def _make_network(
        self,
        image_shape: tuple[int, int, int],
        mean: Sequence[float],
        std: Sequence[float],
        **options: Any,
    ) -> BackboneEncoder:
        """Make the network that ``encoder=`` stands for, for images of a shape."""
        options = {
            "input_size": plain(self.input_size),
            "normalization": plain(self.normalization),
            "filled": self._filled,
            **options,
        }
        return make_encoder(self.encoder, image_shape, mean, std, self.weights, **options)

    def _reading(self, broken: str) -> Reading:
        """Return options for reading files; ``broken`` is for unreadable ones that are skipped."""
        broken = broken if self.on_error == "skip" else "raise"
        return Reading(plain(self.n_jobs), broken, self.decoded_cache, plain(self.pages))

    def _plainly(self) -> Self:
        """Return a copy of this learner with Python's numbers where it was given NumPy's."""
        return type(self)(**{name: plain(getattr(self, name)) for name in self._arguments})

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "net_")

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float32"]
        return tags
