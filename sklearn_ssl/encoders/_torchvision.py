"""Networks of torchvision, by name."""

from typing import Any

from torch import nn

from sklearn_ssl.encoders._resnet import _Stem
from sklearn_ssl.encoders._weights import adapt_first_conv

__all__ = ["build_torchvision", "torchvision_names"]


def _resnet_stages(
    model: Any, channels: int, image_size: tuple[int, int], weights: str | None
) -> nn.Module:
    """A torchvision ResNet as stem, layer1 ... layer4, with a stem that fits the image size."""
    stem = _Stem(channels, model.conv1.out_channels, image_size)
    if weights is not None:  # learned 7x7 filters stay, only their stride follows the image size
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


def torchvision_names() -> list[str]:
    """Names of torchvision's classification models."""
    import torchvision

    return torchvision.models.list_models(module=torchvision.models)


def build_torchvision(
    name: str, channels: int, image_size: tuple[int, int], weights: str | None
) -> nn.Module:
    """A torchvision classification model without its classifier."""
    import torchvision

    known = [w.name for w in torchvision.models.get_model_weights(name)]
    if weights is not None and weights not in (*known, "DEFAULT"):
        raise ValueError(
            f"weights={weights!r} is unknown for encoder={name!r}; use None, 'DEFAULT' or one of "
            f"{known}"
        )
    options: dict = {}
    if name.startswith("vit_"):
        options["image_size"] = image_size[0]
        if image_size[0] != image_size[1]:
            raise ValueError(f"encoder={name!r} needs square images, got {image_size}")
    elif name == "maxvit_t":
        options["input_size"] = image_size
    elif name in ("googlenet", "inception_v3"):
        options |= {"init_weights": True} if weights is None else {}
        options |= {"aux_logits": True} if weights else {"aux_logits": False}
    model = torchvision.models.get_model(name, weights=weights, **options)
    if isinstance(model, torchvision.models.ResNet):
        return _resnet_stages(model, channels, image_size, weights)
    adapt_first_conv(model, channels)
    if hasattr(
        model, "transform_input"
    ):  # inception's own scaling of RGB; images come standardized
        model.transform_input = False
    if isinstance(model, torchvision.models.SwinTransformer):
        model.output_fmt = "NHWC"  # timm's name for channels last
    for part in ("classifier", "head", "heads", "fc", "avgpool", "permute"):
        if hasattr(model, part):
            setattr(model, part, nn.Identity())
    if hasattr(model, "aux_logits"):  # the extra classifiers of pretrained inception models
        model.aux_logits, model.AuxLogits, model.aux1, model.aux2 = False, None, None, None
    return model
