"""
A folder of TIFF files and a table of labels
============================================

A microscope writes a file for each field of view, and an expert fills in a column of a table for
some of them. The estimator takes the table's column of paths as it is.
"""

import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import tifffile
from skimage import data
from skimage.color import rgb2hed
from skimage.util import view_as_blocks
from sklearn.metrics import balanced_accuracy_score

from sklearn_ssl import SelfSupervisedClassifier, SimCLR

# %%
# Write such a folder: tiles of a stained tissue section, and a table that says for each tile
# whether it contains much of the brown stain. Three of four have no label.

folder = Path(tempfile.mkdtemp())
section = data.immunohistochemistry()
tiles = view_as_blocks(section, (32, 32, 3)).reshape(-1, 32, 32, 3)
brown = rgb2hed(tiles)[..., 2].mean((1, 2))
stained = np.where(brown > np.median(brown), "stained", "not stained")
for i, tile in enumerate(tiles):
    tifffile.imwrite(folder / f"field_{i:03}.tif", tile, photometric="rgb")
table = pd.DataFrame({"file": sorted(map(str, folder.glob("*.tif"))), "stained": stained})
rng = np.random.default_rng(0)
is_labeled = rng.random(len(table)) < 0.25
table["label"] = table["stained"].where(is_labeled)
table.to_csv(folder / "fields.csv", index=False)

# %%
# Read the table, and fit on all files; those without a label (NaN) are used for pretraining only.

table = pd.read_csv(folder / "fields.csv")
classifier = SelfSupervisedClassifier(
    SimCLR(encoder="small_convnet", max_epochs=30, random_state=0)
)
classifier.fit(table[["file"]], table["label"])
unlabeled = table[table["label"].isna()]
predicted = classifier.predict(unlabeled[["file"]])
score = balanced_accuracy_score(unlabeled["stained"], predicted)
print(f"{is_labeled.sum()} labels; balanced accuracy on all other files: {100 * score:.0f} %")

# %%
# Files that the classifier is most and least sure are stained.

certain = classifier.predict_proba(unlabeled[["file"]])[:, 1]
order = np.argsort(certain)
figure, axes = plt.subplots(2, 10, figsize=(8, 2), layout="constrained")
for row, some in zip(axes, (order[-10:], order[:10]), strict=True):
    for ax, i in zip(row, some, strict=True):
        ax.imshow(tifffile.imread(unlabeled["file"].iloc[i]))
        ax.set_axis_off()
