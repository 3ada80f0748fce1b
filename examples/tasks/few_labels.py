"""
Few labels
==========

Are features learned without labels worth it? ``compare`` answers with the same tuned classifier for
pixels and features, beside a small network that is trained on the labels alone. It says so if
pixels or that network are enough.
"""

import numpy as np
from skimage import data
from skimage.color import gray2rgb
from skimage.util import view_as_blocks

from sklearn_ssl import AutoFeatures
from sklearn_ssl.inspection import LabelsDisplay, compare, verdict

# %%
# Tiles of ten photographs.

PHOTOGRAPHS = ("brick", "grass", "gravel", "page", "hubble_deep_field", "immunohistochemistry")
PHOTOGRAPHS += ("chelsea", "retina", "astronaut", "coffee")
tiles = []
for name in PHOTOGRAPHS:
    photograph = getattr(data, name)()
    photograph = gray2rgb(photograph) if photograph.ndim == 2 else photograph
    rows, columns = (length // 32 * 32 for length in photograph.shape[:2])
    blocks = view_as_blocks(photograph[:rows, :columns].copy(), (32, 32, 3))
    tiles.append(np.random.default_rng(0).permutation(blocks.reshape(-1, 32, 32, 3))[:130])
X = np.concatenate(tiles)
y = np.repeat(PHOTOGRAPHS, [len(some) for some in tiles])

# %%
# Each way has the same seconds. A third of the images is the test set.

auto = AutoFeatures(time_budget=15, random_state=0)
table = compare(auto, X, y, n_labels=(20, 100), n_splits=3, n_fits=1)
print(table.pivot(index="method", columns="n_labels", values="accuracy").round(2))
print(verdict(table))

# %%
# Accuracy against the number of labels, with standard errors.

display = LabelsDisplay.from_table(table)
