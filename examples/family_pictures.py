"""Draw pictures for docs/: what the networks of each family see, and what they predict.

    python examples/family_pictures.py --output docs/images
    python examples/family_pictures.py --data FOLDER_OR_ZIP --show a.jpg b.jpg c.jpg

Views of the contrastive, joint-embedding and predictive families, and of ``MultiTask``, need no
training. Learners of the generative family train for ``--seconds`` each on ``--data``: a zip or
folder of class/name images, or CIFAR-10, which is downloaded. By default, the pictures show two
photographs that come with scikit-learn, and that no learner was trained on: china.jpg by
danielbuechele and flower.jpg by vultilion, both CC BY 2.0. ``--show`` replaces them.
"""

import argparse
import io
import sys
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import torch
import torch.nn.functional as F
from matplotlib.patches import Rectangle
from PIL import Image, ImageOps
from sklearn.base import clone
from sklearn.datasets import load_sample_image

import sklearn_ssl as ssl
from sklearn_ssl.generative._color import join_color, split_color

sys.path.append(str(Path(__file__).parent / "benchmarks"))
from data import load_images

DPI = 100
GAP, HEAD, LABEL = 8, 44, 104  # pixels between, above and beside pictures
SEED = 4


class Sheet:
    """Figure with images and text at pixel positions, so that no image is resampled."""

    def __init__(self, width, height):
        self.height = height
        self.figure = plt.figure(figsize=(width / DPI, height / DPI), dpi=DPI)

    def image(self, pixels, x, y, side=None):
        """Draw pixels (h, w, 3) at a position, enlarged by a whole number to about ``side``."""
        scale = max(1, (side or 0) // len(pixels))
        pixels = pixels.repeat(scale, 0).repeat(scale, 1)
        self.figure.figimage(pixels, x, self.height - y - len(pixels), origin="upper")

    def text(self, words, x, y, **options):
        options = {"ha": "center", "va": "bottom", "fontsize": 9, "linespacing": 1.15} | options
        self.figure.text(x, self.height - y, words, transform=None, **options)

    def frame(self, x, y, height, width, color):
        corner = (x + 1, self.height - y - height + 1)
        self.figure.add_artist(
            Rectangle(corner, width - 2, height - 2, transform=None, fill=False, lw=2, ec=color)
        )

    def save(self, path):
        file = io.BytesIO()
        self.figure.savefig(file, dpi=DPI)
        plt.close(self.figure)
        picture = Image.open(file).convert("RGB")
        picture.quantize(256, kmeans=1).save(path, optimize=True)  # a third of the bytes
        print(f"saved {path}, {path.stat().st_size / 1000:.0f} kB")


def as_tensor(pixels):
    return torch.from_numpy(pixels).permute(0, 3, 1, 2) / 255


def as_pixels(images):
    images = images.float().clamp(0, 1).mul(255).round().byte()
    return images.permute(0, 2, 3, 1).cpu().numpy()


def mosaic(tiles, columns, gap=4):
    """Arrange tiles (n, h, w, 3) in rows, with white gaps."""
    n, height, width, _ = tiles.shape
    rows = n // columns
    sheet = np.full(
        (rows * (height + gap) - gap, columns * (width + gap) - gap, 3), 255, dtype=np.uint8
    )
    for i, tile in enumerate(tiles):
        y, x = i // columns * (height + gap), i % columns * (width + gap)
        sheet[y : y + height, x : x + width] = tile
    return sheet


def photographs(files, side):
    """Return squares (n, side, side, 3) from image files, or from scikit-learn's photographs."""
    if files:
        images = [Image.open(file).convert("RGB") for file in files]
    else:
        china, flower = load_sample_image("china.jpg"), load_sample_image("flower.jpg")
        squares = china[:, :427], flower[:, 95:522], china[170:, 383:]
        images = [Image.fromarray(square) for square in squares]
    return np.stack([np.asarray(ImageOps.fit(image, (side, side))) for image in images])


def untrained_task(learner, X):
    """Return a learner's task before training."""
    return learner.set_params(max_epochs=0, random_state=0, device="cpu").fit(X).net_.module_.task


@torch.no_grad()
def seen(task, images, seed=SEED):
    """Return all batches (n, h, w, 3) that the encoder gets in one step of a task."""
    inputs = []
    encoder = getattr(task.encoder, "encoder", task.encoder)  # CPC has an inner patch encoder
    prepare = encoder.prepare
    encoder.prepare = lambda batch: inputs.append(batch) or prepare(batch)
    torch.manual_seed(seed)
    task(images, torch.arange(len(images)))
    del encoder.prepare
    return [as_pixels(batch) for batch in inputs]


# Families


def contrastive(X, path):
    n, side = len(X), 192
    images = as_tensor(X)
    (views,) = seen(untrained_task(ssl.SimCLR(), X), images)
    cpc = untrained_task(ssl.CPC(), X)
    (patches,) = seen(cpc, images)
    columns = cpc.train_grid[1]
    patch = (side - 3 * (columns - 1)) // columns  # smaller than they are, so that all fit
    patches = [np.asarray(Image.fromarray(p).resize((patch, patch))) for p in patches]
    patches = np.stack(patches).reshape(n, -1, patch, patch, 3)

    step = side + GAP
    sheet = Sheet(GAP + 4 * step, HEAD + n * step)
    heads = "image", "SimCLR\nfirst view", "SimCLR\nsecond view", "CPC\npatches of a crop"
    for k, title in enumerate(heads):
        sheet.text(title, GAP + k * step + side / 2, HEAD - 4)
    for i in range(n):
        pictures = X[i], views[i], views[n + i], mosaic(patches[i], columns, 3)
        for k, pixels in enumerate(pictures):
            sheet.image(pixels, GAP + k * step, HEAD + i * step, side)
    sheet.save(path)


def joint_embedding(X, path):
    n, side = len(X), 128
    images = as_tensor(X)
    (byol,) = seen(untrained_task(ssl.BYOL(), X), images)
    large, small = seen(untrained_task(ssl.DINO(), X), images, SEED + 1)
    ijepa = untrained_task(ssl.IJEPA(), X)
    torch.manual_seed(SEED)
    views = ijepa.views(images)
    blocks = ijepa.draw_blocks(n, images.device)
    context = ijepa.draw_context(blocks)
    rows, columns = ijepa.grid
    kept = torch.zeros(n, rows * columns).scatter(1, context, 1.0).view(n, 1, rows, columns)
    kept = F.interpolate(kept, views.shape[2:]) > 0
    parts = as_pixels(torch.where(kept, views, 0.6))
    cell = side // rows

    step, small_step = side + GAP, side // 2 + GAP // 2
    widths = [step + GAP, step, step + GAP, step, step, small_step + 2 * GAP, step, step]
    starts = np.cumsum([GAP, *widths])
    sheet = Sheet(int(starts[-1]), HEAD + n * step)
    heads = (
        *("image", "BYOL\nfirst view", "BYOL\nsecond view"),
        *("DINO\nlarge crop", "DINO\nlarge crop", "small\ncrops"),
        *("I-JEPA\ntarget blocks", "I-JEPA\ncontext"),
    )
    for k, title in enumerate(heads):
        sheet.text(title, starts[k] + (side / 4 if k == 5 else side / 2), HEAD - 4)
    for i in range(n):
        y = HEAD + i * step
        pictures = X[i], byol[i], byol[n + i], large[i], large[n + i]
        for k, pixels in enumerate(pictures):
            sheet.image(pixels, starts[k], y, side)
        for k in range(2):
            sheet.image(small[k * n + i], starts[5], y + k * small_step, side // 2)
        for x, pixels in zip(starts[6:], (as_pixels(views)[i], parts[i]), strict=False):
            sheet.image(pixels, x, y, side)
            for color, block in zip(plt.cm.Set1.colors, blocks[i], strict=False):
                row, column = divmod(int(block[0]), columns)
                size = [cells * cell for cells in ijepa.block]
                sheet.frame(x + column * cell, y + row * cell, *size, color)
    sheet.save(path)


def predictive(X, path):
    n, side = len(X), 128
    images = as_tensor(X)
    (turned,) = seen(untrained_task(ssl.RotationPrediction(), X), images)
    exemplar = untrained_task(ssl.ExemplarCNN(), X)
    examples = [view for seed in (2, 3) for view in seen(exemplar, images, seed)[0][1::n]]
    jigsaw = untrained_task(ssl.Jigsaw(), X)
    (tiles,) = seen(jigsaw, images)
    tiles = tiles[: jigsaw.grid**2]
    order = jigsaw.permutations[1].numpy()
    (patches,) = seen(untrained_task(ssl.RelativePatchLocation(), X), images)
    (counted,) = seen(untrained_task(ssl.LearningToCount(), X), images)

    step = side + 2 * GAP
    top, half = HEAD + step + HEAD, GAP + 4 * step + 2 * GAP
    sheet = Sheet(half + 4 * step, top + step)
    rows = {  # (title, left, top): pictures of a learner, with their captions
        ("RotationPrediction", GAP, HEAD): [(f"{90 * k}°", turned[k * n]) for k in range(4)],
        ("ExemplarCNN, views of one image", half, HEAD): [("", view) for view in examples],
        ("Jigsaw", GAP, top): [
            ("tiles, shuffled", mosaic(tiles[order], jigsaw.grid)),
            ("as they were", mosaic(tiles, jigsaw.grid)),
        ],
        ("RelativePatchLocation", GAP + 2 * step + 2 * GAP, top): [
            ("image", X[1]),
            ("patches with gaps", mosaic(patches[9:18], 3)),
        ],
        ("LearningToCount", half + 2 * GAP, top): [
            ("image", X[0]),
            ("its tiles", mosaic(counted[n : n + 4], 2)),
            ("whole", counted[0]),
        ],
    }
    for (learner, x, y), pictures in rows.items():
        sheet.text(learner, x, y - 22, ha="left", weight="bold")
        for title, pixels in pictures:
            size = len(pixels) if y == top else side  # the lower row at the network's input size
            sheet.image(pixels, x, y, size)
            sheet.text(title, x + size / 2, y - 4)
            x += step
    sheet.save(path)


def several(X, path):
    n, side = len(X), 128
    learners = [("simclr", ssl.SimCLR(), 1.0), ("rotation", ssl.RotationPrediction(), 0.5)]
    views, turned = seen(untrained_task(ssl.MultiTask(learners), X), as_tensor(X))

    step = side + GAP
    starts = [GAP + k * step + GAP * ((k > 0) + (k > 2)) for k in range(7)]
    sheet = Sheet(starts[-1] + step, HEAD + n * step)
    heads = "image", "simclr\nfirst view", "simclr\nsecond view"
    for x, title in zip(starts, (*heads, *(f"rotation\n{90 * k}°" for k in range(4))), strict=True):
        sheet.text(title, x + side / 2, HEAD - 4)
    for i in range(n):
        pictures = X[i], views[i], views[n + i], *turned[i::n]
        for x, pixels in zip(starts, pictures, strict=True):
            sheet.image(pixels, x, HEAD + i * step, side)
    sheet.save(path)


def train(learner, X, seconds):
    """Fit for about this many seconds."""
    learner.set_params(batch_size=32, random_state=0)
    short = clone(learner).set_params(max_epochs=2).fit(X[:64])
    n = max(64, int(seconds * short.history_[-1]["images_per_second"]))
    learner.set_params(max_epochs=max(1, round(n / len(X)))).fit(X[:n])
    seconds = sum(epoch["seconds"] for epoch in learner.history_)
    print(f"{type(learner).__name__}: {n} images in {seconds:.0f} s", flush=True)
    return learner


@torch.no_grad()
def drawn(learner, images):
    """Return the inputs and outputs of a generative learner's network for images, by name."""
    task = learner.net_.module_.task
    images = images.to(learner.device_)
    torch.manual_seed(SEED)
    if isinstance(learner, ssl.DenoisingAutoencoder):
        corrupted = task.corrupt(images)
        return {"corrupted": corrupted, "output": task.reconstruct(corrupted)}
    if isinstance(learner, ssl.ContextEncoder):
        holes = task.draw_holes(images)
        rest = torch.where(holes, task.encoder.standardize.offset, images)
        return {"with holes": rest, "painted": task.inpaint(images, holes[:, 0])}
    if isinstance(learner, ssl.MaskedAutoencoder):
        order = torch.rand(len(images), task.n_patches, device=images.device).argsort(1)
        output, hidden = task.predict(images, order, task.n_visible)
        patches, mean, std = task.targets(images)
        where = hidden[..., None].expand(-1, -1, patches.shape[2])
        white = torch.full_like(output, 99)
        return {
            name: task.encoder.standardize.inverse(
                task.images(patches.scatter(1, where, put) * std + mean)
            )
            for name, put in {"visible": white, "output": output}.items()
        }
    if isinstance(learner, ssl.Colorization):
        lightness, color = split_color(images)
        gray = join_color(lightness, torch.zeros_like(color), 3)
        return {"lightness": gray, "colored": task.colorize(images)}
    if isinstance(learner, ssl.SplitBrainAutoencoder):
        lightness, color = split_color(images)
        return {
            "lightness": join_color(lightness, torch.zeros_like(color), 3),
            "color": join_color(torch.full_like(lightness, 0.65), color, 3),
            "output": task.reconstruct(images),
        }
    return {"output": task.reconstruct(images)}


def generative(X, shown, seconds, path):
    n, own = len(shown), X.shape[1]
    side = own * max(1, round(128 / own))
    images = as_tensor(shown)
    halves = [
        [ssl.DenoisingAutoencoder(), ssl.ContextEncoder(), ssl.MaskedAutoencoder()],
        [ssl.Colorization(), ssl.SplitBrainAutoencoder(), ssl.VariationalAutoencoder()],
    ]
    halves = [[train(learner, X, seconds) for learner in half] for half in halves]
    makers = halves[1][-1], train(ssl.BiGAN(), X, seconds)

    step = side + GAP // 2
    width = LABEL + n * step + GAP
    sheet = Sheet(2 * width, 8 * step + 5 * GAP)

    def label(learner, what, x, y):
        name = type(learner).__name__ if learner else ""
        name = name.replace("Autoenc", "\nAutoenc").replace("tEnc", "t\nEnc")
        sheet.text(name, x + LABEL - 6, y + 48, ha="right", weight="bold")
        sheet.text(what, x + LABEL - 6, y + 68, ha="right")

    for half, maker, x in zip(halves, makers, (0, width), strict=True):
        rows = [(None, "original", shown)]
        for learner in half:
            results = drawn(learner, images).items()
            for k, (what, result) in enumerate(results):
                rows.append((None if k else learner, what, as_pixels(result)))
        y = GAP
        for learner, what, pixels in rows:
            y += GAP * bool(learner)
            label(learner, what, x, y)
            for i in range(n):
                sheet.image(pixels[i], x + LABEL + i * step, y, side)
            y += step
        y += GAP
        label(maker, "samples", x, y)
        small = own * max(1, side // own // 2) + GAP // 4
        columns, rows = n * step // small, step // small
        for i, pixels in enumerate(maker.sample(columns * rows, random_state=0)):
            row, column = divmod(i, columns)
            sheet.image(pixels, x + LABEL + column * small, y + row * small, small)
    sheet.save(path)


VIEWS = {
    "contrastive": contrastive,
    "joint_embedding": joint_embedding,
    "predictive": predictive,
    "multitask": several,
}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", help="zip or folder of class/name images; default: download")
    parser.add_argument("--side", type=int, default=48, help="resize --data to this side")
    parser.add_argument("--show", nargs="+", help="at least two image files")
    parser.add_argument("--seconds", type=float, default=60, help="training time of each learner")
    parser.add_argument("--families", nargs="+", default=[*VIEWS, "generative"])
    parser.add_argument("--output", type=Path, default=Path("docs/images"))
    args = parser.parse_args()
    args.output.mkdir(parents=True, exist_ok=True)
    for family in args.families:
        path = args.output / f"{family}.png"
        if family in VIEWS:
            VIEWS[family](photographs(args.show, 96 if family == "contrastive" else 128), path)
            continue
        X, _ = load_images(args.data, args.side)
        X = X[np.random.default_rng(0).permutation(len(X))]
        generative(X, photographs(args.show, X.shape[1]), args.seconds, path)


if __name__ == "__main__":
    main()
