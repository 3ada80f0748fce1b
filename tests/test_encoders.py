"""Encoders: named layers and their maps, pooling, and the networks that go by name."""

import copy
import functools
import pickle
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
import torchvision
from conftest import TinyNet, make_images, random_batch, small
from sklearn.base import clone
from torch import nn

from sklearn_ssl import CPC, DINO, RotationPrediction, SimCLR, Views
from sklearn_ssl._utils._torch import isolated
from sklearn_ssl.encoders import encoder_names, make_encoder, pool_features, pooled_width

OURS = ("small_resnet", "small_convnet", "small_vit", "resnet18")
POOLS = ("avg", "max", 1, 2, 3, 50, None)


def build(encoder, height=16, width=16, channels=3, weights=None, device="cpu"):
    """An encoder that leaves images as they are, to compare with its backbone."""
    torch.manual_seed(0)
    with torch.device(device):
        return make_encoder(
            encoder, (height, width, channels), [0.0] * channels, [1.0] * channels, weights
        ).eval()


def assert_maps_have_their_shapes(encoder, layers=None):
    height, width, channels = encoder.image_shape
    images = torch.rand(2, channels, height, width, device=encoder.standardize.offset.device)
    with torch.no_grad():
        for layer in layers or encoder.layers:
            assert encoder(images, layer).shape == (2, *encoder.layers[layer]), layer
        assert encoder(images).shape == (2, *encoder.out_shape)


def outputs_by_hook(backbone, names, images):
    """What submodules give in a whole forward pass."""
    outputs = {}

    def note(name, _module, _args, output):
        outputs.setdefault(name, output.clone())  # ReLUs in place would change it afterwards

    hooks = [
        backbone.get_submodule(name).register_forward_hook(functools.partial(note, name))
        for name in names
    ]
    with torch.no_grad():
        backbone(images)
    for hook in hooks:
        hook.remove()
    return outputs


# Layers of our own networks and of ResNets


def stages(stem, widths, sides, blocks=None):
    """Names and shapes of a ResNet's layers, with ``blocks`` of each stage where it names them."""
    layers = {"stem": stem}
    for i, (width, side) in enumerate(zip(widths, sides, strict=True)):
        names = [f"layer{i + 1}.{j}" for j in range(blocks[i])] if blocks else []
        for name in [*names, f"layer{i + 1}"]:
            layers[name] = (width, side, side)
    return layers


CONV = (32, 128, 128)
SMALL, BASIC, WIDE = (32, 64, 128, 256), (64, 128, 256, 512), (256, 512, 1024, 2048)


@pytest.mark.parametrize(
    ("encoder", "side", "layers"),
    [
        ("small_resnet", 8, stages((32, 8, 8), SMALL, (8, 4, 2, 1))),
        ("small_resnet", 32, stages((32, 32, 32), SMALL, (32, 16, 8, 4))),
        ("small_resnet", 64, stages((32, 32, 32), SMALL, (32, 16, 8, 4))),
        ("small_resnet", 128, stages((32, 32, 32), SMALL, (32, 16, 8, 4))),
        ("small_convnet", 8, stages((24, 8, 8), CONV, (4, 2, 1))),
        ("small_convnet", 32, stages((24, 32, 32), CONV, (16, 8, 4))),
        ("small_convnet", 96, stages((24, 48, 48), CONV, (24, 12, 6))),
        ("small_convnet", 128, stages((24, 32, 32), CONV, (16, 8, 4))),
        ("wide_convnet", 32, stages((24, 32, 32), (64, 256, 256), (16, 8, 4))),
        ("resnet18", 16, stages((64, 16, 16), BASIC, (16, 8, 4, 2), (2, 2, 2, 2))),
        ("resnet18", 64, stages((64, 32, 32), BASIC, (32, 16, 8, 4), (2, 2, 2, 2))),
        ("resnet34", 8, stages((64, 8, 8), BASIC, (8, 4, 2, 1), (3, 4, 6, 3))),
        ("resnet50", 8, stages((64, 8, 8), WIDE, (8, 4, 2, 1), (3, 4, 6, 3))),
    ],
)
def test_layers_of_resnets(encoder, side, layers):
    with torch.device("meta"):
        found = SimCLR(encoder=encoder).encoder_layers((side, side, 3))
    assert list(found.items()) == list(layers.items())  # in this order


@pytest.mark.parametrize(("side", "grid"), [(8, 4), (16, 8), (32, 8), (64, 8), (224, 14)])
def test_layers_of_small_vit(side, grid):
    found = SimCLR(encoder="small_vit").encoder_layers((side, side, 3))
    assert list(found) == ["patch_embedding", *(f"block{i}" for i in range(6)), "norm"]
    assert set(found.values()) == {(192, grid, grid)}


def test_encoder_layers_takes_the_shape_from_where_it_is_known(images):
    learner = small(SimCLR, max_epochs=0)
    assert learner.encoder_layers((6, 4)) == learner.encoder_layers((6, 4, 1))
    assert learner.encoder_layers((6, 4))["conv"] == (8, 6, 4)
    with pytest.raises(ValueError, match="height, width"):
        learner.encoder_layers()
    assert learner.set_params(image_shape=(4, 2)).encoder_layers()["conv"] == (8, 4, 2)
    learner.set_params(image_shape=None).fit(images)
    assert learner.encoder_layers()["conv"] == (8, 8, 8)
    assert learner.encoder_layers((6, 4, 3))["conv"] == (8, 6, 4)


def test_encoder_layers_gives_a_copy(images):
    learner = small(SimCLR, max_epochs=0).fit(images)
    learner.encoder_layers().clear()
    names = ["conv.0", "conv.1", "conv.2", "conv", "out.0", "out.1", "out.2", "out"]
    assert list(learner.encoder_layers()) == names


@pytest.mark.parametrize("channels", [1, 2, 3, 5, 13])
@pytest.mark.parametrize("encoder", OURS)
def test_maps_have_the_shapes_of_layers_for_all_channels(encoder, channels):
    assert_maps_have_their_shapes(build(encoder, 8, 8, channels))


@pytest.mark.parametrize("size", [(1, 20), (20, 1), (5, 7), (7, 5), (1, 1), (12, 64)])
@pytest.mark.parametrize("encoder", OURS)
def test_maps_have_the_shapes_of_layers_for_odd_sizes(encoder, size):
    encoder = build(encoder, *size)
    assert_maps_have_their_shapes(encoder, [encoder.default_layer])


@pytest.mark.parametrize("encoder", ["small_resnet", "small_vit"])
def test_a_layer_is_what_its_children_make_by_hand(encoder):
    encoder = build(encoder, 12, 10)
    images = x = random_batch(3)
    for name, child in encoder.backbone.named_children():
        with torch.no_grad():
            x, found = child(x), encoder(images, name)
        by_hand = x if x.ndim == 4 else x.transpose(1, 2).reshape(found.shape)
        torch.testing.assert_close(found, by_hand)


@pytest.mark.parametrize("encoder", ["resnet18", "mobilenet_v3_small", TinyNet])
def test_a_layer_is_what_a_hook_sees(encoder):
    encoder = build(encoder, 24, 20)
    images = random_batch(2, height=24, width=20)
    expected = outputs_by_hook(encoder.backbone, encoder.layers, images)
    with torch.no_grad():
        for layer in encoder.layers:
            torch.testing.assert_close(encoder(images, layer), expected[layer])


def test_the_last_layer_is_the_default():
    encoder = build("small_resnet")
    images = random_batch(2)
    torch.testing.assert_close(encoder(images), encoder(images, "layer4"))
    torch.testing.assert_close(encoder(images), encoder.backbone(images))
    torch.testing.assert_close(encoder.embed(images), encoder.backbone(images).mean((2, 3)))


@pytest.mark.parametrize("encoder", OURS)
def test_what_is_behind_a_layer_is_not_run(encoder):
    encoder = build(encoder)
    images = random_batch(2, height=16, width=16)
    children = dict(encoder.backbone.named_children())
    before, behind = list(children)[1:3]

    def fail(_module, _args):
        raise AssertionError("was run")

    children[behind].register_forward_pre_hook(fail)
    encoder(images, before).sum().backward()
    for name, child in children.items():
        reached = list(children).index(name) <= list(children).index(before)
        assert all((p.grad is not None) == reached for p in child.parameters())
    with pytest.raises(AssertionError, match="was run"):
        encoder(images, behind)


def test_the_backbone_can_still_be_run_whole():
    encoder = build("small_resnet")
    images = random_batch(2)
    expected = encoder.backbone(images)
    encoder(images, "stem")
    torch.testing.assert_close(encoder.backbone(images), expected)


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda e: pickle.loads(pickle.dumps(e))])
def test_copies_have_the_same_layers(copied):
    encoder = build("small_resnet")
    again = copied(encoder)
    images = random_batch(2)
    assert again.layers == encoder.layers
    for layer in encoder.layers:
        torch.testing.assert_close(again(images, layer), encoder(images, layer))


def test_threads_can_ask_for_different_layers():
    encoder = build("small_resnet")
    images = random_batch(2)
    asked = list(encoder.layers) * 8
    with torch.no_grad():
        expected = {layer: encoder(images, layer) for layer in encoder.layers}
    with ThreadPoolExecutor(4) as pool:
        for layer, found in zip(asked, pool.map(lambda a: encoder(images, a), asked), strict=True):
            torch.testing.assert_close(found, expected[layer])


def test_unknown_layer_of_an_encoder():
    with pytest.raises(ValueError, match="never reached layer 'nonesuch'"):
        build("small_resnet")(random_batch(2), "nonesuch")


class Reused(nn.Module):
    """Runs one activation module twice, at two sizes."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(3, 4, 3, 2, 1)
        self.act = nn.ReLU()
        self.second = nn.Conv2d(4, 8, 3, 2, 1)

    def forward(self, x):
        return self.act(self.second(self.act(self.first(x))))


def test_a_module_that_is_run_twice():
    assert_maps_have_their_shapes(build(Reused))


def test_finding_layers_leaves_running_statistics():
    encoder = make_encoder(TinyNet, (8, 8, 3), [0.0] * 3, [1.0] * 3)
    assert encoder.backbone.conv[1].num_batches_tracked == 0


@pytest.mark.parametrize("encoder", ["resnet18", "mobilenet_v3_small", TinyNet])
def test_layer_norm_in_the_place_of_batch_norm(encoder):
    encoder = make_encoder(encoder, (16, 16, 3), [0.0] * 3, [1.0] * 3, norm="layer")
    assert not [m for m in encoder.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    images = random_batch(3, height=16, width=16)
    encoder.train()
    torch.manual_seed(0)  # some layers drop at random
    assert encoder(images).shape == (3, *encoder.out_shape)
    norms = [m for m in encoder.modules() if isinstance(m, nn.GroupNorm)]
    assert {m.num_groups for m in norms} == {1}


def test_layer_norm_keeps_images_apart():
    encoder = make_encoder(TinyNet, (12, 10, 3), [0.0] * 3, [1.0] * 3, norm="layer").train()
    images = random_batch(3)
    torch.testing.assert_close(encoder(images)[:1], encoder(images[:1]))


# Stems and patches follow the image size


@pytest.mark.parametrize(
    "encoder", ["small_resnet", "resnet18", pytest.param("resnet50", marks=pytest.mark.slow)]
)
@pytest.mark.parametrize(
    ("size", "kernel", "stride", "pools"),
    [
        ((8, 8), 3, 1, False),
        ((32, 32), 3, 1, False),
        ((63, 40), 3, 1, False),
        ((64, 64), 7, 2, False),
        ((8, 64), 7, 2, False),  # the longer side decides
        ((127, 127), 7, 2, False),
        ((128, 128), 7, 2, True),
        ((224, 160), 7, 2, True),
    ],
)
def test_stem(encoder, size, kernel, stride, pools):
    stem = build(encoder, *size, device="meta").backbone.stem
    assert stem.conv1.kernel_size == (kernel, kernel)
    assert stem.conv1.stride == (stride, stride)
    assert isinstance(stem.maxpool, nn.MaxPool2d) == pools


@pytest.mark.parametrize(
    ("size", "patch"),
    [
        ((8, 8), 2),
        ((16, 16), 2),
        ((32, 32), 4),
        ((24, 40), 3),
        ((96, 96), 12),
        ((224, 224), 16),
        ((1, 20), 1),
        ((300, 400), 16),
    ],
)
def test_patch_of_small_vit(size, patch):
    encoder = build("small_vit", *size)
    assert encoder.backbone.patch_embedding.project.kernel_size == (patch, patch)
    assert encoder.out_shape == (192, size[0] // patch, size[1] // patch)


@pytest.mark.parametrize(
    "size", [(6, 3), (3, 6), (5, 7), (9, 4), (10, 5), (12, 3), (5, 12), (17, 34), (31, 17)]
)
def test_tokens_of_small_vit_are_put_back_in_their_places(size):
    encoder = build("small_vit", *size)
    images = random_batch(2, height=size[0], width=size[1])
    rows, columns = encoder.backbone.patch_embedding.project(images).shape[2:]
    expected = encoder.backbone(images).transpose(1, 2).unflatten(2, (rows, columns))
    assert encoder.out_shape == (192, rows, columns)
    torch.testing.assert_close(encoder(images), expected)


def test_images_of_another_size_can_be_given_later():
    for name in ("small_vit", "small_resnet"):
        found = build(name, 32, 32)(random_batch(2, height=16, width=24))
        assert found.shape[2:] == ((4, 6) if name == "small_vit" else (2, 3))


def test_blocks_of_a_convnet_start_as_identities():
    """Each channel of the input is passed on, pooled, as Jordan (2024) initializes them."""
    encoder = build("small_convnet", 16, 16).eval()
    block, x = encoder.backbone.layer1, random_batch(2, 24, height=16, width=16)
    with torch.no_grad():
        found = block.conv2(block.pool(block.conv1(x)))
    torch.testing.assert_close(found[:, :24], nn.functional.max_pool2d(x, 2))


# Default layer


@pytest.mark.parametrize(
    ("encoder", "size", "layer"),
    [
        ("small_resnet", (32, 32), "layer3"),
        ("small_resnet", (2, 2), "layer3"),
        ("resnet18", (16, 16), "layer3"),
        ("small_vit", (16, 16), "block4"),
        ("small_resnet", (1, 1), "layer3"),
        ("small_convnet", (32, 32), "layer2"),
    ],
)
def test_default_layer(encoder, size, layer):
    assert build(encoder, *size).default_layer == layer


def test_default_layer_of_a_network_with_few_layers():
    encoder = build(lambda: nn.Sequential(nn.Conv2d(3, 4, 1)))
    assert encoder.default_layer == "0"


# Pooling

MAP = torch.arange(48.0).reshape(1, 2, 4, 6)


@pytest.mark.parametrize(
    ("pool", "expected"),
    [
        ("avg", [11.5, 35.5]),
        ("max", [23, 47]),
        (1, [11.5, 35.5]),
        (2, [4, 7, 16, 19, 28, 31, 40, 43]),
        # means of rows 0-1, 1-2, 2-3, and of pairs of columns
        (3, [d + r + c for d in (0, 24) for r in (3, 9, 15) for c in (0.5, 2.5, 4.5)]),
        (50, range(48)),
        (None, range(48)),
    ],
    ids=str,
)
def test_pool(pool, expected):
    found = pool_features(MAP, pool)
    torch.testing.assert_close(found, torch.tensor([[*expected]], dtype=torch.float32))


@pytest.mark.parametrize("pool", POOLS)
@pytest.mark.parametrize("shape", [(5, 4, 6), (3, 1, 1), (2, 1, 20), (4, 2, 7)])
def test_pooled_width(shape, pool):
    assert pooled_width(shape, pool) == pool_features(torch.zeros(2, *shape), pool).shape[1]


def test_a_grid_is_cut_to_each_side_of_the_map():
    assert pool_features(MAP[:, :, :2], 3).shape == (1, 2 * 2 * 3)
    torch.testing.assert_close(pool_features(MAP[:, :1, :1], 6), MAP[:, 0, 0])


# Standardisation


@pytest.mark.parametrize(
    "images",
    [
        make_images(),
        make_images(channels=1),
        np.random.default_rng(0).normal([-3, 0, 50, 1, 2], [1, 5, 0.1, 2, 3], (40, 8, 6, 5)),
    ],
    ids=["uint8", "gray", "floats"],
)
def test_the_backbone_sees_standardized_images(images):
    learner = small(SimCLR, max_epochs=0).fit(images)
    seen = []
    first = learner.encoder_.backbone.conv
    first.register_forward_pre_hook(lambda _module, args: seen.append(args[0]))
    learner.transform(images)
    seen = seen[-1][: len(images)].double()  # chunks are filled up, and tried with noise first
    zeros = torch.zeros(seen.shape[1], dtype=torch.float64)
    torch.testing.assert_close(seen.mean((0, 2, 3)), zeros, atol=1e-4, rtol=0)
    torch.testing.assert_close(seen.std((0, 2, 3)), zeros + 1, atol=1e-3, rtol=0)


def test_a_constant_channel_is_zero(images):
    images[..., 1] = 7
    encoder = small(SimCLR, max_epochs=0).fit(images).encoder_
    seen = encoder.standardize(torch.from_numpy(images).permute(0, 3, 1, 2) / 255)
    assert seen[:, 1].abs().max() < 1e-6


# torchvision's models by name

FAMILIES = {
    "alexnet": (64, (256, 1, 1)),
    "convnext_tiny": (64, (768, 2, 2)),
    "densenet121": (64, (1024, 2, 2)),
    "efficientnet_b0": (64, (1280, 2, 2)),
    "googlenet": (64, (1024, 2, 2)),
    "inception_v3": (96, (2048, 1, 1)),
    "maxvit_t": (224, (512, 7, 7)),
    "mnasnet0_5": (32, (1280, 1, 1)),
    "mobilenet_v3_small": (32, (576, 1, 1)),
    "shufflenet_v2_x0_5": (32, (1024, 1, 1)),
    "squeezenet1_1": (64, (512, 3, 3)),
    "swin_t": (64, (768, 2, 2)),
    "vgg11": (64, (512, 2, 2)),
    "vit_b_16": (64, (768, 4, 4)),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", FAMILIES)
def test_family_of_torchvision(name):
    side, shape = FAMILIES[name]
    encoder = build(name, side, side, channels=5, device="meta")
    assert encoder.out_shape == shape
    assert_maps_have_their_shapes(encoder, [encoder.default_layer])


@pytest.mark.parametrize("channels", [1, 3, 5])
@pytest.mark.parametrize(
    "name", ["mobilenet_v3_small", "regnet_y_400mf", "shufflenet_v2_x0_5", "squeezenet1_1"]
)
def test_light_family_of_torchvision_runs(name, channels):
    encoder = build(name, 48, 32, channels)
    layer = encoder.default_layer
    assert np.prod(encoder.layers[layer][1:]) > np.prod(encoder.out_shape[1:])
    assert_maps_have_their_shapes(encoder, [layer])


def test_names_are_those_of_torchvision():
    assert set(FAMILIES) < set(encoder_names())
    ours = ["small_resnet", "small_convnet", "wide_convnet", "small_vit"]
    assert encoder_names()[:4] == ours
    assert not [n for n in encoder_names() if "rcnn" in n or "deeplab" in n or "r3d" in n]


def test_channels_of_swin_come_first():
    layers = build("swin_t", 64, 96, device="meta").layers
    assert {name: shape for name, shape in layers.items() if 3 * shape[1] != 2 * shape[2]} == {}
    assert layers["norm"] == (768, 2, 3)


def test_map_of_swin_is_turned_round():
    encoder = build("swin_t", 32, 48)
    images = random_batch(2, height=32, width=48)
    expected = outputs_by_hook(encoder.backbone, ["features.1", "norm"], images)
    with torch.no_grad():
        for layer, output in expected.items():
            torch.testing.assert_close(encoder(images, layer), output.permute(0, 3, 1, 2))


def small_torchvision_vit(image_shape):
    return torchvision.models.VisionTransformer(image_shape[0], 4, 3, 2, 16, 32, num_classes=5)


def test_class_token_is_left_out():
    encoder = build(small_torchvision_vit)
    images = random_batch(2, height=16, width=16)
    tokens = outputs_by_hook(encoder.backbone, ["encoder"], images)
    blocks = [f"encoder.layers.encoder_layer_{i}" for i in range(3)]
    assert list(encoder.layers) == ["conv_proj", *blocks, "encoder.layers", "encoder.ln", "encoder"]
    expected = tokens["encoder"][:, 1:].transpose(1, 2).reshape(2, 16, 4, 4)
    with torch.no_grad():
        torch.testing.assert_close(encoder(images), expected)


def test_vision_transformers_of_torchvision_need_square_images():
    with pytest.raises(ValueError, match=r"vit_b_16.*square"):
        build("vit_b_16", 32, 64, device="meta")


@pytest.mark.parametrize(
    ("name", "side"),
    [
        ("alexnet", 16),
        ("convnext_tiny", 8),
        ("densenet121", 12),
        ("googlenet", 8),
        ("inception_v3", 64),
        ("squeezenet1_1", 8),
        ("vgg11", 20),
        ("vit_b_32", 20),
        ("maxvit_t", 32),
        ("timm/inception_v3", 32),
    ],
)
def test_image_size_that_a_model_cannot_take(name, side):
    if name.startswith("timm/"):
        pytest.importorskip("timm")
    with pytest.raises(ValueError, match=rf"{name.removeprefix('timm/')}.*{side}"):
        build(name, side, side, device="meta")


# Pretrained weights of torchvision


@pytest.fixture(scope="module")
def states():
    """Weights as they could have been learned, by model."""
    torch.manual_seed(1)
    states = {}
    for name in ("resnet18", "mobilenet_v3_small"):
        states[name] = torchvision.models.get_model(name).state_dict()
        for key, value in states[name].items():
            if "running" in key:
                value.uniform_(0.5, 1.5)
    return states


@pytest.fixture
def downloads(monkeypatch, states):
    """Let torchvision find its weights without internet; gives the addresses it asked for."""
    urls = []

    def download(url, *_args, **_kwargs):
        urls.append(url)
        name = next(name for name in states if name in url)
        return {key: value.clone() for key, value in states[name].items()}

    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", download)
    return urls


def first_conv(module):
    return next(m for m in module.modules() if isinstance(m, nn.Conv2d))


def test_weights_of_resnet18(downloads, states):
    encoder = build("resnet18", weights="DEFAULT")
    assert len(downloads) == 1
    state = states["resnet18"]
    found = encoder.backbone.state_dict()
    for name, value in found.items():
        torch.testing.assert_close(value, state[name.removeprefix("stem.")])
    assert len(found) == len(state) - 2  # all but the classifier


def test_weights_of_mobilenet(downloads, states):
    encoder = build("mobilenet_v3_small", weights="IMAGENET1K_V1")
    assert len(downloads) == 1
    state = {k: v for k, v in states["mobilenet_v3_small"].items() if k.startswith("features")}
    found = encoder.backbone.state_dict()
    assert found.keys() == state.keys()
    for name, value in found.items():
        torch.testing.assert_close(value, state[name])


@pytest.mark.parametrize("channels", [1, 2, 5, 6])
@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v3_small"])
def test_gray_images_get_the_response_of_gray_rgb(downloads, states, name, channels):
    encoder = build(name, channels=channels, weights="DEFAULT")
    conv = first_conv(encoder)
    assert conv.in_channels == channels
    learned = next(iter(states[name].values()))
    gray = random_batch(2, channels=1)
    expected = nn.functional.conv2d(
        gray.expand(-1, 3, -1, -1), learned, stride=conv.stride, padding=conv.padding
    )
    torch.testing.assert_close(conv(gray.expand(-1, channels, -1, -1)), expected)


@pytest.mark.parametrize("channels", [1, 5])
def test_weights_behind_an_adapted_convolution_are_the_learned_ones(downloads, states, channels):
    encoder = build("resnet18", channels=channels, weights="DEFAULT")
    for name, value in encoder.backbone.state_dict().items():
        if name != "stem.conv1.weight":
            torch.testing.assert_close(value, states["resnet18"][name.removeprefix("stem.")])


@pytest.mark.parametrize(("side", "stride", "out"), [(32, 1, 4), (64, 2, 4), (128, 2, 4)])
def test_learned_filters_stay_and_their_stride_follows_the_size(downloads, side, stride, out):
    encoder = build("resnet18", side, side, weights="DEFAULT")
    conv = encoder.backbone.stem.conv1
    assert conv.kernel_size == (7, 7)
    assert conv.stride == (stride, stride)
    assert isinstance(encoder.backbone.stem.maxpool, nn.MaxPool2d) == (side == 128)
    assert encoder.out_shape == (512, out, out)


def test_learned_positions_need_the_size_that_they_were_learned_with(downloads):
    for name in ("vit_b_32", "maxvit_t"):
        with pytest.raises(ValueError, match="224"):
            build(name, 32, 32, weights="DEFAULT")
    assert not downloads


@pytest.mark.slow
@pytest.mark.parametrize("Learner", [SimCLR, CPC, RotationPrediction])
@pytest.mark.parametrize("encoder", ["vit_b_32", "timm/vit_tiny_patch16_224"])
def test_models_of_one_size_see_views_of_another_enlarged(Learner, encoder):
    if encoder.startswith("timm/"):
        pytest.importorskip("timm")
    learner = Learner(encoder=encoder, max_epochs=1, batch_size=4, pool="avg", random_state=0)
    X = make_images(4, 64, 64)
    assert learner.fit(X).transform(X).shape[0] == 4
    assert np.isfinite(learner.history_[-1]["train_loss"])


def test_enlarged_views_are_what_torch_makes_of_them():
    encoder = build("vit_b_32", 64, 64)
    assert encoder.takes_one_size
    small_images = torch.rand(2, 3, 32, 40)
    large = torch.nn.functional.interpolate(small_images, (64, 64), mode="bilinear", antialias=True)
    with torch.no_grad():
        torch.testing.assert_close(encoder(small_images), encoder(large), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("encoder", ["small_resnet", "small_vit", "resnet18", TinyNet])
def test_models_of_any_size_see_views_as_they_are(encoder):
    assert not build(encoder, 32, 32).takes_one_size


def test_a_learner_starts_from_weights(downloads, states):
    learner = small(SimCLR, encoder="resnet18", weights="DEFAULT", max_epochs=0).fit(make_images(8))
    found = learner.encoder_.backbone.layer4.state_dict()
    for name, value in found.items():
        torch.testing.assert_close(value, states["resnet18"][f"layer4.{name}"])


@pytest.mark.parametrize("weights", ["nonesuch", "ResNet50_Weights.DEFAULT", ""])
def test_unknown_weights(weights, images):
    with pytest.raises(ValueError, match="IMAGENET1K_V1"):
        small(SimCLR, encoder="resnet18", weights=weights).fit(images)


@pytest.mark.parametrize("encoder", ["small_resnet", "small_vit", TinyNet, lambda: TinyNet(3)])
def test_weights_where_there_are_none(encoder, images):
    with pytest.raises(ValueError, match=r"weights='DEFAULT'.*none"):
        small(SimCLR, encoder=encoder, weights="DEFAULT").fit(images)


# timm


@pytest.fixture
def timm_downloads(monkeypatch):
    """Let timm find weights of resnet10t without internet."""
    timm = pytest.importorskip("timm")
    torch.manual_seed(1)
    state = timm.create_model("resnet10t").state_dict()

    def download(*_args, **_kwargs):
        return {key: value.clone() for key, value in state.items()}

    monkeypatch.setattr("huggingface_hub.model_info", download)
    for loader in ("load_state_dict_from_hf", "load_state_dict_from_url"):
        monkeypatch.setattr(f"timm.models._builder.{loader}", download)
    return state


@pytest.mark.parametrize(
    ("name", "layers", "default"),
    [
        ("resnet10t", {"layer1": (64, 8, 8), "layer4": (512, 1, 1)}, "layer3"),
        ("vit_tiny_patch16_224", {"blocks.0": (192, 2, 2), "blocks.11": (192, 2, 2)}, "blocks.9"),
        ("convnext_atto", {"stages.0": (40, 8, 8), "stages.3": (320, 1, 1)}, "stages.2"),
        (
            "swin_tiny_patch4_window7_224",
            {"layers.0": (96, 8, 8), "layers.3": (768, 1, 1)},
            "layers.2",
        ),
    ],
)
def test_model_of_timm(name, layers, default):
    pytest.importorskip("timm")
    learner = small(SimCLR, encoder=f"timm/{name}", pool="avg", max_epochs=0)
    images = make_images(4, 32, 32)
    features = learner.fit_transform(images)
    found = learner.encoder_layers()
    assert found.items() >= layers.items()
    assert learner.encoder_.default_layer == default
    assert features.shape == (4, found[default][0])
    assert np.isfinite(features).all()
    assert features.std(0).max() > 0


def test_channels_of_timm_models_come_first():
    pytest.importorskip("timm")
    layers = build("timm/swin_tiny_patch4_window7_224", 64, 96, device="meta").layers
    assert {name: shape for name, shape in layers.items() if 3 * shape[1] != 2 * shape[2]} == {}
    layers = build("timm/test_vit", 64, 96, device="meta").layers
    assert set(layers.values()) == {(64, 4, 6)}


def test_tokens_of_a_timm_vit_are_put_back_in_their_places():
    pytest.importorskip("timm")
    encoder = build("timm/vit_tiny_patch16_224", 32, 48)
    images = random_batch(2, height=32, width=48)
    with torch.no_grad():
        tokens = outputs_by_hook(encoder.backbone, ["blocks.11"], images)["blocks.11"]
        found = encoder(images)
    torch.testing.assert_close(found, tokens[:, 1:].transpose(1, 2).reshape(2, 192, 2, 3))
    assert encoder.layers == {f"blocks.{i}": (192, 2, 3) for i in range(12)}


@pytest.mark.parametrize("channels", [1, 5])
def test_timm_takes_other_channels(channels):
    pytest.importorskip("timm")
    assert_maps_have_their_shapes(build("timm/resnet10t", 32, 32, channels))


@pytest.mark.parametrize("channels", [1, 3])
def test_weights_of_timm(timm_downloads, channels):
    encoder = build("timm/resnet10t", 32, 32, channels, weights="DEFAULT")
    conv = first_conv(encoder)
    learned = timm_downloads["conv1.0.weight"]
    torch.testing.assert_close(conv.weight.sum(1), learned.sum(1))
    if channels == 3:
        torch.testing.assert_close(conv.weight, learned)
    for name, value in encoder.backbone.layer4.state_dict().items():
        torch.testing.assert_close(value, timm_downloads[f"layer4.{name}"])


def test_weights_of_timm_are_not_taken_unasked(timm_downloads):
    conv = first_conv(build("timm/resnet10t", 32, 32))
    assert not torch.equal(conv.weight, timm_downloads["conv1.0.weight"])


def test_unknown_weights_of_timm(timm_downloads):
    with pytest.raises(ValueError, match="nonesuch"):
        build("timm/resnet10t", 32, 32, weights="nonesuch")


def test_model_of_timm_that_has_no_weights():
    pytest.importorskip("timm")
    with pytest.raises(ValueError, match="convnext_atto_rms"):
        build("timm/convnext_atto_rms", 32, 32, weights="DEFAULT")


@pytest.mark.parametrize("name", ["nonesuch", "resnet10t.nonesuch", ""])
def test_unknown_name_of_timm(name, images):
    pytest.importorskip("timm")
    with pytest.raises(ValueError, match=f"timm/{name}"):
        small(SimCLR, encoder=f"timm/{name}").fit(images)


def test_without_timm(monkeypatch, images):
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(ImportError, match=r"pip install 'sklearn-ssl\[timm\]'"):
        small(SimCLR, encoder="timm/resnet10t").fit(images)


# Classes and functions of the user


class Shaped(nn.Module):
    """Takes the shape of the images only."""

    def __init__(self, image_shape):
        super().__init__()
        self.conv = nn.Conv2d(image_shape[2], image_shape[0], 1)

    def forward(self, x):
        return self.conv(x)


class Both(TinyNet):
    def __init__(self, in_channels, image_shape):
        assert image_shape[2] == in_channels
        super().__init__(in_channels)


class Fixed(TinyNet):
    def __init__(self):
        super().__init__(3)


def wide_net(in_channels, width=12):
    return nn.Sequential(nn.Conv2d(in_channels, width, 3, 1, 1), nn.ReLU())


@pytest.mark.parametrize(
    ("encoder", "out_shape"),
    [
        (TinyNet, (16, 4, 3)),
        (Shaped, (8, 8, 6)),
        (Both, (16, 4, 3)),
        (Fixed, (16, 4, 3)),
        (lambda: TinyNet(3), (16, 4, 3)),
        (lambda in_channels: TinyNet(in_channels), (16, 4, 3)),
        (wide_net, (12, 8, 6)),
        (functools.partial(TinyNet, 3), (16, 4, 3)),
        (functools.partial(wide_net, width=5), (5, 8, 6)),
    ],
)
def test_class_or_function(encoder, out_shape):
    learner = clone(small(SimCLR, encoder=encoder, pool=None, layer=None, max_epochs=0))
    features = learner.fit_transform(make_images(8, height=8, width=6))
    assert learner.encoder_.out_shape == out_shape
    assert features.shape == (8, np.prod(learner.encoder_.layers[learner.encoder_.default_layer]))


def test_each_fit_starts_from_fresh_weights(images):
    learner = small(SimCLR, max_epochs=0).fit(images)
    first = learner.encoder_
    learner.set_params(random_state=1).fit(images)
    assert learner.encoder_ is not first
    assert not torch.equal(first_conv(first).weight, first_conv(learner.encoder_).weight)


def test_a_module_instance_is_refused(images):
    with pytest.raises(TypeError, match=r"instance of TinyNet.*pass the class"):
        small(SimCLR, encoder=TinyNet(3)).fit(images)


def test_a_function_that_builds_no_module_is_refused(images):
    with pytest.raises(TypeError, match="built a int, not a module"):
        small(SimCLR, encoder=lambda: 3).fit(images)


def test_a_network_without_maps_is_refused(images):
    def flat():
        return nn.Sequential(nn.Flatten(), nn.Linear(192, 4))

    with pytest.raises(ValueError, match="layers of Sequential cannot be read"):
        small(SimCLR, encoder=flat).fit(images)


def test_unknown_encoder(images):
    with pytest.raises(ValueError, match=r"'nonesuch' is unknown\. Give 'small_resnet'.*timm/"):
        small(SimCLR, encoder="nonesuch").fit(images)


@pytest.mark.parametrize(
    ("encoder", "weights", "meant"),
    [
        ("resnet19", None, "'resnet18'"),
        ("ResNet-50", None, "'resnet50'"),
        ("small-vit", None, "'small_vit'"),
        ("convnext_atto", None, "timm's, encoder='timm/convnext_atto'"),
        ("resnet18.a1_in1k", None, "timm's, encoder='timm/resnet18.a1_in1k'"),
        ("timm/convnext_ato", None, "'timm/convnext_atto'"),
        ("timm/resnet18.a1_in2k", None, "'timm/resnet18.a1_in1k'"),
        ("resnet18", "default", "'DEFAULT'"),
        ("resnet50", "IMAGENET1K_V3", "'IMAGENET1K_V2'"),
    ],
)
def test_an_encoder_that_is_nearly_right(encoder, weights, meant, images):
    with pytest.raises(ValueError, match=f"Did you mean {meant}") as caught:
        small(SimCLR, encoder=encoder, weights=weights).fit(images)
    assert len(str(caught.value)) < 400  # not all the names that there are


def test_unknown_layer(images):
    with pytest.raises(ValueError, match=r"'nonesuch' is not a layer.*conv\.0, .*conv, .*out"):
        small(SimCLR, layer="nonesuch").fit(images)
    learner = small(SimCLR).fit(images).set_params(layer="nonesuch")
    with pytest.raises(ValueError, match="'nonesuch' is not a layer"):
        learner.transform(images)
    assert learner.set_params(layer="out").transform(images).shape == (48, 16 * 3 * 3)


# Through a learner


@pytest.fixture(scope="module", params=["small_vit", "resnet18"])
def fitted(request):
    learner = SimCLR(
        encoder=request.param, max_epochs=1, batch_size=8, precision="float32", random_state=0
    )
    return learner.fit(make_images(16, 16, 16))


def test_a_fitted_learner_gives_features(fitted):
    features = fitted.transform(make_images(16, 16, 16))
    width = fitted.encoder_.layers[fitted.encoder_.default_layer][0]
    assert fitted.n_epochs_ == 1
    assert np.isfinite(fitted.history_[0]["train_loss"])
    assert features.shape == (16, width * 9)
    assert features.dtype == np.float32
    assert np.isfinite(features).all()
    assert features.std(0).max() > 0


@pytest.mark.slow
def test_layer_and_pool_can_be_changed_on_a_fitted_learner(fitted):
    images = make_images(16, 16, 16)
    first, _, third, *_ = fitted.encoder_layers()
    before = fitted.set_params(layer=third, pool=3).transform(images)
    state = copy.deepcopy(fitted.encoder_.state_dict())
    inputs = torch.from_numpy(images).permute(0, 3, 1, 2) / 255
    for layer, pool in [*((first, pool) for pool in POOLS), (third, "max"), (None, "avg")]:
        changed = fitted.set_params(layer=layer, pool=pool)
        found = changed.transform(images)
        with torch.no_grad():
            encoder = fitted.encoder_.eval()
            expected = pool_features(encoder(inputs, layer or encoder.default_layer), pool)
        torch.testing.assert_close(torch.from_numpy(found), expected, atol=1e-4, rtol=1e-4)
        assert len(changed.get_feature_names_out()) == found.shape[1]
    after = fitted.set_params(layer=third, pool=3).transform(images)
    np.testing.assert_array_equal(after, before)
    fitted.set_params(layer=None)
    assert fitted.n_epochs_ == 1
    for name, value in fitted.encoder_.state_dict().items():
        assert torch.equal(value, state[name])


# Tiny maps


class Standardized(nn.Conv2d):
    """A convolution that computes its weights."""

    def forward(self, x):
        mean = self.weight.mean((1, 2, 3), keepdim=True)
        return nn.functional.conv2d(x, self.weight - mean, None, self.stride, self.padding)


class ByName(nn.Conv2d):
    def forward(self, x):
        options = {"stride": self.stride, "padding": self.padding}
        return torch.conv2d(input=x, weight=self.weight, bias=None, **options)


@pytest.mark.parametrize("size", [(1, 1), (2, 1), (3, 1), (1, 2), (2, 2), (4, 4)])
@pytest.mark.parametrize(("kernel", "stride"), [(3, 1), (3, 2), (4, 2), (5, 1), (7, 2)])
@pytest.mark.parametrize("Conv", [nn.Conv2d, Standardized, ByName])
def test_gradients_of_convolutions_of_tiny_maps(Conv, size, kernel, stride):
    """With bfloat16, those of torch may be any number where kernels see padding alone."""
    torch.manual_seed(0)
    conv, plain = (Conv(16, 32, kernel, stride, kernel // 2, bias=False) for _ in range(2))
    plain.load_state_dict(conv.state_dict())
    x = torch.randn(8, 16, *size)
    for _ in range(3):
        conv.zero_grad()
        del (junk := [torch.full((conv.weight.numel(),), 1e30) for _ in range(3)])[:]
        with isolated(torch.device("cpu")), torch.autocast("cpu", dtype=torch.bfloat16):
            conv(x.to(memory_format=torch.channels_last)).float().sum().backward()
        plain.zero_grad()
        plain(x).sum().backward()
        scale = plain.weight.grad.abs().max()
        assert (conv.weight.grad - plain.weight.grad).abs().max() < 0.05 * scale + 0.1
        assert junk == []


class NeedsSixteen(nn.Sequential):
    """Pools four times, so that smaller images leave nothing."""

    def __init__(self, in_channels):
        super().__init__()
        for i in range(4):
            conv = nn.Conv2d(in_channels if i == 0 else 4, 4, 3, 1, 1)
            self.add_module(f"stage{i}", nn.Sequential(conv, nn.BatchNorm2d(4), nn.MaxPool2d(2)))


def test_views_too_small_for_a_backbone_are_enlarged():
    encoder = build(NeedsSixteen, 64, 64)
    assert encoder.smallest == (16, 16)
    assert not encoder.takes_one_size
    tiny = torch.rand(2, 3, 12, 20)
    large = torch.nn.functional.interpolate(tiny, (16, 20), mode="bilinear", antialias=True)
    torch.testing.assert_close(encoder(tiny), encoder(large))
    assert encoder(torch.rand(2, 3, 16, 40)).shape == (2, 4, 1, 2)  # large enough
    learner = small(DINO, encoder=NeedsSixteen, views=Views(size=20)).fit(make_images(8, 64, 64))
    assert np.isfinite(learner.history_[-1]["train_loss"])
