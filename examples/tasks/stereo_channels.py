"""
More than three channels
========================

Satellites and microscopes record more than red, green and blue. Here, images have six channels:
both views of a stereo camera. The target is a number, how far the left and right view are shifted
against each other, which shows the distance.
"""

import matplotlib.pyplot as plt
import numpy as np
from skimage import data
from sklearn.metrics import r2_score

from sklearn_ssl import PixelFeatures, SelfSupervisedRegressor, SimCLR, Views

# %%
# Overlapping tiles of a photographed motorcycle. The upper two thirds are for training, the rest
# for testing. Only 100 tiles have a target; NaN marks the others.

left, right, shift = data.stereo_motorcycle()
both = np.concatenate([left, right], axis=2)
side, step = 32, 12
corners = [
    (top, start)
    for top in range(0, both.shape[0] - side + 1, step)
    for start in range(0, both.shape[1] - side + 1, step)
]
X = np.stack([both[t : t + side, u : u + side] for t, u in corners])
shift = np.where(np.isfinite(shift), shift, np.nan)
y = np.array([np.nanmedian(shift[t : t + side, u : u + side]) for t, u in corners])
top = np.array([t for t, _ in corners])
is_test = top > both.shape[0] * 2 // 3
X_test, y_test = X[is_test], y[is_test]
is_train = top + side <= both.shape[0] * 2 // 3  # no tile overlaps a test tile
X, y = X[is_train], y[is_train]
y_few = np.full(len(y), np.nan)
rows = np.random.default_rng(0).choice(len(y), 100, replace=False)
y_few[rows] = y[rows]
print(f"tiles {X.shape}, {len(X_test)} of them for testing, {np.isfinite(y_few).sum()} targets")

# %%
# Views must not change what is asked for: no flips, which would exchange near and far, and no
# strong crops.

views = Views(size=32, crop_scale=(0.6, 1.0), flip=0, jitter=(0.4, 0.4, 0, 0), gray=0)
learners = {
    "pixels": PixelFeatures(),
    "SimCLR": SimCLR(encoder="small_convnet", views=views, max_epochs=40, random_state=0),
}
predicted = {}
for name, features in learners.items():
    regressor = SelfSupervisedRegressor(features).fit(X, y_few)
    predicted[name] = regressor.predict(X_test)
    print(f"{name}: R2 {r2_score(y_test, predicted[name]):.2f}")

# %%
# Predicted and true shift of the test tiles, in pixels.

figure, axes = plt.subplots(1, 2, figsize=(8, 3.4), sharex=True, sharey=True, layout="constrained")
for ax, (name, values) in zip(axes, predicted.items(), strict=True):
    ax.plot(y_test, values, ".", markersize=3)
    ax.axline((20, 20), slope=1, color="black", linewidth=1)
    ax.set(title=name, xlabel="true shift")
axes[0].set_ylabel("predicted shift")
