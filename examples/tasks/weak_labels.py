"""
Weak labels
===========

Labels from a keyword, a folder name or a cheap model are plentiful and often wrong. A strongly
regularized linear model on features that were learned without labels does not memorize the
mistakes; its predictions on the training images themselves find many of them.
"""

import matplotlib.pyplot as plt
import numpy as np
from skimage import data
from skimage.color import gray2rgb
from skimage.util import view_as_blocks
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_predict, cross_val_score, train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sklearn_ssl import SimCLR

# %%
# Tiles of eight photographs. A third of the training labels is replaced by a random photograph's.

PHOTOGRAPHS = ("brick", "grass", "gravel", "page", "hubble_deep_field", "immunohistochemistry")
PHOTOGRAPHS += ("chelsea", "retina")
tiles = []
for name in PHOTOGRAPHS:
    photograph = getattr(data, name)()
    photograph = gray2rgb(photograph) if photograph.ndim == 2 else photograph
    rows, columns = (length // 24 * 24 for length in photograph.shape[:2])
    blocks = view_as_blocks(photograph[:rows, :columns].copy(), (24, 24, 3))
    tiles.append(np.random.default_rng(0).permutation(blocks.reshape(-1, 24, 24, 3))[:140])
X = np.concatenate(tiles)
y = np.repeat(PHOTOGRAPHS, [len(some) for some in tiles])
X, X_test, y, y_test = train_test_split(X, y, test_size=0.3, stratify=y, random_state=0)
rng = np.random.default_rng(0)
weak = np.where(rng.random(len(y)) < 1 / 3, rng.choice(PHOTOGRAPHS, len(y)), y)
print(f"{100 * np.mean(weak != y):.0f} % of the {len(y)} training labels are wrong")

# %%
# The regularization matters: a weak one fits the mistakes. Cross-validation on the weak labels is
# enough to choose it; the true labels only measure the result.

ssl = SimCLR(encoder="small_convnet", max_epochs=30, random_state=0).fit(X)
features, tested = ssl.transform(X), ssl.transform(X_test)
agreement = {}
for C in (1.0, 1e-2, 1e-4):
    probe = make_pipeline(StandardScaler(), LogisticRegression(C=C, max_iter=2000))
    agreement[C] = cross_val_score(probe, features, weak, cv=5).mean()
    right = probe.fit(features, weak).predict(features) == y
    print(
        f"C={C:g}: {100 * agreement[C]:.0f} % of held-out weak labels, "
        f"{100 * probe.score(tested, y_test):.0f} % of the true test labels, "
        f"{100 * right[weak != y].mean():.0f} % of the wrong training labels corrected"
    )
probe.set_params(logisticregression__C=max(agreement, key=agreement.get))

# %%
# Labels that cross-validation contradicts most strongly are worth a second look.

shares = cross_val_predict(probe, features, weak, cv=5, method="predict_proba")
classes = np.unique(weak)
given = shares[np.arange(len(weak)), np.searchsorted(classes, weak)]
doubtful = np.argsort(given - shares.max(1))[:14]
print(f"{100 * np.mean(weak[doubtful] != y[doubtful]):.0f} % of the 14 most doubtful are wrong")
figure, axes = plt.subplots(2, 7, figsize=(8, 2.9), layout="constrained")
for ax, i in zip(axes.flat, doubtful, strict=True):
    ax.imshow(X[i])
    ax.set_title(weak[i].partition("_")[0][:9], fontsize="small")
    ax.set_axis_off()
