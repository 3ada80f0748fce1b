"""A classic rival: one layer of k-means on whitened patches (Coates, Lee and Ng 2011)."""

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.cluster import MiniBatchKMeans


class KMeansPatches(TransformerMixin, BaseEstimator):
    """Triangle activations of ``n_centroids`` patch centroids, averaged over quadrants.

    Patches are normalized in brightness and contrast, and ZCA-whitened, as in the paper.
    """

    def __init__(
        self, n_centroids=400, *, patch_size=6, n_patches=200_000, mirror=False, random_state=None
    ):
        self.n_centroids = n_centroids
        self.patch_size = patch_size
        self.n_patches = n_patches
        self.mirror = mirror
        self.random_state = random_state

    def fit(self, X, y=None):
        rng = np.random.default_rng(self.random_state)
        size = self.patch_size
        which = rng.integers(len(X), size=self.n_patches)
        top, left = (rng.integers(side - size + 1, size=self.n_patches) for side in X.shape[1:3])
        patches = np.stack(
            [X[i, t : t + size, u : u + size] for i, t, u in zip(which, top, left, strict=True)]
        )
        # channels first within a patch, as in F.unfold
        patches = patches.transpose(0, 3, 1, 2).reshape(self.n_patches, -1).astype(np.float32)
        patches = self._normalize(torch.from_numpy(patches)).numpy()
        self.mean_ = patches.mean(0)
        values, vectors = np.linalg.eigh(np.cov(patches - self.mean_, rowvar=False))
        self.whiten_ = (vectors / np.sqrt(values + 0.1) @ vectors.T).astype(np.float32)
        kmeans = MiniBatchKMeans(
            self.n_centroids, batch_size=4096, n_init=1, random_state=self.random_state
        )
        self.centroids_ = kmeans.fit((patches - self.mean_) @ self.whiten_).cluster_centers_
        return self

    @staticmethod
    def _normalize(patches):
        """Scale each patch (n, values) to mean 0 and variance 1; adding 10 dampens flat ones."""
        variance, mean = torch.var_mean(patches, dim=1, keepdim=True)
        return (patches - mean) / (variance + 10).sqrt()

    def transform(self, X):
        sides = (
            [X, X[:, :, ::-1]] if self.mirror else [X]
        )  # the mean of an image and its mirror image
        chunks = range(0, len(X), 50)
        return np.mean(
            [np.concatenate([self._encode(side[i : i + 50]) for i in chunks]) for side in sides], 0
        )

    def _encode(self, X):
        n, height, width, _ = X.shape
        size = self.patch_size
        images = torch.from_numpy(np.ascontiguousarray(X)).permute(0, 3, 1, 2).float()
        patches = F.unfold(images, size).transpose(1, 2)  # (n, positions, values)
        patches = self._normalize(patches.reshape(-1, patches.shape[2]))
        white = (patches - torch.from_numpy(self.mean_)) @ torch.from_numpy(self.whiten_)
        distance = torch.cdist(white, torch.from_numpy(self.centroids_.astype(np.float32)))
        activation = (distance.mean(1, keepdim=True) - distance).clamp(min=0)
        rows, columns = height - size + 1, width - size + 1
        grid = activation.view(n, rows, columns, -1).permute(0, 3, 1, 2)
        return F.adaptive_avg_pool2d(grid, 2).flatten(1).numpy()
