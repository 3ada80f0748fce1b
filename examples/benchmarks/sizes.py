"""Print a table of the size of fitted learners and checkpoints on disk, in MiB.

pip install sklearn-ssl skops
python examples/benchmarks/sizes.py
"""

import pickle
import tempfile
from pathlib import Path

import numpy as np
import skops.io

from sklearn_ssl import SimCLR

MIB = 2**20


def main():
    X = np.random.default_rng(0).integers(0, 256, (32, 32, 32, 3), dtype=np.uint8)
    print("| encoder | weights, with heads | `save` | pickle | skops | a checkpoint |")
    print("|---|---|---|---|---|---|")
    for encoder in ("small_resnet", "resnet18", "small_vit"):
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            ssl = SimCLR(encoder=encoder, max_epochs=1, random_state=0, checkpoint=folder / "c")
            ssl.fit(X)
            ssl.save(folder / "file")
            skops.io.dump(ssl, folder / "skops")
            tensors = ssl.net_.module_.state_dict().values()
            sizes = [
                sum(tensor.nbytes for tensor in tensors),
                (folder / "file").stat().st_size,
                len(pickle.dumps(ssl)),
                (folder / "skops").stat().st_size,
                max(path.stat().st_size for path in (folder / "c").iterdir()),
            ]
        print(f"| `{encoder}` | {' | '.join(f'{size / MIB:.1f}' for size in sizes)} |")


if __name__ == "__main__":
    main()
