"""Upscalers as the host's UPSCALE_MODEL, an ImageModelDescriptor of the library spandrel.

This module is imported on demand: spandrel is a requirement of the host, not of this pack.
"""

from __future__ import annotations

from spandrel import Architecture, ImageModelDescriptor, ModelTiling
from torch import Tensor

from ..core.models.upscale_model import UpscaleModel
from ..core.network.transform_net import TransformNet, extend
from .host import HostedModel


class _PerceptualStyle(Architecture[TransformNet]):
    """The architecture that descriptors name. It is not registered with spandrel's loader: our files state what they are."""

    def __init__(self) -> None:
        super().__init__(id="PerceptualStyle", name="Perceptual Style", detect=lambda state_dict: False)

    def load(self, state_dict: dict[str, object]) -> ImageModelDescriptor:
        raise NotImplementedError("use load_upscaler to open files of this architecture")


def descriptor_of(model: UpscaleModel) -> ImageModelDescriptor:
    """Return the descriptor of an upscaler.

    It takes images (1, 3, H, W) in [0, 1] of any size, in the network's dtype and on its device. ``descriptor.model`` is
    the plain TransformNet. Networks with instance normalization discourage tiling: their statistics cover the whole image,
    and callers that tile would compute them per tile. ``descriptor.patcher`` is the host's handle of the network, through
    which newer hosts bring it to its device.
    """
    network, spec, pixels = model.network, model.spec, model.pixels

    def call(network: TransformNet, image: Tensor) -> Tensor:
        small = pixels.to_network(extend(image, spec.smallest_side)).to(image.dtype)
        height, width = (side * spec.scale for side in image.shape[-2:])
        return pixels.from_network(network(small))[..., :height, :width].to(image.dtype)

    descriptor = ImageModelDescriptor(
        network,
        network.state_dict(),
        _PerceptualStyle(),
        purpose="SR",
        tags=[str(spec)],
        supports_half=True,
        supports_bfloat16=True,
        scale=spec.scale,
        input_channels=spec.in_channels,
        output_channels=spec.out_channels,
        tiling=ModelTiling.DISCOURAGED if spec.norm == "instance" else ModelTiling.SUPPORTED,
        call_fn=call,
    )
    (descriptor.patcher,) = HostedModel.of(model).patchers
    return descriptor
