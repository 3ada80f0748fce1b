"""Measure the time of `transform` for 1, 8 and 64 images, and of the same as a torch module.

    python examples/benchmarks/latency.py --threads 1

Prints milliseconds per call, the median of 20 calls after a first one.
"""

import argparse
import time

import numpy as np
import torch

from sklearn_ssl import PatchDictionary, SimCLR

ENCODERS = {
    "SimCLR, small_resnet": SimCLR(max_epochs=0, random_state=0),
    "SimCLR, small_convnet": SimCLR(encoder="small_convnet", max_epochs=0, random_state=0),
    "SimCLR, resnet18": SimCLR(encoder="resnet18", max_epochs=0, random_state=0),
    "PatchDictionary": PatchDictionary(patch_size=8, n_patches=2000, n_iter=1, random_state=0),
}


def milliseconds(function, images):
    taken = []
    for _ in range(21):
        began = time.perf_counter()
        function(images)
        taken.append(1000 * (time.perf_counter() - began))
    return f"{np.median(taken[1:]):.1f}"


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--sides", type=int, nargs="*", default=[32, 96])
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    numbers = (1, 8, 64)
    print(f"| encoder | pixels | {' | '.join(f'{n}: transform / module' for n in numbers)} |")
    print("|" + "---|" * (2 + len(numbers)))
    rng = np.random.default_rng(0)
    for side in options.sides:
        X = rng.integers(0, 256, (64, side, side, 3), dtype=np.uint8)
        for name, encoder in ENCODERS.items():
            module = encoder.fit(X).to_torch()
            cells = []
            for n in numbers:
                pixels = torch.from_numpy(X[:n]).permute(0, 3, 1, 2)
                with torch.inference_mode():
                    taken = milliseconds(encoder.transform, X[:n]), milliseconds(module, pixels)
                cells.append(" / ".join(taken))
            print(f"| {name} | {side} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
