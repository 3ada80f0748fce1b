"""
Near-duplicates leak from training to test
==========================================

Frames of a video, crops of one slide and re-encoded copies resemble each other so closely that a
random split tests on what it trained on. Features find such groups, and ``GroupKFold`` keeps each
of them in one fold.
"""

import io

import matplotlib.pyplot as plt
import numpy as np
from PIL import Image
from skimage import data
from skimage.util import view_as_blocks
from sklearn.cluster import AgglomerativeClustering
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupKFold, KFold, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler, normalize

from sklearn_ssl import SimCLR

# %%
# Tiles of photographs. A third has a copy, shifted by two pixels and saved as a JPEG file of low
# quality. The labels are random, so no honest test can be better than 50 %.

SIDE = 32
rng = np.random.default_rng(0)
tiles = []
for photograph in (data.astronaut(), data.chelsea(), data.coffee(), data.rocket()):
    rows, columns = (length // 36 * 36 for length in photograph.shape[:2])
    blocks = view_as_blocks(photograph[:rows, :columns].copy(), (36, 36, 3))
    blocks = blocks.reshape(-1, 36, 36, 3)
    tiles.append(blocks[blocks.std((1, 2, 3)) > 12])  # none of a single color
tiles = rng.permutation(np.concatenate(tiles))[:600]
n_copies = len(tiles) // 3


def copy_of(tile):
    file = io.BytesIO()
    Image.fromarray(tile[4:, 4:]).save(file, format="jpeg", quality=50)
    return np.asarray(Image.open(file))


X = np.concatenate([tiles[:, 2:-2, 2:-2], [copy_of(tile) for tile in tiles[:n_copies]]])
y = rng.integers(2, size=len(tiles))
y = np.concatenate([y, y[:n_copies]])
print(f"{len(X)} images, {n_copies} of which are copies")

# %%
# Images form a group if the features of all its pairs are close.

ssl = SimCLR(encoder="small_convnet", max_epochs=15, random_state=0).fit(X)
features = StandardScaler().fit_transform(ssl.transform(X))
cluster = AgglomerativeClustering(None, linkage="complete", distance_threshold=0.5)
groups = cluster.fit_predict(normalize(features))
found = np.mean(groups[len(tiles) :] == groups[:n_copies])
print(f"{groups.max() + 1} groups, the largest of {np.bincount(groups).max()} images")
print(f"{100 * found:.0f} % of the copies are in the group of their original")

# %%
# With random folds, a classifier seems to predict random labels. With groups, it does not.

classifier = make_pipeline(StandardScaler(), LogisticRegression(C=10, max_iter=2000))
scores = {}
for name, folds in {
    "random folds": KFold(5, shuffle=True, random_state=0).split(features),
    "groups": GroupKFold(5).split(features, groups=groups),
}.items():
    scores[name] = cross_val_score(classifier, features, y, cv=folds).mean()
    print(f"{name}: {100 * scores[name]:.0f} %")

# %%
# Above, eight originals; below, the copies that were found.

figure, axes = plt.subplots(2, 8, figsize=(8, 2.2), layout="constrained")
pairs = np.flatnonzero(groups[len(tiles) :] == groups[:n_copies])
for (top, bottom), i in zip(axes.T, pairs, strict=False):
    top.imshow(X[i])
    bottom.imshow(X[len(tiles) + i])
for ax in axes.flat:
    ax.set_axis_off()
