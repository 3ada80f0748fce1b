"""Check that layers of third-party networks are read correctly, on one model of each family.

    python examples/encoder_survey.py                     # every family of timm and torchvision
    python examples/encoder_survey.py timm/swin_tiny_patch4_window7_224 resnet18

Each row of the table is about a network with random weights, and names the checks that it fails:

- it builds for images of two sizes and for gray images, with the same features at both sizes;
- a layer has the same output alone as together with other layers;
- changing a quarter of the image changes that quarter of the feature maps most;
- the default layer is in the second half of the layers, and pretext tasks train it.

A network whose layers cannot be read must be rejected with a ValueError that says why.

ConvMixer fails the third check, as expected: each of its positions sees 2,000 pixels. The survey
takes about 25 minutes on one core.
"""

import argparse
import sys
import time
import warnings

import torch
import torchvision

from sklearn_ssl.encoders import encoder_names, make_encoder

SIZES = ((64, 64), (96, 96), (128, 128), (224, 224))
LARGE = 320  # pixels; in small images, each position of a convolution sees the whole image
LARGEST = 40e6  # parameters; families whose smallest model is larger are left out


def build(name, size, channels=3):
    torch.manual_seed(0)
    return make_encoder(name, (*size, channels), [0.5] * channels, [0.25] * channels).eval()


def check(name):
    """Return a row of the table, with failed checks; ValueError if the encoder is rejected."""
    encoders, refused = [], ""
    for size in SIZES:
        try:
            encoders.append(build(name, size))
        except ValueError as error:
            refused = str(error)
        if len(encoders) == 2:
            break
    if not encoders:
        raise ValueError(refused)
    encoder, wrong = encoders[0], []
    height, width, _ = encoder.image_shape
    if len(encoders) == 2:
        features = [{n: shape[0] for n, shape in e.layers.items()} for e in encoders]
        if features[0] != features[1]:
            wrong.append("features depend on the size")
    gray = build(name, (height, width), 1)
    if list(gray.layers) != list(encoder.layers):
        wrong.append("gray images have other layers")
    layers = [encoder.default_layer, encoder.last_layer]
    images = torch.rand(1, 3, height, width)
    with torch.no_grad():
        together = encoder.maps(images, *encoder.layers)
        for layer, found in zip(encoder.layers, together, strict=True):
            if not torch.allclose(encoder(images, layer), found, rtol=1e-3, atol=1e-4):
                wrong.append(f"{layer} differs when read alone")
            if tuple(found.shape[1:]) != encoder.layers[layer]:
                wrong.append(f"{layer} has an unexpected shape")
        try:
            large = build(name, (LARGE, LARGE))
        except ValueError:
            large = encoder
        for layer in {large.default_layer, large.last_layer}:
            if min(large.layers[layer][1:]) > 1 and (odd := misplaced(large, layer)):
                wrong.append(f"{layer} changes elsewhere for {odd} of 4 quarters")
    names = list(encoder.layers)
    depth = (names.index(encoder.default_layer) + 1) / len(names)
    if depth < 0.5:
        wrong.append(f"the default layer is at {depth:.0%} of the depth")
    before, trained = (parameters_before(encoder, layer) for layer in layers)
    if not before or not before <= trained:
        wrong.append("the default layer is not trained")
    sizes = {n: p.numel() for n, p in encoder.backbone.named_parameters()}
    share = sum(sizes[n] for n in trained) / sum(sizes.values())
    return {
        "images": "/".join(str(e.image_shape[0]) for e in encoders),
        "default": f"{encoder.default_layer} {encoder.layers[encoder.default_layer]}",
        "last": f"{encoder.last_layer} {encoder.out_shape}",
        "trained": f"{share:.0%} of {sum(sizes.values()) / 1e6:.1f}M",
        "wrong": "; ".join(wrong),
    }


def misplaced(encoder, layer):
    """Count the quarters of images that change another quarter of the maps more than their own.

    Some quarters of the maps of a random network change more, whichever quarter of the image does:
    changes are relative to the mean change of each quarter of the maps.
    """
    side, _, channels = encoder.image_shape
    images = torch.rand(4, channels, side, side)
    settle(encoder, images)
    before = encoder(images, layer)
    rows, columns = (side // 2 for side in before.shape[2:])
    moves = torch.empty(4, 4)
    for quarter in range(4):
        top, left = (side // 2 * place for place in divmod(quarter, 2))
        changed = images.clone()  # same distribution, because some gates see the image mean
        changed[:, :, top : top + side // 2, left : left + side // 2].uniform_()
        moved = (encoder(changed, layer) - before).abs().mean((0, 1))
        parts = [
            moved[y, x].mean()
            for y in (slice(rows), slice(-rows, None))
            for x in (slice(columns), slice(-columns, None))
        ]
        moves[quarter] = torch.stack(parts)
    most = (moves / moves.mean(0)).argmax(1)
    return int((most != torch.arange(4)).sum())


def settle(encoder, images):
    """Set the statistics of batch norms; otherwise, signals vanish in a random network."""
    norms = [m for m in encoder.modules() if isinstance(m, torch.nn.modules.batchnorm._BatchNorm)]
    for norm in norms:
        norm.momentum = 1.0
    encoder.train()(images)
    encoder.eval()


def parameters_before(encoder, layer):
    """Return the names of the parameters that get gradients from a layer in a training step."""
    encoder.train()
    for parameter in encoder.parameters():
        parameter.grad = None
    encoder(torch.rand(4, 3, *encoder.image_shape[:2]), layer).mean((2, 3)).sum().backward()
    encoder.eval()
    return {n for n, p in encoder.backbone.named_parameters() if p.grad is not None}


def smallest_of_timm():
    """Yield the smallest model of each timm family, and its number of parameters."""
    import timm

    for family in timm.list_modules():
        sizes = {}
        for name in timm.list_models(module=family):
            try:
                with torch.device("meta"):
                    model = timm.create_model(name, num_classes=0)
            except Exception:  # some models read values while they are built
                model = timm.create_model(name, num_classes=0)
            sizes[name] = sum(p.numel() for p in model.parameters())
        if sizes:
            name = min(sizes, key=sizes.__getitem__)
            yield f"timm/{name}", sizes[name]


def smallest_of_torchvision():
    """Yield the smallest model of each torchvision family, and its number of parameters."""
    families = {}
    for name in encoder_names():
        if not name.startswith("small_"):
            family = torchvision.models.get_model_builder(name).__module__
            weights = torchvision.models.get_model_weights(name).DEFAULT
            families.setdefault(family, []).append((weights.meta["num_params"], name))
    for members in families.values():
        size, name = min(members)
        yield name, size


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("names", nargs="*", help="encoders; default: one of every family")
    given = parser.parse_args().names
    warnings.simplefilter("ignore")
    families = [(name, 0) for name in given] or [*smallest_of_torchvision(), *smallest_of_timm()]
    failures, refusals, left_out = [], [], []
    for name, size in families:
        if size > LARGEST and name.startswith("timm/"):
            left_out.append(f"{name}: {size / 1e6:.0f}M parameters")
            continue
        start = time.perf_counter()
        try:
            row = check(name)
        except ValueError as error:
            refusals.append(f"{name}: {error}")
            row = {"wrong": "refused"}
        except Exception as error:  # what a user would see
            row = {"wrong": f"{type(error).__name__}: {error}"}
        if row["wrong"] not in ("", "refused"):
            failures.append(f"{name}: {row['wrong']}")
        row["seconds"] = f"{time.perf_counter() - start:.1f}"
        print(" | ".join([name, *row.values()]), flush=True)
    for title, lines in (
        ("failures", failures),
        ("refused", refusals),
        ("left out", left_out),
    ):
        print(f"\n{len(lines)} {title}", *lines, sep="\n  ")
    sys.exit(bool(failures))


if __name__ == "__main__":
    main()
