"""Everything this pack needs from ComfyUI. Only the modules of this package import the host."""

from __future__ import annotations

from .api import ComfyExtension, StyleModelType, advanced, io, offer_replacement, search_aliases, ui
from .folders import (
    LOSS_FOLDER,
    STYLE_FOLDER,
    UPSCALE_FOLDER,
    input_folder,
    input_folders,
    is_network_file,
    listed_path,
    model_files,
    model_folders,
    model_path,
    register_folders,
    temporary_folder,
)
from .models import HostedModel, image_options, training_device, whole_device
from .progress import progress_callback, training_callback
from .video import stream_source, temporary_video, video_from_file

__all__ = [
    "LOSS_FOLDER",
    "STYLE_FOLDER",
    "UPSCALE_FOLDER",
    "ComfyExtension",
    "HostedModel",
    "StyleModelType",
    "advanced",
    "image_options",
    "input_folder",
    "input_folders",
    "io",
    "is_network_file",
    "listed_path",
    "model_files",
    "model_folders",
    "model_path",
    "offer_replacement",
    "progress_callback",
    "search_aliases",
    "stream_source",
    "temporary_folder",
    "temporary_video",
    "training_callback",
    "training_device",
    "ui",
    "video_from_file",
    "whole_device",
]

register_folders()
