"""Methods whose features say how similar parts of an image are to learned patterns."""

from sklearn_ssl.clustering._patch_dictionary import PatchDictionary

__all__ = ["PatchDictionary"]
