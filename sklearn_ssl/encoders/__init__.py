"""Networks with named layers, each of which outputs a feature map that can be pooled."""

from sklearn_ssl.encoders._encoder import (
    BackboneEncoder,
    Encoder,
    FeatureSpec,
    LayerReader,
    fixed_pool,
    layer_reader,
    pool_features,
    pooled_width,
)
from sklearn_ssl.encoders._networks import (
    SmallResNet,
    SmallViT,
    TransformerBlock,
    encoder_names,
    import_library,
    make_encoder,
    original_names,
    sincos_positions,
    size_for,
)
from sklearn_ssl.encoders._patches import PatchEncoder
from sklearn_ssl.encoders._timm import build_timm, is_elsewhere
from sklearn_ssl.encoders._tokens import (
    TokenPredictor,
    at_positions,
    check_transformer,
    encode_positions,
    patch_projection,
)
from sklearn_ssl.encoders._torchvision import build_torchvision, torchvision_names
from sklearn_ssl.encoders._weights import adapt_first_conv, is_file

__all__ = [
    "BackboneEncoder",
    "Encoder",
    "LayerReader",
    "FeatureSpec",
    "PatchEncoder",
    "SmallResNet",
    "SmallViT",
    "TokenPredictor",
    "TransformerBlock",
    "adapt_first_conv",
    "at_positions",
    "build_timm",
    "build_torchvision",
    "check_transformer",
    "encode_positions",
    "encoder_names",
    "fixed_pool",
    "import_library",
    "is_elsewhere",
    "is_file",
    "layer_reader",
    "make_encoder",
    "original_names",
    "patch_projection",
    "pool_features",
    "pooled_width",
    "sincos_positions",
    "size_for",
    "torchvision_names",
]
