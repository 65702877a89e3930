"""Create the banner and the icon that ComfyUI's registry shows.

    python docs/make_banner.py

Both show the astronaut, enlarged by a bundled upscaler, in some of the bundled styles.
"""

from __future__ import annotations

import io
from collections.abc import Iterable

from make_pictures import ROOT, photo, picture
from perceptual_style.core import load_style, load_upscaler
from perceptual_style.core.files import atomic_write
from PIL import Image, ImageDraw, ImageFont

NAME = "Perceptual Style"
STYLES = ("starry_night", "le_chahut", "kirifuri_waterfall", "composition_vii")  # of the banner, from left to right
ICON_STYLE = "starry_night"
_SIZE, _GAP, _MARGIN, _SHADE = (2100, 900), 6, 56, 300
_MIDDLE = 0.445  # of the figure, as a share of the photo's width
_HEAD = (0.19, 0.005, 0.69, 0.505)  # of the icon, as shares of the photo's sides
_ICON_SIDE, _ICON_BYTES, _BANNER_BYTES = 400, 100_000, 400_000


def _jpeg(image: Image.Image, quality: int) -> bytes:
    file = io.BytesIO()
    image.save(file, "JPEG", quality=quality, optimize=True, progressive=True)
    return file.getvalue()


def _png(image: Image.Image, colors: int) -> bytes:
    file = io.BytesIO()
    image.quantize(colors, dither=Image.Dither.NONE).save(file, "PNG", optimize=True)
    return file.getvalue()


def _first_under(size: int, files: Iterable[bytes]) -> bytes:
    """Return the first file that is smaller, from the best to the smallest."""
    return next(file for file in files if len(file) < size)


def pictures() -> dict[str, Image.Image]:
    """Return the enlarged photo, named "photo", and the same in each style."""
    large = load_upscaler("pixel_x2").upscale(photo("astronaut"))
    stylized = {name: picture(load_style(name).stylize(large)) for name in {*STYLES, ICON_STYLE}}
    return {"photo": picture(large), **stylized}


def banner(shown: dict[str, Image.Image]) -> bytes:
    """Return the photo and its styles side by side, each cut to the figure, with the name below, as a JPEG file."""
    width, height = _SIZE
    canvas = Image.new("RGB", _SIZE, "white")
    names = ("photo", *STYLES)
    edges = [round(index * (width + _GAP) / len(names)) for index in range(len(names) + 1)]
    for name, left, right in zip(names, edges[:-1], edges[1:], strict=True):
        whole = shown[name].resize((height, height), Image.Resampling.LANCZOS)
        x = round(_MIDDLE * height - (right - _GAP - left) / 2)
        canvas.paste(whole.crop((x, 0, x + right - _GAP - left, height)), (left, 0))

    shade = Image.linear_gradient("L").point(lambda value: round((value / 255) ** 0.7 * 225)).resize((width, _SHADE))
    canvas.paste("black", (0, height - _SHADE), shade)
    draw = ImageDraw.Draw(canvas)
    draw.text((_MARGIN, height - _MARGIN), NAME, "white", ImageFont.load_default(112), anchor="ls")
    return _first_under(_BANNER_BYTES, (_jpeg(canvas, quality) for quality in range(90, 30, -4)))


def icon(shown: dict[str, Image.Image]) -> bytes:
    """Return the head in one style as a PNG file, with as many colors as its size in bytes allows."""
    whole = shown[ICON_STYLE]
    head = whole.crop(tuple(round(share * whole.width) for share in _HEAD))
    head = head.resize((_ICON_SIDE, _ICON_SIDE), Image.Resampling.LANCZOS)
    return _first_under(_ICON_BYTES, (_png(head, colors) for colors in (256, 192, 128, 96, 64, 32, 16)))


def main() -> None:
    shown = pictures()
    with atomic_write(ROOT / "docs" / "banner.jpg") as part:
        part.write_bytes(banner(shown))
    with atomic_write(ROOT / "docs" / "icon.png") as part:
        part.write_bytes(icon(shown))


if __name__ == "__main__":
    main()
