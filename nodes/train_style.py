"""TrainStyle: a new style from one painting, inside the graph."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

from torch import Tensor

from ..core.errors import InputError
from ..core.images.folders import find_images
from ..core.models.style_model import load_style
from ..core.training.style_recipes import adjusted, get_recipe
from ..core.training.train_style import train_style
from ..core.training.trainer import checkpoint_path
from .host import (
    HostedModel,
    StyleModelType,
    advanced,
    input_folder,
    intermediate,
    io,
    search_aliases,
    training,
    training_callback,
    ui,
)
from .loss_networks import AUTO, LOSS_NETWORKS, loss_network_options
from .training_inputs import (
    NO_FOLDER,
    STYLES,
    content_options,
    first_photo,
    painting,
    photo_folder,
    start_file,
    start_options,
    style_file,
    with_loss_network,
)

_PRESETS = ("quick", "standard", "paper", "authors")


def _number(name: str, largest: int, tooltip: str) -> io.Int.Input:
    return advanced(
        io.Int.Input, name, default=0, min=0, max=largest, optional=True, tooltip=f"{tooltip} 0: the preset's."
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
        tooltip=f"{tooltip} 1: as the preset has it, 2: twice as much.",
    )


class TrainStyle(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="TrainStyle",
            display_name="Train Style",
            category="Perceptual Style",
            **search_aliases("style transfer", "train a style", "learn a style"),
            description="Learns a painting's style from the painting and some photos, for Fast Stylize. An interrupted "
            "training goes on where it was when the same graph is queued again; a finished one is not done again.",
            is_input_list=True,  # a list of photos is one training, not one for each
            is_output_node=True,
            hidden=[io.Hidden.unique_id],
            inputs=[
                io.Image.Input(
                    "style_image", tooltip="The painting, of any size from 64 px on. Frames are best cut off."
                ),
                io.Combo.Input(
                    "content",
                    options=content_options(),
                    default=NO_FOLDER,
                    tooltip="The folder in ComfyUI's input folder with photos to learn on, of any size: a few hundred will "
                    "do, and no photo is shown to anyone. Press R to see new folders.",
                ),
                io.String.Input(
                    "name",
                    default="my_style",
                    tooltip="The style's name: models/fast_style/NAME.safetensors is written. A file that is there already "
                    "is never overwritten.",
                ),
                io.Combo.Input(
                    "preset",
                    options=list(_PRESETS),
                    default=_PRESETS[0],
                    tooltip="quick: minutes, from a style that is there. standard: the best that we know. paper, authors: "
                    "Johnson et al. 2016 as published, and as their code has it; both need hours on a GPU.",
                ),
                _number("steps", 10_000_000, "How many steps to train."),
                _number("size", 4096, "Side of the crops of photos, px, a multiple of 4."),
                _number("batch", 1024, "Photos a step. When memory runs out, they are computed a few at a time."),
                _number(
                    "width", 512, "Channels of the network's first layer: 16 is half width and fast, 32 the paper's."
                ),
                _factor("content_weight", "How much the photo is kept."),
                _factor("style_weight", "How much the painting is followed."),
                _factor("tv_weight", "How much the result is smoothed."),
                _number("style_size", 8192, "Longest side of the painting, px: larger makes larger strokes."),
                advanced(
                    io.Combo.Input,
                    "loss_network",
                    options=loss_network_options(),
                    default=AUTO,
                    optional=True,
                    tooltip="The network by which images are compared. auto: the preset's own, from models/loss_networks or "
                    "downloaded before. One with a name is downloaded when the graph runs, as far as it is needed.",
                ),
                io.Combo.Input(
                    "start_from",
                    options=start_options(),
                    default=AUTO,
                    optional=True,
                    tooltip="A trained style to start from, which takes a fraction of the steps and keeps that style's "
                    "network. auto: a bundled style for quick, none for the others.",
                ),
                io.Boolean.Input(
                    "resume",
                    default=True,
                    optional=True,
                    tooltip="Whether to go on with an interrupted training of this name and the same settings. When off, it "
                    "begins anew.",
                ),
                io.Int.Input(
                    "seed",
                    default=0,
                    min=0,
                    max=2**53 - 1,
                    optional=True,
                    # a new seed at each queueing would be a new training under the same name
                    control_after_generate=False,
                    tooltip="Of the first weights and the crops. Another seed is another training.",
                ),
                io.Image.Input(
                    "photos",
                    optional=True,
                    tooltip="Photos to learn on instead of a folder: a batch, or a list of images of any size.",
                ),
            ],
            outputs=[
                StyleModelType.Output(display_name="style_model", tooltip="The new style, for Fast Stylize."),
                io.LossMap.Output(
                    display_name="loss_map", tooltip="The objective during the training, for Plot Loss Graph."
                ),
                io.Image.Output(
                    display_name="preview", tooltip="The first of the photos, at most 512 px large, in the new style."
                ),
            ],
        )

    @classmethod
    def validate_inputs(cls, name: Any) -> bool | str:
        try:
            return _only(name) is None or bool(style_file(str(_only(name))))
        except InputError as error:
            return str(error)

    @classmethod
    def fingerprint_inputs(cls, content: Any = None, loss_network: Any = None, start_from: Any = None, **_: Any) -> str:
        files = [LOSS_NETWORKS.fingerprint(_only(loss_network)), STYLES.fingerprint(_only(start_from))]
        return " ".join([*files, _photos_state(_only(content))])

    @classmethod
    def execute(
        cls,
        style_image: Sequence[Tensor],
        content: Sequence[str],
        name: Sequence[str],
        preset: Sequence[str],
        steps: Sequence[int] = (0,),
        size: Sequence[int] = (0,),
        batch: Sequence[int] = (0,),
        width: Sequence[int] = (0,),
        content_weight: Sequence[float] = (1.0,),
        style_weight: Sequence[float] = (1.0,),
        tv_weight: Sequence[float] = (1.0,),
        style_size: Sequence[int] = (0,),
        loss_network: Sequence[str] = (AUTO,),
        start_from: Sequence[str] = (AUTO,),
        resume: Sequence[bool] = (True,),
        seed: Sequence[int] = (0,),
        photos: Sequence[Tensor] = (),
    ) -> io.NodeOutput:
        out, style = style_file(_only(name)), painting(style_image)
        factors = {"content": _only(content_weight), "style": _only(style_weight), "tv": _only(tv_weight)}
        numbers = {"steps": steps, "size": size, "batch_size": batch, "style_size": style_size, "width": width}
        numbers = {key: _only(value) or None for key, value in numbers.items()}
        recipe = adjusted(get_recipe(_only(preset)), factors, **numbers)
        start = start_file(_only(start_from), recipe, numbers["width"])
        progress = training_callback(cls.hidden.unique_id)
        with photo_folder(_only(content), photos) as folder, training() as device:
            recipe, loss_weights = with_loss_network(recipe, _only(loss_network))
            photo = first_photo(folder)
            if not _only(resume) and not out.exists():
                checkpoint_path(out).unlink(missing_ok=True)
            train_style(
                style.clone(), folder, out, recipe=recipe, loss_weights=loss_weights, init_from=start,
                seed=_only(seed), device=str(device), progress=progress, preview_image=photo,
                preview_steps=_preview_steps(recipe.steps),
            )  # fmt: skip
        hosted = HostedModel.of(load_style(out))
        preview = hosted.model.stylize(photo.to(hosted.load(*photo.shape[-2:]))).movedim(1, -1).to(**intermediate())
        losses = [value for _, value in hosted.model.facts["loss curve"]]
        return io.NodeOutput(hosted, {"loss": losses}, preview, ui=ui.PreviewImage(preview, cls=cls))


def _only(values: Any) -> Any:
    """The value of an input that is no list for us, though the host makes one of it; None for one that is linked."""
    return values[0] if values else None


def _preview_steps(steps: int) -> int:
    """About fifty previews in a short training, one every 25 steps in a long one."""
    return min(25, max(1, steps // 50))


def _photos_state(content: str | None) -> str:
    """Another text once a folder has other photos. Raises nothing."""
    folder = input_folder(content) if content else None
    try:
        stats = [(path.name, path.stat()) for path in find_images([folder])] if folder else []
    except (InputError, OSError):  # execution is the one to say so
        stats = []
    listing = "\n".join(f"{name} {stat.st_mtime_ns} {stat.st_size}" for name, stat in stats)
    return hashlib.sha256(listing.encode()).hexdigest()
