"""Networks with named layers, each of which outputs a feature map that can be pooled."""

from sklearn_ssl.encoders._encoder import (
    BackboneEncoder,
    Encoder,
    FeatureSpec,
    fixed_pool,
    pool_features,
    pooled_width,
)
from sklearn_ssl.encoders._networks import (
    SmallConvNet,
    SmallResNet,
    encoder_names,
    import_library,
    make_encoder,
    original_names,
    size_for,
)
from sklearn_ssl.encoders._patches import PatchEncoder
from sklearn_ssl.encoders._timm import is_elsewhere
from sklearn_ssl.encoders._tokens import (
    TokenPredictor,
    at_positions,
    check_transformer,
    encode_positions,
    patch_projection,
)
from sklearn_ssl.encoders._weights import is_file

__all__ = [
    "BackboneEncoder",
    "Encoder",
    "FeatureSpec",
    "PatchEncoder",
    "SmallConvNet",
    "SmallResNet",
    "TokenPredictor",
    "at_positions",
    "check_transformer",
    "encode_positions",
    "encoder_names",
    "fixed_pool",
    "import_library",
    "is_elsewhere",
    "is_file",
    "make_encoder",
    "original_names",
    "patch_projection",
    "pool_features",
    "pooled_width",
    "size_for",
]
