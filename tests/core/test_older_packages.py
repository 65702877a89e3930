"""Older versions of torch, Pillow and optional packages: what replaces the parts that they lack, and the errors."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest
import torch
from perceptual_style.core.devices import check_torch, has_fast_bf16
from perceptual_style.core.errors import CheckpointError, PerceptualStyleError
from perceptual_style.core.images.pillow import BLACKPOINT_COMPENSATION, has_transparency
from perceptual_style.core.optional import need
from PIL import Image, ImageCms

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("version", ["2.1.0", "2.1.2+cu118", "1.13.1", "2.0.0a0+git1234"])
def test_old_torch_is_rejected(version):
    with pytest.raises(PerceptualStyleError) as caught:
        check_torch(version)
    assert str(caught.value) == f"torch {version} is too old; perceptual-style needs 2.2 or newer"


@pytest.mark.parametrize("version", ["2.2.0", "2.2.0a0+git1234", "2.14.1+cu130", "3.0.0", torch.__version__])
def test_new_torch_is_accepted(version):
    check_torch(version)


def test_command_and_public_names_report_old_torch_in_one_line(run_python):
    process = run_python(
        "import sys, torch\n"
        "torch.__version__ = '2.1.0'\n"
        "import perceptual_style.core as core\n"
        "from perceptual_style.core.cli import main\n"
        "for name in core.__all__:\n"
        "    try:\n"
        "        name == 'errors' or sys.exit(f'{name}: {getattr(core, name)}')\n"
        "    except core.errors.PerceptualStyleError as error:\n"
        "        assert str(error).startswith('torch 2.1.0 is too old'), error\n"
        "sys.exit(main(['stylize', 'photo.png', '-o', 'out.png']))"
    )
    wanted = "perceptual-style: torch 2.1.0 is too old; perceptual-style needs 2.2 or newer\n"
    assert (process.returncode, process.stdout, process.stderr) == (2, "", wanted)


@pytest.mark.parametrize("supported", [True, False])
def test_bf16_is_detected_without_the_argument_of_newer_torch(supported, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: supported)
    assert has_fast_bf16(torch.device("cuda")) is supported


@pytest.mark.parametrize(
    "mode", ["1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr", "LAB", "I", "F"]
)
def test_transparency_is_detected_as_by_pillow(mode):
    image = Image.new(mode, (2, 2))
    assert has_transparency(image) is (mode in ("LA", "La", "PA", "RGBA", "RGBa"))
    if mode == "P":
        image.putpalette([0, 0, 0, 0] * 4, "RGBA")
        assert has_transparency(image)
    image.info["transparency"] = 0
    assert has_transparency(image)


def test_flag_of_blackpoint_compensation():
    named = ImageCms.Flags.BLACKPOINTCOMPENSATION if hasattr(ImageCms, "Flags") else 8192
    assert named == BLACKPOINT_COMPENSATION


def test_missing_and_outdated_optional_packages_are_told_apart(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "old_package.py").write_text("version = '0.1'\n")
    (tmp_path / "broken_package.py").write_text("from math import something_new\n")
    for module, wanted in (
        ("absent_package.part", 'which needs the package absent_package: pip install "perceptual-style[extra]"'),
        (
            "old_package.part",
            "and the installed package old_package is too old or damaged (No module named 'old_package.part'",
        ),
        ("broken_package", "too old or damaged (cannot import name 'something_new' from 'math'"),
    ):
        with pytest.raises(CheckpointError) as caught:
            need(module, "extra", "a.onnx is an ONNX file", CheckpointError)
        assert str(caught.value).startswith("a.onnx is an ONNX file, ") and wanted in str(caught.value)
        sys.modules.pop(module.partition(".")[0], None)
    assert str(caught.value).endswith("pip install --upgrade broken_package")


def test_requirements_have_lower_bounds_except_for_torch():
    """A bound on torch could make pip replace a CUDA build; core/devices.py checks it instead."""
    lines = (ROOT / "requirements.txt").read_text(encoding="utf-8").split()
    bounds = dict(re.fullmatch(r"([a-z-]+)(?:>=([\d.]+))?", line).groups() for line in lines)
    wanted = {"numpy": "1.23", "pillow": "10.1", "safetensors": "0.3.3", "huggingface-hub": "0.25"}
    assert {name: bound for name, bound in bounds.items() if bound} == wanted
    assert {"torch", "torchvision"} <= set(bounds)
