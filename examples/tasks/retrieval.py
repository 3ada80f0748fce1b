"""
Find similar images
===================

Index the features of many images, and look up those most similar to a new one. No labels are used;
here they only measure how often the ten nearest tiles come from the same photograph as the query.
"""

import matplotlib.pyplot as plt
import numpy as np
from skimage import data
from skimage.util import view_as_blocks
from sklearn.neighbors import NearestNeighbors
from sklearn.preprocessing import normalize

from sklearn_ssl import SimCLR

# %%
# Tiles of 32 x 32 pixels from seven photographs. One in ten is a query, which training does not
# see.

PHOTOGRAPHS = ("astronaut", "chelsea", "coffee", "hubble_deep_field", "immunohistochemistry")
PHOTOGRAPHS += ("retina", "rocket")


def tiles_of(photograph, side=32):
    rows, columns = (length // side * side for length in photograph.shape[:2])
    blocks = view_as_blocks(photograph[:rows, :columns].copy(), (side, side, 3))
    blocks = blocks.reshape(-1, side, side, 3)
    return blocks[blocks.std((1, 2, 3)) > 8]  # none of a single color


tiles = [tiles_of(getattr(data, name)()) for name in PHOTOGRAPHS]
X = np.concatenate(tiles)
source = np.repeat(PHOTOGRAPHS, [len(some) for some in tiles])
is_query = np.random.default_rng(0).random(len(X)) < 0.1
print(f"{len(X)} tiles, {is_query.sum()} queries")

# %%
# Train without labels, and search by cosine similarity.

ssl = SimCLR(encoder="small_convnet", max_epochs=12, random_state=0).fit(X[~is_query])


def nearest(features):
    features = normalize(features)
    index = NearestNeighbors(n_neighbors=10).fit(features[~is_query])
    return np.flatnonzero(~is_query)[index.kneighbors(features[is_query], return_distance=False)]


for name, features in {"pixels": X.reshape(len(X), -1), "SimCLR": ssl.transform(X)}.items():
    found = nearest(features)
    share = np.mean(source[found] == source[is_query][:, None])
    print(f"{name}: {100 * share:.0f} % of the ten nearest are from the same photograph")

# %%
# Each row shows a query on the left, and its ten nearest tiles. Tiles from another photograph have
# a red frame.

figure, axes = plt.subplots(7, 11, figsize=(8, 5.2), dpi=160, layout="constrained")
queries = np.flatnonzero(is_query)
for row, name in zip(axes, PHOTOGRAPHS, strict=True):
    i = np.flatnonzero(source[queries] == name)[0]
    for ax, tile in zip(row, (queries[i], *found[i]), strict=True):
        ax.imshow(X[tile])
        ax.set(xticks=[], yticks=[])
        ax.spines[:].set(color="red" if source[tile] != name else "white", linewidth=2)
    row[0].spines[:].set(color="tab:blue")
