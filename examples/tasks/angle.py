"""
Regression of an angle
======================

Regression from images: by how much was a digit turned?

::

    python examples/tasks/angle.py

.. image:: /images/tasks/angle.png
    :alt: Predicted against true angle, above some of the turned digits
"""

# sphinx_gallery_thumbnail_path = 'images/tasks/angle.png'

import argparse

import numpy as np
from PIL import Image
from sklearn.datasets import load_digits

from sklearn_ssl import SelfSupervisedRegressor, SimCLR, Views


def make_turned(n, side=16, seed=0):
    """Digits, each turned by -45 to 45 degrees."""
    rng = np.random.default_rng(seed)
    digits = load_digits().images
    angles = rng.uniform(-45, 45, n)
    images = []
    for angle in angles:
        digit = Image.fromarray(digits[rng.integers(len(digits))].astype(np.float32))
        digit = digit.resize((side, side), Image.Resampling.BICUBIC)
        images.append(np.asarray(digit.rotate(angle, Image.Resampling.BICUBIC)).clip(0, 16))
    return np.stack(images), angles


def main(n_images=3000, n_labeled=300, n_test=500, max_epochs=20, picture=None):
    X, angles = make_turned(n_images + n_test)
    y = np.where(np.arange(len(X)) < n_labeled, angles, np.nan)  # the rest has no target
    views = Views(flip=0, crop_scale=(0.5, 1.0))  # they must not change what is asked for
    found = {}
    for name, epochs in {"random encoder": 0, "SimCLR": max_epochs}.items():
        ssl = SimCLR(max_epochs=epochs, views=views, random_state=0)
        regressor = SelfSupervisedRegressor(ssl).fit(X[:n_images], y[:n_images])
        found[name] = regressor.score(X[n_images:], angles[n_images:])
        print(f"{name}: R2 of the angle {found[name]:.2f}")
    if picture:
        tested = X[n_images:]
        draw(tested, angles[n_images:], regressor.predict(tested), picture)
    return found


def draw(images, angles, predicted, picture):
    from matplotlib.figure import Figure  # needed for a picture only

    figure = Figure(figsize=(4, 2.8), dpi=125, layout="constrained")
    top, bottom = figure.subplots(2, sharex=True, height_ratios=(4, 1))
    top.plot(angles, predicted, ".", markersize=3)
    top.plot((-45, 45), (-45, 45), color="black", linewidth=1)
    top.set(title="How far was it turned?", ylabel="predicted angle")
    for angle in range(-40, 41, 10):  # the digit whose angle is nearest to this one
        digit = images[np.abs(angles - angle).argmin()]
        bottom.imshow(digit, "Greys", extent=(angle - 5, angle + 5, 0, 10), interpolation="nearest")
    bottom.set(xlabel="true angle", xlim=(-48, 48), yticks=[], aspect="auto")
    figure.savefig(picture)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--picture", help="a file to save a picture to")
    main(picture=parser.parse_args().picture)
