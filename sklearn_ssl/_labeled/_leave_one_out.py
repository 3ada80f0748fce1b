"""Leave-one-out predictions of ridge regression in closed form, and their error."""

from collections.abc import Sequence

import numpy as np
import torch
from scipy.special import ndtr
from torch import Tensor

_SMOOTHING = 0.25  # width of the smoothed error, in standard deviations of the margin


def leave_one_out(
    values: Tensor,
    vectors: Tensor,
    targets: Tensor,
    alphas: Sequence[float],
    *,
    weights: Tensor | None = None,
    intercept: bool = True,
) -> Tensor:
    """Predict each sample by ridge regression on all others, for each alpha.

    A fit minimizes the sum of ``weights * (targets - predictions) ** 2``, plus ``alpha`` times the
    squared norm of the coefficients. One eigendecomposition serves all samples and alphas.

    Parameters
    ----------
    values : Tensor of shape (r,)
        Eigenvalues of the kernel matrix of the n samples, X @ X.T for features X; zeros may be left
        out. With weights, rows and columns of the matrix are both multiplied by the square roots of
        the weights. The kernel need not be centered, even with an intercept.
    vectors : Tensor of shape (n, r)
        Eigenvectors of the matrix.
    targets : Tensor of shape (n, k)
    alphas : sequence of float
        Penalties, above 0.
    weights : Tensor of shape (n,), optional
        Sample weights, above 0; 1 by default.
    intercept : bool, default=True
        Fit an intercept, without a penalty.

    Returns
    -------
    Tensor of shape (n_alphas, n, k)
        Leave-one-out predictions.

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
    # the part outside the span of the eigenvectors; 0 if all are given
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


def mass_of_classes(targets: np.ndarray, weights: np.ndarray, several: bool) -> np.ndarray:
    """Compute the weight of each sample in each class: (n, n_classes), or (n, n_labels, 2).

    A class with a single sample has weight 0: the other samples cannot predict it.
    """
    shares = (targets + 1) / 2
    if several:
        shares = np.stack([1 - shares, shares], 2)
    mass = shares * weights.reshape(-1, *[1] * (shares.ndim - 1))
    return mass * ((shares > 0).sum(0) > 1)


def smoothed_error(scores: np.ndarray, mass: np.ndarray, several: bool) -> float:
    """Compute a smoothed error rate, in which samples near the decision boundary count in part.

    It smooths the error rate like a kernel density estimate smooths a histogram. Log loss would
    favor a larger penalty than accuracy does.
    """
    total = mass.sum()
    if total == 0:
        return np.nan
    if several:
        margins = np.stack([-scores, scores], 2)
    else:
        second, first = np.sort(scores, axis=1)[:, -2:, None].transpose(1, 0, 2)
        margins = scores - np.where(scores == first, second, first)
    mean = (mass * margins).sum() / total
    width = _SMOOTHING * np.sqrt((mass * (margins - mean) ** 2).sum() / total)
    return float((mass * ndtr(-margins / (width or 1.0))).sum() / total)


def of_all_kinds(targets: np.ndarray, n: int) -> np.ndarray:
    """Return ``n`` rows, evenly spread over the sorted targets, or all rows if there are fewer."""
    if len(targets) <= n:
        return np.arange(len(targets))
    order = np.lexsort(targets.T[::-1])
    return order[np.linspace(0, len(targets) - 1, n).astype(int)]
