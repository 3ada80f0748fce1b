"""Reproduce published figures: one command per row.

    python examples/benchmarks/published.py simclr-200
    python examples/benchmarks/published.py simclr-200 --checkpoint runs/ --part 600
    python examples/benchmarks/published.py resnet50-224 --data photographs/
    python examples/benchmarks/published.py --table

Images are those of CIFAR-10, which torchvision downloads; --data and --test name zips or folders of
class/name images instead. "resnet50-224" needs a folder of photographs. Rows with networks are
meant for a GPU, and those of patches for a CPU. Everything is decided beforehand: settings are the
publication's where they are known, the network is that of the last epoch, and the test set is used
once. With --part, training stops after so many seconds; the same command continues from the
checkpoint. --dry-run uses 200 images, one epoch and a small encoder, to see whether a row runs.
Each run adds one line to the output.
"""

import argparse
import threading
import time
import warnings
from _thread import interrupt_main
from functools import partial
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import train_test_split

from sklearn_ssl import (
    BYOL,
    EMPSSL,
    BarlowTwins,
    KernelProbe,
    LinearProbe,
    MoCo,
    NeighborsProbe,
    PatchDictionary,
    SimCLR,
    SimSiam,
    Views,
    list_images,
)
from sklearn_ssl.views.functional import crop_resize

from data import add_line, lines_in, load_images  # isort: skip

# Lightly's benchmark on CIFAR-10: SGD with lr 0.06 x batch / 128, cosine, no warm-up
VIEWS = {"size": 32, "crop_scale": (0.08, 1.0), "blur": None}
LIGHTLY = {
    "encoder": "resnet18",
    "views": Views(**VIEWS),
    "batch_size": 512,
    "optimizer": "sgd",
    "lr": 0.24,
    "weight_decay": 5e-4,
    "warmup": 0.0,
    "layer": "layer4",
    "pool": "avg",
    "deterministic": False,
}
SIMCLR = {**LIGHTLY, "hidden_dim": 512, "projection_dim": 128, "temperature": 0.5}
WIDE = {"hidden_dim": 2048, "projection_dim": 2048}
LEARNERS = {
    "simclr-200": SimCLR(max_epochs=200, **SIMCLR),
    "byol-200": BYOL(max_epochs=200, hidden_dim=1024, projection_dim=256, momentum=0.99, **LIGHTLY),
    "barlow-200": BarlowTwins(max_epochs=200, **WIDE, **LIGHTLY),
    "moco-200": MoCo(max_epochs=200, temperature=0.1, final_momentum=0.99, **LIGHTLY),
    "simsiam-200": SimSiam(max_epochs=200, prediction_dim=512, **WIDE, **LIGHTLY),
    "simclr-800": SimCLR(max_epochs=800, **SIMCLR),
}
# EMP-SSL: batches of 100 images with 20 patches of a quarter of the image, LARS
EMP = {
    "encoder": "resnet18",
    "views": Views(
        size=32,
        crop_scale=(0.25, 0.25),
        crop_ratio=(1.0, 1.0),
        jitter=(0.4, 0.4, 0.4, 0.2),
        solarize=0.1,
        blur=None,
    ),
    "batch_size": 100,
    "optimizer": "lars",
    "lr": 0.3,
    "weight_decay": 1e-4,
    "hidden_dim": 4096,
    "projection_dim": 1024,
    "layer": "layer4",
    "pool": "avg",
    "deterministic": False,
}
LEARNERS |= {f"emp-ssl-{n}": EMPSSL(max_epochs=n, **EMP) for n in (1, 2)}
DICTIONARIES = {
    "patches-triangle": PatchDictionary(
        n_atoms=4000, activation="triangle", pool=2, n_patches=400_000
    ),
    "patches-threshold": PatchDictionary(n_atoms=6000, pool=2, n_patches=400_000),
}
KERNEL = PatchDictionary(n_atoms=2400, pool=3, mirror=True, n_patches=400_000)
ROWS = (*LEARNERS, "resnet50-224", *DICTIONARIES, "patches-kernel")
PUBLISHED = {  # accuracy in %, probe, source
    "simclr-200": (84.8, "kNN", "lightly"),
    "byol-200": (86.8, "kNN", "lightly"),
    "barlow-200": (81.9, "kNN", "lightly"),
    "moco-200": (84.7, "kNN", "lightly"),
    "simsiam-200": (76.4, "kNN", "lightly"),
    "simclr-800": (87.9, "kNN", "lightly"),
    "emp-ssl-1": (84.2, "linear", "Tong et al. (2023)"),
    "emp-ssl-2": (85.1, "linear", "Tong et al. (2023)"),
    "patches-triangle": (79.6, "SVM", "Coates, Lee & Ng (2011)"),
    "patches-threshold": (81.5, "SVM", "Coates & Ng (2011)"),
    "patches-kernel": (81.5, "SVM", "Coates & Ng (2011)"),
}


class SquaredHingeSVM(ClassifierMixin, BaseEstimator):
    """Linear SVMs, one against the rest, as ``LinearSVC``, for wide features in float32.

    A further fit starts from the weights of the last one.
    """

    def __init__(self, C=1.0, max_iter=100):
        self.C = C
        self.max_iter = max_iter

    def fit(self, X, y):
        """Minimize |w|^2 / 2 + C * sum of max(0, 1 - y f(x))^2 with L-BFGS."""
        self.classes_, codes = np.unique(y, return_inverse=True)
        features = torch.from_numpy(X)
        signs = 2.0 * F.one_hot(torch.from_numpy(codes)).float() - 1
        signs = F.pad(signs, (0, -signs.shape[1] % 16))  # products of 16 columns are far faster
        weights, bias = torch.zeros(X.shape[1], signs.shape[1]), torch.zeros(signs.shape[1])
        if hasattr(self, "coef_"):
            weights, bias = self.coef_, self.intercept_
        weights.requires_grad_()
        bias.requires_grad_()
        optimizer = torch.optim.LBFGS(
            [weights, bias],
            max_iter=self.max_iter,
            tolerance_grad=1e-5,
            tolerance_change=1e-9,
            line_search_fn="strong_wolfe",
        )

        def loss():
            optimizer.zero_grad()
            margins = signs * (features @ weights + bias)
            errors = (signs.abs() - margins).relu().square().sum(0)  # 0 in columns of padding
            # dividing by C * n keeps gradients of a size that the line search is made for
            value = (weights.square().sum(0) / (2 * self.C) + errors).sum() / len(X)
            value.backward()
            return value

        optimizer.step(loss)
        if optimizer.state_dict()["state"][0]["n_iter"] >= self.max_iter:
            warnings.warn(
                f"no convergence in max_iter={self.max_iter} iterations, C={self.C:g}",
                ConvergenceWarning,
                stacklevel=2,
            )
        self.coef_, self.intercept_ = weights.detach(), bias.detach()
        return self

    def predict(self, X):
        scores = torch.from_numpy(X) @ self.coef_ + self.intercept_
        return self.classes_[scores[:, : len(self.classes_)].argmax(1).numpy()]


def train(learner, images, part):
    """Fit a learner; return the seconds of its epochs, or None if the time of a part was over."""
    timer = threading.Timer(part or threading.TIMEOUT_MAX, interrupt_main)
    timer.daemon = True
    timer.start()
    try:
        learner.fit(images)
    except KeyboardInterrupt:  # TrainingInterrupted, once it has begun
        return None
    finally:
        timer.cancel()
    return sum(epoch["seconds"] for epoch in learner.history_)


def features_of_patches(learner, images, n_patches, seed):
    """Compute the mean features of random patches of a quarter of each image."""
    generator = torch.Generator().manual_seed(seed)
    side, found = images.shape[1], 0
    for _ in range(n_patches):
        patches = np.empty_like(images)
        for rows in np.array_split(np.arange(len(images)), -(-len(images) // 1000)):
            corners = torch.rand(len(rows), 2, generator=generator) * (side - side // 2)
            boxes = torch.cat([corners, torch.full_like(corners, side // 2)], dim=1)
            pixels = torch.from_numpy(images[rows]).permute(0, 3, 1, 2).float()
            resized = crop_resize(pixels, boxes, (side, side))
            patches[rows] = resized.permute(0, 2, 3, 1).round().byte().numpy()
        found = found + learner.transform(patches) / n_patches
    return found


def run_learner(name, images, labels, test, options):
    """Train a learner, and fit the probes on all training images."""
    learner = LEARNERS[name]
    learner.set_params(random_state=options.seed, verbose=1)
    if options.checkpoint:
        run = f"{name}-{options.seed}" + ("-dry" if options.dry_run else "")
        learner.set_params(checkpoint=options.checkpoint / run)
    n_patches = 20
    if options.dry_run:
        learner.set_params(encoder="small_convnet", layer="layer3", max_epochs=1, batch_size=100)
        if name.startswith("emp"):
            n_patches = 2
            learner.set_params(n_patches=n_patches, hidden_dim=64, projection_dim=64)
    seconds = train(learner, images, options.part)
    if seconds is None:
        print("stopped; run the same command again to continue")
        return None
    if name.startswith("emp"):
        features, others = (
            features_of_patches(learner, some, n_patches, options.seed)
            for some in (images, test[0])
        )
    else:
        features, others = learner.transform(images), learner.transform(test[0])
    knn = NeighborsProbe(200, temperature=0.1).fit(features, labels)
    return {
        "epochs": learner.n_epochs_,
        "seconds": round(seconds, 1),
        "images_per_second": round(learner.n_epochs_ * len(images) / seconds),
        "n_features": features.shape[1],
        "kNN": knn.score(others, test[1]),
        "linear": LinearProbe().fit(features, labels).score(others, test[1]),
        "settings": {key: str(value) for key, value in learner.get_params(deep=False).items()},
    }


def run_dictionary(name, images, labels, test, options):
    """Fit a dictionary and an SVM; a fifth of the training images chooses its C."""
    dictionary = DICTIONARIES[name]
    dictionary.set_params(random_state=options.seed)
    if options.dry_run:
        dictionary.set_params(n_atoms=40, n_patches=1000)
    began = time.perf_counter()
    features = dictionary.fit_transform(images)
    others = dictionary.transform(test[0])
    encoding_seconds = time.perf_counter() - began
    mean, scale = features.mean(0), 1 / (features.std(0) + 1e-3)
    for each in (features, others):  # in place: tens of thousands of columns
        each -= mean
        each *= scale
    rows = train_test_split(
        np.arange(len(labels)), test_size=0.2, stratify=labels, random_state=options.seed
    )
    some, held_out = features[rows[0]], features[rows[1]]
    scores, svm = {}, SquaredHingeSVM()
    for C in (3e-5, 1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2):
        svm.set_params(C=C).fit(some, labels[rows[0]])
        scores[C] = svm.score(held_out, labels[rows[1]])
        seconds = time.perf_counter() - began
        print(f"C={C:g}: {100 * scores[C]:.2f} % of held-out images, {seconds:.0f} s", flush=True)
        if scores[C] < max(scores.values()):
            break
    del some, held_out
    best = max(scores, key=scores.get)
    svm.set_params(C=best).fit(features, labels)
    return {
        "seconds": round(time.perf_counter() - began, 1),
        "images_per_second": round((len(images) + len(test[0])) / encoding_seconds),
        "SVM": svm.score(others, test[1]),
        "C": best,
        "held_out": scores[best],
        "settings": {key: str(value) for key, value in dictionary.get_params(deep=False).items()},
    }


def run_kernel(images, labels, test, options):
    """Fit a dictionary and kernel ridge regression, whose parameters a fifth of the rows chooses.

    KernelProbe inverts kernels of up to about 20,000 images in this memory; here it only chooses.
    """
    dictionary = KERNEL.set_params(random_state=options.seed)
    if options.dry_run:
        dictionary.set_params(n_atoms=40, n_patches=1000)
    began = time.perf_counter()
    features = encoded(dictionary.fit(images), images, test[0])
    seconds = time.perf_counter() - began
    n, tested = len(images), len(test[0])
    some = np.random.default_rng(options.seed).permutation(n)[: n // 5]
    probe = KernelProbe().fit(features[some].numpy(), labels[some])
    print(f"alpha={probe.alpha_:g}, gamma={probe.gamma_:g}", flush=True)
    kernel, across = gaussian(features, n, probe.gamma_ / probe.scale_**2)
    del features
    kernel.diagonal().fill_(1 + probe.alpha_)
    targets = 2.0 * F.one_hot(torch.from_numpy(np.unique(labels, return_inverse=True)[1])) - 1
    dual = solved(kernel, targets.float())
    predicted = np.unique(labels)[(across @ dual).argmax(1)]
    return {
        "seconds": round(time.perf_counter() - began, 1),
        "images_per_second": round((n + tested) / seconds),
        "kernel": float(np.mean(predicted == test[1])),
        "alpha": probe.alpha_,
        "gamma": probe.gamma_,
        "settings": {key: str(value) for key, value in dictionary.get_params(deep=False).items()},
    }


def encoded(dictionary, *sets):
    """Return standardized features of several sets in one tensor."""
    parts, mean, scale = [], 0.0, 1.0
    for images in sets:
        for start in range(0, len(images), 5000):
            found = torch.from_numpy(dictionary.transform(images[start : start + 5000]))
            if not parts:
                mean, scale = found.mean(0), found.std(0) + 1e-3
            parts.append((found - mean) / scale)
    return torch.cat(parts)


def gaussian(features, n, gamma):
    """Return the lower triangle of the kernel of the first n rows, and that of all others."""
    squares = torch.cat([part.square().sum(1) for part in features.split(1000)])

    def similar(rows, others):
        distances = squares[rows, None] - 2 * features[rows] @ features[others].T + squares[others]
        return distances.clamp_(min=0).mul_(-gamma).exp_()

    kernel, across = torch.empty(n, n), torch.empty(len(features) - n, n)
    for start in range(0, n, 1000):
        end = min(n, start + 1000)
        kernel[start:end, :end] = similar(slice(start, end), slice(end))
    for start in range(n, len(features), 1000):
        across[start - n : start - n + 1000] = similar(slice(start, start + 1000), slice(n))
    return kernel, across


def solved(matrix, targets, size=5000):
    """Solve matrix @ x = targets in place, from the lower triangle of a positive matrix.

    By blocks, since a copy would not fit, and LAPACK crashes with more than 2**31 values.
    """
    blocks = [slice(i, min(i + size, len(matrix))) for i in range(0, len(matrix), size)]
    triangle = partial(torch.linalg.solve_triangular, upper=False)
    for k, now in enumerate(blocks):
        matrix[now, now] = torch.linalg.cholesky(matrix[now, now])
        below = blocks[k + 1 :]
        for rows in below:
            matrix[rows, now] = triangle(matrix[now, now], matrix[rows, now].T).T
        for j, columns in enumerate(below):
            for rows in below[j:]:
                matrix[rows, columns] -= matrix[rows, now] @ matrix[columns, now].T
    for now in blocks:
        before = slice(0, now.start)
        rest = targets[now] - matrix[now, before] @ targets[before]
        targets[now] = triangle(matrix[now, now], rest)
    for now in reversed(blocks):
        after = slice(now.stop, None)
        rest = targets[now] - matrix[after, now].T @ targets[after]
        targets[now] = torch.linalg.solve_triangular(matrix[now, now].T, rest, upper=True)
    return targets


def run_photographs(files, options):
    """Compare training on files with a bare loop on images that are on the device."""
    side, batch, encoder, steps = 224, 256, "resnet50", 20
    if options.dry_run:
        side, batch, encoder, steps = 32, 50, "small_convnet", 2
    learner = SimCLR(
        encoder=encoder,
        views=Views(size=side),
        batch_size=batch,
        image_shape=(side, side),
        max_epochs=3,
        deterministic=False,
        random_state=options.seed,
    )
    learner.fit(files)
    device = learner.device_
    bare = learner.encoder_.to(device, memory_format=torch.channels_last).train()
    optimizer = torch.optim.SGD(bare.parameters(), lr=1e-3)
    images = torch.rand(2 * batch, 3, side, side, device=device)
    images = images.to(memory_format=torch.channels_last)
    for step in range(steps + 3):
        if step == 3:
            float(images[0, 0, 0, 0])  # waits for the device
            began = time.perf_counter()
        with torch.autocast(device.type, torch.bfloat16):
            loss = bare.embed(images).float().square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    float(loss.detach())
    bare_speed = steps * batch / (time.perf_counter() - began)
    speed = learner.history_[-1]["images_per_second"]
    return {
        "images_per_second": round(speed),
        "bare_images_per_second": round(bare_speed),
        "ratio": round(speed / bare_speed, 3),
    }


def print_table(lines):
    print("| row | published | ours | images | seed | images/s | minutes | device |")
    print("|---|---|---|---|---|---|---|---|")
    for line in lines:
        published = "-"
        if line["row"] in PUBLISHED:
            published = "{:.1f} {}, {}".format(*PUBLISHED[line["row"]])
        ours = [f"{100 * line[p]:.1f} {p}" for p in ("kNN", "linear", "SVM", "kernel") if p in line]
        if "ratio" in line:
            ours = [f"{line['ratio']:.2f} of a bare loop"]
        minutes = f"{line['seconds'] / 60:.1f}" if "seconds" in line else "-"
        print(
            f"| {line['row']} | {published} | {' / '.join(ours)} | "
            f"{line['images']} | {line['seed']} | "
            f"{line['images_per_second']:,} | {minutes} | {line['machine']['device']} |"
        )


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("row", nargs="?", choices=ROWS)
    parser.add_argument("--data", help="a zip or folder of class/name images")
    parser.add_argument("--test", help="a zip or folder of the official test images")
    parser.add_argument("--output", type=Path, default=Path("published.jsonl"))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--checkpoint", type=Path, help="folder from which a row continues")
    parser.add_argument("--part", type=float, help="seconds after which training stops")
    parser.add_argument("--dry-run", action="store_true")
    parser.add_argument("--table", action="store_true")
    options = parser.parse_args()
    if options.table:
        print_table(lines_in(options.output))
        return
    if options.row is None:
        parser.error(f"give a row: {', '.join(ROWS)}")
    if options.part and not options.checkpoint:
        parser.error("--part needs --checkpoint, from which the next part continues")
    if options.row == "resnet50-224":
        files = list_images(options.data)
        found = run_photographs(files[:200] if options.dry_run else files, options)
    else:
        images, labels = load_images(options.data)
        test = load_images(options.test, train=False)
        if options.dry_run:
            some = np.random.default_rng(0).permutation(len(images))[:200]
            images, labels, test = images[some], labels[some], tuple(each[:50] for each in test)
        if options.row == "patches-kernel":
            found = run_kernel(images, labels, test, options)
        else:
            run = run_learner if options.row in LEARNERS else run_dictionary
            found = run(options.row, images, labels, test, options)
    if found is not None:
        dry = {"dry_run": True} if options.dry_run else {}
        images = Path(options.data).name if options.data else "torchvision"
        line = {"row": options.row, "seed": options.seed, **dry, **found, "images": images}
        add_line(options.output, line)


if __name__ == "__main__":
    main()
