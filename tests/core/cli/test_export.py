"""The command ``export``."""

from __future__ import annotations

import re
import sys

import pytest
import torch
from helpers import save_style
from perceptual_style.core import load_upscaler
from perceptual_style.core.exporting.web_runtime import FILES

pytest.importorskip("onnx")
from onnx_files import OnnxModel  # noqa: E402


def test_export_writes_a_file_and_says_how_far_it_is_from_the_network(run, tmp_path):
    style, target = save_style(tmp_path / "own.safetensors", license="CC0-1.0"), tmp_path / "own.onnx"
    status, out, _ = run("export", style, "-o", target)
    path, difference, side = out.splitlines()
    assert (status, path) == (0, str(target))
    assert difference.startswith(
        ("largest difference in ONNX Runtime: 0.0", "not compared: ONNX Runtime is not installed")
    )
    assert side.endswith(" px")
    assert OnnxModel(target).metadata["license"] == "CC0-1.0"


def test_export_of_upscaler_blends_with_its_partner(run, tmp_path):
    for fidelity in (0, 1):
        target = tmp_path / f"{fidelity}.onnx"
        assert run("export", "perceptual_x2", "--fidelity", fidelity, "-o", target)[0] == 0
    assert (tmp_path / "0.onnx").read_bytes() != (tmp_path / "1.onnx").read_bytes()


def test_export_of_upscaler_has_the_fidelity_of_the_command_upscale(run, tmp_path):
    target = tmp_path / "x2.onnx"
    assert run("export", "perceptual_x2", "-o", target)[0] == 0
    image, model = torch.rand(1, 3, 20, 24), load_upscaler("perceptual_x2")
    exported = OnnxModel(target)(image)
    assert (exported - model.upscale(image, precision="fp32")).abs().max() < 1 / 255
    assert run("export", "perceptual_x2", "-o", target, "--fidelity", "0.6")[0] == 0
    blended, exported = model.upscale(image, fidelity=0.6, precision="fp32"), OnnxModel(target)(image)
    assert (exported - blended).abs().max() < 1 / 255 < (model.upscale(image, precision="fp32") - blended).abs().max()


def test_export_of_restorer_has_its_denoise(run, tmp_path):
    target, image, model = tmp_path / "x2.onnx", torch.rand(1, 3, 20, 24), load_upscaler("restore_x2")
    assert run("export", "restore_x2", "-o", target, "--denoise", "0.3")[0] == 0
    blended = model.upscale(image, denoise=0.3, precision="fp32")
    assert (OnnxModel(target)(image) - blended).abs().max() < 1 / 255


def test_export_to_core_ml_says_that_nobody_ran_the_file(run, tmp_path):
    pytest.importorskip("coremltools")
    style, target = save_style(tmp_path / "own.safetensors"), tmp_path / "own.mlpackage"
    status, out, err = run("export", style, "-o", target)
    path, verified, side = out.splitlines()
    assert (status, path, list(err)) == (0, str(target), []) and (target / "Manifest.json").is_file()
    assert verified == "not verified here: Core ML runs on macOS only" or sys.platform == "darwin"
    assert re.fullmatch(r"smallest side of pictures: \d+ px", side)


def test_export_to_litert_has_one_size(run, tmp_path):
    pytest.importorskip("ai_edge_litert")
    style, target = save_style(tmp_path / "own.safetensors"), tmp_path / "own.tflite"
    status, out, _ = run("export", style, "-o", target, "--size", "48x40")
    path, difference, size = out.splitlines()
    assert (status, path, size) == (0, str(target), "size of pictures: 48x40 px")
    assert re.fullmatch(r"largest difference in LiteRT: 0\.\d{3} of 255", difference)


def test_export_of_a_page_lists_the_networks(run, tmp_path):
    runtime = tmp_path / "runtime"
    runtime.mkdir()
    for name in FILES:
        (runtime / name).write_bytes(b"")
    style = save_style(tmp_path / "own.safetensors")
    status, out, _ = run("export", style, style, "--web", tmp_path / "page", "--runtime", runtime)
    assert status == 0 and out.startswith(f"{tmp_path / 'page' / 'index.html'}\n")
    assert {"own.onnx", "own_2.onnx"} < {path.name for path in (tmp_path / "page").iterdir()}


def test_wrong_options_are_one_line_and_leave_nothing(refused, tmp_path):
    style = save_style(tmp_path / "own.safetensors")
    target = tmp_path / "x.onnx"
    assert "-o is for one network" in refused("export", style, style, "-o", target)
    assert "ends in .onnx, .mlpackage, .tflite" in refused("export", style, "-o", tmp_path / "x.pth")
    assert "--fidelity is for upscalers" in refused("export", style, "-o", target, "--fidelity", "1")
    assert "--layout is for -o" in refused("export", style, "--web", tmp_path / "page", "--layout", "uint8-nhwc")
    assert "--size is for -o" in refused("export", style, "--web", tmp_path / "page", "--size", "64x64")
    assert "'64' is not a size; expected something like 640x480" in refused(
        "export", style, "-o", target, "--size", "64"
    )
    assert "ONNX files take pictures of any size" in refused("export", style, "-o", target, "--size", "64x64")
    assert "layout is 'image'" in refused("export", style, "-o", target, "--layout", "image")
    assert "--runtime is for --web" in refused("export", style, "-o", target, "--runtime", tmp_path)
    assert "has no " in refused("export", style, "--web", tmp_path / "page", "--runtime", tmp_path)
    assert "one of the arguments -o/--output --web is required" in refused("export", style)
    assert "no network named" in refused("export", "nothing", "-o", target)
    assert [path.name for path in tmp_path.iterdir()] == ["own.safetensors"]
