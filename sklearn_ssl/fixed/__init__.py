"""Transformers without pretext training: pretrained networks and patch dictionaries."""

from sklearn_ssl.fixed._patch_dictionary import PatchDictionary
from sklearn_ssl.fixed._pretrained_encoder import PretrainedEncoder

__all__ = ["PatchDictionary", "PretrainedEncoder"]
