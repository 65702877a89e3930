"""Image files and image tensors.

In core an image is float RGB in [0, 1], (N, 3, H, W). Files are read upright, their first frame, 8 bits per channel:
of RGB with 16 bits Pillow reads the upper 8. Grey of 12, 16 or 32 bits and of floats is read in full.
"""

from __future__ import annotations

import contextlib
import io
import os
import struct
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch
from PIL import ExifTags, Image, ImageCms
from torch import Tensor

from .errors import ImageError
from .files import atomic_write, check_writable

#: What counts as an image in a folder.
IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".jfif", ".webp", ".tif", ".tiff", ".bmp", ".gif", ".avif", ".jp2")
IMAGE_SUFFIXES += (".ppm", ".pgm", ".pnm", ".tga", ".qoi")
# Plugins of Pillow that decode pixels and nothing else; EPS and WMF, for instance, run other programs.
_READABLE = ("PNG", "JPEG", "WEBP", "TIFF", "BMP", "GIF", "AVIF", "HEIF", "JPEG2000", "PPM", "QOI", "PSD", "TGA")
_WRITABLE = ("PNG", "JPEG", "WEBP", "TIFF", "BMP", "GIF", "AVIF", "JPEG2000", "PPM", "QOI", "TGA")
_HOLD_ALPHA = ("PNG", "WEBP", "TIFF", "AVIF", "JPEG2000", "QOI", "TGA")
_HOLD_METADATA = ("PNG", "JPEG", "WEBP", "TIFF", "AVIF")
_LONGEST_SIDE = {"JPEG": 65500, "WEBP": 16383, "GIF": 65535, "TGA": 65535}
_LONGEST_JPEG_EXIF = 65533
_OPTIONS: dict[str, dict] = {kind: {"quality": 95, "subsampling": "4:4:4"} for kind in ("JPEG", "AVIF")}
_OPTIONS["WEBP"] = {"quality": 95, "exact": True}
_UPRIGHT = dict(enumerate(map(Image.Transpose, (0, 3, 1, 5, 4, 6, 2)), start=2))  # by EXIF orientation
# Tags on how a file stores its own pixels: size, strips, tables, thumbnails, orientation. Not for another file.
_LAYOUT_TAGS = frozenset((*range(254, 269), 273, 274, *range(277, 282), 284, *range(288, 294), 301, *range(317, 348)))
_LAYOUT_TAGS |= frozenset((*range(512, 533), 700, 34377, 34675, 37724))
_SIZE_TAGS = (40962, 40963)
_BAND_PIXELS = 2**18
_DAMAGED = "the file is damaged or incomplete: "


@dataclass(frozen=True)
class ImageFile:
    """What `read_image` finds and `save_image` can keep.

    pixels:       (1, 3, H, W) float32 RGB in [0, 1], upright
    alpha:        (1, 1, H, W) float32, 0 is transparent, or None
    icc_profile:  the color profile of these pixels, or None: sRGB
    exif:         without the orientation and whatever described the old file's layout, or None
    """

    pixels: Tensor
    alpha: Tensor | None = None
    icc_profile: bytes | None = None
    exif: bytes | None = None


def read_image(path: str | Path) -> ImageFile:
    """Read an image file, of as many pixels as fit in memory (Pillow's own limit does not apply).

    CMYK becomes sRGB by its profile (relative colorimetric, black point compensated), without one by plain inversion.
    Only profiles of RGB are kept. Grey is scaled by the range of its type: integers of 32 bits count as 16 if all fit
    in there, floats are 0..1, or 0..255, 0..65535, 0..maximum if they exceed that. Raises ImageError in one line.
    """
    with open_file(path) as file:
        return decode_image(file, path)


def open_file(path: str | Path) -> BinaryIO:
    """An image file, for `image_size` and `decode_image`. Raises ImageError."""
    with _explained(f"cannot read {path}"):
        if Path(path).is_dir():
            raise ImageError("it is a folder; expected an image file")
        return Path(path).open("rb")


def image_size(file: BinaryIO, name: str | Path) -> tuple[int, int]:
    """Height and width of the image in ``file``, before it is turned upright. Raises ImageError with ``name`` in it."""
    with _explained(f"cannot read {name}", _DAMAGED):
        width, height = open_image(file).size
        return height, width


def decode_image(file: BinaryIO, name: str | Path) -> ImageFile:
    """`read_image` of an open file, from its start; messages call it ``name``."""
    with _explained(f"cannot read {name}", _DAMAGED):
        file.seek(0)
        return _decode(open_image(file))


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
    with _explained(f"cannot write {path}"), atomic_write(path) as temporary:
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
    with _explained(f"cannot write {name}"):
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
        raise ImageError(f"cannot write {path}: {_reason(error)}") from None


def _format_of(path: Path) -> str:
    """Pillow's name of the format that a suffix stands for."""
    kind = Image.registered_extensions().get(path.suffix.lower())
    if kind not in _WRITABLE or kind not in Image.SAVE:
        raise ImageError(f"expected a suffix such as .png, .jpg, .webp or .tif, got {path.suffix or 'none'}")
    return kind


def check_image(image: Tensor, channels: int = 3, name: str = "image") -> None:
    """Raise ImageError unless ``image`` is a float tensor (N, channels, H, W) of finite values in [0, 1]."""
    shape = tuple(getattr(image, "shape", ()))
    hint = ""
    if not isinstance(image, Tensor):
        got = type(image).__name__
    elif not image.is_floating_point():
        got = str(image.dtype)
        hint = "use image.float() / 255" if image.dtype == torch.uint8 else ""
    elif image.ndim != 4 or shape[1] != channels or not image.numel():
        got = f"shape {shape}"
        if image.ndim == 3 and shape[0] == channels:
            hint = "use image[None]"
        elif image.ndim == 4 and shape[3] == channels:
            hint = "use image.permute(0, 3, 1, 2)"
        elif image.ndim == 4 and (shape[1], channels) == (4, 3):
            hint = "take alpha off with image[:, :3]"
        elif image.ndim == 4 and shape[1] == 1:
            hint = f"use image.expand(-1, {channels}, -1, -1)"
    else:
        low, high = (float(extreme) for extreme in image.detach().aminmax())
        if low >= -1e-3 and high <= 1 + 1e-3:
            return
        got = f"values from {low:.4g} to {high:.4g}"
        if not np.isfinite([low, high]).all():
            got = "values that are nan or infinite"
        elif low >= 0 and 2 < high <= 255:
            hint = "they look like 0..255: divide by 255"
        elif -1 <= low < -0.1 and high <= 1:
            hint = "they look like -1..1: use (image + 1) / 2"
        else:
            hint = "clamp them, or undo a normalization"
    wanted = f"{name}: expected a float tensor (N, {channels}, H, W) with values in [0, 1]"
    raise ImageError(f"{wanted}, got {got}" + (f"; {hint}" if hint else ""))


def quantize(image: Tensor) -> Tensor:
    """``image`` as it would be after writing it to a file of 8 bits per channel: clamped to [0, 1], in steps of 1/255."""
    return image.clamp(0, 1).mul(255).round().div(255)


def find_images(paths: str | Path | Iterable[str | Path]) -> list[Path]:
    """Files as they are given, and for a folder all images in it and below it, sorted; each file once.

    In folders only IMAGE_SUFFIXES count and hidden names do not; links to folders are followed, each folder once. Raises
    ImageError for a path that does not exist and for a folder without images.
    """
    found: list[Path] = []
    for path in map(Path, [paths] if isinstance(paths, (str, Path)) else paths):
        if not path.exists():
            raise ImageError(f"{path} does not exist; expected an image file or a folder with images")
        inside = sorted(_walk(path)) if path.is_dir() else [path]
        if not inside:
            raise ImageError(f"the folder {path} has no images; expected files like *.jpg or *.png in it or below it")
        found += inside
    return list(dict.fromkeys(found))


def _walk(folder: Path) -> Iterable[Path]:
    def fail(error: OSError) -> None:
        raise ImageError(f"cannot list the folder {error.filename}: {_reason(error)}")

    seen: set[str] = set()  # a link may lead back to where it is
    for place, folders, files in os.walk(folder, onerror=fail, followlinks=True):
        if (real := os.path.realpath(place)) in seen:
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield from (Path(place, name) for name in files if name[0] != "." and name.lower().endswith(IMAGE_SUFFIXES))


def open_image(file: BinaryIO) -> Image.Image:
    """As PIL.Image.open, without its limit on pixels: that is one setting for the whole process, not ours to change."""
    Image.init()
    start = file.read(16)
    if not start:
        raise ImageError("the file is empty (0 bytes); copy or download it again")
    known = None
    for kind in _READABLE:
        factory, accepts = Image.OPEN.get(kind, (None, lambda _: False))
        with contextlib.suppress(SyntaxError, IndexError, TypeError, struct.error):  # the plugins' ways to say no
            accepted = accepts is None or accepts(start)
            if accepted and not isinstance(accepted, str):
                known = kind if accepts else known
                file.seek(0)
                return factory(file, "")  # a name would let Pillow map the file to memory, wrongly for a rotated TIFF
    if known:
        raise ImageError(f"the {known} file is damaged or incomplete")
    raise ImageError(f"expected an image such as PNG, JPEG, WebP or TIFF, but the file starts with {start!r}")


def _decode(image: Image.Image) -> ImageFile:
    tags = getattr(image, "tag_v2", {})
    if image.format == "TIFF":
        if tags.get(284) == 2 and max(tags.get(258, (8,))) > 8 and image.info.get("compression") == "raw":
            raise ImageError("16-bit TIFF in separate planes, which Pillow misreads; save it with interleaved channels")
        # Left to Pillow, this allocation comes after another check of its limit.
        image.im = Image.new(image.mode, getattr(image, "_tile_size", image.size), None).im
    image.load()
    orientation, exif = _read_exif(image)
    if orientation in _UPRIGHT:
        image = image.transpose(_UPRIGHT[orientation])
    profile = image.info.get("icc_profile") or b""
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        pixels, alpha = _read_numbers(image, tags)
    else:
        pixels, alpha = _read_bytes(image, profile)
    keeps_profile = image.mode not in ("CMYK", "LAB") and profile[16:20] == b"RGB "
    return ImageFile(pixels, alpha, profile if keeps_profile else None, exif)


def _read_exif(image: Image.Image) -> tuple[int, bytes | None]:
    orientation = 1
    try:
        exif = image.getexif()
        orientation = exif.get(ExifTags.Base.Orientation, 1)
        details = exif.get_ifd(ExifTags.IFD.Exif)
        for tag in _SIZE_TAGS:
            details.pop(tag, None)
        for tag in _LAYOUT_TAGS.intersection(exif):
            del exif[tag]
        return orientation, exif.tobytes() if len(exif) else None
    except Exception:  # damaged metadata are no reason to refuse the pixels
        return orientation, None


def _read_bytes(image: Image.Image, profile: bytes) -> tuple[Tensor, Tensor | None]:
    """Pixels and alpha of 8 bits per channel."""
    width, height = image.size
    key = image.info.get("transparency")
    if isinstance(key, tuple) and max(key) > 255:  # the transparent color of an RGB file with 16 bits
        image.info["transparency"] = tuple(value >> 8 for value in key)
    convert = _converter(image, profile)
    planes = np.empty((4 if image.has_transparency_data else 3, height, width), np.float32)
    for rows in row_bands(height, width):
        band = convert(image.crop((0, rows.start, width, rows.stop)))
        planes[:, rows] = np.asarray(band).transpose(2, 0, 1)
    planes /= 255
    tensor = torch.from_numpy(planes)[None]
    return tensor[:, :3], tensor[:, 3:] if len(planes) == 4 else None


def _converter(image: Image.Image, profile: bytes) -> Callable[[Image.Image], Image.Image]:
    """What turns a band of rows into RGB or RGBA."""
    with contextlib.suppress(ImageCms.PyCMSError, OSError):  # an unusable profile counts as none
        source = None
        if image.mode == "LAB":
            source = ImageCms.createProfile("LAB")
        elif image.mode == "CMYK" and profile[16:20] == b"CMYK":
            source = io.BytesIO(profile)
        if source is not None:
            intent, flags = ImageCms.Intent.RELATIVE_COLORIMETRIC, ImageCms.Flags.BLACKPOINTCOMPENSATION
            target = ImageCms.createProfile("sRGB")
            transform = ImageCms.buildTransform(source, target, image.mode, "RGB", intent, flags)
            return lambda band: ImageCms.applyTransform(band, transform)
    mode = "RGBA" if image.has_transparency_data else "RGB"
    return lambda band: band.convert(mode)


def _read_numbers(image: Image.Image, tags: dict) -> tuple[Tensor, Tensor | None]:
    """Pixels and alpha of grey with more than 8 bits, or of floats; ``tags`` are those of a TIFF file."""
    values = np.asarray(image)
    if image.mode == "F":
        top = float(values.max())
        if not np.isfinite([top, values.min()]).all():
            raise ImageError("some of its values are nan or infinite")
        full = next((limit for limit in (1, 255, 65535) if top <= limit), top)
    else:
        bits, signed = int(np.max(tags.get(258, 16))), int(np.max(tags.get(339, 1))) == 2
        if bits == 32 and not signed:
            values = values.view(np.uint32)
        full = 65535 if bits == 32 and values.max() <= 65535 else 2 ** (bits - signed) - 1
    grey = np.clip(values.astype(np.float32) / np.float32(full), 0, 1)
    if image.mode.startswith("I;16") and tags.get(262) == 0:  # white is 0, which Pillow heeds up to 8 bits only
        grey = 1 - grey
    key = image.info.get("transparency")
    alpha = None if key is None else torch.from_numpy((values != key).astype(np.float32))[None, None]
    return torch.from_numpy(grey)[None, None].repeat(1, 3, 1, 1), alpha


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


def row_bands(height: int, width: int, least: int = 1) -> Iterable[slice]:
    """Slices of rows, ``least`` or more, so that what works on them needs little memory besides the image."""
    rows = max(least, _BAND_PIXELS // width)
    return (slice(top, min(top + rows, height)) for top in range(0, height, rows))


@contextlib.contextmanager
def _explained(what: str, prefix: str = "") -> Iterator[None]:
    """Turns any exception into an ImageError: decoders and encoders raise nearly anything, and have no type of their own."""
    try:
        yield
    except Exception as error:
        raise ImageError(f"{what}: {_reason(error, prefix)}") from None


def _reason(error: Exception, prefix: str = "") -> str:
    """One line for the user; ``prefix`` goes before errors whose text alone would not tell."""
    if isinstance(error, ImageError):
        return str(error)
    if isinstance(error, FileNotFoundError):
        return "there is no such file"
    if isinstance(error, MemoryError):
        return "not enough memory for its pixels"
    if isinstance(error, Image.DecompressionBombError):
        return "too many pixels for its format; PNG, TIFF and JPEG can be larger"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return prefix + (str(error).strip().splitlines() or [type(error).__name__])[0]
