"""Export of torch modules as ONNX models."""

import json
import os
from collections.abc import Sequence
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor, nn

from sklearn_ssl._utils._storage import place_for, replaced
from sklearn_ssl._utils._torch import own_settings


class _WithClass(nn.Module):
    """Module that returns the index of the best class, and the scores of all classes."""

    def __init__(self, scores: nn.Module):
        super().__init__()
        self.scores = scores

    def forward(self, given: Tensor) -> tuple[Tensor, Tensor]:
        scores = self.scores(given)
        return scores.argmax(1), scores


def write_onnx(
    module: nn.Module,
    path: str | os.PathLike,
    example: Tensor,
    input_name: str,
    output_name: str,
    classes: Sequence[Any] | None = None,
) -> None:
    """Write a module as an ONNX model, for any number of rows.

    Parameters
    ----------
    module : nn.Module
    path : str or path
        File to write; its folder is created if needed.
    example : Tensor
        Example input with two rows.
    input_name, output_name : str
        Names in the ONNX model.
    classes : sequence, optional
        Classes of a classifier. Its model has another output before the scores: ``class``, the
        index of the class in the list stored as JSON in the model's metadata, under ``classes``.

    Raises
    ------
    ImportError
        If onnx or onnxscript is not installed.
    """
    if not (find_spec("onnx") and find_spec("onnxscript")):
        raise ImportError("export_onnx needs pip install 'sklearn-ssl[onnx]'")
    outputs = [output_name]
    if classes is not None:
        module, outputs = _WithClass(module), ["class", output_name]
    with replaced(place_for(path)) as beside, own_settings(torch.device("cpu")):
        torch.onnx.export(
            module.eval(),
            (example,),
            beside,
            dynamo=True,
            external_data=False,
            verbose=False,
            input_names=[input_name],
            output_names=outputs,
            dynamic_shapes=({0: torch.export.Dim.DYNAMIC},),
        )
        if classes is not None:
            import onnx

            model = onnx.load(beside)
            onnx.helper.set_model_props(model, {"classes": json.dumps(list(classes))})
            onnx.save(model, beside)
