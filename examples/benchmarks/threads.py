"""Measure how the number of threads changes the features of one seed.

    python examples/benchmarks/threads.py

The same number of threads gives the same bits. A different number adds numbers up in a different
order; in training, the difference grows, but less than with another seed.
"""

import numpy as np
import torch
from data import machine
from sklearn.datasets import load_digits
from sklearn.model_selection import cross_val_score

from sklearn_ssl import LinearProbe, SimCLR, Views


def run(X, y, threads, seed, epochs):
    """Return features, and the cross-validated accuracy of a probe, in %."""
    torch.set_num_threads(threads)
    ssl = SimCLR(views=Views(flip=0), max_epochs=epochs, random_state=seed)
    F = ssl.fit(X).transform(X)
    probe = LinearProbe()
    return F, 100 * cross_val_score(probe, F, y, cv=5).mean()


def main():
    digits = load_digits()
    X, y = digits.images, digits.target
    print(machine())
    print(
        "| epochs | 1 thread compared with | features that differ | difference / spread "
        "| accuracies |"
    )
    print("|---|---|---|---|---|")
    for epochs in (0, 10):
        F, accuracy = run(X, y, threads=1, seed=0, epochs=epochs)
        for name, threads, seed in (
            ("a second run, 1 thread", 1, 0),
            ("2 threads", 2, 0),
            ("another seed", 1, 1),
        ):
            other, its_accuracy = run(X, y, threads, seed, epochs)
            differ = 100 * (other != F).mean()
            difference = np.abs(other - F).mean() / F.std()
            print(
                f"| {epochs} | {name} | {differ:.0f} % | {difference:.1e} "
                f"| {accuracy:.1f}, {its_accuracy:.1f} % |"
            )


if __name__ == "__main__":
    main()
