"""Networks from timm, by name."""

import os
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import torch
from torch import nn

from sklearn_ssl._utils._messages import did_you_mean, warn
from sklearn_ssl.encoders._weights import (
    Expected,
    adapt_first_conv,
    downloading,
    is_file,
    load_weights,
)
from sklearn_ssl.exceptions import EncoderWarning

_WEIGHTS = ("model.safetensors", "pytorch_model.bin")  # names of timm's files on the hub


def is_elsewhere(encoder: Any) -> bool:
    """Return whether timm must read a model's definition from a hub or a folder."""
    return isinstance(encoder, str) and encoder.startswith("timm/") and ":" in encoder


def expected_by_timm(name: str) -> Expected | None:
    """Return the image properties that a model's weights expect; None if timm does not say."""
    import timm

    config = timm.get_pretrained_cfg(name)
    if config is None or not config.mean or not config.std:
        return None
    return Expected(config.mean, config.std, config.input_size[1:], bool(config.fixed_input_size))


def build_timm(
    name: str,
    channels: int,
    image_size: tuple[int, int],
    weights: str | os.PathLike | None,
    filled: bool = True,
) -> nn.Module:
    """Build a timm model without its classifier."""
    try:
        import huggingface_hub
        import timm
    except ImportError:
        raise ImportError(
            f"encoder='timm/{name}' needs timm: pip install 'sklearn-ssl[timm]'"
        ) from None
    if ":" not in name and not is_model_of_timm(name):  # "hf-hub:" is left to timm
        raise ValueError(
            f"encoder='timm/{name}' is unknown to timm.{_meant(name, timm.list_models())} "
            "timm.list_models() lists the names"
        )
    if not is_file(weights) and weights not in (None, "DEFAULT"):
        raise ValueError(
            f"weights={weights!r} is unknown: in timm, the model's name also names its weights, as "
            "in 'timm/resnet18.a1_in1k'; use weights='DEFAULT' to load these, or give a file"
        )
    options: dict[str, Any] = {}
    try:
        config = timm.get_pretrained_cfg(name)
    except RuntimeError as error:  # unknown tag
        known = timm.list_pretrained(f"{name.partition('.')[0]}.*")
        raise ValueError(
            f"encoder='timm/{name}' is unknown to timm: {error}{_meant(name, known)}"
        ) from None
    if weights is None and ("." in name or ":" in name):
        warn(
            f"encoder='timm/{name}' names weights, but starts from random ones; "
            "weights='DEFAULT' loads the named ones",
            EncoderWarning,
        )
    if not filled:
        weights = None
    file = weights if is_file(weights) else None
    # models of a fixed input size must be built for the size of the images
    if config is not None and config.fixed_input_size:
        options["img_size"] = image_size
    with downloading(f"timm/{name}", huggingface_hub.constants.HF_HUB_CACHE):
        if name.startswith(("hf-hub:", "hf_hub:")):
            _ask_once(name.partition(":")[2], ["config.json"])
        elif config is not None and weights == "DEFAULT" and not _is_in_torch_hub(config):
            _ask_once(config.hf_hub_id, [config.hf_hub_filename or "", *_WEIGHTS])
        if file is None:
            options |= {"pretrained": weights is not None, "in_chans": channels}
        model = timm.create_model(name, num_classes=0, **options)
    if file is not None:
        load_weights(model, file, _heads_of(model))
        adapt_first_conv(model, channels)
    if not hasattr(model, "forward_intermediates"):
        raise ValueError(
            f"encoder='timm/{name}': timm {timm.__version__} does not expose its layers; "
            "upgrade timm, or use another model"
        )
    return model


def is_model_of_timm(name: str) -> bool:
    """Return whether timm is installed and has this model; a weights tag may follow the name."""
    if not find_spec("timm"):
        return False
    import timm

    return timm.is_model(name.partition(".")[0])


def _meant(name: str, known: list[str]) -> str:
    return did_you_mean(f"timm/{name}", (f"timm/{one}" for one in known))


def _heads_of(model: Any) -> set[str]:
    """Return the names of children that only classify."""
    named = (model.pretrained_cfg or {}).get("classifier") or ()
    names = {named} if isinstance(named, str) else set(named)
    return {"head", "fc", "classifier", *(name.partition(".")[0] for name in names)}


def _is_in_torch_hub(config: Any) -> bool:
    """Return whether weights are in torch's hub folder, where timm stored them before its hub."""
    file = Path(urlparse(config.url or "").path).name
    return bool(file) and Path(torch.hub.get_dir(), "checkpoints", file).is_file()


def _ask_once(repo: str | None, files: list[str]) -> None:
    """Raise OSError if a model is neither cached nor reachable; timm would retry for a minute."""
    import huggingface_hub

    repo, _, revision = (repo or "").partition("@")
    here = (
        huggingface_hub.try_to_load_from_cache(repo, file, revision=revision or None)
        for file in files
        if file
    )
    if not repo or any(isinstance(path, str) for path in here):
        return
    try:
        huggingface_hub.model_info(repo, timeout=10)
    except Exception as error:  # HTTP client errors share no base class across versions
        raise OSError(f"{type(error).__name__}: {error}") from error
