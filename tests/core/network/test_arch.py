"""ArchSpec: the meaning of arch strings, checked on networks built from them."""

from __future__ import annotations

import random

import pytest
import torch
from perceptual_style.core.errors import ArchError
from perceptual_style.core.network.arch import NORMS, PADDINGS, RESIDUALS, ArchSpec
from perceptual_style.core.network.layers import Layer
from perceptual_style.core.network.transform_net import TransformNet
from perceptual_style.core.training.style_recipes import HALF_WIDTH_ARCH, PAPER_ARCH

SR_X4 = "c9s1-64,R64x4,u64x2,c9s1-3 norm=batch padding=zero"
SMALL = (
    "c3s1-3",
    "c5s1-4,R4,c3s1-3",
    "c3s1-4,d4,R4,n2,c3s1-3",
    "c3s1-4,d4,d4,R4x2,u4,u4,c5s1-3",
    "d4,U2,c3s2-4,R4,f3s2-4,c1s1-3",
    "c3s3-4,f5s3-4,c3s1-3",
    "f3s2-4,d4,c3s1-3",
    "c3s1-4,n3,d4,f3s2-4,c3s3-3",
    "c3s1-4,R4,u4,c3s1-3",
    "d4,R4,u4,n2,c3s1-3",
    "c3s1-4,bd4,R4,n2,c3s1-3",
    "bd4,bc5s2-4,d4,u4,n4,c3s1-3",
)


def random_spec(seed: int) -> ArchSpec:
    """Return a random valid network of scale 1 to 4: residual widths match, and strides are undone."""
    random_ = random.Random(seed)
    layers, channels, ratio = [Layer("conv", random_.randint(1, 9), random_.choice((1, 3, 5, 9)))], 0, 0
    channels = layers[0].channels
    for _ in range(random_.randint(0, 7)):
        kind = random_.choice(("conv", "conv", "down", "residual", "transposed", "upsample", "nearest"))
        if kind == "residual":
            layers += [Layer("residual", channels)] * random_.randint(1, 4)
        elif kind in ("upsample", "nearest"):
            layers.append(Layer(kind, stride=2))
            ratio += 1
        else:
            stride = 1 if kind == "conv" else 2
            channels = random_.randint(1, 9)
            blur = kind == "down" and random_.random() < 0.5
            layers.append(
                Layer("conv" if kind == "down" else kind, channels, random_.choice((1, 3, 5, 7)), stride, blur)
            )
            ratio += {"conv": 0, "down": -1, "transposed": 1}[kind]
    layers += [Layer("transposed", 4, 3, 2)] * max(0, random_.randint(0, 1) - ratio)
    layers.append(Layer("conv", 3, random_.choice((1, 3, 9))))
    output = random_.choice(("tanh", "tanh150", "tanh0.5", "sigmoid", "linear"))
    norm, padding = random_.choice(NORMS), random_.choice(PADDINGS[1:])
    rare = {
        "residual": random_.choice(RESIDUALS),
        "last": random_.choice(("plain", "norm")),
        "eps": random_.choice((1e-5, 1e-3)),
    }
    return ArchSpec(tuple(layers), norm, padding, output, **rare)


def bare(text: str, padding: str, norm: str = "none") -> tuple[ArchSpec, TransformNet]:
    """Return the spec and its network. All weights are positive, so that nothing cancels and every dependence shows."""
    spec = ArchSpec.parse(f"{text} norm={norm} padding={padding} output=linear")
    network = TransformNet(spec).double().eval().requires_grad_(False)
    for parameter in network.parameters():
        parameter.fill_(0.01)
    return spec, network


@pytest.mark.parametrize("seed", range(60))
def test_printing_and_parsing_are_inverse(seed):
    spec = random_spec(seed)
    assert ArchSpec.parse(str(spec)) == spec
    assert str(ArchSpec.parse(str(spec))) == str(spec)


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("c9s1-32,R32,R32,c9s1-3", "c9s1-32,R32x2,c9s1-3"),
        ("c3s1-8,p2-8,p4-3", "c3s1-8,p2-8,p4-3"),
        ("R3,R3x2,c3s1-3", "R3x3,c3s1-3"),
        ("c3s2-64,f3s2-3", "d64,u3"),
        ("d8,c5s2-8,U2,n2,u3", "d8,c5s2-8,U2,n2,u3"),
        ("d064,u03", "d64,u3"),
        ("bc3s2-8,bd8,bd8,bc5s2-8,n8,n2,c3s1-3", "bd8x3,bc5s2-8,n8,n2,c3s1-3"),
    ],
)
def test_equal_networks_print_the_same_string(text, canonical):
    assert str(ArchSpec.parse(text)) == f"{canonical} norm=instance padding=reflect-start output=tanh"


def test_default_options_are_the_authors():
    spec = ArchSpec.parse("c9s1-32,d64,d128,R128,R128,R128,R128,R128,u64,u32,c9s1-3")
    assert (spec.norm, spec.padding, spec.output) == ("instance", "reflect-start", "tanh")
    assert len(spec.layers) == 11 and spec.width == 32 and spec.out_channels == 3


def test_options_are_read_in_any_order():
    spec = ArchSpec.parse("c3s1-3  output=tanh150 norm=none\tpadding=zero ")
    assert (spec.norm, spec.padding, spec.output) == ("none", "zero", "tanh150")
    assert spec.with_options(norm="batch") == ArchSpec.parse("c3s1-3 norm=batch padding=zero output=tanh150")


def test_rare_options_are_printed_only_if_they_differ_from_the_default():
    text = "R3,c3s1-3 norm=instance padding=same output=tanh150"
    assert str(ArchSpec.parse(f"{text} residual=plain first=norm last=plain eps=1e-5")) == text
    assert (
        str(ArchSpec.parse(f"{text} eps=0.001 last=norm residual=twice first=plain"))
        == f"{text} residual=twice first=plain last=norm eps=0.001"
    )


def test_number_of_styles_is_printed_only_above_one():
    text = "R3,c3s1-3 norm=instance padding=reflect output=tanh"
    assert str(ArchSpec.parse(f"{text} styles=1")) == text
    several = ArchSpec.parse("R3,c3s1-3 styles=12 padding=reflect")
    assert several.styles == 12 and str(several) == f"{text} styles=12"
    assert several.with_options(styles=1) == ArchSpec.parse(text)


@pytest.mark.parametrize(
    "token", ["x64", "R", "c9s1", "c9-32", "U", "C64", "d-4", "d6.4", "r128", "R128x", "R4y2", "", "x2"]
)
def test_unknown_token_is_named_in_the_error(token):
    with pytest.raises(ArchError, match="unknown token") as caught:
        ArchSpec.parse(f"c9s1-4,{token},c9s1-3")
    assert repr(token) in str(caught.value)


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("", "empty"),
        ("   ", "empty"),
        ("c9s1-32,R64,c9s1-3", "R64 follows a layer of 32 channels"),
        ("R4,c3s1-3", "R4 follows a layer of 3 channels"),
        ("c4s1-3", "kernel of 4"),
        ("c33s1-3", "kernel of 33"),
        ("c0s1-3", "kernel of 0"),
        ("c3s1-0", "0 filters"),
        ("d0,u3", "0 filters"),
        ("c3s1-4097,c3s1-3", "4097 filters"),
        ("c3s0-8,c3s1-3", "stride or factor of 0"),
        ("c3s9-8,n9,c3s1-3", "stride or factor of 9"),
        ("n0,c3s1-3", "stride or factor of 0"),
        ("bc3s1-8,c3s1-3", "'bc3s1-8' blurs before a stride of 1"),
        ("bc3s4-8,n4,c3s1-3", "blurs before a stride of 4"),
        ("bu8,c3s1-3", "unknown token 'bu8'"),
        ("bR3,c3s1-3", "unknown token 'bR3'"),
        ("c3s1-3x0", "0 times"),
        ("c999999s1-3", "c999999s1-3"),
        ("d" + "9" * 5000, "unknown token"),
        ("c3s1-3x999", "more than 256 layers"),
        ("c3s1-3," * 300 + "c3s1-3", "more than 256 layers"),
        ("c3s1-3,R3", "last layer"),
        ("c3s1-3,n2", "last layer"),
        ("d8,c3s1-3", "1/2 of the input"),
        ("c3s3-8,u8,c3s1-3", "2/3 of the input"),
        ("c3s1-3 norm=layer", "'layer'"),
        ("c3s1-3 padding=valid", "'valid'"),
        ("R3,c3s1-3 residual=thrice", "'thrice'"),
        ("c3s1-3 last=tanh", "'tanh'"),
        ("c3s1-3 eps=0", "eps is 0"),
        ("c3s1-3 eps=1e999", "eps is inf"),
        ("c3s1-3 eps=nan", "eps is nan"),
        ("c3s1-3 eps=small", "'small'"),
        ("R3,c3s1-3 styles=0", "styles is 0"),
        ("R3,c3s1-3 styles=-2", "'-2'"),
        ("R3,c3s1-3 styles=2.0", "'2.0'"),
        ("R3,c3s1-3 styles=" + "9" * 5000, "styles is '999"),
        ("R3,c3s1-3 styles=99999", "expected 1 to 4096"),
        ("R3,c3s1-3 norm=batch styles=2", "norm=instance"),
        ("c3s1-3 styles=2", "this one has none"),
        ("c3s1-3 output=relu", "'relu'"),
        ("c3s1-3 output=tanh-1", "'tanh-1'"),
        ("c3s1-3 output=tanh0", "'tanh0'"),
        ("c3s1-3 output=tanh" + "9" * 400, "output is"),
        ("c3s1-3 norm=batch norm=batch", "norm=batch"),
        ("c3s1-3 norm=", "norm="),
        ("c3s1-3 bias=no", "bias=no"),
        ("c3s1-3 c3s1-3", "c3s1-3"),
    ],
)
def test_bad_string_is_rejected_with_its_fault(text, named):
    with pytest.raises(ArchError) as caught:
        ArchSpec.parse(text)
    assert named in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "scale", "multiple_of", "start_padding", "smallest_side", "halo"),
    [
        (PAPER_ARCH, 1, 4, 40, 41, 56),
        (HALF_WIDTH_ARCH, 1, 4, 0, 5, 60),
        (SR_X4, 4, 1, 0, 1, 14),
        (SR_X4.replace("u64x2", "u64x3"), 8, 1, 0, 1, 14),
    ],
)
def test_geometry_of_the_papers_networks(text, scale, multiple_of, start_padding, smallest_side, halo):
    spec = ArchSpec.parse(text)
    assert (spec.scale, spec.multiple_of, spec.start_padding) == (scale, multiple_of, start_padding)
    assert (spec.smallest_side, spec.halo) == (smallest_side, halo)


@pytest.mark.parametrize("padding", PADDINGS)
@pytest.mark.parametrize("text", SMALL)
def test_sizes_equal_those_of_the_network(text, padding):
    spec, network = bare(text, padding)
    for side in (spec.smallest_side, 2 * spec.smallest_side + 1, 31):
        if side < spec.smallest_side:
            continue
        x, real = torch.zeros(1, 3, side, side, dtype=torch.float64), []
        for stage in network.stages:
            x = stage(x)
            real.append(x.shape[-1])
        if not spec.start_padding:
            real.insert(0, side)
        assert spec.sizes(side) == real
        if side % spec.multiple_of == 0:
            assert real[-1] == spec.scale * side


@pytest.mark.parametrize("padding", PADDINGS)
@pytest.mark.parametrize("text", SMALL)
def test_network_runs_from_the_smallest_side_up_and_not_below(text, padding):
    spec, network = bare(text, padding)
    smallest = spec.smallest_side
    for side in range(smallest, smallest + 2 * spec.multiple_of + 1):
        out = network(torch.zeros(1, 3, side, side, dtype=torch.float64)).shape[-1]
        assert out == spec.sizes(side)[-1]
        assert spec.scale * side <= out < spec.scale * (side + spec.multiple_of)
    with pytest.raises(ArchError, match="too small"):
        spec.sizes(smallest - 1)
    with pytest.raises(RuntimeError):
        network(torch.zeros(1, 3, smallest - 1, smallest - 1, dtype=torch.float64))


@pytest.mark.parametrize("padding", PADDINGS)
def test_smallest_side_is_the_first_that_sizes_accepts(padding):
    texts = [*SMALL, PAPER_ARCH.split()[0], HALF_WIDTH_ARCH.split()[0], SR_X4.split()[0], "c31s2-4,R4x7,u4,c9s1-3"]
    specs = [ArchSpec.parse(f"{text} padding={padding}") for text in texts]
    for spec in [*specs, *(random_spec(seed).with_options(padding=padding) for seed in range(20))]:
        side = 1
        while not accepts(spec, side):
            side += 1
        assert spec.smallest_side == side, str(spec)


def accepts(spec: ArchSpec, side: int) -> bool:
    try:
        spec.sizes(side)
    except ArchError:
        return False
    return True


def reach(spec: ArchSpec, network: TransformNet, side: int) -> int:
    """Return the largest distance from an output pixel to an input pixel that it depends on, found by gradients."""
    furthest = 0
    for row in range(spec.multiple_of * spec.scale):
        place = side // 2 // spec.multiple_of * spec.multiple_of * spec.scale + row
        image = torch.ones(1, 3, side, side, dtype=torch.float64, requires_grad=True)
        network(image)[..., place, spec.scale * side // 2].sum().backward()
        rows = image.grad[0].abs().sum(dim=(0, 2)).nonzero().flatten()
        center = place // spec.scale
        furthest = max(furthest, center - int(rows.min()), int(rows.max()) - center)
    return furthest


@pytest.mark.parametrize("padding", ["reflect-start", "zero", "same"])
@pytest.mark.parametrize("text", SMALL)
def test_halo_is_the_reach_of_output_pixels_and_no_more(text, padding):
    spec, network = bare(text, padding)
    side = 2 * max(spec.halo, spec.start_padding) + 8 * spec.multiple_of
    needed = max(reach(spec, network, side + more) for more in range(spec.multiple_of))
    assert needed <= spec.halo < needed + spec.multiple_of


def test_change_outside_the_halo_has_no_effect(rng):
    spec, network = bare("c5s1-4,d4,R4x2,n2,c3s1-4,c5s1-3", "reflect")
    image = torch.rand(1, 3, 96, 96, generator=rng, dtype=torch.float64)
    changed = image.clone()
    changed[..., :32, :] = 1 - changed[..., :32, :]
    same = (network(image) == network(changed)).all(dim=(0, 1, 3))
    assert same[32 + spec.halo :].all() and not same[: 32 + spec.halo - spec.multiple_of].all()


@pytest.mark.parametrize("text", ["c3s1-4,R4,d4,d4,n2,n2,c3s1-3", "c3s8-4,n8,R4,c3s1-3", "c3s1-4,u4,u4,R4,c3s1-3"])
def test_start_padding_makes_up_for_residual_blocks_or_is_rejected(text):
    try:
        spec, network = bare(text, "reflect-start")
    except ArchError as error:
        assert "padding" in str(error)
        return
    side = 8 * spec.multiple_of
    assert network(torch.zeros(1, 3, side, side, dtype=torch.float64)).shape[-1] == spec.scale * side


def test_with_width_scales_all_channels():
    half, paper = ArchSpec.parse(HALF_WIDTH_ARCH), ArchSpec.parse(PAPER_ARCH)
    assert str(half.with_width(32)).startswith("c9s1-32,bd64,bd128,R128x5,n2,c3s1-64,n2,c3s1-32,c9s1-3 norm=instance")
    assert half.with_width(32).with_width(16) == half == half.with_width(16)
    assert str(paper.with_width(16)).startswith("c9s1-16,d32,d64,R64x5,u32,u16,c9s1-3 norm=batch")
    assert half.with_width(1).width == 1 and TransformNet(half.with_width(1)).spec.out_channels == 3


@pytest.mark.parametrize("width", [0, -16, 5, 10_000])
def test_with_width_rejects_impossible_widths(width):
    with pytest.raises(ArchError, match="channels wide|filters"):
        ArchSpec.parse("c3s1-6,R6,c3s1-4,c3s1-3").with_width(width)
