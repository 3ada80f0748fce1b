"""Networks from torchvision, by name."""

import os
from collections import OrderedDict
from typing import Any

import torch
from torch import Tensor, nn

from sklearn_ssl._utils._messages import did_you_mean
from sklearn_ssl.encoders._weights import (
    Expected,
    adapt_first_conv,
    downloading,
    is_file,
    load_weights,
)

_HEADS = {"classifier", "head", "heads", "fc", "avgpool", "permute", "flatten", "dropout"}
_AUXILIARY_HEADS = {"AuxLogits", "aux1", "aux2"}  # of Inception networks


def torchvision_names() -> list[str]:
    """Return the names of torchvision's classification models."""
    import torchvision

    return torchvision.models.list_models(module=torchvision.models)


def expected_by_torchvision(name: str, weights: str | os.PathLike) -> Expected:
    """Return the image properties that weights expect; files are assumed to be like 'DEFAULT'."""
    from torchvision import models

    known = models.get_model_weights(name)
    chosen = known["DEFAULT" if is_file(weights) else _known(name, weights)]
    preset = chosen.transforms()
    side = preset.crop_size[0]
    fixed = name.startswith("vit_") or name == "maxvit_t"
    return Expected(preset.mean, preset.std, (side, side), fixed)


def _known(name: str, weights: str | os.PathLike) -> str:
    """Check that torchvision has weights of this name for a model, and return the name."""
    from torchvision import models

    known = models.get_model_weights(name)
    if weights not in known.__members__:
        raise ValueError(
            f"weights={weights!r} is unknown for encoder={name!r}; use None, 'DEFAULT', a file or "
            f"one of {[w.name for w in known]}.{did_you_mean(weights, known.__members__)}"
        )
    return str(weights)


def build_torchvision(
    name: str,
    channels: int,
    image_size: tuple[int, int],
    weights: str | os.PathLike | None,
    filled: bool = True,
) -> nn.Module:
    """Build a torchvision classification model without its classifier, as a sequence of parts."""
    from torchvision import models

    file = weights if is_file(weights) and filled else None
    named = _known(name, weights) if filled and weights is not None and file is None else None
    options: dict = {}
    if name.startswith("vit_"):
        options["image_size"] = image_size[0]
        if image_size[0] != image_size[1]:
            raise ValueError(f"encoder={name!r} needs square images, got {image_size}")
    elif name == "maxvit_t":
        options["input_size"] = image_size
    elif name in ("googlenet", "inception_v3") and named is None:
        options |= {"init_weights": True, "aux_logits": False}
    with downloading(name, f"{torch.hub.get_dir()}/checkpoints"):
        model = models.get_model(name, weights=named, **options)
    if file is not None:
        load_weights(model, file, _HEADS | _AUXILIARY_HEADS)
    if isinstance(model, models.ResNet):
        return _resnet_stages(model, channels, image_size, weights)
    adapt_first_conv(model, channels)
    if isinstance(model, models.VisionTransformer):
        return _transformer_blocks(model)
    parts: Any = _parts(model)
    if isinstance(model, models.SwinTransformer):
        parts.output_fmt = "NHWC"  # timm's name for channels last
    return parts


def _parts(model: nn.Module) -> nn.Sequential:
    """Chain all children up to the heads: these models call them one after the other."""
    return nn.Sequential(
        OrderedDict(
            (name, nn.Sequential(*child) if isinstance(child, nn.ModuleList) else child)
            for name, child in model.named_children()
            if name not in _HEADS | _AUXILIARY_HEADS
        )
    )


def _resnet_stages(
    model: Any, channels: int, image_size: tuple[int, int], weights: Any
) -> nn.Module:
    """Return a torchvision ResNet as stem, layer1 ... layer4; the stem fits the image size."""
    from sklearn_ssl.encoders._networks import Stem  # imports this file

    stem = Stem(channels, model.conv1.out_channels, image_size)
    if weights is not None:  # keep the learned 7x7 filters; only their stride fits the image size
        adapt_first_conv(model, channels)
        model.conv1.stride = stem.conv1.stride
        stem.conv1, stem.bn1 = model.conv1, model.bn1
    else:
        nn.init.kaiming_normal_(stem.conv1.weight, mode="fan_out", nonlinearity="relu")
    stages = nn.Sequential()
    stages.add_module("stem", stem)
    for i in range(1, 5):
        stages.add_module(f"layer{i}", getattr(model, f"layer{i}"))
    return stages


class _TokensWithClass(nn.Module):
    """Embedding of patches as tokens after a class token, with learned positions."""

    def __init__(self, model: Any):
        super().__init__()
        self.conv_proj = model.conv_proj
        self.class_token = model.class_token
        self.pos_embedding = model.encoder.pos_embedding
        self.dropout = model.encoder.dropout

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.conv_proj(x).flatten(2).transpose(1, 2)
        tokens = torch.cat([self.class_token.expand(x.shape[0], -1, -1), tokens], dim=1)
        return self.dropout(tokens + self.pos_embedding)


def _transformer_blocks(model: Any) -> nn.Sequential:
    """Return a torchvision transformer as embedding, encoder_layer_0 ..., ln."""
    blocks: Any = nn.Sequential()
    blocks.add_module("embedding", _TokensWithClass(model))
    for name, block in model.encoder.layers.named_children():
        blocks.add_module(name, block)
    blocks.add_module("ln", model.encoder.ln)
    blocks.num_prefix_tokens = 1  # timm's name for the number of class tokens
    return blocks


_RENAMED = {  # prefixes: ours to torchvision's
    "stem.": "",
    "embedding.pos_embedding": "encoder.pos_embedding",
    "embedding.": "",
    "encoder_layer_": "encoder.layers.encoder_layer_",
    "ln.": "encoder.ln.",
}


def torchvision_name(name: str) -> str:
    """Return torchvision's name for a parameter or buffer of :func:`build_torchvision`'s model."""
    ours = next((prefix for prefix in _RENAMED if name.startswith(prefix)), "")
    return _RENAMED.get(ours, "") + name.removeprefix(ours)
