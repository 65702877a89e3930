"""Create the pictures of the README, the help pages and the workflow templates, and the examples that are not photos.

    python docs/make_pictures.py [--loss-weights FILE] [--trained-styles FOLDER]
                                 [--predicted-styles FOLDER] [--other-upscalers FOLDER] [NAME ...]

NAME: names of files without suffix, such as FastStylize (default: all)
FILE: weights of the loss network of the recipe `standard`; needed for OptimizeStyle.jpg and its template
FOLDER: styles in the order of their names, trained with the recipe `quick` or written by `predict-style`; needed for
        quick.jpg and any_painting.jpg; or other people's networks for x4, which spandrel opens, to be shown beside ours in
        upscaled.jpg and restored.jpg

All other pictures are made only from the example photos and the bundled networks. The clip needs PyAV, which ComfyUI
includes.
"""

from __future__ import annotations

import argparse
import io
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path

import numpy as np
import torch
from perceptual_style.core import blend_styles, list_styles, load_style, load_upscaler, predict_style, style_regions
from perceptual_style.core.evaluation.sheet import style_sheet
from perceptual_style.core.files import atomic_write
from perceptual_style.core.hub.manifest import find_entry
from perceptual_style.core.images.bicubic import enlarge
from perceptual_style.core.images.reading import read_image
from perceptual_style.core.images.resample import crop_to_multiple, degrade
from PIL import Image, ImageDraw, ImageFont, ImageOps
from torch import Tensor

ROOT = Path(__file__).resolve().parent.parent
EXAMPLES, PAGES, TEMPLATES = ROOT / "examples", ROOT / "web" / "docs", ROOT / "example_workflows"
_PANEL, _SMALL, _GAP, _THIN_GAP, _LINE = 240, 184, 8, 4, 24
_QUALITY = {"quality": 82, "optimize": True}


# --- content ----------------------------------------------------------------------------------------------------------


@cache
def photo(name: str) -> Tensor:
    """Return an example photo, (1, 3, H, W)."""
    return read_image(EXAMPLES / f"{name}.jpg").pixels


@cache
def styles() -> list:
    """Return the bundled styles, starting with the two that the workflows use."""
    names = [name for name in list_styles() if find_entry(name, "style").is_bundled]
    first = ("starry_night", "the_scream")
    return [load_style(name) for name in (*first, *(name for name in names if name not in first))]


@cache
def stylized(name: str, index: int = 0) -> Tensor:
    return styles()[index].stylize(photo(name))


@cache
def head() -> Tensor:
    """Return a mask of the astronaut's head, (1, 1, H, W)."""
    mask = Image.new("L", (512, 512))
    draw = ImageDraw.Draw(mask)
    draw.ellipse((166, 26, 288, 124), fill=255)
    draw.rounded_rectangle((186, 60, 266, 182), 38, fill=255)
    return torch.from_numpy(np.array(mask))[None, None] / 255


# --- layout -----------------------------------------------------------------------------------------------------------


def picture(image: Tensor) -> Image.Image:
    """Convert (1, 3, H, W) or a mask (1, 1, H, W) in [0, 1]."""
    return Image.fromarray(image[0].expand(3, -1, -1).mul(255).round().byte().movedim(0, -1).numpy())


def square(image: Tensor, side: int, left: float = 0.5) -> Image.Image:
    """Return the largest square of an image, scaled; left: its position, from 0 to 1."""
    whole = picture(image)
    least = min(whole.size)
    x, y = round((whole.width - least) * left), (whole.height - least) // 2
    return whole.crop((x, y, x + least, y + least)).resize((side, side), Image.Resampling.LANCZOS)


def panels(columns: int, titled: list[tuple[str, Image.Image]]) -> Image.Image:
    """Return pictures of one size in rows, each above its title."""
    width, height = titled[0][1].size
    rows = -(-len(titled) // columns)
    canvas = Image.new("RGB", (columns * (width + _GAP) - _GAP, rows * (height + _LINE + _GAP) - _GAP), (32, 32, 32))
    draw, font = ImageDraw.Draw(canvas), ImageFont.load_default(15)
    for index, (title, each) in enumerate(titled):
        x, y = index % columns * (width + _GAP), index // columns * (height + _LINE + _GAP)
        canvas.paste(each, (x, y))
        draw.text((x + width / 2, y + height + 3), title, (225, 225, 225), font, anchor="ma")
    return canvas


def grid(rows: list[list[Tensor]], width: int, height: int) -> Image.Image:
    """Return pictures in rows, each cropped to one size."""
    columns = max(map(len, rows))
    size = (columns * (width + _THIN_GAP) - _THIN_GAP, len(rows) * (height + _THIN_GAP) - _THIN_GAP)
    canvas = Image.new("RGB", size, "white")
    for y, row in enumerate(rows):
        for x, image in enumerate(row):
            fitted = ImageOps.fit(picture(image), (width, height), Image.Resampling.LANCZOS)
            canvas.paste(fitted, (x * (width + _THIN_GAP), y * (height + _THIN_GAP)))
    return canvas


def strips(images: list[Tensor], side: int) -> Image.Image:
    """Return vertical strips of several images side by side, each from the same place."""
    whole = [square(image, side) for image in images]
    for index, each in enumerate(whole[1:], start=1):
        x = index * side // len(whole)
        whole[0].paste(each.crop((x, 0, side, side)), (x, 0))
        ImageDraw.Draw(whole[0]).line((x, 0, x, side), "white", 2)
    return whole[0]


# --- README -----------------------------------------------------------------------------------------------------------


def gallery() -> Image.Image:
    """Return three photos in every bundled style, four styles side by side."""
    blocks = [range(first, min(first + 4, len(styles()))) for first in range(0, len(styles()), 4)]
    grids = [
        grid(
            [[photo(name), *(stylized(name, i) for i in block)] for name in ("astronaut", "coffee", "rocket")], 240, 180
        )
        for block in blocks
    ]
    gap = 3 * _THIN_GAP
    canvas = Image.new("RGB", (grids[0].width, sum(each.height + gap for each in grids) - gap), "white")
    for index, each in enumerate(grids):
        canvas.paste(each, (0, index * (each.height + gap)))
    return canvas


def in_styles_of(folder: Path) -> Image.Image:
    """Return two photos in every style of a folder, a row for each photo."""
    models = [load_style(path) for path in sorted(folder.glob("*.safetensors"))]
    return grid([[model.stylize(photo(name)) for model in models] for name in ("astronaut", "coffee")], 288, 216)


@cache
def opened_by_spandrel(path: Path) -> Callable[[Tensor], Tensor]:
    from spandrel import ModelLoader

    return ModelLoader(device="cpu").load_from_file(path).eval()


def four_times(
    small: Tensor, whole: Tensor, networks: tuple[str, ...], left: int, top: int, side: int, others: Path | None
) -> list[tuple[str, Image.Image]]:
    """Return a part of a small photo, enlarged four times by bicubic interpolation and by networks, and of the original."""
    shown = {"bicubic": enlarge(small, 4).clamp(0, 1)}
    with torch.inference_mode():
        for path in sorted(others.glob("*.*")) if others else []:
            shown[path.stem] = opened_by_spandrel(path)(small).clamp(0, 1)
    shown |= {name: load_upscaler(name).upscale(small) for name in networks} | {"original": whole}
    return [(title, picture(image[..., top : top + side, left : left + side])) for title, image in shown.items()]


def enlarged(others: Path | None) -> Image.Image:
    """Return a photo that was reduced by a factor of four and enlarged again, by several methods."""
    whole = crop_to_multiple(photo("astronaut"), 4)
    crops = four_times(degrade(whole, 4), whole, ("pixel_x4", "perceptual_x4"), 170, 40, 120, others)
    shown = [(title, crop.resize((_PANEL, _PANEL), Image.Resampling.NEAREST)) for title, crop in crops]
    return panels(-(-len(shown) // 2) if others else 4, shown)


def as_sent(image: Tensor, quality: int) -> Tensor:
    """Return a photo with the noise of a small camera, as a JPEG."""
    noise = np.random.default_rng(0).normal(0, 5, (*image.shape[-2:], 3))
    pixels = (np.asarray(picture(image)) + noise).clip(0, 255).round().astype(np.uint8)
    with io.BytesIO() as file:
        Image.fromarray(pixels).save(file, "JPEG", quality=quality)
        return torch.from_numpy(np.array(Image.open(file))).movedim(-1, 0)[None] / 255


def restored(others: Path | None) -> Image.Image:
    """Return small, noisy and compressed photos, enlarged by several methods, and the originals."""
    networks = ("restore_x4",) if others else ("perceptual_x4", "restore_x4")
    rows = []
    for name, (left, top) in {"astronaut": (150, 30), "coffee": (200, 120), "chelsea": (90, 40)}.items():
        whole = crop_to_multiple(photo(name), 4)
        crops = four_times(as_sent(degrade(whole, 4), 50), whole, networks, left, top, 160, others)
        rows += [(title, crop.resize((_PANEL, _PANEL), Image.Resampling.BICUBIC)) for title, crop in crops]
    return panels(len(crops), rows)


def chained() -> Image.Image:
    """Return a photo stylized at a small size and then enlarged, beside the photo stylized at the large size."""
    model, (left, top, side) = load_upscaler("perceptual_x4"), (640, 200, 360)
    large = styles()[0].stylize(enlarge(photo("astronaut"), 4).clamp(0, 1))
    shown = {
        "512 px, then perceptual_x4": model.upscale(stylized("astronaut")),
        "512 px, then bicubic": enlarge(stylized("astronaut"), 4).clamp(0, 1), "stylized at 2048 px": large,
    }  # fmt: skip
    return panels(
        3, [(title, picture(image[..., top : top + side, left : left + side])) for title, image in shown.items()]
    )


# --- help pages -------------------------------------------------------------------------------------------------------


def load_style_model() -> Image.Image:
    shown = [(style.name, square(style.stylize(photo("chelsea")), _SMALL)) for style in styles()]
    return panels(5, [("photo", square(photo("chelsea"), _SMALL)), *shown])


def fast_stylize() -> Image.Image:
    style, image = styles()[0], photo("astronaut")
    outside = {"mask": 1 - head(), "feather": 16}
    choices = {
        "strength 0.5": {"strength": 0.5}, "as it is": {}, "stroke_size 2": {"stroke_size": 2.0},
        "color keep": {"color": "keep"}, "a mask that leaves the head out": outside,
    }  # fmt: skip
    shown = [(title, square(style.stylize(image, **choice), _PANEL)) for title, choice in choices.items()]
    return panels(3, [("photo", square(image, _PANEL)), *shown])


def blend() -> Image.Image:
    shown = []
    for amount in (0.0, 0.5, 1.0):
        style = blend_styles(*styles()[:2], amount)
        shown.append((f"amount {amount:g}", square(style.stylize(photo("chelsea")), _PANEL)))
    return panels(3, shown)


def regions() -> Image.Image:
    style = style_regions(styles()[0], head(), styles()[1], feather=16)
    shown = {"photo": photo("astronaut"), "mask_1": head(), "both styles": style.stylize(photo("astronaut"))}
    return panels(3, [(title, square(image, _PANEL)) for title, image in shown.items()])


def train_style() -> Image.Image:
    names = ("rocket", "coffee", "chelsea")
    shown = [(name, square(photo(name), _PANEL)) for name in names]
    return panels(3, shown + [(f"{name}, {styles()[0].name}", square(stylized(name), _PANEL)) for name in names])


@cache
def optimize_style(loss_weights: str) -> Image.Image:
    from perceptual_style.core import optimize_image

    content = torch.from_numpy(np.array(square(photo("coffee"), 256))).movedim(-1, 0)[None] / 255
    style = stylized("rocket")
    result = optimize_image(content, style, recipe="standard", loss_weights=loss_weights, iterations=150)
    shown = {"content": content, "style_image": style, "150 iterations": result}
    return panels(3, [(title, square(image, _PANEL)) for title, image in shown.items()])


@cache
def film_frames() -> list[tuple[Tensor, Tensor]]:
    """Return frames 1, 12 and 24 of the clip, each with its stylized version."""
    stylizer, shown = styles()[0].stylizer(temporal=1.0), []
    for frame in frames():
        pixels = torch.from_numpy(np.array(frame)).movedim(-1, 0)[None] / 255
        shown.append((pixels, stylizer(pixels)))
    return [shown[index] for index in (0, 11, 23)]


def stylize_video() -> Image.Image:
    numbered = list(zip((1, 12, 24), film_frames(), strict=True))
    shown = [(f"frame {number}", picture(frame)) for number, (frame, _) in numbered]
    shown += [(f"frame {number}, {styles()[0].name}", picture(painted)) for number, (_, painted) in numbered]
    return panels(3, shown)


def sheet() -> Image.Image:
    named = [(model.name, model) for model in styles()]
    return picture(style_sheet(photo("astronaut"), named, side=_SMALL, columns=5))


@cache
def at_once() -> list[tuple[Tensor, Tensor]]:
    """Return three stylized photos in place of paintings, each with a photo in the style predicted from it."""
    paintings = [stylized("rocket"), stylized("coffee", 1), stylized("astronaut", 2)]
    return [(painting, predict_style(painting).stylize(photo("chelsea"))) for painting in paintings]


def style_from_painting() -> Image.Image:
    shown = [("a painting", square(painting, _PANEL)) for painting, _ in at_once()]
    return panels(3, [*shown, *(("its style", square(result, _PANEL)) for _, result in at_once())])


def predicted() -> Image.Image:
    """Return a stylized photo, with the painting in a corner."""
    painting, result = at_once()[0]
    canvas = square(result, 512)
    canvas.paste(ImageOps.expand(square(painting, 160), 4, "white"), (12, 332))
    return canvas


def perceptual_upscale() -> Image.Image:
    small = photo("chelsea")[..., 96:156, 110:170]
    upscaled = load_upscaler("perceptual_x4").upscale(small)
    shown = {"60 x 60 pixels": small, "bicubic, x4": enlarge(small, 4).clamp(0, 1), "perceptual_x4": upscaled}
    nearest = Image.Resampling.NEAREST
    return panels(3, [(title, picture(image).resize((240, 240), nearest)) for title, image in shown.items()])


def load_perceptual_upscaler() -> Image.Image:
    small = photo("rocket")[..., 150:180, 300:330]
    shown = [(f"perceptual_x{n}", load_upscaler(f"perceptual_x{n}").upscale(small)) for n in (2, 4, 8)]
    return panels(3, [(title, picture(image).resize((240, 240), Image.Resampling.NEAREST)) for title, image in shown])


# --- templates and examples -------------------------------------------------------------------------------------------


def detail() -> Image.Image:
    """Return a stylized photo, with an upscaled part of it on top."""
    whole, box = square(stylized("astronaut"), 512), (160, 50, 224, 114)
    part = load_upscaler("perceptual_x4").upscale(stylized("astronaut")[..., box[1] : box[3], box[0] : box[2]])
    draw = ImageDraw.Draw(whole)
    draw.rectangle(box, outline="white", width=2)
    whole.paste(picture(part), (250, 250))
    draw.rectangle((249, 249, 506, 506), outline="white", width=2)
    return whole


def box(image: Tensor, left: int, top: int, right: int, bottom: int) -> Tensor:
    """Return a mask of a box in an image, (1, 1, H, W)."""
    mask = torch.zeros_like(image[:, :1])
    mask[..., top:bottom, left:right] = 1
    return mask


def keep_colors() -> Image.Image:
    image = photo("astronaut")
    outside = 1 - box(image, 140, 10, 310, 200)
    return square(styles()[0].stylize(image, color="keep", mask=outside, feather=24), 512)


def blended() -> Image.Image:
    return strips([blend_styles(*styles()[:2], amount).stylize(photo("chelsea")) for amount in (0, 0.5, 1)], 512)


def in_regions() -> Image.Image:
    image = photo("astronaut")
    top = box(image, 0, 0, image.shape[-1], image.shape[-2] * 56 // 100)
    return square(style_regions(styles()[0], top, styles()[1], feather=48).stylize(image), 512)


def trained() -> Image.Image:
    canvas = Image.new("RGB", (512, 512))
    for index, name in enumerate(("rocket", "coffee", "chelsea", "astronaut")):
        canvas.paste(square(stylized(name), 256), (index % 2 * 256, index // 2 * 256))
    return canvas


def optimized(loss_weights: str) -> Image.Image:
    whole = optimize_style(loss_weights)
    return whole.crop((2 * (_PANEL + _GAP), 0, whole.width, _PANEL)).resize((512, 512), Image.Resampling.LANCZOS)


def upscaled() -> Image.Image:
    """Return enlarged pixels on the left and the upscaled image on the right."""
    small = photo("chelsea")[..., 76:140, 116:180]
    whole = picture(small).resize((512, 512), Image.Resampling.NEAREST)
    whole.paste(picture(load_upscaler("perceptual_x8").upscale(small)).crop((256, 0, 512, 512)), (256, 0))
    ImageDraw.Draw(whole).line((256, 0, 256, 512), "white", 2)
    return whole


def frames() -> list[Image.Image]:
    """Return 24 frames of 320 x 240 px from a grainy camera that moves over a photo."""
    whole, grain = picture(photo("rocket")).resize((480, 320), Image.Resampling.LANCZOS), np.random.default_rng(0)
    shown = []
    for index in range(24):
        pixels = np.array(whole.crop((40 + 3 * index, 40, 360 + 3 * index, 280)), dtype=np.float32)
        pixels += grain.normal(0, 3, pixels.shape)
        shown.append(Image.fromarray(pixels.clip(0, 255).astype(np.uint8)))
    return shown


def film() -> Image.Image:
    canvas = Image.new("RGB", (512, 512), (16, 16, 16))
    draw = ImageDraw.Draw(canvas)
    for index, frame in enumerate(frames()[::6]):
        pixels = torch.from_numpy(np.array(frame)).movedim(-1, 0)[None] / 255
        canvas.paste(
            picture(styles()[0].stylize(pixels)).resize((230, 230)), (16 + index % 2 * 250, 16 + index // 2 * 250)
        )
    for y in range(0, 512, 32):
        for x in (3, 250, 500):
            draw.rounded_rectangle((x, y + 8, x + 8, y + 22), 2, fill="white")
    return canvas


def film_strips() -> Image.Image:
    """Return two strips of film, the clip's frames on the left and the stylized ones on the right."""
    canvas = Image.new("RGB", (512, 512), (16, 16, 16))
    draw = ImageDraw.Draw(canvas)
    for row, pair in enumerate(film_frames()):
        for column, image in enumerate(pair):
            fitted = ImageOps.fit(picture(image), (212, 154), Image.Resampling.LANCZOS)
            canvas.paste(fitted, (22 + column * 256, 14 + row * 165))
    for y in range(0, 512, 32):
        for x in (7, 241, 263, 497):
            draw.rounded_rectangle((x, y + 8, x + 8, y + 22), 2, fill="white")
    return canvas


def masked_photo(path: Path) -> None:
    """Write the astronaut with a transparent head, as the host's mask editor saves a painted mask."""
    image = picture(photo("astronaut"))
    image.putalpha(picture(1 - head()).convert("L"))
    with atomic_write(path) as part:
        image.save(part, "WEBP", quality=90, exact=True)


def painting(path: Path) -> None:
    """Write a stylized photo that serves as the painting in workflows."""
    with atomic_write(path) as part:
        picture(stylized("rocket")).save(part, "JPEG", quality=92)


def clip(path: Path) -> None:
    import av

    with atomic_write(path) as part, av.open(str(part), "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=12, options={"crf": "26"})
        stream.width, stream.height, stream.pix_fmt = 320, 240, "yuv420p"
        for frame in frames():
            container.mux(stream.encode(av.VideoFrame.from_image(frame)))
        container.mux(stream.encode())


# --- main -------------------------------------------------------------------------------------------------------------


def saved(make: Callable[[], Image.Image], path: Path) -> None:
    with atomic_write(path) as part:
        make().save(part, "JPEG", **_QUALITY)


def everything(
    loss_weights: str | None, folders: dict[str, Path | None], others: Path | None
) -> dict[str, Callable[[], None]]:
    pages = {
        "LoadStyleModel": load_style_model, "FastStylize": fast_stylize, "BlendStyles": blend, "StyleRegions": regions,
        "StylizeVideo": stylize_video, "TrainStyle": train_style, "PerceptualUpscale": perceptual_upscale,
        "LoadPerceptualUpscaler": load_perceptual_upscaler, "StyleSheet": sheet,
        "StyleFromPainting": style_from_painting,
    }  # fmt: skip
    templates = {
        "stylize": lambda: strips([photo("astronaut"), stylized("astronaut")], 512), "stylize_then_upscale": detail,
        "keep_colors_with_a_mask": keep_colors, "blend_two_styles": blended, "two_styles_in_regions": in_regions,
        "upscale": upscaled, "train_a_style": trained, "video_frames": film,
        "stylize_video": film_strips, "style_sheet": lambda: ImageOps.pad(sheet(), (512, 512), color="white"),
        "any_painting_at_once": predicted,
    }  # fmt: skip
    if loss_weights is not None:
        pages["OptimizeStyle"] = partial(optimize_style, loss_weights)
        templates["any_painting_without_training"] = partial(optimized, loss_weights)
    files = {
        EXAMPLES / "astronaut_masked.webp": masked_photo,
        EXAMPLES / "painting.jpg": painting,
        EXAMPLES / "rocket_pan.mp4": clip,
    }
    found = {path.stem: partial(make, path) for path, make in files.items()}
    readme = {"gallery": gallery, "stylized_then_upscaled": chained}
    readme |= {"upscaled": partial(enlarged, others), "restored": partial(restored, others)}
    readme |= {name: partial(in_styles_of, folder) for name, folder in folders.items() if folder is not None}
    found |= {name: partial(saved, make, ROOT / "docs" / f"{name}.jpg") for name, make in readme.items()}
    found |= {name: partial(saved, make, PAGES / f"{name}.jpg") for name, make in pages.items()}
    return found | {name: partial(saved, make, TEMPLATES / f"{name}.jpg") for name, make in templates.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME")
    parser.add_argument("--loss-weights", metavar="FILE")
    parser.add_argument("--trained-styles", metavar="FOLDER", type=Path)
    parser.add_argument("--predicted-styles", metavar="FOLDER", type=Path)
    parser.add_argument("--other-upscalers", metavar="FOLDER", type=Path)
    arguments = parser.parse_args()
    folders = {"quick": arguments.trained_styles, "any_painting": arguments.predicted_styles}
    makers = everything(arguments.loss_weights, folders, arguments.other_upscalers)
    unknown = set(arguments.names) - set(makers)
    if unknown:
        parser.error(f"unknown: {', '.join(sorted(unknown))}; expected some of {', '.join(makers)}")
    for name in arguments.names or makers:
        makers[name]()
        print(name)


if __name__ == "__main__":
    main()
