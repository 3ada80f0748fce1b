"""
Retrieval of similar images
===========================

Images like this one: the share of the ten nearest that show the same digit.

::

    python examples/tasks/retrieval.py

.. image:: /images/tasks/retrieval.png
    :alt: Digits and the images nearest to each
"""

# sphinx_gallery_thumbnail_path = 'images/tasks/retrieval.png'

import argparse

import numpy as np
from sklearn.datasets import load_digits
from sklearn.neighbors import NearestNeighbors
from sklearn.preprocessing import normalize

from sklearn_ssl import SimCLR, Views


def search(features, n_queries):
    """The ten images nearest to each query, by cosine."""
    index = NearestNeighbors(n_neighbors=10).fit(normalize(features[n_queries:]))
    return n_queries + index.kneighbors(normalize(features[:n_queries]), return_distance=False)


def main(n_images=1797, n_queries=300, max_epochs=40, picture=None):
    digits = load_digits()
    X, y = digits.images[:n_images], digits.target[:n_images]
    ssl = SimCLR(max_epochs=max_epochs, views=Views(flip=0), random_state=0)
    ssl.fit(X[n_queries:])  # what is searched; queries come later
    found = {}
    for name, features in {"pixels": X.reshape(len(X), -1), "SimCLR": ssl.transform(X)}.items():
        nearest = search(features, n_queries)
        found[name] = float(np.mean(y[nearest] == y[:n_queries, None]))
        print(f"{name}: {100 * found[name]:.1f} % of the ten nearest show the same digit")
    if picture:
        draw(X, y, nearest, picture)
    return found


def draw(X, y, nearest, picture):
    from matplotlib.figure import Figure  # needed for a picture only

    figure = Figure(figsize=(4, 2.8), dpi=125, layout="constrained")
    figure.suptitle("A digit and the nearest to it (red: wrong)")
    for query, axes in enumerate(figure.subplots(5, 8)):
        for ax, i in zip(axes, (query, *nearest[query]), strict=False):
            ax.imshow(X[i], "Greys")
            ax.set(xticks=[], yticks=[])
            # the query in blue, and another digit than that in red
            color = "tab:blue" if i == query else "lightgray" if y[i] == y[query] else "red"
            ax.spines[:].set(color=color, linewidth=2)
    figure.savefig(picture)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--picture", help="a file to save a picture to")
    main(picture=parser.parse_args().picture)
