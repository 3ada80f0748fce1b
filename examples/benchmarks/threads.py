"""What the number of threads changes: features of one seed at 1 and 2 threads.

    python examples/benchmarks/threads.py

The same number of threads gives the same bits; another one sums in another order. Training carries
the difference on, so the features drift apart, which is less than what another seed changes.
"""

import numpy as np
import torch
from data import machine
from sklearn.datasets import load_digits
from sklearn.model_selection import cross_val_score

from sklearn_ssl import LinearProbe, SimCLR, Views


def run(X, y, threads, seed, epochs):
    """Features, and cross-validated accuracy of a probe on them."""
    torch.set_num_threads(threads)
    ssl = SimCLR(views=Views(flip=0), max_epochs=epochs, random_state=seed)
    F = ssl.fit(X).transform(X)
    probe = LinearProbe()
    return F, 100 * cross_val_score(probe, F, y, cv=5).mean()


def main():
    digits = load_digits()
    X, y = digits.images, digits.target
    print(machine())
    print("| epochs | compared | features that differ | difference / spread | accuracies |")
    print("|---|---|---|---|---|")
    for epochs in (0, 10):
        F, accuracy = run(X, y, threads=1, seed=0, epochs=epochs)
        for name, threads, seed in (
            ("again, 1 thread", 1, 0),
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
