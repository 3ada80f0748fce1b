"""
Clusters without labels
=======================

What kinds of images are there? ``KMeans`` on the features groups tiles of photographs. Labels only
measure how well the clusters agree with the photographs.
"""

import matplotlib.pyplot as plt
import numpy as np
from skimage import data
from skimage.color import gray2rgb
from skimage.util import view_as_blocks
from sklearn.cluster import KMeans
from sklearn.decomposition import PCA
from sklearn.metrics import normalized_mutual_info_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import Normalizer, StandardScaler

from sklearn_ssl import SimCLR

# %%
# Tiles of eight photographs, at most 140 of each. Four are gray.

PHOTOGRAPHS = ("brick", "grass", "gravel", "page", "hubble_deep_field", "immunohistochemistry")
PHOTOGRAPHS += ("chelsea", "retina")
rng = np.random.default_rng(0)
tiles = []
for name in PHOTOGRAPHS:
    photograph = getattr(data, name)()
    photograph = gray2rgb(photograph) if photograph.ndim == 2 else photograph
    rows, columns = (length // 24 * 24 for length in photograph.shape[:2])
    blocks = view_as_blocks(photograph[:rows, :columns].copy(), (24, 24, 3))
    tiles.append(rng.permutation(blocks.reshape(-1, 24, 24, 3))[:140])
X = np.concatenate(tiles)
source = np.repeat(PHOTOGRAPHS, [len(some) for some in tiles])

# %%
# Standardize, reduce and normalize features before clustering, so that no dimension dominates.

ssl = SimCLR(encoder="small_convnet", max_epochs=25, random_state=0)
clusters_of = {}
for name, features in {"pixels": X.reshape(len(X), -1), "SimCLR": ssl.fit_transform(X)}.items():
    cluster = make_pipeline(
        StandardScaler(),
        PCA(30, random_state=0),
        Normalizer(),
        KMeans(8, n_init=10, random_state=0),
    )
    clusters_of[name] = cluster.fit_predict(features)
    score = normalized_mutual_info_score(source, clusters_of[name])
    print(f"{name}: normalized mutual information with the photographs {score:.2f}")

# %%
# A row is a cluster of ``SimCLR``'s features. The number is the share of its largest photograph.

clusters = clusters_of["SimCLR"]
figure, axes = plt.subplots(8, 14, figsize=(8, 4.8), layout="constrained")
for row, cluster in zip(axes, range(8), strict=True):
    members = rng.permutation(np.flatnonzero(clusters == cluster))
    _, counts = np.unique(source[members], return_counts=True)
    row[0].set_ylabel(
        f"{100 * counts.max() / len(members):.0f} %", rotation=0, ha="right", va="center"
    )
    for ax in row:
        ax.set(xticks=[], yticks=[])
        ax.spines[:].set_visible(False)
    for ax, i in zip(row, members, strict=False):
        ax.imshow(X[i])
