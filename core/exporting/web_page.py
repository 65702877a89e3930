"""A folder with a web page that stylizes photos and the webcam in the browser. All its files are in the folder."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Sequence
from pathlib import Path

from ..errors import InputError
from ..files import atomic_write, check_writable
from ..models.stylizer import BaseStyle
from ..models.upscale_model import UpscaleModel
from ..progress import Progress, ProgressCallback
from .any_file import export
from .model_graph import facts_of, smallest_side
from .web_runtime import runtime_files

_TEMPLATE = Path(__file__).with_name("page.html")


def write_page(
    folder: str | Path,
    models: Sequence[BaseStyle | UpscaleModel],
    *,
    runtime: str | Path | None = None,
    half: bool = False,
    progress: ProgressCallback | None = None,
) -> Path:
    """Write a web page with its networks and the files of onnxruntime-web.

    A browser loads the page from a web server, such as ``python -m http.server -d FOLDER``. It uses the GPU (WebGPU) or,
    without one, the CPU (WebAssembly). Photos never leave the browser.

    Args:
        folder: Folder to write into. Files of an earlier page are replaced.
        models: Styles, in the order of the page's list. Upscalers work, too.
        runtime: Folder with the files of onnxruntime-web. If it is None, the downloaded ones are used.
        half: As in `export`. A GPU without float16 cannot run such networks, and the page then uses the CPU.
        progress: Called after each network.

    Returns:
        The page, ``index.html`` in the folder. It is written last.

    Raises:
        InputError: If an argument is wrong, or the files of onnxruntime-web are missing.
        CheckpointError: As `export`.
        OSError: If a file cannot be written.
    """
    if not models:
        raise InputError("there are no styles for the page; give at least one")
    files = runtime_files(runtime)
    page = Path(folder) / "index.html"
    check_writable(page)
    listed: list[dict[str, object]] = []
    for number, model in enumerate(models, start=1):
        name = _unused(re.sub(r"[^\w.-]+", "_", model.name).strip("._") or "style", [each["file"] for each in listed])
        export(model, Path(folder) / name, half=half)
        listed.append(_shown(model, name))
        if progress is not None:
            progress(Progress(number, len(models)))
    for file in files:
        with atomic_write(Path(folder) / "ort" / file.name) as temporary:
            shutil.copyfile(file, temporary)
    styles = json.dumps(listed).replace("<", "\\u003c")  # the text must not end the script
    html = _TEMPLATE.read_text(encoding="utf-8")
    for mark, text in (("SCRIPT", files[0].name), ("WASM", files[1].name), ("STYLES_JSON", styles)):
        html = html.replace(mark, text, 1)
    with atomic_write(page) as temporary:
        temporary.write_text(html, encoding="utf-8")
    return page


def _unused(stem: str, taken: Sequence[object]) -> str:
    """Return a file name that no other network of the page has."""
    names = (f"{stem}{'' if number == 1 else f'_{number}'}.onnx" for number in range(1, len(taken) + 2))
    return next(name for name in names if name not in taken)


def _shown(model: BaseStyle | UpscaleModel, file: str) -> dict[str, object]:
    """Return what the page knows about a network."""
    facts = facts_of(model)
    return {
        "name": model.name, "file": file, "title": facts.get("title", ""), "license": facts["license"],
        "credit": facts.get("credit", ""), "smallest_side": smallest_side(model),
    }  # fmt: skip
