"""Networks that encoders are built from: our small ResNet, and torchvision's and timm's by name.

A backbone is any module that takes images (n, c, h, w); its named children are the layers that an
:class:`~sklearn_ssl.encoders.Encoder` can read.
"""

from typing import Any

import torch
from torch import Tensor, nn

from sklearn_ssl.devices import full_precision

# torchvision is imported where it is needed: it would double the time of importing this package

__all__ = [
    "SmallResNet",
    "TinyMapConv2d",
    "adapt_first_conv",
    "build_timm",
    "build_torchvision",
    "make_tiny_maps_safe",
    "torchvision_names",
]


# Convolutions of tiny maps


class TinyMapConv2d(nn.Conv2d):
    """A convolution that takes float32 for maps smaller than its kernel.

    With bfloat16 on a CPU, torch (seen with 2.14, oneDNN) leaves the gradient of those weights that
    see nothing but padding uninitialised when the stride is 2: any number may be in it.
    """

    def _conv_forward(self, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        tiny = input.shape[-1] < weight.shape[-1] or input.shape[-2] < weight.shape[-2]
        if tiny and input.device.type == "cpu":
            with full_precision(input.device):
                return super()._conv_forward(input.float(), weight.float(), bias)
        return super()._conv_forward(input, weight, bias)


def make_tiny_maps_safe(module: nn.Module) -> None:
    """Turn the plain convolutions of a network into :class:`TinyMapConv2d`, in place."""
    for part in module.modules():
        if type(part) is nn.Conv2d:
            part.__class__ = TinyMapConv2d


# Our own


class _BasicBlock(nn.Module):
    """Two 3x3 convolutions with a shortcut (He et al. 2016)."""

    def __init__(self, n_in: int, n_out: int, stride: int):
        super().__init__()
        self.conv1 = nn.Conv2d(n_in, n_out, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(n_out)
        self.conv2 = nn.Conv2d(n_out, n_out, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(n_out)
        self.relu = nn.ReLU(inplace=True)
        self.shortcut = (
            nn.Identity()
            if stride == 1 and n_in == n_out
            else nn.Sequential(nn.Conv2d(n_in, n_out, 1, stride, bias=False), nn.BatchNorm2d(n_out))
        )

    def forward(self, x: Tensor) -> Tensor:
        out = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))
        return self.relu(out + self.shortcut(x))


class _Stem(nn.Module):
    """First convolution of a ResNet, as wide and as coarse as the image size asks for.

    Below 64 pixels: 3x3, stride 1, as in the CIFAR experiments of He et al. (2016) and Chen et al.
    (2020). Below 128: 7x7, stride 2. From 128 on: the ImageNet stem, with max pooling.
    """

    def __init__(self, channels: int, width: int, image_size: tuple[int, int]):
        super().__init__()
        side = max(image_size)
        kernel, stride = (3, 1) if side < 64 else (7, 2)
        self.conv1 = nn.Conv2d(channels, width, kernel, stride, kernel // 2, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, 2, 1) if side >= 128 else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return self.maxpool(self.relu(self.bn1(self.conv1(x))))


class SmallResNet(nn.Sequential):
    """A ResNet with one block a stage: 32, 64, 128, 256 channels, 1.2 million parameters."""

    def __init__(self, channels: int, image_size: tuple[int, int]):
        super().__init__()
        self.stem = _Stem(channels, 32, image_size)
        widths = [32, 32, 64, 128, 256]
        for i in range(4):
            self.add_module(
                f"layer{i + 1}", _BasicBlock(widths[i], widths[i + 1], stride=1 if i == 0 else 2)
            )
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")


# Others, by name


def adapt_first_conv(model: nn.Module, channels: int) -> None:
    """Make a model for RGB take ``channels`` channels, keeping what its first layer has learned.

    One or two channels share the sum of the three filters; more than three take them in turn, each
    divided by how often it is used. An image of equal channels gets the response of a grey one.
    """
    conv: Any
    name, conv = next((n, m) for n, m in model.named_modules() if isinstance(m, nn.Conv2d))
    if conv.in_channels == channels:
        return
    fresh = nn.Conv2d(
        channels,
        conv.out_channels,
        conv.kernel_size,
        conv.stride,
        conv.padding,
        conv.dilation,
        bias=conv.bias is not None,
    )
    with torch.no_grad():
        if channels < conv.in_channels:
            weight = conv.weight.sum(1, keepdim=True).expand(-1, channels, -1, -1) / channels
        else:
            colour = torch.arange(channels) % conv.in_channels
            copies = (colour[:, None] == colour).sum(1)
            weight = conv.weight[:, colour] / copies[:, None, None]
        fresh.weight.copy_(weight)
        if conv.bias is not None and fresh.bias is not None:
            fresh.bias.copy_(conv.bias)
    parent, _, child = name.rpartition(".")
    setattr(model.get_submodule(parent), child, fresh)


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
    ):  # inception's own scaling of RGB; images come standardised
        model.transform_input = False
    if isinstance(model, torchvision.models.SwinTransformer):
        model.output_fmt = "NHWC"  # timm's name for channels last
    for part in ("classifier", "head", "heads", "fc", "avgpool", "permute"):
        if hasattr(model, part):
            setattr(model, part, nn.Identity())
    if hasattr(model, "aux_logits"):  # the extra classifiers of pretrained inception models
        model.aux_logits, model.AuxLogits, model.aux1, model.aux2 = False, None, None, None
    return model


def build_timm(
    name: str, channels: int, image_size: tuple[int, int], weights: str | None
) -> nn.Module:
    """A timm model without its classifier."""
    try:
        import timm
    except ImportError:
        raise ImportError(
            f"encoder='timm/{name}' needs timm: pip install 'sklearn-ssl[timm]'"
        ) from None
    # models that cannot take images of another size must be told it when they are built
    if ":" not in name and not timm.is_model(name.partition(".")[0]):  # "hf-hub:" is left to timm
        raise ValueError(
            f"encoder='timm/{name}' is unknown to timm; timm.list_models() gives the names"
        )
    if weights not in (None, "DEFAULT"):
        raise ValueError(
            f"weights={weights!r}: timm has the name of its weights in the name of the model, as "
            "in 'timm/resnet18.a1_in1k'; use weights='DEFAULT' to load them"
        )
    options: dict[str, Any] = {}
    try:
        config = timm.get_pretrained_cfg(name)
    except RuntimeError as error:  # a tag that is unknown
        raise ValueError(f"encoder='timm/{name}' is unknown to timm: {error}") from None
    if config is not None and config.fixed_input_size:
        options["img_size"] = image_size
    return timm.create_model(
        name, pretrained=weights is not None, in_chans=channels, num_classes=0, **options
    )
