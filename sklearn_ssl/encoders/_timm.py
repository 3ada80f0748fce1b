"""Networks of timm, by name."""

from typing import Any

from torch import nn

__all__ = ["build_timm"]


def build_timm(
    name: str, channels: int, image_size: tuple[int, int], weights: str | None
) -> nn.Module:
    """A timm model without its classifier."""
    try:
        import timm
    except ImportError:
        raise ImportError(
            f"encoder='timm/{name}' needs timm: pip install 'sklearn-ssl[timm]'"
        ) from None
    # models that cannot take images of another size must be told it when they are built
    if ":" not in name and not timm.is_model(name.partition(".")[0]):  # "hf-hub:" is left to timm
        raise ValueError(
            f"encoder='timm/{name}' is unknown to timm; timm.list_models() gives the names"
        )
    if weights not in (None, "DEFAULT"):
        raise ValueError(
            f"weights={weights!r}: timm has the name of its weights in the name of the model, as "
            "in 'timm/resnet18.a1_in1k'; use weights='DEFAULT' to load them"
        )
    options: dict[str, Any] = {}
    try:
        config = timm.get_pretrained_cfg(name)
    except RuntimeError as error:  # a tag that is unknown
        raise ValueError(f"encoder='timm/{name}' is unknown to timm: {error}") from None
    if config is not None and config.fixed_input_size:
        options["img_size"] = image_size
    return timm.create_model(
        name, pretrained=weights is not None, in_chans=channels, num_classes=0, **options
    )
