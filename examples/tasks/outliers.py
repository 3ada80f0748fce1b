"""
Unusual images
==============

A detector knows only normal images: tiles of bricks, gravel and grass. Anything else should be far
from all of them in feature space.
"""

import matplotlib.pyplot as plt
import numpy as np
from skimage import data
from skimage.color import rgb2gray
from skimage.util import img_as_ubyte, view_as_blocks
from sklearn.decomposition import PCA
from sklearn.metrics import roc_auc_score
from sklearn.neighbors import NearestNeighbors
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sklearn_ssl import PatchDictionary, PixelFeatures

# %%
# All tiles are gray, so that color gives nothing away.


def tiles_of(name, side=32):
    photograph = getattr(data, name)()
    if photograph.ndim == 3:
        photograph = img_as_ubyte(rgb2gray(photograph))
    rows, columns = (length // side * side for length in photograph.shape)
    blocks = view_as_blocks(photograph[:rows, :columns].copy(), (side, side))
    return np.random.default_rng(0).permutation(blocks.reshape(-1, side, side))[:200]


known = np.random.default_rng(0).permutation(
    np.concatenate([tiles_of(name) for name in ("brick", "gravel", "grass")])
)
train, normal = known[:400], known[400:]
strange = np.concatenate([tiles_of(name)[:50] for name in ("page", "coins", "moon", "chelsea")])
tested = np.concatenate([normal, strange])
is_strange = np.arange(len(tested)) >= len(normal)

# %%
# Learn patches of the normal tiles, and average them over each tile: what counts is the texture,
# not where it is. The score is the mean distance to the five nearest normal tiles, in which all
# directions count equally (``whiten``).

dictionary = PatchDictionary(n_atoms=200, pool="avg", random_state=0)
for name, features in {"pixels": PixelFeatures(), "PatchDictionary": dictionary}.items():
    whiten = make_pipeline(features, StandardScaler(), PCA(30, whiten=True, random_state=0))
    index = NearestNeighbors(n_neighbors=5).fit(whiten.fit_transform(train))
    distances = index.kneighbors(whiten.transform(tested))[0].mean(1)
    print(f"{name}: area under the ROC curve {roc_auc_score(is_strange, distances):.2f}")

# %%
# Distances in the space of the dictionary's features, and the most and least usual tiles.

figure = plt.figure(figsize=(8, 3.4), layout="constrained")
top, bottom = figure.subfigures(2, 1, height_ratios=(2, 1))
ax = top.subplots()
for name, rows in {"bricks, gravel, grass": ~is_strange, "other photographs": is_strange}.items():
    ax.hist(distances[rows], 30, density=True, alpha=0.6, label=name)
ax.set(xlabel="distance to normal tiles", yticks=[])
ax.legend()
order = np.argsort(distances)
for ax, i in zip(bottom.subplots(1, 16), (*order[:8], *order[-8:]), strict=True):
    ax.imshow(tested[i], "gray", vmin=0, vmax=255)
    ax.set_axis_off()
