"""Convolutions that are safe in bfloat16."""

from torch import Tensor, nn

from sklearn_ssl._utils._device import full_precision

__all__ = ["TinyMapConv2d", "make_tiny_maps_safe"]


class TinyMapConv2d(nn.Conv2d):
    """A convolution that takes float32 for maps smaller than its kernel.

    With bfloat16 on a CPU, torch (seen with 2.14, oneDNN) leaves the gradient of those weights that
    see nothing but padding uninitialized when the stride is 2: any number may be in it.
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
