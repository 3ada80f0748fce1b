"""Compare the time of a search over layer, pooling and C with memory= to pretraining alone.

    python examples/benchmarks/search.py --data FOLDER

4 layers, 3 poolings, 4 values of C and 3 folds are 144 fits of a pipeline, and a refit; with
memory=, they need 4 pretraining runs. Both are timed in one run.
"""

import argparse
import tempfile
import time
import warnings

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sklearn_ssl import LinearProbe, SimCLR

from data import load_images, machine  # isort: skip

GRID = {
    "simclr__layer": ["layer1", "layer2", "layer3", "layer4"],
    "simclr__pool": ["avg", "max", 2],
    "linearprobe__C": [1e-3, 1e-2, 1e-1, 1.0],
}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", help="a zip or folder of class/name images")
    parser.add_argument("--images", type=int, default=3000)
    parser.add_argument("--epochs", type=int, default=20)
    options = parser.parse_args()
    warnings.simplefilter("ignore", ConvergenceWarning)
    print(machine())
    images, labels = load_images(options.data)
    rows = np.random.default_rng(0).permutation(len(images))[: options.images]
    X, y = images[rows], labels[rows]
    ssl = SimCLR(max_epochs=options.epochs, random_state=0)
    began = time.perf_counter()
    for part in (*(np.arange(len(X)) % 3 != fold for fold in range(3)), slice(None)):
        SimCLR(**ssl.get_params(deep=False)).fit(X[part])
    plain = time.perf_counter() - began
    with tempfile.TemporaryDirectory() as folder:
        ssl.set_params(memory=folder)
        pipe = make_pipeline(ssl, StandardScaler(), LinearProbe(max_iter=100))
        began = time.perf_counter()
        search = GridSearchCV(pipe, GRID, cv=3).fit(X, y)
        searched = time.perf_counter() - began
    print(f"best: {search.best_params_}, accuracy {search.best_score_:.3f}")
    print(f"the search took {searched / plain:.2f} times as long as 4 pretraining runs")


if __name__ == "__main__":
    main()
