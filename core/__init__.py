"""Networks, losses, trainer and models: knows nothing of any host program, prints nothing, downloads nothing unasked."""

from . import errors
from .arch import ArchSpec
from .blend import blend_styles, style_regions
from .loss_network import LossNetwork
from .models import StyleModel, list_styles, load_style
from .network import TransformNet, build_network
from .optimize import optimize_image
from .progress import Progress
from .recipes import RECIPES, StyleRecipe
from .style_training import train_style
from .upscale import UpscaleModel, list_upscalers, load_upscaler
from .upscale_recipes import UpscaleRecipe
from .upscale_training import train_upscaler

__all__ = [
    "ArchSpec",
    "LossNetwork",
    "Progress",
    "RECIPES",
    "StyleModel",
    "StyleRecipe",
    "TransformNet",
    "UpscaleRecipe",
    "UpscaleModel",
    "blend_styles",
    "build_network",
    "errors",
    "list_styles",
    "list_upscalers",
    "load_style",
    "load_upscaler",
    "optimize_image",
    "style_regions",
    "train_style",
    "train_upscaler",
]
