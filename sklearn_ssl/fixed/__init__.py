"""Transformers without pretext training: pixels, colors, patches and pretrained networks."""

from sklearn_ssl.fixed._color_histogram import ColorHistogram
from sklearn_ssl.fixed._patch_dictionary import PatchDictionary
from sklearn_ssl.fixed._pixel_features import PixelFeatures
from sklearn_ssl.fixed._pretrained_encoder import PretrainedEncoder

__all__ = ["ColorHistogram", "PatchDictionary", "PixelFeatures", "PretrainedEncoder"]
