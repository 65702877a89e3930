"""Images, masks, weights and results with values that are nan or infinite are errors of one line, not black pictures."""

from __future__ import annotations

import foreign_files
import pytest
import torch
from perceptual_style.core.checkpoints.own_format import load_network, save_network
from perceptual_style.core.errors import CheckpointError, ImageError, NetworkError
from perceptual_style.core.models.blend import blend_styles, style_regions
from perceptual_style.core.models.style_model import StyleModel, load_style
from perceptual_style.core.models.upscale_model import UpscaleModel, load_upscaler
from perceptual_style.core.network.transform_net import build_network

STYLE = "c9s1-4,d8,R8,n2,c3s1-3 norm=instance padding=reflect output=tanh"
UPSCALER = "c3s1-4,R4,p2-3 norm=none padding=replicate output=linear base=bicubic"


def style(arch: str = STYLE, name: str = "wave") -> StyleModel:
    return StyleModel(build_network(arch).eval().requires_grad_(False), name)


def upscaler() -> UpscaleModel:
    return UpscaleModel(build_network(UPSCALER).eval().requires_grad_(False), "double")


def damaged(model, value: float = torch.nan):
    """The model after one of its weights is replaced."""
    next(model.network.parameters()).view(-1)[7] = value
    return model


def frames(value: float | None = None, index: int = 1) -> torch.Tensor:
    """Three frames. One value of one frame is replaced."""
    images = torch.rand(3, 3, 24, 20, generator=torch.Generator().manual_seed(1))
    if value is not None:
        images[index, 1, 5, 6] = value
    return images


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
@pytest.mark.parametrize("options", [{}, {"temporal": 1.0}, {"color": "match"}, {"color": "keep"}, {"strength": 0.0}])
def test_stylize_names_frame_with_bad_values(options, value):
    with pytest.raises(ImageError, match="^frame 2 of 3 has values that are nan or infinite; [^\n]*$"):
        style().stylize(frames(value), **options)


@pytest.mark.parametrize("options", [{}, {"temporal": 1.0}, {"color": "match"}])
def test_stylizer_rejects_bad_frame_and_goes_on(options):
    """The frames after a rejected one come out as if it had never been there."""
    stylizer, fresh = (style().stylizer(**options) for _ in range(2))
    stylizer.style.network.load_state_dict(fresh.style.network.state_dict())
    with pytest.raises(ImageError, match="^the image has values that are nan or infinite"):
        stylizer(frames(torch.nan)[1:2])
    for frame in frames().split(1):
        assert torch.equal(stylizer(frame), fresh(frame))


@pytest.mark.parametrize(
    "bad", [torch.zeros(1, 3, 8, 8, dtype=torch.uint8), torch.zeros(1, 5, 8, 8), torch.zeros(0, 3, 8, 8)]
)
def test_stylizer_rejects_wrong_images(bad):
    with pytest.raises(ImageError, match="expected a float tensor"):
        style().stylizer()(bad)


@pytest.mark.parametrize("count", [1, 3])
def test_bad_values_in_mask_are_rejected(count):
    mask = torch.ones(count, 1, 24, 20)
    mask[-1, 0, 3, 3] = torch.nan
    wanted = "^mask 3 of 3 has" if count > 1 else "^the mask has"
    with pytest.raises(ImageError, match=wanted):
        style().stylize(frames(), mask=mask)
    with pytest.raises(ImageError, match="first mask"):
        style_regions(style(), mask, style())


def test_upscale_names_frame_with_bad_values():
    with pytest.raises(ImageError, match="^frame 3 of 3 has values that are nan or infinite"):
        upscaler().upscale(frames(torch.inf, 2), match_colors=True)


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
@pytest.mark.parametrize("options", [{}, {"temporal": 1.0}, {"color": "match"}, {"stroke_size": 2.0}])
def test_network_with_bad_weights_is_named(options, value):
    wanted = "^wave gave nan or infinite values for this image: its weights are damaged; download or train it again$"
    with pytest.raises(NetworkError, match=wanted):
        damaged(style(), value).stylize(frames(), **options)
    with pytest.raises(NetworkError, match="^double gave nan or infinite"):
        damaged(upscaler(), value).upscale(frames(), match_colors=True)


def test_damaged_half_of_a_blend_is_named():
    both = blend_styles(style(name="mosaic"), damaged(style("c3s1-4,R4,c3s1-3 padding=reflect")), 0.5)
    with pytest.raises(NetworkError, match="^wave gave"):
        both.stylize(frames())


def test_overflow_in_fp16_is_an_error_that_names_the_precision():
    model = upscaler()
    model.network.stages[0].conv.weight.fill_(9e4)
    assert model.upscale(frames(), precision="fp32").isfinite().all()
    wanted = "^double gave .*: its weights are damaged, or precision fp16 overflowed; use fp32$"
    with pytest.raises(NetworkError, match=wanted):
        model.upscale(frames(), precision="fp16")


def test_files_with_bad_weights_are_rejected(tmp_path):
    for load, model, task in ((load_style, style(), "style"), (load_upscaler, upscaler(), "upscale")):
        path = tmp_path / f"{task}.safetensors"
        save_network(path, damaged(model).network, {"task": task})
        for read in (load, load_network):
            with pytest.raises(
                CheckpointError, match=r"weights are nan or infinite \(in stages.0.conv.weight\)"
            ) as caught:
                read(path)
            assert str(path) in str(caught.value)


def test_foreign_files_with_bad_weights_are_rejected(tmp_path):
    state = foreign_files.make("rrmina")
    next(iter(state.values()))[0] = torch.nan
    torch.save(state, tmp_path / "other.pth")
    with pytest.raises(CheckpointError, match="weights are nan or infinite"):
        load_style(tmp_path / "other.pth")
