"""Images for the benchmarks: a zip or folder of class/name images, or torchvision's CIFAR-10."""

import io
import json
import zipfile
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

SUFFIXES = (".jpg", ".jpeg", ".png")
CACHE = Path.home() / ".cache" / "sklearn_ssl"


def load_images(
    path: str | None, side: int | None = None, *, train: bool = True
) -> tuple[np.ndarray, np.ndarray]:
    """Return all images (n, h, w, 3), uint8, and their labels (n,), sorted by class and name.

    Without a path, torchvision downloads CIFAR-10's training or test set. With ``side``, images are
    cropped to their middle square and resized.
    """
    if path is None:
        from torchvision.datasets import CIFAR10

        cifar = CIFAR10(CACHE, train=train, download=True)
        return cifar.data, np.asarray(cifar.targets)
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            names = sorted(n for n in archive.namelist() if n.lower().endswith(SUFFIXES))
            images = [_decode(io.BytesIO(archive.read(name)), side) for name in names]
        classes = [name.split("/")[-2] for name in names]
    else:
        files = sorted(p for p in Path(path).glob("*/*") if p.suffix.lower() in SUFFIXES)
        images = [_decode(file, side) for file in files]
        classes = [file.parent.name for file in files]
    _, labels = np.unique(classes, return_inverse=True)
    return np.stack(images), labels


def _decode(file, side: int | None) -> np.ndarray:
    image = Image.open(file).convert("RGB")
    if side is not None:
        image = ImageOps.fit(image, (side, side), Image.Resampling.BICUBIC)
    return np.asarray(image)


def lines_in(path: Path) -> list[dict]:
    """Return the lines that a benchmark has written so far; none without a file."""
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def add_line(path: Path, line: dict) -> None:
    """Append a line, with the machine, to the output of a benchmark, and print it."""
    with path.open("a") as file:
        file.write(json.dumps({**line, "machine": machine()}) + "\n")
    print(line, flush=True)


def cell(values: list[float], digits: int = 1) -> str:
    """Format the mean, with its standard error over seeds if there are several."""
    mean = f"{np.mean(values):.{digits}f}"
    return mean if len(values) < 2 else f"{mean} ± {standard_error(values):.{digits}f}"


def standard_error(values: list[float]) -> float:
    """Compute the standard error of the mean over seeds."""
    return float(np.std(values, ddof=1) / len(values) ** 0.5) if len(values) > 1 else 0.0


def machine() -> dict[str, str | int]:
    """Describe the machine and the versions that produce a table."""
    import platform

    import sklearn
    import torch

    import sklearn_ssl
    from sklearn_ssl._utils._torch import bfloat16_is_native

    cuda = torch.cuda.is_available()
    device = torch.device("cuda" if cuda else "cpu")
    return {
        "device": torch.cuda.get_device_name() if cuda else platform.machine(),
        "threads": torch.get_num_threads(),
        "native_bfloat16": bfloat16_is_native(device),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "scikit-learn": sklearn.__version__,
        "sklearn-ssl": sklearn_ssl.__version__,
    }
