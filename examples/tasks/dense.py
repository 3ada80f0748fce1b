"""
A class for each pixel
======================

Classes of pixels: features of each position, and a classifier on few of them.

::

    python examples/tasks/dense.py

.. image:: /images/tasks/dense.png
    :alt: Images of two parts, the true classes of their pixels, and those predicted
"""

# sphinx_gallery_thumbnail_path = 'images/tasks/dense.png'

import argparse

import numpy as np
from sklearn.datasets import load_sample_images

from sklearn_ssl import DenseClassifier, SimCLR

SIDE = 32


def make_scenes(n, seed=0):
    """Parts of two photographs side by side, with a border anywhere; and which is where."""
    rng = np.random.default_rng(seed)
    photos = load_sample_images().images
    images, masks = [], []
    for _ in range(n):
        parts = []
        for photo in photos:
            top, left = (int(rng.integers(s - 2 * SIDE)) for s in photo.shape[:2])
            parts.append(photo[top : top + 2 * SIDE : 2, left : left + 2 * SIDE : 2])
        border = int(rng.integers(SIDE // 4, SIDE * 3 // 4))
        mask = np.zeros((SIDE, SIDE), int)
        mask[:, border:] = 1
        if rng.random() < 0.5:
            mask = mask.T
        images.append(np.where(mask[..., None], parts[1], parts[0]))
        masks.append(mask)
    return np.stack(images), np.stack(masks)


def main(n_images=1500, n_labeled=20, n_test=200, max_epochs=15, picture=None):
    X, masks = make_scenes(n_images + n_test)
    y = np.full_like(masks[:n_images], -1)  # no label
    y[:n_labeled] = masks[:n_labeled]
    found = {}
    for name, epochs in {"random encoder": 0, "SimCLR": max_epochs}.items():
        ssl = SimCLR(max_epochs=epochs, layer="layer2", random_state=0)
        classifier = DenseClassifier(ssl, random_state=0).fit(X[:n_images], y)
        predicted = classifier.predict(X[n_images:])
        found[name] = np.mean(predicted == masks[n_images:])
        print(f"{name}: {100 * found[name]:.1f} % of the pixels are told right")
    if picture:
        draw({"image": X[n_images:], "true": masks[n_images:], "predicted": predicted}, picture)
    return found


def draw(rows, picture):
    from matplotlib.figure import Figure  # needed for a picture only

    figure = Figure(figsize=(4, 2.8), dpi=125, layout="constrained")
    for axes, (name, images) in zip(figure.subplots(3, 4), rows.items(), strict=True):
        axes[0].set_ylabel(name)
        for ax, image in zip(axes, images[:4], strict=True):
            ax.imshow(image, vmin=0, vmax=1)
            ax.set(xticks=[], yticks=[])
    figure.savefig(picture)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--picture", help="a file to save a picture to")
    main(picture=parser.parse_args().picture)
