"""Building blocks of pretext tasks: losses, heads, decoders, momentum, optimizers and schedules."""

from sklearn_ssl.nn._decoders import ConvDecoder, VectorDecoder
from sklearn_ssl.nn._heads import (
    ConvDiscriminator,
    MapToVector,
    MaskedConvContext,
    frozen,
    mlp,
    resize_map,
)
from sklearn_ssl.nn._losses import (
    classification,
    covariance_loss,
    discriminator_loss,
    generator_loss,
    info_nce,
    negative_cosine,
    nt_xent,
    off_diagonal,
    pairs_of_views,
    variance_loss,
)
from sklearn_ssl.nn._momentum import MomentumCopy, Queue
from sklearn_ssl.nn._optimizers import (
    LARS,
    OPTIMIZERS,
    cosine,
    make_optimizer,
    parameter_groups,
    warmup_cosine,
)
from sklearn_ssl.nn._scaling import ChannelScaling

__all__ = [
    "ChannelScaling",
    "ConvDecoder",
    "ConvDiscriminator",
    "LARS",
    "MapToVector",
    "MaskedConvContext",
    "MomentumCopy",
    "OPTIMIZERS",
    "Queue",
    "VectorDecoder",
    "classification",
    "cosine",
    "covariance_loss",
    "discriminator_loss",
    "frozen",
    "generator_loss",
    "info_nce",
    "make_optimizer",
    "mlp",
    "negative_cosine",
    "nt_xent",
    "off_diagonal",
    "pairs_of_views",
    "parameter_groups",
    "resize_map",
    "variance_loss",
    "warmup_cosine",
]
