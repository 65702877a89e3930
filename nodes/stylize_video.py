"""StylizeVideo: a film in a painting's style, streamed frame by frame from file to file."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from .. import core  # its functions load on first use, so the host starts sooner
from ..core.errors import InputError
from ..core.images.masks import fit_mask
from ..core.models.stylizer import AUTO, BaseStyle, Controls, Stylizer
from ..core.models.transfers import Transfers
from ..core.progress import ProgressCallback
from ..core.video.writing import QUALITY
from . import images
from .fast_stylize import feather_input, look_inputs, picture_inputs, slider
from .host import (
    HostedModel,
    advanced,
    io,
    progress_callback,
    search_aliases,
    stream_source,
    temporary_video,
    video_from_file,
)


class StylizeVideo(io.ComfyNode):
    """The node that stylizes videos."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Describe the node to the host."""
        return io.Schema(
            node_id="StylizeVideo",
            display_name="Stylize Video",
            category="Perceptual Style",
            **search_aliases("style transfer", "neural style", "painting", "video style", "film", "movie", "flicker"),
            description="Applies a painting's style to a video of any length. Only a few frames are in memory at a time. "
            "Sound, frame rate and orientation are kept.",
            inputs=[
                io.Video.Input("video", tooltip="The video, from Load Video, Trim Video or Create Video."),
                *look_inputs("video"),
                *_film_inputs(),
                *picture_inputs("video"),
            ],
            outputs=[io.Video.Output(display_name="video", tooltip="The stylized video, for Save Video.")],
        )

    @classmethod
    def execute(
        cls,
        video: Any,
        style_model: HostedModel[BaseStyle],
        strength: float = 1.0,
        stroke_size: float = 1.0,
        color: str = "style",
        mask: Tensor | None = None,
        feather: float = 0.0,
        temporal: float = 1.0,
        crf: float = QUALITY["h264"],
        auto_stroke_size: bool = False,
        wrap: str = "none",
    ) -> io.NodeOutput:
        """Return the stylized video, a file in the host's temporary folder.

        Raises:
            InputError: If an option is wrong.
            ImageError: If the mask is wrong.
            VideoError: If the video cannot be read, or the result cannot be written.
        """
        if not 0 <= crf <= 51:
            raise InputError(f"crf is {crf}; expected a number from 0 to 51")
        controls = {
            "strength": strength, "stroke_size": AUTO if auto_stroke_size else stroke_size, "color": color,
            "feather": feather, "temporal": temporal, "wrap": wrap,
        }  # fmt: skip
        function = _FrameFunction(style_model, None if mask is None else images.mask_to_core(mask), controls)
        result = temporary_video()
        with stream_source(video) as source:
            core.process_video(
                source.file, result, function, start=source.start, end=source.end, crf=crf, name="the video",
                progress=progress_callback(1),
            )  # fmt: skip
        return io.NodeOutput(video_from_file(result))


def _film_inputs() -> list[io.Input]:
    return [
        io.Mask.Input(
            "mask", optional=True,
            tooltip="Where to stylize. Where the mask is 0, the video stays as it is. Give one mask for all frames or one "
            "per frame. Masks are resized if needed.",
        ),
        feather_input(),
        slider(
            "temporal", 1.0, 0.0, 1.0,
            "Reduces flicker. Still parts are averaged over time, and strokes follow a pan. 0: each frame is stylized on "
            "its own.",
        ),
        advanced(
            io.Float.Input, "crf", default=QUALITY["h264"], min=0.0, max=51.0, step=1.0, optional=True,
            tooltip="Quality of the H.264 encoding. Smaller values give better quality and larger files. Save Video "
            "copies the result as it is.",
        ),
    ]  # fmt: skip


class _FrameFunction:
    """Stylizes the frames of one video. The first one tells the size for which networks and masks are prepared.

    Args:
        hosted: The style.
        mask: (N, 1, H, W) for all frames or one per frame; frames after the last use the last. Or None.
        controls: Arguments of `BaseStyle.stylizer`.
    """

    def __init__(self, hosted: HostedModel[BaseStyle], mask: Tensor | None, controls: dict[str, Any]) -> None:
        Controls(**controls)  # raises before the video is opened
        self.hosted, self.mask, self.controls = hosted, mask, controls
        self.stylizer: Stylizer | None = None

    def __call__(self, frame: Tensor, progress: ProgressCallback | None) -> Tensor:
        height, width = frame.shape[-2:]
        if self.stylizer is None:
            options = {name: self.controls[name] for name in ("stroke_size", "temporal", "wrap")}
            self.device = self.hosted.load(height, width, **options)
            self.transfers = Transfers(self.device)
            mask = None if self.mask is None else fit_mask(self.mask, height, width)
            self.stylizer = self.hosted.model.stylizer(mask=mask, **self.controls)
        return self.stylizer.stylized(self.transfers.upload(frame), progress)
