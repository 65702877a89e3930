"""Frames of a video: flicker is reduced, motion is followed at once, and little is remembered."""

from __future__ import annotations

import itertools

import pytest
import torch
import torch.nn.functional as F
from helpers import style_model
from perceptual_style.core.models.blend import blend_styles
from perceptual_style.core.models.style_model import StyleModel
from perceptual_style.core.models.temporal import Steady, pan, shifted

NOISE = 5 / 255


def model_of(arch: str = "c3s1-4,d8,d8,R8,n2,c3s1-4,n2,c3s1-4,c9s1-3 padding=reflect", seed: int = 0) -> StyleModel:
    return style_model(arch, seed=seed)


@pytest.fixture
def scene(rng):
    """Return a large photo-like picture with smooth areas, edges and some texture."""
    coarse = F.interpolate(torch.rand(1, 3, 9, 9, generator=rng), (150, 150), mode="bicubic")
    edges = F.interpolate(torch.rand(1, 3, 14, 14, generator=rng), (150, 150), mode="nearest")
    return (0.1 + 0.5 * coarse + 0.3 * edges).clamp(0, 1)


@pytest.fixture
def clip(scene, rng):
    """Make noisy frames (N, 3, 80, 96) of a camera that moves by ``step`` rows and columns per frame."""

    def make(frames: int = 6, step: tuple[int, int] = (0, 0), noise: float = NOISE) -> torch.Tensor:
        down, right = step
        parts = [scene[0, :, 20 + down * t : 100 + down * t, 20 + right * t : 116 + right * t] for t in range(frames)]
        noisy = torch.stack(parts) + noise * torch.randn(frames, 3, 80, 96, generator=rng)
        return noisy.clamp(0, 1).mul(255).round().div(255)

    return make


def flicker(frames: torch.Tensor, step: tuple[int, int] = (0, 0)) -> float:
    """Return the mean absolute difference of consecutive frames, after undoing a pan."""
    down, right = step
    after, before = frames[1:, :, : 80 - down, : 96 - right], frames[:-1, :, down:, right:]
    return float((after - before).abs().mean())


@pytest.mark.parametrize("norm", ["instance", "batch"])
def test_temporal_more_than_halves_flicker_of_static_noise(norm, clip):
    frames, model = clip(), model_of(f"c3s1-4,d8,d8,R8,n2,c3s1-4,n2,c3s1-4,c9s1-3 padding=reflect norm={norm}")
    off, on = model.stylize(frames), model.stylize(frames, temporal=1)
    assert flicker(on) < 0.5 * flicker(off)
    assert flicker(on) < flicker(model.stylize(frames, temporal=0.3)) < flicker(off)
    # the painting is equally strong: as far from the frames, and as varied
    assert abs((on - frames).abs().mean() / (off - frames).abs().mean() - 1) < 0.05
    assert abs(on.std() / off.std() - 1) < 0.05


def test_temporal_more_than_halves_flicker_of_a_pan(clip):
    step = (1, 3)
    frames, model = clip(step=step), model_of()
    off, on = model.stylize(frames), model.stylize(frames, temporal=1)
    assert flicker(on, step) < 0.5 * flicker(off, step)


def test_first_frame_equals_single_image(clip):
    model, frames = model_of(), clip(2)
    assert torch.equal(model.stylize(frames[:1], temporal=1), model.stylize(frames[:1]))
    assert torch.equal(model.stylize(frames, temporal=1)[0], model.stylize(frames[:1])[0])


def test_scene_change_is_painted_from_scratch(clip, rng):
    model, frames = model_of(), clip(3)
    cut = torch.cat([frames, torch.rand(1, 3, 8, 8, generator=rng).repeat_interleave(10, 2).repeat_interleave(12, 3)])
    torch.testing.assert_close(model.stylize(cut, temporal=1)[3:], model.stylize(cut[3:]), atol=1e-5, rtol=0)


def test_motion_is_followed_and_static_areas_are_kept(clip, rng):
    """A ball that crosses a static scene leaves no trail, and far from it almost nothing changes."""
    frames, painted = clip(8), []
    row, column = torch.meshgrid(torch.arange(80), torch.arange(96), indexing="ij")
    for t, frame in enumerate(frames):
        frame[:, (row - 25) ** 2 + (column - 15 - 8 * t) ** 2 < 80] = torch.tensor([0.9, 0.2, 0.1])[:, None]
    steady = Steady(lambda frame, *_: frame, 1.0)  # this painter returns the photo
    painted = torch.cat([steady(frame[None]) for frame in frames])
    assert ((painted - frames).abs().mean(1)[3:, 14:37] < 5 * NOISE).all()
    assert flicker(painted[:, :, 60:]) < 0.3 * flicker(frames[:, :, 60:])


def test_light_is_followed_and_grain_is_kept(clip):
    frames = clip(1, noise=0.02).expand(30, -1, -1, -1) + torch.linspace(0, 0.1, 30).view(30, 1, 1, 1)
    steady = Steady(lambda frame, *_: frame, 1.0)
    last = [steady(frame[None].clamp(0, 1)) for frame in frames][-1]
    assert abs(float((last - frames[-1]).mean())) < 0.03
    assert ((last - last.mean()) - (frames[-1] - frames[-1].mean())).abs().mean() < 0.005


def test_each_call_starts_a_new_video(clip):
    """A call does not depend on earlier calls, and a stylizer frame by frame equals one call."""
    model, frames = model_of(), clip(4)
    first = model.stylize(frames, temporal=1)
    model.stylize(frames.flip(0), temporal=1)
    assert torch.equal(model.stylize(frames, temporal=1), first)
    stylizer = model.stylizer(temporal=1)
    assert torch.equal(torch.cat([stylizer(frame[None]) for frame in frames]), first)


def test_memory_does_not_grow_with_frames(clip):
    steady, seen = Steady(lambda frame, *_: frame * 0.5, 1.0), set()
    for frame in clip(5, step=(0, 2)):
        steady(frame[None])
        held = [value for value in vars(steady).values() if isinstance(value, torch.Tensor)]
        seen.add(sum(value.untyped_storage().nbytes() for value in held[1:]))
    assert len(seen) == 1 and max(seen) <= 2 * 4 * 3 * 80 * 96


def test_frames_of_another_size_start_a_new_video(clip):
    model, frames = model_of(), clip(2)
    stylizer = model.stylizer(temporal=1)
    stylizer(frames[:1])
    small = frames[1:, :, :40, :50]
    assert torch.equal(stylizer(small), model.stylize(small))


@pytest.mark.parametrize("step", list(itertools.product((-9, 0, 1, 4), (-3, 0, 13))))
def test_pan_finds_translation(step, scene):
    before = scene[..., 30:110, 30:126]
    after = scene[..., 30 - step[0] : 110 - step[0], 30 - step[1] : 126 - step[1]]
    assert pan(before, after) == step
    assert torch.equal(shifted(before, step)[..., 15:-15, 20:-20], after[..., 15:-15, 20:-20])


def test_pan_is_zero_for_other_motion(scene, rng):
    frame = scene[..., :80, :96]
    for other in (torch.rand(1, 3, 80, 96, generator=rng), frame + 0.1, torch.zeros(1, 3, 80, 96)):
        assert pan(frame, other.clamp(0, 1)) == (0, 0)


@pytest.mark.parametrize("size", [(1, 1), (1, 7), (3, 2)])
def test_smallest_frames_work(size, rng):
    frames = torch.rand(3, 3, *size, generator=rng)
    result = model_of().stylize(frames, temporal=1)
    assert result.shape == frames.shape and torch.isfinite(result).all()


def test_grid_follows_pan_with_stroke_size_and_blends(clip):
    step = (2, 4)
    frames = clip(4, step=step, noise=0)
    blend = blend_styles(model_of(), model_of("c3s1-4,d4,u4,c3s1-3 padding=reflect", 1), 0.5)
    for style, stroke_size in ((model_of(), 2.0), (blend, 1.0)):
        off, on = (style.stylize(frames, stroke_size=stroke_size, temporal=amount) for amount in (0, 1))
        assert flicker(on, step) < 0.6 * flicker(off, step), stroke_size
