"""
Which images to label first
===========================

Twenty labels go further if the labeled images differ: choose one from the middle of each cluster of
features, instead of twenty at random.
"""

import matplotlib.pyplot as plt
import numpy as np
from skimage import data
from skimage.color import gray2rgb
from skimage.util import view_as_blocks
from sklearn.cluster import KMeans
from sklearn.metrics import pairwise_distances_argmin
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import Normalizer, StandardScaler

from sklearn_ssl import LinearProbe, SimCLR

# %%
# Tiles of ten photographs, many of some and few of others, as in practice.

PHOTOGRAPHS = ("brick", "grass", "gravel", "page", "hubble_deep_field", "immunohistochemistry")
PHOTOGRAPHS += ("chelsea", "retina", "astronaut", "coffee")
tiles = []
for i, name in enumerate(PHOTOGRAPHS):
    photograph = getattr(data, name)()
    photograph = gray2rgb(photograph) if photograph.ndim == 2 else photograph
    rows, columns = (length // 32 * 32 for length in photograph.shape[:2])
    blocks = view_as_blocks(photograph[:rows, :columns].copy(), (32, 32, 3))
    blocks = np.random.default_rng(0).permutation(blocks.reshape(-1, 32, 32, 3))
    tiles.append(blocks[: 30 + 20 * i])
X = np.concatenate(tiles)
y = np.repeat(PHOTOGRAPHS, [len(some) for some in tiles])
X, X_test, y, y_test = train_test_split(X, y, test_size=0.3, stratify=y, random_state=0)

# %%
# Train on all images without labels.

ssl = SimCLR(encoder="small_convnet", max_epochs=20, random_state=0).fit(X)
scale = make_pipeline(StandardScaler(), Normalizer())
features = scale.fit_transform(ssl.transform(X))
tested = scale.transform(ssl.transform(X_test))

# %%
# Choose twenty images both ways, six times each.

rng = np.random.default_rng(0)
chosen = {"at random": [], "middles of clusters": []}
for seed in range(6):
    chosen["at random"].append(rng.choice(len(X), 20, replace=False))
    kmeans = KMeans(20, n_init=1, random_state=seed).fit(features)
    chosen["middles of clusters"].append(
        pairwise_distances_argmin(kmeans.cluster_centers_, features)
    )
accuracies = {
    way: [LinearProbe().fit(features[rows], y[rows]).score(tested, y_test) for rows in draws]
    for way, draws in chosen.items()
}
for way, values in accuracies.items():
    kinds = np.mean([len(np.unique(y[rows])) for rows in chosen[way]])
    print(f"{way}: {100 * np.mean(values):.0f} %, of {kinds:.1f} photographs on average")

# %%
# The tiles of one draw, and the accuracies of all six.

figure = plt.figure(figsize=(8, 3), layout="constrained")
left, right = figure.subfigures(1, 2, width_ratios=(2, 1))
for part, way in zip(left.subfigures(2, 1), chosen, strict=True):
    part.suptitle(way, fontsize="medium")
    for ax, i in zip(part.subplots(2, 10).flat, chosen[way][0], strict=True):
        ax.imshow(X[i])
        ax.set_axis_off()
ax = right.subplots()
ax.boxplot([100 * np.array(values) for values in accuracies.values()])
ax.set_xticks([1, 2], labels=["random", "clusters"])
ax.set_ylabel("accuracy, %")
