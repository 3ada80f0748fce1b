"""
Defects in a texture
====================

``PatchCore`` learns what a normal surface looks like, and maps what does not fit. The surface is a
photograph of bricks; the defects are painted on it, so that their place is known.
"""

import matplotlib.pyplot as plt
import numpy as np
from skimage import data
from skimage.draw import disk, line
from skimage.filters import gaussian
from sklearn.metrics import roc_auc_score

from sklearn_ssl import PatchCore, SimCLR

# %%
# Crops of 64 x 64 pixels. The left half of the photograph is for training, the right half for
# testing.

rng = np.random.default_rng(0)
bricks, side = data.brick(), 64


def crops(part, n):
    top, left = (rng.integers(length - side + 1, size=n) for length in part.shape)
    return np.stack([part[t : t + side, u : u + side] for t, u in zip(top, left, strict=True)])


train, tested = crops(bricks[:, :256], 300), crops(bricks[:, 256:], 60)

# %%
# Half of the test crops get a defect: a dark crack, or a smooth stain of the average brightness.

masks = np.zeros(tested.shape, bool)
for i in range(30):
    if i % 2:
        start, end = rng.integers(8, 56, size=2), rng.integers(8, 56, size=2)
        for shift in (0, 1):
            rows, columns = line(start[0], start[1] + shift, end[0], end[1] + shift)
            masks[i, rows, columns] = True
        tested[i][masks[i]] = tested[i].min()
    else:
        masks[i][disk(rng.integers(14, 50, size=2), 7)] = True
        smooth = gaussian(tested[i], 6, preserve_range=True).astype(np.uint8)
        tested[i][masks[i]] = smooth[masks[i]]
is_defective, is_odd = masks.any((1, 2)), np.arange(len(masks)) % 2 == 1
kinds = {"cracks": is_defective & is_odd, "stains": is_defective & ~is_odd}

# %%
# Features of positions come from a fine layer of a network that is trained on normal crops. The
# score of a crop is that of its strangest place. Cracks are found, stains hardly.

ssl = SimCLR(encoder="small_convnet", layer="layer1", max_epochs=10, random_state=0)
core = PatchCore(ssl, random_state=0).fit(train)
scores, maps = core.score_samples(tested), core.anomaly_maps(tested)
for name, is_kind in kinds.items():
    some = is_kind | ~is_defective
    crops_area = roc_auc_score(is_kind[some], -scores[some])
    pixels_area = roc_auc_score(masks[some].ravel(), maps[some].ravel())
    print(
        f"{name}: area under the ROC curve {crops_area:.2f} of crops, {pixels_area:.2f} of pixels"
    )

# %%
# Crops with defects, where they are, and where they were found.

figure, axes = plt.subplots(3, 10, figsize=(8, 2.6), layout="constrained")
for column, i in zip(axes.T, range(10), strict=True):
    column[0].imshow(tested[i], "gray", vmin=0, vmax=255)
    column[1].imshow(masks[i], "gray")
    column[2].imshow(maps[i], vmin=np.quantile(maps, 0.05), vmax=np.quantile(maps, 0.99))
for ax in axes.flat:
    ax.set(xticks=[], yticks=[])
for ax, name in zip(axes[:, 0], ("crop", "defect", "map"), strict=True):
    ax.set_ylabel(name)
