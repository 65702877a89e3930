"""TrainStyle: a new style from one painting, inside the graph."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from .. import core  # its functions load on first use, so the host starts sooner
from ..core.errors import InputError
from ..core.models.style_model import StyleModel, load_style
from ..core.training.state import checkpoint_path
from . import loss_networks
from .host import (
    HostedModel,
    StyleModelType,
    advanced,
    image_options,
    io,
    search_aliases,
    training_callback,
    training_device,
    ui,
)
from .training_inputs import (
    NO_FOLDER,
    STYLES,
    Settings,
    content_folder,
    content_options,
    first_photo,
    only,
    photo_folder,
    photos_fingerprint,
    start_file,
    start_options,
    style_file,
    style_images,
    validate_start,
)

_PRESETS = ("quick", "standard", "paper", "authors")


class TrainStyle(io.ComfyNode):
    """The node that trains a style."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Describe the node to the host, with the folders, loss networks and styles available now."""
        return io.Schema(
            node_id="TrainStyle",
            display_name="Train Style",
            category="Perceptual Style",
            **search_aliases("style transfer", "train a style", "learn a style"),
            description="Trains a style for Fast Stylize from one painting and some photos. Queue the same graph again to "
            "resume an interrupted training run. A finished run is not repeated.",
            is_input_list=True,  # a list of photos is one training run, not one run per photo
            is_output_node=True,
            hidden=[io.Hidden.unique_id],
            inputs=[*_main_inputs(), *_recipe_inputs(), *_start_inputs(), _photos_input()],
            outputs=_outputs(),
        )

    @classmethod
    def validate_inputs(
        cls, name: Any, content: Any = None, loss_network: Any = None, start_from: Any = None, photos: Any = ()
    ) -> bool | str:
        """Return True for names that exist, and a name that a style can have, or a message for the user."""
        try:
            if (chosen := only(name)) is not None:
                style_file(chosen)
            if not photos and (chosen := only(content)) is not None:  # connected photos are used instead
                content_folder(chosen)
        except InputError as error:
            return str(error)
        valid = loss_networks.validate(only(loss_network))
        return valid if valid is not True else validate_start(only(start_from))

    @classmethod
    def fingerprint_inputs(cls, content: Any = None, loss_network: Any = None, start_from: Any = None, **_: Any) -> str:
        """Return a text that changes with the photos, the loss network's file or the base."""
        files = [loss_networks.fingerprint(only(loss_network)), STYLES.fingerprint(only(start_from))]
        return " ".join([*files, photos_fingerprint(only(content))])

    @classmethod
    def execute(
        cls, style_image: Sequence[Tensor], photos: Sequence[Tensor] = (), **inputs: Sequence[Any]
    ) -> io.NodeOutput:
        """Train a style, or resume its training run. Return the style, its losses and a preview.

        Args:
            style_image: The style images, as a list of IMAGEs.
            photos: IMAGEs to train on, or none to use the folder.
            **inputs: The inputs of `Settings`, each as a list of one value.

        Raises:
            PerceptualStyleError: If an input is bad, or the training run fails.
        """
        settings = Settings.of(inputs)
        out = style_file(settings.name)
        photo = _train(settings, out, style_images(style_image), photos, cls.hidden.unique_id)
        hosted = HostedModel.of(load_style(out))
        preview = _stylized(hosted, photo)
        losses = [value for _, value in hosted.model.facts["loss curve"]]
        return io.NodeOutput(hosted, {"loss": losses}, preview, ui=ui.PreviewImage(preview, cls=cls))


def _train(
    settings: Settings, out: Path, paintings: list[Tensor], photos: Sequence[Tensor], node_id: str | None
) -> Tensor:
    """Train a style, and return the first photo that it was trained on."""
    recipe = settings.recipe()
    base = start_file(settings.start_from, recipe, settings.width or None)
    progress = training_callback(node_id)
    with photo_folder(settings.content, photos) as folder, training_device() as device:
        recipe, loss_weights = loss_networks.with_loss_network(recipe, settings.loss_network)
        photo = first_photo(folder)
        if not settings.resume and not out.exists():
            checkpoint_path(out).unlink(missing_ok=True)
        core.train_style(
            [each.clone() for each in paintings],  # gradients need normal tensors; these may be inference tensors
            folder,
            out,
            recipe=recipe,
            loss_weights=loss_weights,
            init_from=base,
            seed=settings.seed,
            device=str(device),
            progress=progress,
            preview_image=photo,
            preview_steps=_preview_steps(recipe.steps),
        )
    return photo


def _preview_steps(steps: int) -> int:
    """Return the steps between two previews: about 50 previews in a short run, one every 25 steps in a long one."""
    return min(25, max(1, steps // 50))


def _stylized(hosted: HostedModel[StyleModel], photo: Tensor) -> Tensor:
    """Stylize (1, 3, H, W), and return an IMAGE."""
    device = hosted.load(*photo.shape[-2:])
    return hosted.model.stylize(photo.to(device)).movedim(1, -1).to(**image_options())


def _main_inputs() -> list[io.Input]:
    return [
        io.Image.Input(
            "style_image",
            tooltip="The painting, at least 64 px on each side. Crop off the picture frame. Several paintings, as a batch or a "
            "list, give one style: the mean of their statistics.",
        ),
        io.Combo.Input(
            "content",
            options=content_options(),
            default=NO_FOLDER,
            tooltip="The folder of photos to train on, inside ComfyUI's input folder. A few hundred photos of any size are "
            "enough, and they stay on your computer. Press R to see new folders.",
        ),
        io.String.Input(
            "name",
            default="my_style",
            tooltip="Name of the style. It is saved as models/fast_style/NAME.safetensors. Existing files are never "
            "overwritten.",
        ),
        io.Combo.Input(
            "preset",
            options=list(_PRESETS),
            default=_PRESETS[0],
            tooltip="quick: takes minutes, starting from an existing style. standard: the best settings we know. paper: "
            "Johnson et al. 2016 as published. authors: as in their code. The last two need hours on a GPU.",
        ),
    ]


def _recipe_inputs() -> list[io.Input]:
    """Return inputs that change the preset, and the loss network."""
    return [
        _number("steps", 10_000_000, "Number of training steps."),
        _number("size", 4096, "Side of the photo crops in px, a multiple of 4."),
        _number("batch", 1024, "Photos per step. If memory runs out, they are computed a few at a time."),
        _number("width", 512, "Channels of the network's first layer: 16 is half width and fast, 32 is the paper's."),
        _factor("content_weight", "How closely the result keeps to the photo."),
        _factor("style_weight", "How closely the result follows the painting."),
        _factor("tv_weight", "How much the result is smoothed."),
        _number("style_size", 8192, "Longest side of the painting in px. Larger values make larger strokes."),
        loss_networks.loss_network_input("preset", optional=True),
    ]


def _start_inputs() -> list[io.Input]:
    return [
        io.Combo.Input(
            "start_from",
            options=start_options(),
            default=loss_networks.AUTO,
            optional=True,
            tooltip="A trained style to start from. Far fewer steps are needed, and that style's network is kept. auto: "
            "predicted for quick, none for the other presets. predicted: what Style From Painting finds for the painting.",
        ),
        io.Boolean.Input(
            "resume",
            default=True,
            optional=True,
            tooltip="Resume an interrupted training run with this name and the same settings. When off, training starts "
            "over.",
        ),
        io.Int.Input(
            "seed",
            default=0,
            min=0,
            max=2**53 - 1,
            optional=True,
            # a new seed each time the graph is queued would be a new training run under the same name
            control_after_generate=False,
            tooltip="Random seed for the initial weights and the crops. Another seed makes it a different training run.",
        ),
    ]


def _photos_input() -> io.Image.Input:
    return io.Image.Input(
        "photos",
        optional=True,
        tooltip="Photos to train on instead of a folder: a batch, or a list of images of any size.",
    )


def _outputs() -> list[io.Output]:
    return [
        StyleModelType.Output(display_name="style_model", tooltip="The new style, for Fast Stylize."),
        io.LossMap.Output(display_name="loss_map", tooltip="The objective over the training run, for Plot Loss Graph."),
        io.Image.Output(display_name="preview", tooltip="The first photo in the new style, at most 512 px a side."),
    ]


def _number(name: str, largest: int, tooltip: str) -> io.Int.Input:
    return advanced(
        io.Int.Input, name, default=0, min=0, max=largest, optional=True, tooltip=f"{tooltip} 0: the preset's value."
    )


def _factor(name: str, tooltip: str) -> io.Float.Input:
    return advanced(
        io.Float.Input,
        name,
        default=1.0,
        min=0.0,
        max=1000.0,
        step=0.1,
        optional=True,
        tooltip=f"{tooltip} 1: as in the preset. 2: twice as much.",
    )
