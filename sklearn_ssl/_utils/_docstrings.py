"""Parts that the docstrings of all learners share."""

import inspect
import textwrap
from dataclasses import fields
from typing import Any

__all__ = ["fill_docstring"]

_OF = "Arguments of "  # how the docstring of a class that only declares some begins
_ATTRIBUTES = """
    net_ : PretextNet
        The skorch net that was trained: its history, optimizer and module;
        ``net_.module_.task`` is the pretext task with its heads.
    encoder_ : Encoder
        The trained encoder, a torch module that takes images in [0, 1].
    history_ : list of dict
        For each epoch: the terms of the loss, learning rate, seconds, images, images per second,
        and the feature spread (0 when all features are the same). After a fit from pretrained
        weights the last one says, too, how far it ``moved`` features, from 0 to about 1: 1 minus
        their debiased linear centered kernel alignment (:func:`sklearn_ssl.metrics.linear_cka`).
    n_epochs_ : int
        Number of epochs that the encoder was trained for.
    n_images_seen_ : int
        Number of images that it was trained on, counted in every epoch.
    image_shape_ : tuple of int
        Height, width and channels of the images.
    skipped_ : dict of int to str
        Rows of the training set whose files could not be read, and why, with ``on_error="skip"``;
        those of ``X_unlabeled`` are counted on from those of ``X``.
    device_ : torch.device
        Where the encoder is.
    n_features_in_ : int
        Number of values of an image.
    feature_names_in_ : ndarray of shape (``n_features_in_``,)
        Names of the columns of a data frame.
"""


def fill_docstring(cls: Any) -> None:
    """Put the shared parts in the places of ``<shared parameters>`` and ``<attributes>``."""
    parts = {
        "    Parameters\n    ----------\n": f"{_overview(cls)}\n\n    Parameters\n    ----------\n",
        "    <shared parameters>": _describe_arguments(cls),
        "    <attributes>": _ATTRIBUTES.strip("\n"),
        "<_usual_batch_size>": str(getattr(cls, "_usual_batch_size", "")),
    }
    for placeholder, text in parts.items():
        cls.__doc__ = cls.__doc__ and cls.__doc__.replace(placeholder, text)


def _overview(cls: Any) -> str:
    """List the arguments by the groups in which all learners share them."""
    groups = {
        base.__doc__.removeprefix(_OF).rstrip("."): inspect.get_annotations(base)
        for base in reversed(cls.__mro__)
        if (base.__doc__ or "").startswith(_OF)
    }
    shared = {name for names in groups.values() for name in names}
    own = [argument.name for argument in fields(cls) if argument.name not in shared]
    lines = [f"- {group}: {', '.join(names)}" for group, names in groups.items()]
    lines = [f"- the method: {', '.join(own)}"] * bool(own) + lines
    return "    Arguments of\n\n" + "\n".join(
        textwrap.fill(line, 100, initial_indent="    ", subsequent_indent="      ")
        for line in lines
    )


def _describe_arguments(cls: Any) -> str:
    """Return entries for arguments that were declared with a description, in that order."""
    entries = []
    for argument in fields(cls):
        kind, _, text = cls._arguments[argument.name]["doc"].partition("\n")
        if not kind or f"\n    {argument.name} : " in (cls.__doc__ or ""):
            continue
        shown = f'"{default}"' if isinstance(default := argument.default, str) else repr(default)
        lines = "\n".join(f"        {line}" for line in text.split("\n"))
        entries.append(f"    {argument.name} : {kind}, default={shown}\n{lines}")
    return "\n".join(entries)
