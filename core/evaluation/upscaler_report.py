"""Report the measurements of upscalers in Markdown and JSON, beside the paper's own numbers."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .report import table, write_texts
from .upscalers import Row

#: Johnson et al., figures 8 and 9: (factor, method) -> test set -> (PSNR, SSIM). Two of the x4 numbers need a note:
#: Set14's bicubic SSIM is 0.7027 in another paper (VDSR), and BSD100's SSIM of the feature loss is misprinted as
#: "63.17".
PAPER = {
    (4, "bicubic"): {"Set5": (28.43, 0.8114), "Set14": (25.99, 0.7301), "BSD100": (25.96, 0.682)},
    (4, "pixel loss"): {"Set5": (28.40, 0.8205), "Set14": (25.75, 0.6994), "BSD100": (25.91, 0.6680)},
    (4, "SRCNN"): {"Set5": (30.48, 0.8628), "Set14": (27.49, 0.7503), "BSD100": (26.90, 0.7101)},
    (4, "feature loss"): {"Set5": (27.09, 0.7680), "Set14": (24.99, 0.6731), "BSD100": (24.95, 0.6317)},
    (8, "bicubic"): {"Set5": (23.80, 0.6455), "Set14": (22.37, 0.5518), "BSD100": (22.11, 0.5322)},
    (8, "pixel loss"): {"Set5": (24.77, 0.6864), "Set14": (23.02, 0.5787), "BSD100": (22.54, 0.5526)},
    (8, "feature loss"): {"Set5": (23.26, 0.7058), "Set14": (21.64, 0.5837), "BSD100": (21.35, 0.5474)},
}

PROTOCOL = (
    "PSNR (dB) and SSIM are computed on the Y channel (BT.601) or on the values of grey files. Images are rounded to "
    "8 bits, and a border as wide as the factor is left out. High resolution images are cropped to a multiple of the "
    "factor. Low resolution images are reduced bicubically as in MATLAB and rounded to 8 bits."
)

_NOTES = {
    "perceptual distance": "Perceptual distance is the feature reconstruction loss at relu2_2 of VGG-16 (the paper's "
    "equation 2) on whole images. Lower is better. Its unit depends on the weights of the loss network.",
    "LPIPS": "LPIPS: lower is better. Values are comparable to published ones of the same variant only if the "
    "network's weights are torchvision's. Most papers use the AlexNet variant.",
    "structure and texture": "Structure and texture: a distance like DISTS, with equal weights for all channels. Lower is "
    "better. It only compares with values of the same network and weights.",
    "mesh peak": "Mesh peak: the largest ratio of the power of results to the power of the originals at 0.14 to 0.48 cycles per "
    "pixel, over textured crops of all images. Well above 1, a network weaves a mesh into texture. Far below 1, it is smooth.",
    "paper": "Rows marked (paper) are printed in Johnson et al. 2016, figures 8 and 9, and not measured here.",
    "x8": "The paper uses a different protocol for x8, as its bicubic row shows. Compare its x8 rows only with each "
    "other.",
}

_TITLES = {"psnr": "PSNR", "ssim": "SSIM"}
_Printed = tuple[int, str, str, tuple[float, float]]  # factor, method, test set, (PSNR, SSIM)


def write_report(rows: Sequence[Row], folder: str | Path) -> list[Path]:
    """Write table.md and table.json into ``folder`` and return their paths. Raises ImageError if that is impossible."""
    return write_texts({"table.md": markdown(rows), "table.json": json.dumps(as_json(rows), indent=2) + "\n"}, folder)


def as_json(rows: Sequence[Row]) -> dict[str, Any]:
    """Return the protocol, the measured rows and the paper's numbers for JSON; an infinite PSNR is null."""

    def finite(values: Any) -> dict[str, float | None]:
        return {key: value if math.isfinite(value) else None for key, value in values.items()}

    measured = [
        {
            "factor": row.factor, "method": row.method, "set": row.test_set, **finite(row.measures),
            "images": {name: finite(values) for name, values in row.images.items()},
        }
        for row in rows
    ]  # fmt: skip
    printed = [
        {"factor": factor, "method": method, "set": test_set, "psnr": psnr, "ssim": ssim}
        for factor, method, test_set, (psnr, ssim) in _printed(rows)
    ]
    return {"protocol": PROTOCOL, "rows": measured, "paper": printed}


def markdown(rows: Sequence[Row]) -> str:
    """Return one table per factor, with a row per method and a column per test set and measure, and notes below."""
    printed = _printed(rows)
    factors = dict.fromkeys(row.factor for row in rows)
    tables = [f"## x{factor}\n\n{_table_of(factor, rows, printed)}" for factor in factors]
    notes = [PROTOCOL]
    notes += [
        _NOTES[key]
        for key in ("perceptual distance", "LPIPS", "structure and texture", "mesh peak")
        if any(m.startswith(key) for m in rows[0].measures)
    ]
    notes += [_NOTES["paper"]] if printed else []
    notes += [_NOTES["x8"]] if any(each[0] == 8 for each in printed) else []
    return "\n\n".join(["# Upscaling", *tables, *notes]) + "\n"


def _table_of(factor: int, rows: Sequence[Row], printed: Sequence[_Printed]) -> str:
    """Return the table of one factor: the measured rows, then the paper's."""
    here = [row for row in rows if row.factor == factor]
    sets, measures = list(dict.fromkeys(row.test_set for row in here)), list(here[0].measures)
    head = ["method", *(f"{each} {_TITLES.get(key, key)}" for each in sets for key in measures)]
    cells: dict[str, dict[tuple[str, str], str]] = {}
    for row in here:
        of_method = cells.setdefault(row.method, {})
        of_method |= {(row.test_set, key): _shown(key, v) for key, v in row.measures.items()}
    for _, method, test_set, (psnr, ssim) in (each for each in printed if each[0] == factor):
        of_method = cells.setdefault(f"{method} (paper)", {})
        of_method |= {(test_set, "psnr"): f"{psnr:.2f}", (test_set, "ssim"): f"{ssim:.4f}"}
    lines = [[name, *(of.get((s, m), "") for s in sets for m in measures)] for name, of in cells.items()]
    return table(head, lines)


def _shown(measure: str, value: float) -> str:
    if math.isnan(value):  # no image was large enough
        return ""
    return f"{value:.2f}" if measure in ("psnr", "mesh peak") else f"{value:.4f}" if value < 100 else f"{value:.0f}"


def _printed(rows: Sequence[Row]) -> list[_Printed]:
    """Return the paper's numbers for the factors and test sets of ``rows``."""
    measured = {(row.factor, row.test_set) for row in rows}
    return [
        (factor, method, test_set, values)
        for (factor, method), of_sets in PAPER.items()
        for test_set, values in of_sets.items()
        if (factor, test_set) in measured
    ]
