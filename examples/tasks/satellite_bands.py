"""
Land cover from satellite bands
===============================

Fields and forest are both dark green from above. In near infrared, which satellites record, too,
they differ. Features of four bands, learned from all of a scene, turn a few rectangles with a label
into a map.
"""

import matplotlib.pyplot as plt
import numpy as np
import spyndex
from matplotlib.patches import Rectangle
from numpy.lib.stride_tricks import sliding_window_view

from sklearn_ssl import SelfSupervisedClassifier, SimCLR, Views

# %%
# A scene of Sentinel-2 with 10 m per pixel: blue, green, red and near infrared. An image is a tile
# of 12 pixels around every fourth pixel.

scene = spyndex.datasets.open("sentinel").to_numpy().transpose(1, 2, 0)  # reflectance x 10,000
scene = (scene / 5000).clip(0, 1).astype(np.float32)
side, step = 12, 4
tiles = sliding_window_view(scene, (side, side), axis=(0, 1))[::step, ::step]
grid = tiles.shape[:2]
X = tiles.reshape(-1, 4, side, side).transpose(0, 2, 3, 1)
y_center, x_center = (step * indices.ravel() + side // 2 for indices in np.indices(grid))

# %%
# Rectangles (left, top, width, height) that we recognize. The first of each class is for training,
# the others, at other places, are for testing.

RECTANGLES = {
    "forest": [(120, 5, 40, 40), (180, 10, 100, 35), (215, 170, 45, 20), (100, 222, 30, 22)],
    "field": [(30, 228, 32, 12), (80, 208, 17, 14), (95, 258, 40, 10), (22, 285, 18, 13)],
    "bare soil": [(60, 60, 40, 40), (110, 150, 40, 50), (270, 190, 28, 30), (165, 205, 30, 40)],
}
classes = list(RECTANGLES)
y, y_test = np.full(len(X), -1), np.full(len(X), -1)
for code, rectangles in enumerate(RECTANGLES.values()):
    for i, (left, top, width, height) in enumerate(rectangles):
        inside = (x_center >= left) & (x_center < left + width)
        inside &= (y_center >= top) & (y_center < top + height)
        (y_test if i else y)[inside] = code
tested = y_test >= 0
print(f"{len(X):,} tiles, {np.sum(y >= 0)} with a label, {tested.sum()} for testing")

# %%
# Each class counts the same, as in a mean of recalls. Strong crops and changes of color would hide
# what is asked for.

views = Views(size=side, crop_scale=(0.5, 1.0), jitter=(0.2, 0.2, 0, 0), gray=0)
maps = {}
for name, bands in {"blue, green, red": slice(3), "with near infrared": slice(4)}.items():
    ssl = SimCLR(encoder="small_convnet", views=views, max_epochs=5, random_state=0)
    predicted = SelfSupervisedClassifier(ssl).fit(X[..., bands], y).predict(X[..., bands])
    recalls = [np.mean(predicted[y_test == code] == code) for code in range(len(classes))]
    each = ", ".join(f"{k} {100 * r:.0f} %" for k, r in zip(classes, recalls, strict=True))
    print(f"{name}: {100 * np.mean(recalls):.0f} % ({each})")
    maps[name] = predicted.reshape(grid)

# %%
# The scene in natural colors with the rectangles for training, and both maps.

figure, axes = plt.subplots(1, 3, figsize=(9, 3.2), layout="constrained")
axes[0].imshow((scene[..., 2::-1] * 2).clip(0, 1))
axes[0].set_title("scene")
colors = plt.get_cmap("Set2")
for code, rectangles in enumerate(RECTANGLES.values()):
    left, top, width, height = rectangles[0]
    axes[0].add_patch(Rectangle((left, top), width, height, fill=False, edgecolor=colors(code)))
for ax, (name, predicted) in zip(axes[1:], maps.items(), strict=True):
    ax.imshow(predicted, cmap="Set2", vmin=0, vmax=7, interpolation="nearest")
    ax.set_title(name)
for ax in axes:
    ax.set_axis_off()
handles = [Rectangle((0, 0), 1, 1, color=colors(code)) for code in range(len(classes))]
figure.legend(handles, classes, loc="outside lower center", ncols=3)
