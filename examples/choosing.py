"""Which pretext task for my images? Draw a decision tree to docs/images/choosing.png.

python examples/choosing.py
"""

from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

QUESTIONS = [
    (
        "RGB photographs, and weights to download?",
        "PretrainedEncoder",
        "or continue training from it",
    ),
    ("Only a minute on a CPU?", "PatchDictionary", "no gradient training"),
    (
        "Do you want a small copy of a large network?",
        "Distillation",
        "teacher: weights, or a learner",
    ),
    (
        "Can color, scale and position vary\nwithout changing the meaning?",
        "SimCLR",
        "for small batches: MoCo, VICReg",
    ),
    (
        "Do your images have a natural orientation?",
        "RotationPrediction",
        "with another task: MultiTask",
    ),
    ("Does the order of patches matter?", "CPC", "encodes each patch separately"),
    ("Do you want a transformer?", "MaskedAutoencoder", "or IJEPA; encoder='small_vit'"),
]
LAST = ("DenoisingAutoencoder", "assumes no invariance")


def draw():
    figure, ax = plt.subplots(figsize=(8, 7.5), layout="constrained")
    asked = {"boxstyle": "round,pad=0.5", "fc": "#eef3fa", "ec": "#4a6fa5"}
    taken = {"boxstyle": "round,pad=0.5", "fc": "#fdf3e3", "ec": "#c98a1b"}
    arrow = {"arrowstyle": "-|>", "color": "#555555", "shrinkA": 16, "shrinkB": 16}
    n = len(QUESTIONS)
    for row, (question, learner, remark) in enumerate(QUESTIONS):
        y = n - row
        ax.text(0, y, question, ha="center", va="center", bbox=asked, fontsize=10)
        answer = f"$\\bf{{{learner}}}$\n{remark}"
        ax.text(3.4, y, answer, ha="center", va="center", bbox=taken, fontsize=9)
        ax.annotate("", (2.35, y), (1.5, y), arrowprops={**arrow, "shrinkA": 4, "shrinkB": 0})
        ax.text(1.9, y + 0.1, "yes", ha="center", fontsize=9)
        ax.annotate("", (0, y - 1), (0, y), arrowprops=arrow)
        ax.text(0.12, y - 0.55, "no", fontsize=9)
    last = f"$\\bf{{{LAST[0]}}}$\n{LAST[1]}"
    ax.text(0, 0, last, ha="center", va="center", bbox=taken, fontsize=9)
    ax.set(xlim=(-1.7, 4.7), ylim=(-0.5, n + 0.5))
    ax.axis("off")
    return figure


if __name__ == "__main__":
    folder = Path(__file__).parents[1] / "docs" / "images"
    draw().savefig(folder / "choosing.png", dpi=110)
