"""Layout of a layer's output: which of its dimensions are features, and which positions."""

from collections.abc import Sequence
from typing import Literal

from torch import Tensor

__all__ = ["Layout", "find_layout", "is_open", "to_map"]

Layout = Literal["NCHW", "NHWC", "NLC", "NCL"]  # timm's names; L are tokens


def find_layout(
    shapes: Sequence[Sequence[int]], size: tuple[int, int], declared: str | None = None
) -> Layout | None:
    """Find the layout of a layer whose outputs have these shapes for images of several sizes.

    The number of features is the same for images of any size, and that of positions is not.

    Parameters
    ----------
    shapes : sequence of tuple of int
        The first is of images of ``size``.
    size : tuple of int
        Height and width.
    declared : str, optional
        The order that the network says it has, where shapes leave it open.

    Returns
    -------
    str or None
        None if no dimension of the output can be that of the features.
    """
    first = shapes[0]
    changes = [len({shape[dim] for shape in shapes}) > 1 for dim in range(len(first))]
    if len(first) == 3:
        if changes[1] and changes[2]:
            return None
        return "NCL" if changes[2] else "NLC"
    if changes[1] and changes[3]:
        return None
    if changes[1] or changes[3]:
        return "NHWC" if changes[1] else "NCHW"
    if declared == "NHWC":
        return "NHWC"
    square = size[0] == size[1]  # whose maps are squares too
    return "NHWC" if square and first[1] == first[2] != first[3] else "NCHW"


def is_open(shapes: Sequence[Sequence[int]]) -> bool:
    """Return whether shapes for images of several sizes do not tell features from positions."""
    return all(len({shape[dim] for shape in shapes}) == 1 for dim in (1, -1))


def to_map(
    output: Tensor, layout: Layout, size: Sequence[int], prefix: int | None = None
) -> Tensor:
    """Convert a layer's output for images of ``size`` to maps (n, d, gh, gw).

    ``prefix`` is the number of tokens before those of patches, if it is known.
    """
    if layout == "NCHW":
        return output
    if layout == "NHWC":
        return output.permute(0, 3, 1, 2)
    if layout == "NLC":
        output = output.transpose(1, 2)
    rows, columns, extra = _token_grid(output.shape[2], size[0], size[1], prefix)
    return output[:, :, extra:].unflatten(2, (rows, columns))


def _token_grid(
    tokens: int, height: int, width: int, prefix: int | None = None
) -> tuple[int, int, int]:
    """Return rows and columns of tokens of square patches, and the number of tokens before them.

    Tokens that fit no such grid are a single row.
    """
    sides = range(1, min(height, width) + 1)
    grids = (
        [(height // p, width // p) for p in sides if height % p == width % p == 0],
        [(height // p, width // p) for p in sides],
        [(-(-height // p), -(-width // p)) for p in sides],
    )
    for grid in grids:
        for extra in range(min(tokens, 6)) if prefix is None else (prefix, 0):
            for rows, columns in grid:
                if rows * columns == tokens - extra:
                    return rows, columns, extra
    return 1, tokens, 0
