"""Write image files, completely or not at all: with 8 bits per channel, or PNG and TIFF with 16."""

from __future__ import annotations

import io
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ..errors import ImageError
from ..files import atomic_write, check_writable
from .deep import deep_png
from .deep_tiff import deep_tiff
from .failures import explained, reason
from .metadata import save_options
from .reading import ImageFile
from .tensors import row_bands

_WRITABLE = ("PNG", "JPEG", "WEBP", "TIFF", "BMP", "GIF", "AVIF", "JPEG2000", "PPM", "QOI", "TGA")
_HOLD_ALPHA = ("PNG", "WEBP", "TIFF", "AVIF", "GIF", "JPEG2000", "QOI", "TGA")
_HOLD_FRAMES = ("GIF", "PNG", "WEBP", "TIFF", "AVIF")
_HOLD_METADATA = ("PNG", "JPEG", "WEBP", "TIFF", "AVIF")
_LONGEST_SIDE = {"JPEG": 65500, "WEBP": 16383, "GIF": 65535, "TGA": 65535, "AVIF": 65535}
_OTHER_SUFFIX = {
    ".heic": ".jpg",
    ".heif": ".jpg",
    ".hif": ".jpg",
    ".mpo": ".jpg",
}  # for formats that are only read; .png for all others
_LONGEST_JPEG_EXIF = 65533  # bytes
_OPTIONS: dict[str, dict] = {
    "JPEG": {"quality": 95, "subsampling": "4:4:4"},
    "AVIF": {"quality": 95, "subsampling": "4:4:4"},
    "WEBP": {"quality": 95, "exact": True},
}


def save_image(
    path: str | Path,
    pixels: Tensor,
    alpha: Tensor | None = None,
    icc_profile: bytes | None = None,
    exif: bytes | None = None,
) -> str | None:
    """Write an image file with 8 bits per channel, completely or not at all (see `atomic_write`).

    Args:
        path: the file; its suffix names the format
        pixels: (1, 3, H, W) or (3, H, W) float RGB; clamped to [0, 1]
        alpha: (1, 1, H, W) or (1, H, W) float, 0 is transparent; flattened on white if the format has no transparency
        icc_profile: the color profile of the pixels
        exif: EXIF

    Returns:
        A line for the user if the format cannot hold everything, else None.

    Raises:
        ImageError: the file cannot be written; the message is one line.
    """
    return save_images(path, [ImageFile(pixels, alpha, icc_profile, exif)])


def save_images(path: str | Path, images: Iterable[ImageFile]) -> str | None:
    """Write an image, or the frames of an animation or of a file of pages, as `save_image` does."""
    encoded, warning = encode_images(path, images)
    with explained(f"cannot write {path}"), atomic_write(path) as temporary:
        temporary.write_bytes(encoded)
    return warning


def encode_images(name: str | Path, images: Iterable[ImageFile]) -> tuple[memoryview, str | None]:
    """Return the content of the file that `save_images` would write to ``name``, and the line that it would return.

    Images are taken one by one, and kept with 8 bits per channel, or with 16 if they and the format have as many. Errors
    of ``images`` itself are raised unchanged.
    """
    with explained(f"cannot write {name}"):
        kind = _format_of(Path(name))
    frames: list[np.ndarray] = []
    kept: list[ImageFile] = []  # what is said about them
    lost: list[str] = []
    for image in images:
        with explained(f"cannot write {name}"):
            frames.append(_frame(kind, image, lost))
        kept.append(replace(image, pixels=image.pixels.new_empty(0), alpha=None))
    with explained(f"cannot write {name}"):
        options = {**_OPTIONS.get(kind, {}), **_save_options(kind, kept[0], lost)}
        deep = any(image.bits == 16 for image in kept)
        if deep and (kind == "TIFF" or (kind == "PNG" and len(frames) == 1)):
            frames = _alike(frames)
            encoded = deep_png(frames[0], options) if kind == "PNG" else deep_tiff(frames, options)
            return memoryview(encoded), _line(name, kind, lost)
        if deep:
            lost.append("16 bits per channel (8 are written)")
        if len(frames) > 1:
            options |= _frame_options(kind, frames, kept)
        # Encode in memory: on a full disk Pillow's JPEG encoder stops without an error, and JPEG 2000 never stops.
        buffer = io.BytesIO()
        first, *others = (_to_pillow(kind, frame) for frame in _alike(frames))
        first.save(buffer, kind, **options, **({"save_all": True, "append_images": others} if others else {}))
    return buffer.getbuffer(), _line(name, kind, lost)


def _line(name: str | Path, kind: str, lost: list[str]) -> str | None:
    return f"{name}: {kind} cannot hold {' or '.join(lost)}" if lost else None


def holds_frames(name: str | Path) -> bool:
    """Return whether the format that ``name`` names holds several frames or pages."""
    return Image.registered_extensions().get(Path(name).suffix.lower()) in _HOLD_FRAMES


def _frame(kind: str, image: ImageFile, lost: list[str]) -> np.ndarray:
    """Return the numbers of an image, (H, W, C) uint8 or uint16; add to ``lost`` what the format cannot hold."""
    pixels, alpha = _planes("pixels", image.pixels, 3), image.alpha
    height, width = pixels.shape[-2:]
    if alpha is not None:
        alpha = _planes("alpha", alpha, 1, (height, width))
    _check_sides(kind, height, width)
    if alpha is not None and kind == "GIF":
        partial = bool(((alpha > 0) & (alpha < 1)).any())
        loss = "partial transparency (rounded to all or nothing)" if partial else ""
        alpha = (alpha >= 0.5).to(alpha)
    elif alpha is not None and kind not in _HOLD_ALPHA and bool((alpha < 1).any()):
        loss = "transparency (flattened on white)"
    else:
        loss = ""
    if loss and loss not in lost:
        lost.append(loss)
    deep = image.bits == 16 and kind in ("PNG", "TIFF")
    return _rounded(pixels, alpha, kind in _HOLD_ALPHA, np.uint16 if deep else np.uint8)


def _save_options(kind: str, image: ImageFile, lost: list[str]) -> dict[str, Any]:
    """Return Pillow's options for everything but pixels; add to ``lost`` what the format cannot hold."""
    exif, options = image.exif, {}
    if image.icc_profile and kind in _HOLD_METADATA:
        options["icc_profile"] = image.icc_profile
    elif image.icc_profile:
        lost.append("a color profile")
    if exif and kind not in _HOLD_METADATA:
        lost.append("EXIF")
        exif = None
    elif exif and kind == "JPEG" and len(exif) > _LONGEST_JPEG_EXIF:
        lost.append("EXIF of more than 64 KB")
        exif = None
    return options | save_options(kind, image.metadata, exif, lost)


def _alike(frames: list[np.ndarray]) -> list[np.ndarray]:
    """Return frames or pages that all have alpha if one has it, and 16 bits per channel if one has them."""
    channels, deepest = max(frame.shape[2] for frame in frames), max(frame.itemsize for frame in frames)
    result = []
    for frame in frames:
        if frame.itemsize < deepest:
            frame = frame.astype(np.uint16) * np.uint16(257)
        if frame.shape[2] < channels:
            frame = np.pad(frame, ((0, 0), (0, 0), (0, 1)), constant_values=np.iinfo(frame.dtype).max)
        result.append(frame)
    return result


def _frame_options(kind: str, frames: list[np.ndarray], images: list[ImageFile]) -> dict[str, Any]:
    """Return Pillow's options for frames. Of an animation, remove the picture for viewers that show none."""
    if kind == "TIFF":
        return {}
    options: dict[str, Any] = {}
    durations = [image.duration for image in images]
    if durations[0] is None and any(each is not None for each in durations):
        del durations[0]
        if kind == "PNG":
            options["default_image"] = True
        else:
            del frames[0]
    usual = 100 if all(each is None for each in durations) else 0
    options["duration"] = [round(usual if each is None else each) for each in durations]
    loop = 0 if images[0].loop is None else images[0].loop
    if not (kind == "GIF" and loop == 1):  # a GIF without a number is shown once
        options["loop"] = loop
    if kind == "GIF" and any(frame.shape[2] == 4 for frame in frames):
        # Or frames before would show through, and colors that a frame does not use would go, the transparent one included.
        options |= {"disposal": 2, "optimize": False}
    return options


def check_target(path: str | Path) -> None:
    """Raise ImageError before long work if `save_image` could not write ``path``: an unknown suffix, a folder, ..."""
    try:
        check_writable(path)
    except OSError as error:
        raise ImageError(f"cannot write {path}: {reason(error)}") from None
    check_format(path)


def check_format(name: str | Path, height: int = 1, width: int = 1) -> None:
    """Raise ImageError unless the suffix of ``name`` is of a format that can be written and holds H x W pixels."""
    try:
        _check_sides(_format_of(Path(name)), height, width)
    except ImageError as error:
        raise ImageError(f"cannot write {name}: {error}") from None


def is_image_name(name: str | Path) -> bool:
    """Return whether the suffix of ``name`` is of a format that can be written."""
    return Image.registered_extensions().get(Path(name).suffix.lower()) in _WRITABLE


def writable_name(name: str) -> str:
    """Return the name of a result: ``name``, with the suffix of a format that can be written."""
    suffix = PurePosixPath(name).suffix.lower()
    if is_image_name(name):
        return name
    known = suffix in _OTHER_SUFFIX or suffix in Image.registered_extensions()
    return (name[: -len(suffix)] if known else name) + _OTHER_SUFFIX.get(suffix, ".png")


def _check_sides(kind: str, height: int, width: int) -> None:
    if max(height, width) > (longest := _LONGEST_SIDE.get(kind, height + width)):
        raise ImageError(f"{kind} has at most {longest} pixels a side, got {width} x {height}; use .png or .tif")


def _format_of(path: Path) -> str:
    """Pillow's name of the format that the suffix names."""
    kind = Image.registered_extensions().get(path.suffix.lower())
    if kind not in _WRITABLE or kind not in Image.SAVE:
        raise ImageError(f"expected a suffix such as .png, .jpg, .webp or .tif, got {path.suffix or 'none'}")
    return kind


def _planes(name: str, tensor: Tensor, channels: int, size: tuple[int, ...] | None = None) -> Tensor:
    """``tensor`` (1, channels, H, W) or (channels, H, W) as (channels, H, W), which must be of ``size`` (H, W) if given."""
    is_float = isinstance(tensor, Tensor) and tensor.is_floating_point()
    shape = tuple(tensor.shape) if is_float else ()
    fits = len(shape) in (3, 4) and shape[:-2] in ((channels,), (1, channels)) and tensor.numel() > 0
    if not fits or (size is not None and shape[-2:] != size):
        got = f"shape {shape}" if is_float else str(getattr(tensor, "dtype", type(tensor).__name__))
        sides = "H, W" if size is None else ", ".join(map(str, size))
        raise ImageError(f"expected {name} as a float tensor (1, {channels}, {sides}), got {got}")
    return tensor.detach().reshape(channels, *shape[-2:])


def _rounded(pixels: Tensor, alpha: Tensor | None, keep_alpha: bool, kind: type[np.unsignedinteger]) -> np.ndarray:
    """Round an image to nearest in all numbers of a type, (H, W, C); flattened on white unless ``keep_alpha``."""
    height, width = pixels.shape[-2:]
    data = np.empty((height, width, 4 if keep_alpha and alpha is not None else 3), kind)
    wide, top = (torch.float32 if kind is np.uint8 else torch.float64), int(np.iinfo(kind).max)
    for rows in row_bands(height, width):
        band = pixels[:, rows].cpu().to(wide)
        if not bool(band.isfinite().all()):
            raise ImageError("some of the pixels are nan or infinite")
        band = band.clamp(0, 1)
        if alpha is not None:
            opacity = alpha[:, rows].cpu().to(wide).nan_to_num().clamp(0, 1)
            band = torch.cat([band, opacity]) if keep_alpha else band * opacity + (1 - opacity)
        data[rows] = (band * top).round().permute(1, 2, 0).numpy()
    return data


def _to_pillow(kind: str, frame: np.ndarray) -> Image.Image:
    """Return an image of 8 bits per channel, for GIF files with transparency with one color of the palette for it."""
    if frame.itemsize > 1:
        frame = ((frame.astype(np.uint32) + 128) // 257).astype(np.uint8)
    if kind != "GIF" or frame.shape[2] == 3:
        return Image.fromarray(frame)
    transparent = 255
    image = Image.fromarray(np.ascontiguousarray(frame[..., :3])).quantize(transparent)
    image.paste(transparent, mask=Image.fromarray(np.where(frame[..., 3], 0, 255).astype(np.uint8)))
    image.info["transparency"] = transparent
    return image
