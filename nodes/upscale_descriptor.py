"""An upscaler as the host's UPSCALE_MODEL: an ImageModelDescriptor of spandrel, the host's library for them.

Imported only where one is asked for: it is the host's requirement, not ours.
"""

from __future__ import annotations

from spandrel import Architecture, ImageModelDescriptor, ModelTiling
from torch import Tensor

from ..core.models.upscale_model import UpscaleModel
from ..core.network.transform_net import TransformNet, extend


class _PerceptualStyle(Architecture[TransformNet]):
    """Named by descriptors. Never registered with spandrel's loader: our files say themselves what they are."""

    def __init__(self) -> None:
        super().__init__(id="PerceptualStyle", name="Perceptual Style", detect=lambda state_dict: False)

    def load(self, state_dict: dict) -> ImageModelDescriptor:
        raise NotImplementedError("load_upscaler opens the files of this architecture")


def descriptor_of(model: UpscaleModel) -> ImageModelDescriptor:
    """The descriptor of a model, for images (1, 3, H, W) in [0, 1] of any size and of the network's dtype and device.

    ``descriptor.model`` is the plain TransformNet. Statistics over the whole image do not go with the tiles that callers
    make: networks with instance normalization say that tiling is discouraged.
    """
    network, spec, pixels = model.network, model.spec, model.pixels

    def call(network: TransformNet, image: Tensor) -> Tensor:
        small = pixels.to_network(extend(image, spec.smallest_side)).to(image.dtype)
        height, width = (side * spec.scale for side in image.shape[-2:])
        return pixels.from_network(network(small))[..., :height, :width].to(image.dtype)

    return ImageModelDescriptor(
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
