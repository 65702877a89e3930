"""Images and masks that are not floats, or have values that are nan or infinite: one clear sentence from every node."""

from __future__ import annotations

import pytest
import torch

BAD = [torch.nan, torch.inf]


def _frames(value: float | None = None, channels: int = 3) -> torch.Tensor:
    """Three frames. One value of the second one is replaced; it is alpha if there are four channels."""
    images = torch.rand(3, 24, 20, channels, generator=torch.Generator().manual_seed(1))
    if value is not None:
        images[1, 5, 6, -1] = value
    return images


def _message(pack, node: str, error: str = "ImageError", **inputs) -> str:
    with pytest.raises(getattr(pack.module("core.errors"), error)) as raised:
        pack.run(node, **inputs)
    text = str(raised.value)
    assert "\n" not in text
    return text


@pytest.fixture
def upscaler(pack, host):
    """Name of an upscaler in the host's folder."""
    pack.upscaler(host.upscalers / "double.safetensors")
    return "double.safetensors"


@pytest.mark.parametrize("value", BAD)
@pytest.mark.parametrize("options", [{}, {"temporal": 1.0}, {"color": "match"}])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_bad_frame_is_named_before_any_is_painted(pack, tiny, upscaler, channels, options, value, monkeypatch):
    wanted = "frame 2 of 3 has values that are nan or infinite; check the step that made it"
    monkeypatch.setattr(pack.module("nodes.images"), "to_core", lambda *_: pytest.fail("a frame was painted"))
    image = _frames(value, channels)
    assert _message(pack, "FastStylize", image=image, style_model=tiny, **options) == wanted
    assert _message(pack, "PerceptualUpscale", image=image, model=upscaler) == wanted


@pytest.mark.parametrize("value", BAD)
def test_bad_values_in_mask(pack, tiny, upscaler, value):
    mask = torch.ones(3, 24, 20)
    mask[2, 3, 3] = value
    wanted = "mask 3 of 3 has values that are nan or infinite; check the step that made it"
    image = _frames()
    assert _message(pack, "FastStylize", image=image, style_model=tiny, mask=mask) == wanted
    assert _message(pack, "PerceptualUpscale", image=image, model=upscaler, mask=mask) == wanted
    regions = {"style_model_1": tiny, "mask_1": mask, "style_model_2": tiny}
    assert _message(pack, "StyleRegions", **regions) == wanted
    assert _message(pack, "FastStylize", image=image, style_model=tiny, mask=mask[2]).startswith("the mask has values")


@pytest.mark.parametrize(
    ("image", "got"),
    [
        (torch.zeros(1, 24, 20, 3, dtype=torch.uint8), "got torch.uint8; use image.float() / 255"),
        (torch.zeros(1, 24, 20, 3, dtype=torch.int64), "got torch.int64"),
        (torch.zeros(1, 24, 20, 5), "got [1, 24, 20, 5]"),
        (torch.zeros(0, 24, 20, 3), "got [0, 24, 20, 3]"),
        (None, "got NoneType"),
    ],
)
def test_wrong_images(pack, tiny, upscaler, image, got):
    wanted = f"expected an IMAGE of [batch, height, width, 1, 3 or 4 channels], {got}"
    assert _message(pack, "FastStylize", image=image, style_model=tiny) == wanted
    assert _message(pack, "PerceptualUpscale", image=image, model=upscaler) == wanted


def test_wrong_masks(pack, tiny):
    image = _frames()
    for mask, got in (
        (torch.zeros(1, 24, 20, dtype=torch.uint8), "got torch.uint8; use image.float() / 255"),
        (torch.zeros(0, 24, 20), "got [0, 24, 20]"),
    ):
        wanted = f"expected a MASK of [batch, height, width], {got}"
        assert _message(pack, "FastStylize", image=image, style_model=tiny, mask=mask) == wanted
    where = torch.arange(20).expand(24, 20) > 9
    as_bool, as_float = (
        pack.run("FastStylize", image=image, style_model=tiny, mask=mask) for mask in (where, where.float())
    )
    assert torch.equal(as_bool, as_float)


def test_damaged_weights_are_named(pack, tiny):
    with torch.inference_mode():
        next(tiny.model.network.parameters()).view(-1)[3] = torch.nan
    text = _message(pack, "FastStylize", "NetworkError", image=_frames(), style_model=tiny)
    assert (
        text == "tiny gave nan or infinite values for this image: its weights are damaged; download or train it again"
    )


def test_file_of_damaged_weights_is_rejected(pack, host):
    path = pack.style(host.styles / "bad.safetensors")
    network, facts = pack.module("core.checkpoints.own_format").load_network(path)
    next(network.parameters()).view(-1)[3] = torch.nan
    pack.module("core.checkpoints.own_format").save_network(path, network, facts)
    text = _message(pack, "LoadStyleModel", "CheckpointError", style="bad.safetensors")
    assert "bad.safetensors is damaged: some of its weights are nan or infinite" in text
