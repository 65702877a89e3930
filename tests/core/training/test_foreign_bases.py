"""A training run starts from any style with instance norms: of another program, converted, or one to add a style to."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from foreign_containers import write_onnx, write_torch7, write_variables
from foreign_files import PROGRAMS, make
from perceptual_style.core.checkpoints.own_format import load_network, save_network
from perceptual_style.core.errors import Cancelled, InputError
from perceptual_style.core.models.loading import open_network
from perceptual_style.core.models.style_model import load_style
from perceptual_style.core.training.base_styles import base_file
from perceptual_style.core.training.photos import PhotoFolder
from perceptual_style.core.training.train_style import run_training
from safetensors.torch import load_file

STYLES = [family for family, program in PROGRAMS.items() if program.scale == 1]
STILL = {"steps": 1, "learning_rate": 1e-9, "schedule": "constant", "warmup": 0, "size": 48}


def _write(kind, folder):
    """Write a style of another program, and return its path and the forward of that program, if it is needed."""
    path = folder / "base.pth"
    if kind == "t7":
        return folder / "base.t7", write_torch7(folder / "base.t7")
    if kind == "variables":
        return folder / "muse", write_variables(folder / "muse")
    if kind == "onnx":
        pytest.importorskip("onnx")
        state = write_onnx(folder / "base.onnx", "yakhyo", residual="twice")
        return folder / "base.onnx", lambda image: PROGRAMS["yakhyo"].run(state, image)
    state = make(kind)
    torch.save(state, path)
    return path, lambda image: PROGRAMS[kind].run(state, image)


@pytest.mark.parametrize("kind", [*STYLES, "t7", "variables", "onnx"])
def test_training_starts_from_the_picture_of_any_program(kind, new_run, tmp_path, rng):
    """With no learning to speak of, the result is the base; the first loss is that of the base's picture of the photos."""
    path, program = _write(kind, tmp_path)
    base, pixels, facts = open_network(path)
    run = new_run(**STILL, init_from=path, half=False)
    seen = []
    out = run_training(run, seen.append)
    trained, facts = load_network(out)
    assert facts.get("pixels", "rgb in=unit out=unit") == str(pixels) and trained.spec == base.spec
    for key, value in base.state_dict().items():
        torch.testing.assert_close(trained.state_dict()[key], value, atol=1e-6, rtol=1e-5)
    photos = PhotoFolder(run.content, run.recipe.size, run.recipe.batch_size, run.seed).batch(0)
    with torch.no_grad():
        picture = torch.cat([program(photo[None]) for photo in photos])
    tv = run.recipe.weights.tv * sum(picture.diff(dim=axis).square().mean() for axis in (2, 3))
    assert seen[0].losses["tv"] == pytest.approx(float(tv), rel=1e-3)
    model, image = load_style(out), torch.rand(1, 3, 48, 52, generator=rng)
    assert "family" in model.facts
    assert torch.equal(model.stylize(image), model.stylize(image, precision="fp32"))
    assert (model.stylize(image) - program(image).clamp(0, 1)).abs().max() * 255 < 0.1


@pytest.mark.slow
def test_training_from_a_foreign_base_learns_and_resumes(new_run, tmp_path, same, stop_at):
    torch.save(make("pytorch/examples"), tmp_path / "base.pth")
    settings = {"init_from": tmp_path / "base.pth", "size": 48, "steps": 12, "learning_rate": 3e-3}
    seen = []
    expected = load_file(run_training(new_run("whole", **settings), seen.append))
    totals = [sum(progress.losses.values()) for progress in seen]
    assert sum(totals[-3:]) < sum(totals[:3])
    with pytest.raises(Cancelled):
        run_training(new_run("stopped", **settings), stop_at(5))
    assert same(run_training(new_run("stopped", **settings)), expected)


def test_converted_file_gives_the_same_run(new_run, tmp_path, same):
    torch.save(make("abhiskk"), tmp_path / "base.pth")
    base = load_style(tmp_path / "base.pth")
    save_network(tmp_path / "converted.safetensors", base.network, base.facts, pixels=base.pixels)
    settings = {"size": 48, "steps": 3}
    expected = load_file(run_training(new_run("a", **settings, init_from=tmp_path / "base.pth")))
    converted = new_run("b", **settings, init_from=tmp_path / "converted.safetensors")
    assert same(run_training(converted), expected)
    assert load_style(converted.out).facts["family"] == "abhiskk"


def test_styles_are_added_to_a_foreign_style(new_run, tmp_path, rng):
    torch.save(make("rrmina"), tmp_path / "base.pth")
    base = load_style(tmp_path / "base.pth")
    run = new_run(size=48, steps=2, add_to=tmp_path / "base.pth")
    run = dataclasses.replace(run, style_image={"new": run.style_image})
    path, image = run_training(run), torch.rand(1, 3, 40, 44, generator=rng)
    kept, new = (load_style(path, style=name) for name in ("base", "new"))
    assert str(kept.pixels) == str(new.pixels) == str(base.pixels)
    assert torch.equal(kept.stylize(image, precision="fp32"), base.stylize(image, precision="fp32"))
    assert not torch.equal(new.stylize(image), base.stylize(image))


def test_preview_shows_the_picture_in_rgb(new_run, tmp_path, rng):
    torch.save(make("eriklindernoren"), tmp_path / "base.pth")
    photo, seen = torch.rand(1, 3, 40, 44, generator=rng), []
    run_training(new_run(**STILL, init_from=tmp_path / "base.pth", preview_steps=1, preview_image=photo), seen.append)
    expected = load_style(tmp_path / "base.pth").stylize(photo, precision="fp32")
    assert (seen[-1].preview - expected).abs().max() * 255 < 0.1


def test_other_networks_are_rejected_as_bases(new_run, tmp_path):
    torch.save({"model_state": make("A-Jacobson")}, tmp_path / "upscaler.pth")
    with pytest.raises(InputError, match="4 times the size"):
        run_training(new_run(init_from=tmp_path / "upscaler.pth"))
    torch.save(make("rrmina"), tmp_path / "base.pth")
    assert base_file(tmp_path / "base.pth", "quick", 4) == tmp_path / "base.pth"
    with pytest.raises(InputError, match="base.pth is 4 channels wide, not 32"):
        base_file(tmp_path / "base.pth", "quick", 32)
