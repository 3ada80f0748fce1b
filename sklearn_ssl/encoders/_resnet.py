"""Our small ResNet, and a stem that fits the size of the images."""

from torch import Tensor, nn

__all__ = ["SmallResNet"]


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
    """A ResNet with one block per stage: 32, 64, 128, 256 channels, 1.2 million parameters."""

    def __init__(self, channels: int, image_size: tuple[int, int], width: int = 32):
        super().__init__()
        self.stem = _Stem(channels, width, image_size)
        widths = [width, width, 2 * width, 4 * width, 8 * width]
        for i in range(4):
            self.add_module(
                f"layer{i + 1}", _BasicBlock(widths[i], widths[i + 1], stride=1 if i == 0 else 2)
            )
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
