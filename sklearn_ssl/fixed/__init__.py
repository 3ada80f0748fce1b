"""Transformers without pretext training: pixels, pretrained networks and patch dictionaries."""

from sklearn_ssl.fixed._patch_dictionary import PatchDictionary
from sklearn_ssl.fixed._pixel_features import PixelFeatures
from sklearn_ssl.fixed._pretrained_encoder import PretrainedEncoder

__all__ = ["PatchDictionary", "PixelFeatures", "PretrainedEncoder"]
