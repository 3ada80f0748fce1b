"""Vision transformers: our small one, and the parts of others."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["SmallViT", "TransformerBlock", "sincos_positions"]


class TransformerBlock(nn.Module):
    """Self-attention, then two linear layers, each behind a layer norm and beside a shortcut.

    Attention is written out: on a CPU with bfloat16, torch's fused one (2.14) takes several times
    as long for the few tokens of small images, and on a GPU its gradients are not the same in every
    run. Weights start as in He et al. (2022).

    Parameters
    ----------
    width : int
        Of the tokens, a multiple of ``heads``.
    heads : int
        Number of attention heads.
    """

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.norm1 = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)
        self.norm2 = nn.LayerNorm(width)
        self.fc1 = nn.Linear(width, 4 * width)
        self.fc2 = nn.Linear(4 * width, width)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)

    def _attend(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(x).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        scores = (q * q.shape[3] ** -0.5) @ k.transpose(2, 3)  # (n, heads, tokens, tokens)
        weights = scores.softmax(3, dtype=torch.float32).to(v.dtype)
        return self.proj((weights @ v).transpose(1, 2).flatten(2))

    def forward(self, x: Tensor) -> Tensor:
        """Transform tokens (n, t, width) to tokens of the same shape."""
        x = x + self._attend(self.norm1(x))
        return x + self.fc2(F.gelu(self.fc1(self.norm2(x))))


class _PatchEmbedding(nn.Module):
    """Non-overlapping patches to tokens (n, gh * gw, d), with fixed 2-D sine-cosine positions."""

    def __init__(self, channels: int, width: int, patch_size: int):
        super().__init__()
        self.project = nn.Conv2d(channels, width, patch_size, patch_size)

    def forward(self, x: Tensor) -> Tensor:
        x = self.project(x)
        _, width, rows, columns = x.shape
        tokens = x.flatten(2).transpose(1, 2)
        return tokens + sincos_positions(width, rows, columns, x.device)


def sincos_positions(
    width: int, rows: int, columns: int, device: torch.device | str | None = None
) -> Tensor:
    """Compute position codes (rows * columns, width): half for the row, half for the column."""
    frequency = torch.arange(width // 4, device=device) / (width / 4)
    frequency = torch.exp(-math.log(10_000) * frequency)
    codes = []
    for n in (rows, columns):
        angle = torch.arange(n, device=device)[:, None] * frequency
        codes.append(torch.cat([angle.sin(), angle.cos()], dim=1))
    row = codes[0][:, None].expand(rows, columns, -1)
    column = codes[1][None].expand(rows, columns, -1)
    return torch.cat([row, column], dim=2).flatten(0, 1)


class SmallViT(nn.Sequential):
    """A vision transformer (Dosovitskiy et al. 2021): 6 blocks, width 192, 3 heads, no class token.

    The patch side is an eighth of the image's, at least 2 and at most 16 pixels, and images of any
    size that holds a patch can be given later.
    """

    def __init__(self, channels: int, image_size: tuple[int, int]):
        super().__init__()
        width = 192
        patch_size = min(max(min(image_size) // 8, 2), 16, min(image_size))
        self.patch_embedding = _PatchEmbedding(channels, width, patch_size)
        for i in range(6):
            self.add_module(f"block{i}", TransformerBlock(width, heads=3))
        self.norm = nn.LayerNorm(width)
        self.num_prefix_tokens = 0  # timm's name for the number of class tokens
