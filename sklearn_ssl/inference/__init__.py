"""Use of a fitted network: in chunks and with checks, or as a module of torch alone."""

from sklearn_ssl.inference._apply import apply
from sklearn_ssl.inference._checked import apply_checked, read_for
from sklearn_ssl.inference._extractor import FeatureExtractor, Predictor, resized
from sklearn_ssl.inference._frozen import FrozenNet
from sklearn_ssl.inference._onnx import write_onnx

__all__ = [
    "FeatureExtractor",
    "FrozenNet",
    "Predictor",
    "apply",
    "apply_checked",
    "read_for",
    "resized",
    "write_onnx",
]
