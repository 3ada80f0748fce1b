"""
Retrieval of similar images
===========================

Images like this one: the share of the ten nearest that show the same digit.

::

    python examples/tasks/retrieval.py
"""

import numpy as np
from sklearn.datasets import load_digits
from sklearn.neighbors import NearestNeighbors
from sklearn.preprocessing import normalize

from sklearn_ssl import SimCLR, Views


def precision(features, y, n_queries):
    """Of the ten images nearest to each query, by cosine, those of its class."""
    index = NearestNeighbors(n_neighbors=10).fit(normalize(features[n_queries:]))
    nearest = index.kneighbors(normalize(features[:n_queries]), return_distance=False)
    return float(np.mean(y[n_queries:][nearest] == y[:n_queries, None]))


def main(n_images=1797, n_queries=300, max_epochs=40):
    digits = load_digits()
    X, y = digits.images[:n_images], digits.target[:n_images]
    ssl = SimCLR(max_epochs=max_epochs, views=Views(flip=0), random_state=0)
    ssl.fit(X[n_queries:])  # what is searched; queries come later
    found = {
        "pixels": precision(X.reshape(len(X), -1), y, n_queries),
        "SimCLR": precision(ssl.transform(X), y, n_queries),
    }
    for name, value in found.items():
        print(f"{name}: {100 * value:.1f} % of the ten nearest show the same digit")
    return found


if __name__ == "__main__":
    main()
