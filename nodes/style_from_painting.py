"""StyleFromPainting: the style of any painting, or a mixture of several, at once and without training."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ..core.hub.manifest import Entry
from ..core.models.predict import predict_style, weights_from
from ..core.models.predictor_file import TASK
from . import images
from .choices import Choices
from .host import STYLE_FOLDER, HostedModel, StyleModelType, advanced, io, search_aliases
from .training_inputs import only

PREDICTORS = Choices(TASK, STYLE_FOLDER, "predictor of styles")


class StyleFromPainting(io.ComfyNode):
    """The node that predicts a style."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Describe the node to the host, with the predictors available now."""
        return io.Schema(
            node_id="StyleFromPainting",
            display_name="Style From Painting",
            category="Perceptual Style",
            **search_aliases("style transfer", "any style", "arbitrary style", "painting", "adain", "magenta"),
            description="Finds the style of any painting at once, without training. The result is a style like any other: "
            "connect it to Fast Stylize. Several paintings are mixed into one style.",
            is_input_list=True,  # a list of paintings of several sizes is one mixture
            inputs=[
                io.Image.Input(
                    "paintings",
                    tooltip="The painting, at least 64 px on each side. A batch, or a list of images of any size, is mixed "
                    "into one style. Crop off picture frames.",
                ),
                io.String.Input(
                    "weights",
                    default="",
                    optional=True,
                    tooltip="How much of each painting to mix in, separated by commas: 2, 1 takes twice as much of the first. "
                    "Empty: the same of all.",
                ),
                advanced(
                    io.Combo.Input,
                    "predictor",
                    options=PREDICTORS.options(),
                    optional=True,
                    tooltip="The network that looks at paintings: the one that comes with this pack, or a file in "
                    "models/fast_style: made by perceptual-style train-predictor, or one of Magenta's pair of ONNX files.",
                ),
            ],
            outputs=[
                StyleModelType.Output(display_name="style_model", tooltip="The style, for the Fast Stylize node."),
            ],
        )

    @classmethod
    def validate_inputs(cls, predictor: Any = None) -> bool | str:
        """Return True for a known predictor, or a message for the user."""
        return PREDICTORS.validate(only(predictor))

    @classmethod
    def fingerprint_inputs(cls, predictor: Any = None, **_: Any) -> str:
        """Return a text that changes with the predictor's file."""
        return PREDICTORS.fingerprint(only(predictor))

    @classmethod
    def execute(
        cls, paintings: Sequence[Tensor], weights: Sequence[str] = ("",), predictor: Sequence[str] = ()
    ) -> io.NodeOutput:
        """Return the predicted style.

        Raises:
            ImageError: If a painting is not an IMAGE.
            InputError: If a painting is too small, or the weights do not fit the paintings.
            CheckpointError: If the predictor cannot be loaded.
        """
        for image in paintings:
            images.check(image)
        chosen = PREDICTORS.chosen(predictor[0]) if predictor else None
        seen = [images.to_core(frame, torch.device("cpu")) for image in paintings for frame in image]
        name = chosen.id if isinstance(chosen, Entry) else chosen
        return io.NodeOutput(HostedModel.of(predict_style(seen, weights=weights_from(only(weights)), predictor=name)))
