"""Learners on the Hugging Face Hub, or in a folder of the same layout: a file and a model card."""

import inspect
import os
import tempfile
from importlib.metadata import version
from pathlib import Path
from types import ModuleType
from typing import Any

import sklearn
import torch
from sklearn.base import is_classifier
from sklearn.utils.validation import check_is_fitted

from sklearn_ssl._loading import load
from sklearn_ssl._utils._storage import expanded, replaced
from sklearn_ssl.base import ImageTransformer

__all__ = ["from_pretrained", "push_to_hub", "save_pretrained"]

_FILE = "learner.safetensors"


def __dir__() -> list[str]:
    return __all__


def save_pretrained(learner: Any, folder: str | os.PathLike) -> None:
    """Save a fitted learner to a folder, with a model card that describes it.

    Parameters
    ----------
    learner : estimator
        Fitted learner, or another fitted estimator of this package.
    folder : str or path
        Folder, which is created if necessary. Other files in it stay as they are, including a
        ``README.md``.

    Raises
    ------
    NotFittedError
        If the learner is not fitted.
    OSError
        If the folder cannot be written to.

    Examples
    --------
    >>> import tempfile
    >>> from sklearn.datasets import load_digits
    >>> from sklearn_ssl import SimCLR
    >>> from sklearn_ssl.hub import from_pretrained, save_pretrained
    >>> X = load_digits().images[:64]
    >>> ssl = SimCLR(max_epochs=1, random_state=0).fit(X)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save_pretrained(ssl, folder)
    ...     again = from_pretrained(folder)
    >>> bool((again.transform(X) == ssl.transform(X)).all())
    True
    """
    _check_learner(learner)
    folder = expanded(folder, "folder")
    folder.mkdir(parents=True, exist_ok=True)
    learner.save(folder / _FILE)
    if not (folder / "README.md").exists():
        with replaced(folder / "README.md") as beside:
            Path(beside).write_text(model_card(learner), encoding="utf-8")


def push_to_hub(
    learner: Any,
    repo_id: str,
    *,
    private: bool | None = None,
    token: str | None = None,
    commit_message: str = "Upload with sklearn_ssl",
) -> str:
    """Upload a fitted learner and its model card to the Hugging Face Hub.

    Parameters
    ----------
    learner : estimator
        Fitted learner, as for :func:`save_pretrained`.
    repo_id : str
        Repository, ``"user/name"``. It is created if necessary; an existing model card stays.
    private : bool, optional
        Make a new repository private. ``None`` means the owner's default.
    token : str, optional
        Access token; by default that of ``hf auth login``.
    commit_message : str

    Returns
    -------
    str
        URL of the commit.

    Raises
    ------
    ImportError
        If ``huggingface_hub`` is missing.
    NotFittedError
        If the learner is not fitted.
    """
    _check_learner(learner)
    api = _huggingface_hub().HfApi(token=token)
    with tempfile.TemporaryDirectory() as folder:
        save_pretrained(learner, folder)
        api.create_repo(repo_id, private=private, exist_ok=True)
        if api.file_exists(repo_id, "README.md"):
            Path(folder, "README.md").unlink()
        commit = api.upload_folder(
            repo_id=repo_id, folder_path=folder, commit_message=commit_message
        )
    return str(commit.commit_url)


def from_pretrained(
    name: str | os.PathLike, *, revision: str | None = None, token: str | None = None, **params: Any
) -> Any:
    """Load a learner from a folder or from the Hugging Face Hub.

    No code from there is run. Downloads are cached.

    Parameters
    ----------
    name : str or path
        Folder, or ``"user/name"`` on the hub if there is no folder of this name.
    revision : str, optional
        Branch, tag or commit on the hub.
    token : str, optional
        Access token; by default that of ``hf auth login``.
    **params : object
        Arguments that are given again or changed, as for :func:`sklearn_ssl.load`.

    Returns
    -------
    estimator
        Fitted learner.

    Raises
    ------
    ImportError
        If ``name`` is not a folder, and ``huggingface_hub`` is missing.
    OSError
        If the learner is not found, or cannot be read.
    ValueError
        If the learner cannot be loaded, as for :func:`sklearn_ssl.load`.
    """
    folder = expanded(name, "name")
    if folder.is_dir():
        if not (folder / _FILE).exists():
            raise FileNotFoundError(
                f"{name} holds no {_FILE}; give a folder that save_pretrained wrote"
            )
        return load(folder / _FILE, **params)
    hub = _huggingface_hub()
    path = hub.hf_hub_download(os.fspath(name), _FILE, revision=revision, token=token)
    return load(path, **params)


def _check_learner(learner: Any) -> None:
    if isinstance(learner, type) or not hasattr(learner, "save"):
        raise TypeError(
            f"learner={learner!r} cannot be saved; give a fitted learner, such as SimCLR().fit(X)"
        )
    check_is_fitted(learner)


def model_card(learner: Any) -> str:
    """Return the text of a model's README, with the header that the hub reads."""
    kind = type(learner).__name__
    defaults = {n: p.default for n, p in inspect.signature(type(learner)).parameters.items()}
    arguments = "".join(
        f"- `{name}={value!r}`\n"
        for name, value in sorted(learner.get_params(deep=False).items())
        if repr(value) != repr(defaults.get(name))
    )
    fitted = getattr(learner, "learner_", learner)  # the part of a classifier with the encoder
    has_encoder = isinstance(fitted, ImageTransformer)
    if has_encoder:
        height, width, channels = fitted.image_shape_
        shape = f"{height}, {width}, {channels}"
        given = f"images of {height} x {width} pixels and {channels} channels"
    else:
        shape = f"{learner.n_features_in_}"
        given = f"vectors of {shape} features"
    if fitted is learner and has_encoder:
        what, n_features = "Features of", len(learner.get_feature_names_out())
        use = f"features = learner.transform(images)  # (n, {shape}) to (n, {n_features})"
        tags = "- image-feature-extraction\n"
    else:
        what = "Classes of" if is_classifier(learner) else "Predictions for"
        use = f"predicted = learner.predict({'images' if has_encoder else 'X'})  # (n, {shape})"
        tags = "- image-classification\n" if has_encoder and is_classifier(learner) else ""
    layers = ""
    if has_encoder:
        layers = "\n## Layers\n\n| layer | channels x height x width |\n|---|---|\n" + "".join(
            f"| `{layer}` | {d} x {rows} x {columns} |\n"
            for layer, (d, rows, columns) in fitted.encoder_.layers.items()
        )
    versions = f"scikit-learn {sklearn.__version__}, torch {torch.__version__}"
    versions = f"sklearn-ssl {version('sklearn-ssl')}, {versions}"
    seen = ""
    if history := getattr(fitted, "history_", None):
        seen = (
            f"- trained for {fitted.n_epochs_} epochs ({fitted.n_images_seen_} images seen); last "
            f"loss {history[-1]['train_loss']:.4g}\n"
        )
    return f"""---
library_name: sklearn-ssl
tags:
- self-supervised-learning
{tags}- scikit-learn
---

# {kind}

{what} {given}, by `sklearn_ssl.{kind}`.

{seen}- {versions}

## Use

```python
from sklearn_ssl.hub import from_pretrained

learner = from_pretrained("this repository, or its folder")
{use}
```

This runs no code from the repository.

## Non-default arguments

{arguments or "None."}
{layers}
## Training data and intended use

To be filled in: the training images and their license, how the features were tested, and where they
fail.
"""


def _huggingface_hub() -> ModuleType:
    try:
        import huggingface_hub
    except ImportError as error:
        raise ImportError(
            'the hub needs huggingface_hub: pip install "sklearn-ssl[hub]". With a folder, '
            "save_pretrained and from_pretrained work without it"
        ) from error
    return huggingface_hub
