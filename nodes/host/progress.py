"""Progress of long work in the host: its bar, previews, texts and interruptions."""

from __future__ import annotations

import logging
import math
import time

import comfy.model_management as model_management
import comfy.utils
import torch
from PIL import Image
from server import PromptServer

from ...core.progress import Progress, ProgressCallback

_PREVIEW_SECONDS, _PREVIEW_SIDE = 0.5, 512  # the host encodes each preview as a JPEG
_UNITS = 1000  # of the bar, for each image
_log = logging.getLogger(__name__)


def progress_callback(images: int) -> ProgressCallback:
    """Return a callback that draws the host's bar, shows previews, logs notes, and stops when the user interrupts.

    Args:
        images: Number of calls of core that follow. Each counts from above 0 to its own total.

    Returns:
        The callback. It raises the host's exception once the user interrupts.
    """
    total = images * _UNITS
    bar = comfy.utils.ProgressBar(total)
    finished, last, shown = 0, 0.0, -math.inf

    def report(progress: Progress) -> None:
        nonlocal finished, last, shown
        for note in progress.notes:
            _log.warning("Perceptual Style: %s", note)
        model_management.throw_exception_if_processing_interrupted()
        share = progress.done / progress.total
        if share < last or last == 1:  # an image may take a single step
            finished += 1
        last = share
        preview = None
        if progress.preview is not None and (share == 1 or time.monotonic() - shown >= _PREVIEW_SECONDS):
            shown = time.monotonic()
            preview = _preview(progress.preview)
        bar.update_absolute(min(round(_UNITS * (finished + share)), total), total, preview)

    return report


def training_callback(node_id: str | None) -> ProgressCallback:
    """Return a callback for a training run.

    The host's bar counts steps and shows previews. Notes go to the log.

    Args:
        node_id: The node that shows the remaining time, or None for no text.

    Returns:
        The callback. It raises the host's exception once the user interrupts.
    """
    bar = comfy.utils.ProgressBar(1)
    shown = -1.0

    def report(progress: Progress) -> None:
        nonlocal shown
        for note in progress.notes:
            _log.warning("TrainStyle: %s", note)
        preview = None if progress.preview is None else _preview(progress.preview)
        model_management.throw_exception_if_processing_interrupted()
        bar.update_absolute(progress.done, progress.total, preview)
        if node_id is not None and (time.monotonic() - shown > 1 or progress.done == progress.total):
            shown = time.monotonic()
            PromptServer.instance.send_progress_text(_in_words(progress), node_id)

    return report


def _in_words(progress: Progress) -> str:
    """Return steps, remaining time and objective in one line."""
    if not progress.done or progress.seconds_left is None:
        return f"preparing {progress.total} steps"
    minutes, seconds = divmod(round(progress.seconds_left), 60)
    hours, minutes = divmod(minutes, 60)
    left = f"{hours} h {minutes} min" if hours else f"{minutes} min {seconds} s" if minutes else f"{seconds} s"
    return f"step {progress.done} of {progress.total}, {left} left, objective {sum(progress.losses.values()):.3g}"


def _preview(image: torch.Tensor) -> tuple[str, Image.Image, int]:
    """Convert an image (1, 3, H, W) in [0, 1] to the host's preview: format, picture, longest side."""
    picture = Image.fromarray(image[0].clamp(0, 1).mul(255).round().byte().movedim(0, -1).cpu().numpy())
    return "JPEG", picture, min(_PREVIEW_SIDE, max(picture.size))  # the host would also enlarge to this side
