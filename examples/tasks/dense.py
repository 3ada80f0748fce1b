"""
A class for each pixel
======================

``DenseClassifier`` predicts the class of every pixel from a few labeled images: features of each
position, and a linear classifier.
"""

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_sample_images

from sklearn_ssl import DenseClassifier, SimCLR

# %%
# Each image consists of parts of two photographs, with a border at a random place. The classifier
# has to tell which pixel is from which. Training images are from the left half of the photographs,
# test images from the right half.

SIDE = 32
rng = np.random.default_rng(0)
photographs = load_sample_images().images


def part_of(photograph):
    top, left = (rng.integers(length - 2 * SIDE) for length in photograph.shape[:2])
    return photograph[top : top + 2 * SIDE : 2, left : left + 2 * SIDE : 2]


def scene(photographs):
    mask = np.zeros((SIDE, SIDE), int)
    mask[:, rng.integers(SIDE // 4, SIDE * 3 // 4) :] = 1
    mask = mask.T if rng.random() < 0.5 else mask
    temple, flower = map(part_of, photographs)
    return np.where(mask[..., None], flower, temple), mask


left, right = zip(*(np.array_split(some, 2, axis=1) for some in photographs), strict=True)
X, masks = map(np.stack, zip(*(scene(left) for _ in range(1000)), strict=True))
X_test, masks_test = map(np.stack, zip(*(scene(right) for _ in range(200)), strict=True))

# %%
# Twenty images are labeled; -1 marks pixels without a label. The encoder is trained on all images.

y = np.full_like(masks, -1)
y[:20] = masks[:20]
for name, epochs in {"untrained encoder": 0, "SimCLR": 10}.items():
    ssl = SimCLR(encoder="small_convnet", layer="layer2", max_epochs=epochs, random_state=0)
    classifier = DenseClassifier(ssl, random_state=0).fit(X, y)
    predicted = classifier.predict(X_test)
    print(f"{name}: {100 * np.mean(predicted == masks_test):.1f} % of the pixels")

# %%
# Test images, the true classes of their pixels, and the predicted ones.

figure, axes = plt.subplots(3, 8, figsize=(8, 3.1), layout="constrained")
rows = {"image": X_test, "true": masks_test, "predicted": predicted}
for row, (name, images) in zip(axes, rows.items(), strict=True):
    row[0].set_ylabel(name)
    for ax, image in zip(row, images, strict=False):
        ax.imshow(image, vmin=0, vmax=1)
        ax.set(xticks=[], yticks=[])
