"""Networks of others: read right or refused, and given back as they were, to export them."""

import functools
import importlib.util
import io
import itertools
import pickle
import sys
import warnings
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torchvision
from conftest import TinyNet, make_images, random_batch, small
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from torch import nn
from torchvision.models.feature_extraction import create_feature_extractor

from sklearn_ssl import PretrainedEncoder, SimCLR
from sklearn_ssl.encoders import make_encoder
from sklearn_ssl.exceptions import EncoderWarning

EXPORTED = ("small_resnet", "small_vit", "resnet18", "timm/resnet10t", "timm/vit_tiny_patch16_224")


def build(encoder, height=32, width=32, channels=3, weights=None):
    if isinstance(encoder, str) and encoder.startswith("timm/"):
        pytest.importorskip("timm")
    torch.manual_seed(0)
    shape = (height, width, channels)
    return make_encoder(encoder, shape, [0.0] * channels, [1.0] * channels, weights).eval()


# Layers read right


def load_survey():
    path = Path(__file__).parents[1] / "examples" / "encoder_survey.py"
    spec = importlib.util.spec_from_file_location("encoder_survey", path)
    spec.loader.exec_module(survey := importlib.util.module_from_spec(spec))
    return survey


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [
        *(
            "mobilenet_v3_small",
            "shufflenet_v2_x0_5",
            "mnasnet0_5",
            "squeezenet1_1",
            "regnet_y_400mf",
        ),
        *("timm/test_vit", "timm/test_mambaout", "timm/pit_ti_224"),
        *("timm/test_resnet", "timm/test_byobnet", "timm/test_convnext"),
    ],
)
def test_sample_of_the_survey(name):
    if name.startswith("timm/"):
        pytest.importorskip("timm")
    survey = load_survey()
    assert survey.check(name)["wrong"] == ""


def test_the_survey_sees_a_layer_read_wrongly():
    survey = load_survey()
    encoder = build(ChannelsLast, 64, 64)
    assert survey.misplaced(encoder, "mix") == 0
    encoder._layouts["mix"] = "NCHW"
    assert survey.misplaced(encoder, "mix") > 0


SEQUENCES = {
    "alexnet": "features",
    "convnext_tiny": "features",
    "densenet121": "features",
    "efficientnet_b0": "features",
    "googlenet": "inception5b",
    "inception_v3": "Mixed_7c",
    "maxvit_t": "blocks.3",
    "mnasnet0_5": "layers",
    "mobilenet_v2": "features",
    "mobilenet_v3_small": "features",
    "regnet_y_400mf": "trunk_output",
    "shufflenet_v2_x0_5": "conv5",
    "squeezenet1_1": "features",
    "swin_t": "norm",
    "vgg11": "features",
    "vit_b_32": "encoder.ln",
}


@pytest.mark.slow
@pytest.mark.parametrize("name", SEQUENCES)
def test_sequences_give_what_torchvisions_models_give(name):
    side = {"maxvit_t": 224, "inception_v3": 96}.get(name, 64)
    encoder = build(name, side, side)
    assert isinstance(encoder.backbone, nn.Sequential)
    options = {}
    if name in ("googlenet", "inception_v3"):
        options = {"init_weights": True, "aux_logits": False}
    elif name == "vit_b_32":
        options = {"image_size": side}
    elif name == "maxvit_t":
        options = {"input_size": (side, side)}
    torch.manual_seed(0)
    whole = torchvision.models.get_model(name, **options).eval()
    images = random_batch(1, height=side, width=side)
    with torch.no_grad():
        node = SEQUENCES[name]
        expected = create_feature_extractor(whole, [node])(images)[node]
        found = encoder(images)
    if name == "swin_t":
        expected = expected.permute(0, 3, 1, 2)
    elif name == "vit_b_32":
        expected = expected[:, 1:].transpose(1, 2).reshape(found.shape)
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("aux", ["googlenet", "inception_v3"])
def test_auxiliary_heads_of_pretrained_inceptions_are_left_out(aux, monkeypatch):
    states = {
        name: torchvision.models.get_model(name, init_weights=False).state_dict() for name in (aux,)
    }

    def download(url, *_args, **_kwargs):
        return states[aux]

    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", download)
    found = build(aux, 96, 96, weights="DEFAULT").backbone.state_dict()
    heads = ("fc.", "aux1.", "aux2.", "AuxLogits.")
    expected = {k: v for k, v in states[aux].items() if not k.startswith(heads)}
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[key], expected[key]) for key in found)


class ChannelsLast(nn.Module):
    """A network of linear layers, whose maps are (n, h, w, d) without saying so."""

    def __init__(self):
        super().__init__()
        self.patches = nn.Conv2d(3, 6, 2, 2)
        self.turn = Turn()
        self.mix = nn.Linear(6, 10)

    def forward(self, x):
        return self.mix(self.turn(self.patches(x)))


class Turn(nn.Module):
    def forward(self, x):
        return x.permute(0, 2, 3, 1)


class TokensLast(nn.Module):
    def __init__(self):
        super().__init__()
        self.patches = nn.Conv2d(3, 6, 2, 2)
        self.flatten = nn.Flatten(2)
        self.mix = nn.Conv1d(6, 10, 1)

    def forward(self, x):
        return self.mix(self.flatten(self.patches(x)))


@pytest.mark.parametrize("size", [(8, 8), (2, 2), (8, 12), (1, 20), (20, 1)])
@pytest.mark.parametrize("as_sequence", [True, False])
@pytest.mark.parametrize("Net", [ChannelsLast, TokensLast])
def test_dimensions_that_grow_with_the_image_are_positions(Net, as_sequence, size):
    height, width = (max(2, side) for side in size)
    encoder = build(
        lambda: nn.Sequential(*Net().children()) if as_sequence else Net(), height, width
    )
    rows, columns = height // 2, width // 2
    assert {shape[1:] for shape in encoder.layers.values()} == {(rows, columns)}
    assert [shape[0] for shape in encoder.layers.values()] == [6, 6, 10]
    images = random_batch(2, height=height, width=width)
    flat = encoder.backbone(images).reshape(2, -1).sort().values
    torch.testing.assert_close(encoder(images).reshape(2, -1).sort().values, flat)
    changed = images.clone()
    changed[:, :, :2, :2] += 1
    moved = (encoder(changed) - encoder(images)).abs().sum((0, 1)) > 1e-5
    assert moved.sum() == moved[0, 0] == 1


def test_features_that_grow_with_the_image_are_refused():
    class Mixed(nn.Sequential):
        def __init__(self):
            super().__init__(nn.Conv2d(3, 4, 2, 2), Gram())

    class Gram(nn.Module):
        def forward(self, x):
            x = x.flatten(1)
            return x[:, :, None] * x[:, None]

    with pytest.raises(ValueError, match="layer '1' of Mixed returns outputs of shapes"):
        build(Mixed, 8, 8)


def test_models_of_torchvision_from_a_function_are_read_right_too():
    encoder = build(lambda: torchvision.models.swin_t(num_classes=5))
    assert encoder.layers["norm"] == (768, 1, 1)
    assert encoder.layers["features.1"] == (96, 8, 8)


def test_timm_says_what_its_layers_are():
    timm = pytest.importorskip("timm")
    encoder = build(lambda: timm.create_model("test_vit"), 160, 160)
    assert list(encoder.layers) == [f"blocks.{i}" for i in range(6)]
    images = random_batch(2, height=160, width=160)
    with torch.no_grad():
        for layer, found in zip(encoder.layers, encoder.maps(images, *encoder.layers), strict=True):
            torch.testing.assert_close(found, encoder(images, layer))


def test_what_timm_calls_no_part_is_no_layer():
    assert list(build("timm/tresnet_m").layers) == [f"body.layer{i}" for i in range(1, 5)]


@pytest.mark.parametrize(
    ("name", "side", "message"),
    [
        ("timm/crossvit_tiny_240", 240, "several branches"),
        ("timm/hrnet_w18_small", 64, "last layer 'stage4' of .* does not depend on"),
        ("timm/halonet_h1", 64, "AssertionError"),
    ],
)
def test_models_of_timm_that_are_refused(name, side, message):
    with pytest.raises(ValueError, match=rf"{name}.*{message}"):
        build(name, side, side)


# Layers are what they are, whichever are asked for


def inplace_net():
    act = nn.ReLU(inplace=True)
    return nn.Sequential(nn.Conv2d(3, 4, 3), act, nn.Conv2d(4, 5, 3), act, nn.Conv2d(5, 2, 1))


class InPlace(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.act, self.second = inplace_net()[:3]

    def forward(self, x):
        return self.second(self.act(self.first(x)))


@pytest.mark.parametrize("Net", [inplace_net, InPlace])
def test_activations_in_place_do_not_change_other_layers(Net):
    encoder = build(Net, 8, 8)
    images = random_batch(2)
    with torch.no_grad():
        together = encoder.maps(images, *encoder.layers)
        for layer, found in zip(encoder.layers, together, strict=True):
            torch.testing.assert_close(found, encoder(images, layer))
    assert together[0].min() < 0


def test_a_module_that_stands_twice_in_a_sequence_runs_twice():
    encoder = build(inplace_net, 8, 8)
    images = random_batch(2)
    torch.testing.assert_close(encoder(images), encoder.backbone(images))
    assert list(encoder.layers) == ["0", "1", "2", "3", "4"]
    assert encoder(images, "3").min() == 0


def test_hooks_of_the_user_on_parts_run():
    encoder = build("resnet18")
    seen = []
    encoder.backbone.layer2.register_forward_hook(lambda *_: seen.append(1))
    encoder(random_batch(1))
    assert seen == [1]


def test_building_leaves_the_modes_of_parts():
    class Frozen(TinyNet):
        def __init__(self, in_channels):
            super().__init__(in_channels)
            self.conv[1].eval()

    torch.manual_seed(0)
    encoder = make_encoder(Frozen, (8, 8, 3), [0.0] * 3, [1.0] * 3)
    encoder.shape_of((4, 4))
    assert not encoder.backbone.conv[1].training
    assert encoder.backbone.conv[0].training
    assert encoder.training


# What is not trained


class Aside(nn.Module):
    """A small part makes the last map, and a wide one is beside it."""

    def __init__(self, width):
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, 2, 1)
        self.wide = nn.Conv2d(8, width, 3, padding=1)
        self.last = nn.Conv2d(8, 8, 3, 2, 1)

    def forward(self, x):
        x = self.stem(x)
        return self.wide(x), self.last(x)


def test_a_part_beside_the_last_layer_is_named():
    with pytest.warns(EncoderWarning, match="last layer 'last' of Aside does not depend on 'wide'"):
        encoder = build(lambda: Aside(6), 8, 8)
    assert encoder.layers["wide"] == (6, 4, 4)
    assert encoder.default_layer == "stem"  # 'wide' is as fine, but not trained
    with pytest.raises(ValueError, match=r"Aside does not depend on 'wide'.*most of the network"):
        build(lambda: Aside(60), 8, 8)


class Branches(nn.Module):
    """A forward pass uses all but the last of its own kernels, and maybe a token."""

    def __init__(self, n_kernels, n_used):
        super().__init__()
        kernels = [torch.randn(8, 8, 3, 3) for _ in range(n_kernels)]
        self.n_used = n_used
        self.kernels = nn.ParameterList(kernels)
        self.stem = nn.Conv2d(3, 8, 3, 2, 1)
        self.last = nn.Conv2d(8, 8, 1)
        self.stem.mask_token = nn.Parameter(torch.zeros(1, 1, 8))

    def forward(self, x):
        x = self.stem(x)
        for kernel in self.kernels[: self.n_used]:
            x = torch.nn.functional.conv2d(x, kernel, stride=2, padding=1)
        return self.last(x)


def test_a_kernel_that_is_not_used_is_named_and_a_token_is_not():
    with pytest.warns(EncoderWarning, match="does not depend on 'kernels'"):
        build(lambda: Branches(4, 3), 32, 32)
    with warnings.catch_warnings():
        warnings.simplefilter("error", EncoderWarning)
        build(lambda: Branches(3, 3), 32, 32)


def test_a_classifier_is_left_out_without_a_word():
    class Classifier(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = nn.Conv2d(3, 8, 3, 2, 1)
            self.head = nn.Sequential(nn.Flatten(), nn.Linear(128, 500))

        def forward(self, x):
            return self.head(self.body(x))

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert list(build(Classifier, 8, 8).layers) == ["body"]


def test_frozen_networks_are_read():
    def frozen():
        return TinyNet(3).requires_grad_(False)

    assert build(frozen, 8, 8).out_shape == (16, 4, 4)


class Wrapped(nn.Module):
    """A stem, and a main part that gives something else than a tensor."""

    def __init__(self, wrap):
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3, 2, 1)
        self.main = Main(wrap)

    def forward(self, x):
        return self.main(self.stem(x))


class Main(nn.Module):
    def __init__(self, wrap):
        super().__init__()
        self.conv = nn.Conv2d(4, 32, 3, 2, 1)
        self.wrap = wrap

    def forward(self, x):
        return self.wrap(self.conv(x))


@pytest.mark.parametrize(
    ("wrap", "what"),
    [
        (lambda x: (x, x), "tuple"),
        (lambda x: {"maps": x}, "dict"),
        (lambda x: SimpleNamespace(logits=x), "SimpleNamespace"),
        (lambda x: x[:, None], "tensor of 5 dimensions"),
    ],
)
def test_a_main_part_that_gives_no_tensor_is_refused(wrap, what):
    with pytest.raises(ValueError, match=rf"layers of Wrapped.*'main' returns a {what}"):
        build(lambda: Wrapped(wrap), 8, 8)


class Rows(nn.Module):
    """An LSTM over rows gives a tuple, and a convolution behind it maps again."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3, 2, 1)
        self.lstm = nn.LSTM(4, 6, batch_first=True)
        self.last = nn.Conv2d(6, 8, 1)

    def forward(self, x):
        x = self.stem(x)
        n, _, rows, _ = x.shape
        out, _ = self.lstm(x.permute(0, 2, 3, 1).flatten(0, 1))
        return self.last(out.unflatten(0, (n, rows)).permute(0, 3, 1, 2))


class Spectral(nn.Module):
    """A 3-D convolution over height, width and bands."""

    def __init__(self, in_channels):
        super().__init__()
        self.bands = nn.Conv3d(1, 2, 3, padding=1)
        self.flatten = Merge()
        self.last = nn.Conv2d(2 * in_channels, 8, 3, 2, 1)

    def forward(self, x):
        return self.last(self.flatten(self.bands(x[:, None])))


class Merge(nn.Module):
    def forward(self, x):
        return x.flatten(1, 2)


@pytest.mark.parametrize(("Net", "channels"), [(Rows, 3), (Spectral, 9)])
def test_parts_of_other_kinds(Net, channels):
    images = make_images(16, channels=channels)
    learner = small(SimCLR, encoder=Net, layer="last", pool="avg").fit(images)
    assert learner.transform(images).shape == (16, 8)
    assert np.isfinite(learner.history_[-1]["train_loss"])
    again = pickle.loads(pickle.dumps(learner))
    np.testing.assert_array_equal(again.transform(images), learner.transform(images))


def old_weight_norm():
    return nn.Sequential(nn.utils.weight_norm(nn.Conv2d(3, 8, 3, 2, 1)), nn.ReLU())


def old_spectral_norm():
    return nn.Sequential(nn.utils.spectral_norm(nn.Conv2d(3, 8, 3, 2, 1)), nn.ReLU())


@pytest.mark.filterwarnings("ignore:`torch.nn.utils.weight_norm`:FutureWarning")
@pytest.mark.parametrize("Net", [old_weight_norm, old_spectral_norm])
def test_old_reparametrizations_are_trained_and_pickled(Net):
    images = make_images(16)
    learner = small(SimCLR, encoder=Net, layer="0").fit(images)
    again = pickle.loads(pickle.dumps(learner))
    np.testing.assert_array_equal(again.transform(images), learner.transform(images))


def test_parametrizations_are_refused_by_name():
    def net():
        conv = nn.Conv2d(3, 8, 3)
        return nn.Sequential(nn.utils.parametrizations.weight_norm(conv), nn.ReLU())

    with pytest.raises(ValueError, match="'0' has parametrized weights, which torch cannot pickle"):
        small(SimCLR, encoder=net).fit(make_images(8))


# Export


@pytest.mark.parametrize(
    "name", [EXPORTED[0], *(pytest.param(name, marks=pytest.mark.slow) for name in EXPORTED[1:])]
)
def test_fitted_encoders_are_exported(name):
    if name.startswith("timm/"):
        pytest.importorskip("timm")
    learner = small(SimCLR, encoder=name, max_epochs=0).fit(make_images(8, 32, 32))
    encoder = learner.encoder_.eval()
    images = random_batch(2, height=32, width=32)
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in encoder.modules())
    for module in (encoder, encoder.backbone):
        with torch.no_grad():
            exported = torch.export.export(module, (images,)).module()
            torch.testing.assert_close(exported(images), module(images))


@pytest.mark.parametrize("name", EXPORTED)
def test_backbones_are_traced(name):
    backbone = build(name).backbone
    images = random_batch(2, height=32, width=32)
    traced = torch.fx.symbolic_trace(backbone)
    torch.testing.assert_close(traced(images), backbone(images))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")
@pytest.mark.parametrize("name", EXPORTED)
def test_encoders_are_converted_to_onnx(name):
    reference = pytest.importorskip("onnx.reference")
    encoder = build(name)
    images = random_batch(1, height=32, width=32)
    file = io.BytesIO()
    torch.onnx.export(encoder, (images,), file, dynamo=False)
    converted = reference.ReferenceEvaluator(file.getvalue())
    (found,) = converted.run(None, {converted.input_names[0]: images.numpy()})
    with torch.no_grad():
        torch.testing.assert_close(torch.from_numpy(found), encoder(images), rtol=1e-3, atol=1e-3)


# Names of weights, and machines without internet


def test_a_name_of_weights_that_are_not_loaded_warns():
    pytest.importorskip("timm")
    with pytest.warns(EncoderWarning, match=r"resnet10t\.c3_in1k.*weights='DEFAULT' loads"):
        build("timm/resnet10t.c3_in1k")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        build("timm/resnet10t")


def test_torchvision_without_internet(monkeypatch, tmp_path):
    def no_network(*_args, **_kwargs):
        raise OSError("Name or service not known")

    monkeypatch.setattr("torch.hub.urlopen", no_network)
    monkeypatch.setattr("torch.hub.get_dir", lambda: str(tmp_path))
    with pytest.raises(OSError, match=rf"weights of encoder='resnet18'.*{tmp_path}.*internet once"):
        small(SimCLR, encoder="resnet18", weights="DEFAULT").fit(make_images(8))


@pytest.fixture
def no_hub(monkeypatch, tmp_path):
    """A hub that cannot be reached, asked by its own ways only once."""
    hub = pytest.importorskip("huggingface_hub")
    asked = []

    def unreachable(repo, **_kwargs):
        asked.append(repo)
        raise RuntimeError("Name or service not known")

    monkeypatch.setattr("huggingface_hub.model_info", unreachable)
    monkeypatch.setattr("torch.hub.get_dir", lambda: str(tmp_path))
    monkeypatch.setattr(hub.constants, "HF_HUB_CACHE", str(tmp_path))
    return asked


@pytest.mark.parametrize(
    ("name", "repo"), [("resnet10t", "timm/resnet10t.c3_in1k"), ("hf-hub:me/net", "me/net")]
)
def test_timm_without_internet(no_hub, tmp_path, name, repo):
    pytest.importorskip("timm")
    encoder = f"timm/{name}"
    with pytest.raises(OSError, match=rf"encoder='{encoder}'.*{tmp_path}.*Name or service"):
        small(SimCLR, encoder=encoder, weights="DEFAULT").fit(make_images(8))
    assert no_hub == [repo]


def test_weights_of_timm_that_are_here_are_not_asked_for(no_hub, monkeypatch):
    timm = pytest.importorskip("timm")
    state = timm.create_model("resnet10t").state_dict()
    monkeypatch.setattr("timm.models._builder.load_state_dict_from_hf", lambda *_, **__: state)
    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", lambda *_, **__: "/a/file")
    encoder = build("timm/resnet10t", weights="DEFAULT")
    assert no_hub == []
    assert torch.equal(encoder.backbone.conv1[0].weight, state["conv1.0.weight"])


# Functions that build an encoder


class Deep(nn.Sequential):
    def __init__(self, in_channels, depth=1):
        widths = [in_channels, *(8,) * depth]
        super().__init__(*(nn.Conv2d(a, b, 3, 2, 1) for a, b in itertools.pairwise(widths)))


def test_partials_are_cloned_searched_and_pickled():
    images = make_images(24)
    learner = small(SimCLR, encoder=functools.partial(Deep, depth=3), pool=1)
    assert list(clone(learner).fit(images).encoder_.layers) == ["0", "1", "2"]
    encoders = [functools.partial(Deep, depth=depth) for depth in (1, 2)]
    pipeline = make_pipeline(learner, LogisticRegression())
    search = GridSearchCV(pipeline, {"simclr__encoder": encoders}, cv=2, error_score="raise")
    search.fit(images, np.arange(24) % 2)
    assert search.best_params_["simclr__encoder"] in encoders
    again = pickle.loads(pickle.dumps(search))
    assert again.best_estimator_[0].encoder.keywords == search.best_estimator_[0].encoder.keywords
    np.testing.assert_array_equal(again.predict(images), search.predict(images))


def test_without_the_hub(monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(ImportError, match="needs timm"):
        build("timm/resnet10t")


@pytest.mark.slow
@pytest.mark.parametrize(
    "kind", ["Dinov2", "DINOv3ViT", pytest.param("CLIPVision", id="CLIP"), "ResNet"]
)
def test_models_of_transformers(kind):
    """Features are the mean of the last layer's patches, without class and register tokens."""
    transformers = pytest.importorskip("transformers")
    sizes = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2}
    sizes |= {"intermediate_size": 48, "image_size": 28, "patch_size": 7}
    if kind == "ResNet":
        sizes = {"depths": [1, 1], "hidden_sizes": [8, 16], "embedding_size": 8}
        sizes["layer_type"] = "basic"
    torch.manual_seed(0)
    model = getattr(transformers, f"{kind}Model")(getattr(transformers, f"{kind}Config")(**sizes))
    images, mean, std = make_images(5, 28, 28), [0.5, 0.4, 0.3], [0.2, 0.3, 0.4]
    frozen = PretrainedEncoder(encoder=model, normalization=(mean, std), precision="float32")
    with warnings.catch_warnings(action="error"):  # as of a mask token that is not used
        features = frozen.fit_transform(images)
    scaled = (torch.from_numpy(images) / 255 - torch.tensor(mean)) / torch.tensor(std)
    with torch.no_grad():
        last = model.eval()(scaled.permute(0, 3, 1, 2)).last_hidden_state
    patches = last.flatten(2).mT if last.ndim == 4 else last[:, -16:]
    np.testing.assert_allclose(features, patches.mean(1), atol=1e-4)
