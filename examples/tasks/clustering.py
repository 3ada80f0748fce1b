"""
Clusters without labels
=======================

Clusters of images without any label: digits fall into groups that are mostly one digit.

::

    python examples/tasks/clustering.py
"""

from sklearn.cluster import KMeans
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.metrics import normalized_mutual_info_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import Normalizer, StandardScaler

from sklearn_ssl import SimCLR, Views


def main(n_images=1797, max_epochs=40):
    digits = load_digits()
    X, y = digits.images[:n_images], digits.target[:n_images]
    ssl = SimCLR(max_epochs=max_epochs, views=Views(flip=0), random_state=0)
    found = {}
    for name, features in {
        "pixels": digits.data[:n_images],
        "SimCLR": ssl.fit_transform(X),
    }.items():
        clusters = make_pipeline(
            StandardScaler(),
            PCA(30, random_state=0),
            Normalizer(),
            KMeans(10, n_init=10, random_state=0),
        ).fit_predict(features)
        found[name] = normalized_mutual_info_score(y, clusters)
        print(f"{name}: normalized mutual information with the digits {found[name]:.2f}")
    return found


if __name__ == "__main__":
    main()
