"""BlendStyles and StyleRegions: styles made from two styles, for FastStylize and for each other."""

from __future__ import annotations

import pytest
import torch

OTHER_ARCH = "c3s1-4,R4,c3s1-3 padding=zero output=linear norm=none"


@pytest.fixture
def styles(pack, host):
    """Two loaded styles of different architectures."""
    pack.style(host.styles / "one.safetensors", seed=1)
    pack.style(host.styles / "two.safetensors", seed=2, arch=OTHER_ARCH)
    return [pack.run("LoadStyleModel", style=f"{name}.safetensors") for name in ("one", "two")]


def _photo(batch: int = 2) -> torch.Tensor:
    return torch.rand(batch, 24, 33, 3, generator=torch.Generator().manual_seed(0))


def _stylized(pack, style, image, **options) -> torch.Tensor:
    return pack.run("FastStylize", image=image, style_model=style, **options)


def test_inputs_have_tooltips(pack):
    for node in ("BlendStyles", "StyleRegions"):
        schema = pack.schema(node)
        assert schema.description and all(each.tooltip for each in (*schema.inputs, *schema.outputs))
        assert schema.outputs[0].io_type == "PERCEPTUAL_STYLE_MODEL"


@pytest.mark.parametrize("amount", [0.0, 0.3, 1.0])
def test_blend_matches_core(pack, styles, amount):
    one, two = styles
    blend = pack.run("BlendStyles", style_model_1=one, style_model_2=two, amount=amount)
    expected = (
        pack.module("core.models.blend").blend_styles(one.model, two.model, amount).stylize(_photo().movedim(-1, 1))
    )
    torch.testing.assert_close(_stylized(pack, blend, _photo()), expected.movedim(1, -1))
    if amount in (0, 1):
        assert torch.equal(_stylized(pack, blend, _photo()), _stylized(pack, styles[int(amount)], _photo()))


def test_host_loads_each_network_once(pack, host, styles):
    one, two = styles
    blend = pack.run("BlendStyles", style_model_1=one, style_model_2=two, amount=0.5)
    again = pack.run("BlendStyles", style_model_1=blend, style_model_2=one, amount=0.5)
    _stylized(pack, again, _photo())
    patchers, memory = host.loads[-1]
    assert patchers == [one.patchers[0], two.patchers[0]]
    assert memory == again.model.working_bytes(24, 33, torch.device("cpu"))


def test_related_networks_are_merged(pack, host, styles):
    one, _ = styles
    network = pack.module("core.network.transform_net").build_network(one.model.spec)
    network.load_state_dict({k: v * 1.01 for k, v in one.model.network.state_dict().items()})
    pack.module("core.checkpoints.own_format").save_network(
        host.styles / "child.safetensors", network, {"task": "style"}
    )
    child = pack.run("LoadStyleModel", style="child.safetensors")
    blend = pack.run("BlendStyles", style_model_1=one, style_model_2=child, amount=0.5)
    assert len(blend.patchers) == 1 and blend.patchers[0].model is blend.model.network
    assert _stylized(pack, blend, _photo()).shape == (2, 24, 33, 3)


def test_regions_show_each_style_inside_its_mask(pack, styles):
    one, two = styles
    mask, image = torch.zeros(24, 33), _photo()
    mask[:, :16] = 1
    plain = [_stylized(pack, style, image) for style in styles]
    for others in ({}, {"mask_2": 1 - mask}, {"mask_2": (1 - mask)[None].repeat(2, 1, 1)}):
        regions = pack.run("StyleRegions", style_model_1=one, mask_1=mask, style_model_2=two, **others)
        assert torch.equal(_stylized(pack, regions, image), torch.where(mask[..., None] > 0, *plain))
    regions = pack.run("StyleRegions", style_model_1=one, mask_1=mask, style_model_2=two, mask_2=mask * 0, feather=4.0)
    assert torch.equal(_stylized(pack, regions, image)[:, :, 20:], image[:, :, 20:])


def test_regions_accept_a_blend_and_every_option(pack, styles):
    one, two = styles
    blend = pack.run("BlendStyles", style_model_1=one, style_model_2=two, amount=0.5)
    mask = torch.zeros(1, 8, 8)
    mask[..., :4] = 1
    regions = pack.run("StyleRegions", style_model_1=blend, mask_1=mask, style_model_2=two, feather=8.0)
    options = {"strength": 0.7, "stroke_size": 2.0, "color": "keep", "temporal": 1.0, "mask": mask}
    result = _stylized(pack, regions, _photo(3), **options)
    assert result.shape == (3, 24, 33, 3) and torch.equal(result[:, :, 24:], _photo(3)[:, :, 24:])
    assert torch.equal(result, _stylized(pack, regions, _photo(3), **options))


def test_bad_masks_and_amounts_raise(pack, styles):
    errors = pack.module("core.errors")
    with pytest.raises(errors.ImageError, match="expected a MASK of"):
        pack.run("StyleRegions", style_model_1=styles[0], mask_1=torch.ones(8), style_model_2=styles[1])
    with pytest.raises(errors.InputError, match="amount is 2"):
        pack.run("BlendStyles", style_model_1=styles[0], style_model_2=styles[1], amount=2)


def test_networks_move_to_host_device(pack, host, styles):
    host.device = torch.device("meta")
    one, two = (type(style).of(style.model) for style in styles)
    blend = type(one).of(pack.module("core.models.blend").blend_styles(one.model, two.model, 0.5), one, two)
    assert blend.load(24, 32) == torch.device("meta")
    for network in blend.model.networks:
        assert {p.device.type for p in network.parameters()} == {"meta"}
