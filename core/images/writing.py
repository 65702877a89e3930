"""Write image files with 8 bits per channel, completely or not at all."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ..errors import ImageError
from ..files import atomic_write, check_writable
from .failures import explained, reason
from .tensors import row_bands

_WRITABLE = ("PNG", "JPEG", "WEBP", "TIFF", "BMP", "GIF", "AVIF", "JPEG2000", "PPM", "QOI", "TGA")

_HOLD_ALPHA = ("PNG", "WEBP", "TIFF", "AVIF", "JPEG2000", "QOI", "TGA")

_HOLD_METADATA = ("PNG", "JPEG", "WEBP", "TIFF", "AVIF")

_LONGEST_SIDE = {"JPEG": 65500, "WEBP": 16383, "GIF": 65535, "TGA": 65535}

_LONGEST_JPEG_EXIF = 65533

_OPTIONS: dict[str, dict] = {kind: {"quality": 95, "subsampling": "4:4:4"} for kind in ("JPEG", "AVIF")}

_OPTIONS["WEBP"] = {"quality": 95, "exact": True}


def save_image(
    path: str | Path,
    pixels: Tensor,
    alpha: Tensor | None = None,
    icc_profile: bytes | None = None,
    exif: bytes | None = None,
) -> str | None:
    """Write (1, 3, H, W) or (3, H, W), clamped to [0, 1], with 8 bits per channel in the format that the suffix names.

    The file is written completely or not at all, see `atomic_write`. Returns a line for the user if the format cannot
    hold everything (transparency is then flattened on white), else None. Raises ImageError in one line.
    """
    encoded, warning = encode_image(path, pixels, alpha, icc_profile, exif)
    with explained(f"cannot write {path}"), atomic_write(path) as temporary:
        temporary.write_bytes(encoded)
    return warning


def encode_image(
    name: str | Path,
    pixels: Tensor,
    alpha: Tensor | None = None,
    icc_profile: bytes | None = None,
    exif: bytes | None = None,
) -> tuple[memoryview, str | None]:
    """The content of the file that `save_image` writes under ``name``, and what it returns."""
    with explained(f"cannot write {name}"):
        kind = _format_of(Path(name))
        pixels, alpha = _planes(pixels, alpha)
        height, width = pixels.shape[-2:]
        if max(height, width) > (longest := _LONGEST_SIDE.get(kind, height + width)):
            raise ImageError(f"{kind} has at most {longest} pixels a side, got {width} x {height}; use .png or .tif")
        lost, options = [], dict(_OPTIONS.get(kind, {}))
        if alpha is not None and kind not in _HOLD_ALPHA and bool((alpha < 1).any()):
            lost.append("transparency (flattened on white)")
        for key, value, what in (("icc_profile", icc_profile, "color profile"), ("exif", exif, "EXIF")):
            if value and kind not in _HOLD_METADATA:
                lost.append(what)
            elif value and (kind, key) == ("JPEG", "exif") and len(value) > _LONGEST_JPEG_EXIF:
                lost.append("EXIF of more than 64 KB")
            elif value:
                options[key] = value
        # Encoded in memory first: on a full disk Pillow's JPEG encoder stops without an error, JPEG 2000 never stops.
        encoded = io.BytesIO()
        _to_pillow(pixels, alpha, keep_alpha=kind in _HOLD_ALPHA).save(encoded, kind, **options)
    return encoded.getbuffer(), f"{name}: {kind} holds no {' and no '.join(lost)}" if lost else None


def check_target(path: str | Path) -> None:
    """Raise ImageError now where `save_image` would when long work is done: for a suffix of no format, a folder, ..."""
    try:
        check_writable(path)
        _format_of(Path(path))
    except (ImageError, OSError) as error:
        raise ImageError(f"cannot write {path}: {reason(error)}") from None


def _format_of(path: Path) -> str:
    """Pillow's name of the format that a suffix stands for."""
    kind = Image.registered_extensions().get(path.suffix.lower())
    if kind not in _WRITABLE or kind not in Image.SAVE:
        raise ImageError(f"expected a suffix such as .png, .jpg, .webp or .tif, got {path.suffix or 'none'}")
    return kind


def _planes(pixels: Tensor, alpha: Tensor | None) -> tuple[Tensor, Tensor | None]:
    """(3, H, W) and (1, H, W) of what `save_image` was given."""
    planes = []
    for name, tensor, channels in (("pixels", pixels, 3), ("alpha", alpha, 1)):
        if tensor is None and name == "alpha":
            return planes[0], None
        is_float = isinstance(tensor, Tensor) and tensor.is_floating_point()
        shape = tuple(tensor.shape) if is_float else ()
        sides = "H, W" if not planes else ", ".join(map(str, planes[0].shape[-2:]))
        fits = len(shape) in (3, 4) and shape[:-2] in ((channels,), (1, channels)) and tensor.numel() > 0
        if not fits or (planes and shape[-2:] != tuple(planes[0].shape[-2:])):
            got = f"shape {shape}" if is_float else str(getattr(tensor, "dtype", type(tensor).__name__))
            raise ImageError(f"expected {name} as a float tensor (1, {channels}, {sides}), got {got}")
        planes.append(tensor.detach().reshape(channels, *shape[-2:]))
    return planes[0], planes[1]


def _to_pillow(pixels: Tensor, alpha: Tensor | None, keep_alpha: bool) -> Image.Image:
    """8 bits per channel, rounded to nearest; without ``keep_alpha`` flattened on white."""
    height, width = pixels.shape[-2:]
    data = np.empty((height, width, 4 if keep_alpha and alpha is not None else 3), np.uint8)
    for rows in row_bands(height, width):
        band = pixels[:, rows].cpu().float()
        if not bool(band.isfinite().all()):
            raise ImageError("some of the pixels are nan or infinite")
        band = band.clamp(0, 1)
        if alpha is not None:
            opacity = alpha[:, rows].cpu().float().nan_to_num().clamp(0, 1)
            band = torch.cat([band, opacity]) if keep_alpha else band * opacity + (1 - opacity)
        data[rows] = (band * 255).round().to(torch.uint8).permute(1, 2, 0).numpy()
    return Image.fromarray(data)
