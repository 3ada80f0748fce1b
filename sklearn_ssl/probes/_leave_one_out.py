"""Leave-one-out predictions of ridge regression in closed form, for many penalties at once."""

from collections.abc import Sequence

import torch
from torch import Tensor

__all__ = ["leave_one_out"]


def leave_one_out(
    values: Tensor,
    vectors: Tensor,
    targets: Tensor,
    alphas: Sequence[float],
    *,
    weights: Tensor | None = None,
    intercept: bool = True,
) -> Tensor:
    """Predict each sample by the ridge regressions fitted to all others.

    A fit minimizes the sum of ``weights * (targets - predictions) ** 2``, plus ``alpha`` times the
    squared norm of what is learned. One eigendecomposition gives all predictions for all alphas.

    Parameters
    ----------
    values : Tensor of shape (r,)
        Eigenvalues, without those that are 0 if you like, of the kernel of the n samples; for
        features X that is X @ X.T. With weights, of the kernel whose rows and columns are both
        multiplied by the weights' square roots. With an intercept a kernel need not be centered.
    vectors : Tensor of shape (n, r)
        Their eigenvectors.
    targets : Tensor of shape (n, k)
    alphas : sequence of float
        Above 0.
    weights : Tensor of shape (n,), optional
        Above 0; 1 by default.
    intercept : bool, default=True
        Fit one, without a penalty.

    Returns
    -------
    Tensor of shape (n_alphas, n, k)

    References
    ----------
    Rifkin and Lippert (2007), Notes on Regularized Least Squares, section 3; with an intercept,
    Cawley and Talbot (2004), Fast exact leave-one-out cross-validation of sparse least-squares
    support vector machines.
    """
    root = torch.ones_like(vectors[:, 0]) if weights is None else weights.sqrt()
    wanted = root[:, None] * targets
    both = torch.cat([wanted, root[:, None]], 1)  # (n, k + 1)
    squares, inside = vectors.square(), vectors.T @ both
    # the part that the kernel does not reach; 0 where all eigenvectors are given
    beyond, rest = (1 - squares.sum(1)).clamp(min=0), both - vectors @ inside
    found = []
    for alpha in alphas:
        kept = alpha / (values + alpha)  # residuals are both * (I - hat matrix)
        residuals = vectors @ (kept[:, None] * inside) + rest
        diagonal = squares @ kept + beyond
        residuals, constant = residuals[:, :-1], residuals[:, -1]
        if intercept:
            total = root @ constant
            residuals = residuals - torch.outer(constant, constant @ wanted) / total
            diagonal = diagonal - constant.square() / total
        found.append(targets - residuals / (diagonal * root)[:, None])
    return torch.stack(found)
