"""Methods whose features say to which of many learned patterns parts of an image are similar."""

from sklearn_ssl.clustering._patch_dictionary import PatchDictionary

__all__ = ["PatchDictionary"]
