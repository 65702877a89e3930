"""Networks, losses, training and models, independent of any host program.

This package prints nothing and downloads nothing unless asked. Public names are imported on first use, so that
``import perceptual_style.core`` alone does not import torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from . import errors
    from .exporting.any_file import export
    from .images.transparency import fill_transparent
    from .losses.loss_network import LossNetwork
    from .models.blend import blend_styles, style_regions
    from .models.predict import predict_style
    from .models.style_model import StyleModel, list_styles, load_style
    from .models.upscale_model import UpscaleModel, list_upscalers, load_upscaler
    from .network.arch import ArchSpec
    from .network.transform_net import TransformNet, build_network
    from .progress import Progress
    from .training.optimize_image import optimize_image
    from .training.style_recipes import RECIPES, StyleRecipe
    from .training.train_predictor import train_predictor
    from .training.train_style import train_style
    from .training.train_upscaler import train_upscaler
    from .training.upscale_recipes import UpscaleRecipe
    from .video.process import process_video

_MODULES = {
    "ArchSpec": "network.arch",
    "LossNetwork": "losses.loss_network",
    "Progress": "progress",
    "RECIPES": "training.style_recipes",
    "StyleModel": "models.style_model",
    "StyleRecipe": "training.style_recipes",
    "TransformNet": "network.transform_net",
    "UpscaleModel": "models.upscale_model",
    "UpscaleRecipe": "training.upscale_recipes",
    "blend_styles": "models.blend",
    "build_network": "network.transform_net",
    "export": "exporting.any_file",
    "fill_transparent": "images.transparency",
    "list_styles": "models.style_model",
    "list_upscalers": "models.upscale_model",
    "load_style": "models.style_model",
    "load_upscaler": "models.upscale_model",
    "optimize_image": "training.optimize_image",
    "predict_style": "models.predict",
    "process_video": "video.process",
    "style_regions": "models.blend",
    "train_predictor": "training.train_predictor",
    "train_style": "training.train_style",
    "train_upscaler": "training.train_upscaler",
}

__all__ = [
    "ArchSpec",
    "LossNetwork",
    "Progress",
    "RECIPES",
    "StyleModel",
    "StyleRecipe",
    "TransformNet",
    "UpscaleModel",
    "UpscaleRecipe",
    "blend_styles",
    "build_network",
    "errors",
    "export",
    "fill_transparent",
    "list_styles",
    "list_upscalers",
    "load_style",
    "load_upscaler",
    "optimize_image",
    "predict_style",
    "process_video",
    "style_regions",
    "train_predictor",
    "train_style",
    "train_upscaler",
]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return importlib.import_module(".version", __name__).version()
    if name == "errors":
        return importlib.import_module(".errors", __name__)
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    importlib.import_module(".devices", __name__)  # reports a torch that is too old
    value = globals()[name] = getattr(importlib.import_module(f".{_MODULES[name]}", __name__), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
