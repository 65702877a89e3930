"""The choice of a format, and what is said without its package."""

from __future__ import annotations

import re
import sys

import pytest
from helpers import style_model
from perceptual_style.core import errors
from perceptual_style.core.exporting.any_file import FORMATS, LAYOUTS, export


@pytest.mark.parametrize("name", ["style.pth", "style", "style.mlmodel", "style.ONNX"])
def test_format_is_chosen_by_the_suffix(name, tmp_path):
    message = f"{name}; expected a name that ends in .onnx, .mlpackage, .tflite"
    with pytest.raises(errors.InputError, match=re.escape(message)):
        export(style_model(), tmp_path / name)


@pytest.mark.parametrize(
    "suffix, package, extra, name",
    [
        (".onnx", "onnx", "onnx", "an ONNX file"),
        (".mlpackage", "coremltools", "coreml", "a Core ML file"),
        (".tflite", "ai_edge_litert", "litert", "a LiteRT file"),
    ],
)
def test_missing_package_is_named_with_the_command(suffix, package, extra, name, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)
    message = f'test becomes {name}, which needs the package {package}: pip install "perceptual-style[{extra}]"'
    with pytest.raises(errors.InputError, match=re.escape(message)):
        export(style_model(), tmp_path / f"style{suffix}")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("suffix, kind", FORMATS.items())
def test_layouts_of_other_formats_are_rejected(suffix, kind, tmp_path):
    for layout in set(LAYOUTS) - set(kind.layouts):
        with pytest.raises(errors.InputError, match=f"layout is '{layout}'; expected one of .* for {kind.name}$"):
            export(style_model(), tmp_path / f"style{suffix}", layout=layout)


@pytest.mark.parametrize("size", [(1, 99), (99, 0), (99,), (-5, 99), (99, 8193)])
def test_impossible_sizes_are_rejected(size, tmp_path):
    for suffix in (".mlpackage", ".tflite"):
        with pytest.raises(errors.InputError, match="expected WIDTHxHEIGHT with .* to 8192 px each"):
            export(style_model(), tmp_path / f"style{suffix}", size=size)
