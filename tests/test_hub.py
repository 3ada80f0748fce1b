"""Learners in folders and on a hub that is a folder."""

import shutil
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from conftest import one_of_each_kind, small
from sklearn.exceptions import NotFittedError

from sklearn_ssl import LinearProbe, PatchDictionary, SelfSupervisedClassifier, SimCLR
from sklearn_ssl.hub import from_pretrained, push_to_hub, save_pretrained


@one_of_each_kind
def test_a_folder_gives_the_same_features(Learner, tmp_path, images):
    learner = small(Learner).fit(images)
    save_pretrained(learner, tmp_path / "new" / "folder")
    code = {"encoder": learner.encoder} if not isinstance(learner.encoder, str) else {}
    again = from_pretrained(tmp_path / "new" / "folder", **code)
    np.testing.assert_array_equal(again.transform(images), learner.transform(images))


def test_a_card_says_what_it_is(tmp_path, images):
    learner = small(SimCLR, temperature=0.3, max_epochs=2).fit(images)
    save_pretrained(learner, tmp_path)
    card = (tmp_path / "README.md").read_text()
    header = card.split("---")[1]
    assert "library_name: sklearn-ssl" in header
    assert "images of 8 x 8 pixels and 3 channels" in card
    assert "trained for 2 epochs (96 images seen)" in card
    assert "- `temperature=0.3`" in card
    assert "projection_dim" not in card
    assert f"to (n, {learner.transform(images[:1]).shape[1]})" in card
    for layer in learner.encoder_.layers:
        assert f"| `{layer}` |" in card
    (tmp_path / "README.md").write_text("mine")
    save_pretrained(learner, tmp_path)
    assert (tmp_path / "README.md").read_text() == "mine"


@pytest.mark.parametrize(
    ("classifier", "given"),
    [
        (SelfSupervisedClassifier(SimCLR(max_epochs=1)), "images of 8 x 8 pixels and 3 channels"),
        (LinearProbe(), "vectors of 192 features"),
    ],
)
def test_classifiers(classifier, given, tmp_path, images):
    X, y = images.reshape(48, -1), np.arange(48) % 2
    X = X if isinstance(classifier, LinearProbe) else images
    save_pretrained(classifier.fit(X, y), tmp_path)
    card = (tmp_path / "README.md").read_text()
    assert f"Classes of {given}" in card
    assert "learner.predict(" in card
    np.testing.assert_array_equal(from_pretrained(tmp_path).predict(X), classifier.predict(X))


def test_transformers_that_are_not_trained(tmp_path, images):
    dictionary = PatchDictionary(n_atoms=8, patch_size=3, random_state=0).fit(images)
    save_pretrained(dictionary, tmp_path)
    assert "trained for" not in (tmp_path / "README.md").read_text()
    found = from_pretrained(tmp_path).transform(images)
    np.testing.assert_array_equal(found, dictionary.transform(images))


class FolderApi:
    """What is used of HfApi, on a folder."""

    root: Path
    calls: list

    def __init__(self, token=None):
        self.calls.append(("token", token))

    def create_repo(self, repo_id, *, private, exist_ok):
        self.calls.append(("private", private))
        (self.root / repo_id).mkdir(parents=True, exist_ok=exist_ok)

    def file_exists(self, repo_id, filename):
        return (self.root / repo_id / filename).exists()

    def upload_folder(self, *, repo_id, folder_path, commit_message):
        shutil.copytree(folder_path, self.root / repo_id, dirs_exist_ok=True)
        return SimpleNamespace(commit_url=f"https://hub/{repo_id}/commit/1")


def test_the_hub(tmp_path, images, monkeypatch):
    hub = pytest.importorskip("huggingface_hub")
    api = type("Api", (FolderApi,), {"root": tmp_path, "calls": []})
    monkeypatch.setattr(hub, "HfApi", api)
    downloads = []

    def download(repo_id, filename, *, revision, token):
        downloads.append((repo_id, revision, token))
        return str(tmp_path / repo_id / filename)

    monkeypatch.setattr(hub, "hf_hub_download", download)
    learner = small(SimCLR).fit(images)
    url = push_to_hub(learner, "me/cells", private=True, token="secret")
    assert url == "https://hub/me/cells/commit/1"
    assert api.calls == [("token", "secret"), ("private", True)]
    card = tmp_path / "me" / "cells" / "README.md"
    assert "# SimCLR" in card.read_text()
    card.write_text("of somebody")
    push_to_hub(learner, "me/cells")
    assert card.read_text() == "of somebody"
    again = from_pretrained("me/cells", revision="v1", encoder=learner.encoder)
    assert downloads == [("me/cells", "v1", None)]
    np.testing.assert_array_equal(again.transform(images), learner.transform(images))


def test_what_cannot_be_kept_or_read(tmp_path, images, monkeypatch):
    with pytest.raises(NotFittedError):
        save_pretrained(small(SimCLR), tmp_path / "folder")
    assert not (tmp_path / "folder").exists()
    with pytest.raises(FileNotFoundError, match=r"holds no learner\.safetensors"):
        from_pretrained(tmp_path)
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(ImportError, match=r"sklearn-ssl\[hub\]"):
        from_pretrained("me/cells")
    with pytest.raises(ImportError, match=r"sklearn-ssl\[hub\]"):
        push_to_hub(small(SimCLR).fit(images), "me/cells")
