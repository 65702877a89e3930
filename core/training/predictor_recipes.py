"""The recipe for training a predictor of styles."""

from __future__ import annotations

from dataclasses import dataclass

from ..errors import InputError
from ..network.style_predictor import EncoderSpec
from .style_recipes import RECIPES, StyleRecipe

#: Bundled style whose network new predictors share at first.
BASE = "udnie"

_LAYERS = tuple(RECIPES["standard"].weights.style)


@dataclass(frozen=True)
class PredictorRecipe(StyleRecipe):
    """How a predictor of styles and the network that it shares are trained.

    ``style_size`` is the side of the square crops of paintings, px.

    Attributes:
        average: decay of the moving average of the weights, which becomes the result. 0 uses the last weights.
        encoder_network: name of the network that looks at paintings, a key of ``loss_network.ARCHITECTURES``.

    Raises:
        InputError: A number is out of range, or the optimizer or schedule is unknown.
    """

    average: float = 0.0
    encoder_network: str = "vgg16_small"

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.average < 1:
            raise InputError(f"average is {self.average}; expected a decay from 0 to below 1, such as 0.999")

    @property
    def encoder(self) -> EncoderSpec:
        """Sizes of the encoder."""
        return EncoderSpec(self.encoder_network, _LAYERS, self.style_size)


PREDICTOR_RECIPE = PredictorRecipe(
    name="predictor",
    arch=RECIPES["standard"].arch,
    loss_network="vgg16_small",
    weights=RECIPES["standard"].weights,
    steps=20_000,
    batch_size=4,
    size=192,
    style_size=224,
    optimizer="muon",
    learning_rate=7e-4,
    schedule="cosine",
    warmup=50,
    clip=10.0,
    weave=1000.0,
    stride_grid=20_000.0,
    content_floor=1.0,
    no_lattice=True,
    average=0.995,
    sources={
        "weights, optimizer, learning_rate": "[ours] as the recipe standard",
        "weave, stride_grid, content_floor, no_lattice": "[ours] as the recipe standard",
        "clip": "[ours] dark paintings have small Gram matrices, and so large relative losses",
        "encoder": "[P] Ghiasi et al. 2017: a vector of 100 numbers; features of a loss network instead of Inception: [ours]",
    },
)
