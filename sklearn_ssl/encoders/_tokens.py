"""Vision transformers that encode only some patches, and predict others."""

from typing import Any

import torch
from torch import Tensor, nn

from sklearn_ssl.encoders._encoder import BackboneEncoder
from sklearn_ssl.encoders._networks import TransformerBlock, sincos_positions


def check_transformer(encoder: BackboneEncoder, learner: str) -> None:
    """Raise ValueError if an encoder is not a sequence of a patch embedding and token blocks."""
    height, width, channels = encoder.image_shape
    d, rows, columns = encoder.out_shape
    half = torch.arange((rows * columns + 1) // 2)[None]
    try:
        with torch.no_grad():
            blank = torch.zeros(1, channels, height, width)
            embedding: Any = next(encoder.backbone.children())
            fits = (
                isinstance(encoder.backbone, nn.Sequential)
                and len(encoder.backbone) > 1
                and embedding(blank).shape[:2] == (1, rows * columns)
                and encode_positions(encoder, blank, half).shape == (1, half.shape[1], d)
            )
    except (RuntimeError, ValueError, IndexError):
        fits = False
    if not fits:
        raise ValueError(
            f"{learner} encodes single patches, so its encoder must be a transformer: use "
            "encoder='small_vit', or a subclass of nn.Sequential whose first part turns images "
            "into tokens (n, patches, d), positions included, and whose other parts accept any "
            "subset of these tokens"
        )


def patch_projection(encoder: BackboneEncoder) -> nn.Conv2d | None:
    """Return the convolution that embeds patches, or None for an encoder without tokens."""
    convolutions = (part for part in encoder.modules() if isinstance(part, nn.Conv2d))
    apart = (part for part in convolutions if part.kernel_size == part.stride != (1, 1))
    return next(apart, None) if encoder.is_transformer else None


def at_positions(tokens: Tensor, positions: Tensor) -> Tensor:
    """Select the tokens (n, p, d) at positions (n, p) from tokens (n, t, d)."""
    return tokens.gather(1, positions[..., None].expand(-1, -1, tokens.shape[2]))


def encode_positions(encoder: BackboneEncoder, images: Tensor, positions: Tensor) -> Tensor:
    """Compute the last layer's tokens (n, p, d) of the patches at positions (n, p) alone."""
    parts: list[Any] = list(encoder.backbone.children())
    embedding, *rest = parts
    tokens = at_positions(embedding(encoder.prepare(images)), positions)
    for part in rest:
        tokens = part(tokens)
    return tokens


class TokenPredictor(nn.Module):
    """Small transformer that predicts outputs at some positions from tokens at others.

    Parameters
    ----------
    in_dim, width, out_dim : int
        Dimensions of the input tokens, of the tokens in its blocks, and of the predictions.
    depth : int
        Number of blocks.
    grid : tuple of int
        Rows and columns of patches.
    """

    position_codes: Tensor

    def __init__(self, in_dim: int, width: int, out_dim: int, depth: int, grid: tuple[int, int]):
        super().__init__()
        self.enter = nn.Linear(in_dim, width)
        self.missing = nn.Parameter(torch.randn(width) * 0.02)
        self.register_buffer("position_codes", sincos_positions(width, *grid))
        blocks = (TransformerBlock(width, heads=width // 32) for _ in range(depth))
        self.blocks = nn.Sequential(*blocks)
        self.leave = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, out_dim))

    def forward(self, tokens: Tensor, positions: Tensor, wanted: Tensor) -> Tensor:
        """Predict (n, w, out_dim) at ``wanted`` from tokens (n, p, in_dim) at positions (n, p)."""
        known = self.enter(tokens) + self.position_codes[positions]
        asked = self.missing + self.position_codes[wanted]
        out = self.blocks(torch.cat([known, asked.to(known.dtype)], dim=1))
        return self.leave(out[:, positions.shape[1] :])
