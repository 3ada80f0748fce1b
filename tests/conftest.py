"""Small learners and images that all tests share."""

import os
import subprocess
from pathlib import Path

if "PYTEST_XDIST_WORKER" in os.environ:  # workers side by side have one thread each
    os.environ["OMP_NUM_THREADS"] = "1"

import numpy as np
import pytest
import torch
from torch import nn

import sklearn_ssl


def pytest_runtest_setup(item):
    if item.get_closest_marker("gpu") and not torch.cuda.is_available():
        pytest.skip("marked gpu, and there is no CUDA device")


def untracked_files():
    """Return the files in this repository that git neither knows nor ignores; none without git."""
    command = ["git", "ls-files", "--others", "--exclude-standard"]
    root = Path(__file__).parents[1]
    try:
        found = subprocess.run(command, cwd=root, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return set()
    return set(found.stdout.splitlines())


def pytest_sessionstart(session):
    session.untracked_before = untracked_files()


def pytest_sessionfinish(session, exitstatus):
    """Tests must leave no files behind."""
    left = untracked_files() - session.untracked_before
    if left and not hasattr(session.config, "workerinput"):  # the workers' files are seen here
        session.config.get_terminal_writer().line(f"\ntests left files behind: {sorted(left)}")
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


class TinyNet(nn.Sequential):
    """Two convolutions, for tests that are not about the network."""

    def __init__(self, in_channels):
        super().__init__()
        self.conv = nn.Sequential(
            nn.Conv2d(in_channels, 8, 3, 1, 1, bias=False), nn.BatchNorm2d(8), nn.ReLU()
        )
        self.out = nn.Sequential(
            nn.Conv2d(8, 16, 3, 2, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU()
        )


class WholeNet(nn.Sequential):
    """A fully connected layer, for tests on tables: convolutions do not know where a value is."""

    def __init__(self, in_channels, image_shape):
        super().__init__()
        self.out = nn.Sequential(nn.Conv2d(in_channels, 64, tuple(image_shape[:2])), nn.ReLU())


class Constant(nn.Sequential):
    """Gives the same whatever it sees."""

    def __init__(self, in_channels):
        super().__init__()
        self.conv = nn.Conv2d(in_channels, 4, 3)
        self.out = nn.Threshold(1e9, 1.0)


class TinyViT(nn.Sequential):
    """A patch embedding and one block, for learners that need a transformer."""

    def __init__(self, in_channels, image_shape):
        side = 2 if min(image_shape[:2]) > 1 else 1
        super().__init__()
        self.patches = nn.Sequential(
            nn.Conv2d(in_channels, 16, side, side), nn.Flatten(2), Transpose()
        )
        self.block = nn.TransformerEncoderLayer(16, 2, 32, 0.0, batch_first=True, norm_first=True)


class Transpose(nn.Module):
    def forward(self, x):
        return x.transpose(1, 2)


LEARNERS = sklearn_ssl.all_estimators()

every_learner = pytest.mark.parametrize("Learner", [cls for _, cls in LEARNERS], ids=dict(LEARNERS))

# One of each kind: two views, an encoder of patches, one of colors, a transformer, something kept
# of every image, several learners in one, images given back.
KINDS = {
    *("SimCLR", "CPC", "Colorization", "MaskedAutoencoder", "InstanceDiscrimination", "MultiTask"),
    "VariationalAutoencoder",
}

# for what does not depend on the method
one_of_each_kind = pytest.mark.parametrize(
    "Learner", [cls for name, cls in LEARNERS if name in KINDS]
)

# for what hardly does: other learners than those are slow tests
every_kind = pytest.mark.parametrize(
    "Learner",
    [
        pytest.param(cls, id=name, marks=() if name in KINDS else pytest.mark.slow)
        for name, cls in LEARNERS
    ],
)


def small(Learner, **params):
    """A learner that fits in a moment."""
    encoder = params.pop("encoder", TinyNet)
    if Learner is sklearn_ssl.MultiTask and "learners" not in params:
        params["learners"] = [
            ("simclr", sklearn_ssl.SimCLR(), 1.0),
            ("rotation", sklearn_ssl.RotationPrediction(), 0.5),
        ]
    if Learner is sklearn_ssl.Distillation and "teacher" not in params:
        params["teacher"] = sklearn_ssl.PretrainedEncoder(
            encoder=TinyNet, weights=None, pool="avg", random_state=0
        )
    if needs_transformer(Learner) and encoder in REPLACEMENTS:
        encoder = REPLACEMENTS[encoder]
    return Learner(**{"encoder": encoder, "max_epochs": 1, "random_state": 0, **params})


def needs_transformer(Learner):
    return Learner.encoder == "small_vit"


# transformers of about the size, for learners that need one
REPLACEMENTS = {TinyNet: TinyViT, "small_resnet": "small_vit", "resnet18": "small_vit"}


@pytest.fixture
def images():
    """48 uint8 images of 8 x 8 pixels, RGB: smooth blobs with noise."""
    return make_images()


def make_images(n=48, height=8, width=8, channels=3, seed=0):
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    cy, cx = rng.uniform(0, height, (n, 1, 1)), rng.uniform(0, width, (n, 1, 1))
    blob = np.exp(-((y - cy) ** 2 + (x - cx) ** 2) / 8)
    color = rng.uniform(40, 200, (n, 1, 1, channels))
    noise = rng.integers(0, 30, (n, height, width, channels))
    return (blob[..., None] * color + noise).astype(np.uint8)


def random_batch(n=6, channels=3, height=12, width=10, seed=0):
    """Float images in [0, 1], (n, c, h, w)."""
    return torch.rand(n, channels, height, width, generator=torch.Generator().manual_seed(seed))
