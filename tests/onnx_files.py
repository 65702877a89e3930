"""Run ONNX models: in ONNX Runtime where it is installed, else in ONNX's own reference evaluator."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch


class OnnxModel:
    """A model, ready to run."""

    def __init__(self, model: onnx.ModelProto | Path) -> None:
        proto = onnx.load(str(model)) if isinstance(model, Path) else model
        self.proto = proto
        if find_spec("onnxruntime"):
            import onnxruntime

            options = onnxruntime.SessionOptions()
            options.intra_op_num_threads, options.log_severity_level = 1, 3
            self._session: Any = onnxruntime.InferenceSession(proto.SerializeToString(), options)
        else:
            from onnx.reference import ReferenceEvaluator

            self._session = ReferenceEvaluator(proto)

    @property
    def metadata(self) -> dict[str, str]:
        return {each.key: each.value for each in self.proto.metadata_props}

    def __call__(self, image: torch.Tensor) -> torch.Tensor:
        """Return the result for an image in the model's own layout."""
        return torch.from_numpy(np.ascontiguousarray(self._session.run(None, {"image": image.numpy()})[0]))
