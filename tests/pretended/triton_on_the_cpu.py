"""The Triton kernels, run by Triton's interpreter on the CPU and compared with torch's operations."""

from __future__ import annotations

import os

os.environ["TRITON_INTERPRET"] = "1"  # before the kernels are defined

import pytest  # noqa: E402
import torch  # noqa: E402

pytest.importorskip("triton", reason="needs the package triton, which comes with torch for CUDA on Linux")

from network_archs import ARCHS, randomized  # noqa: E402
from perceptual_style.core.engine import torch_kernels, triton_kernels  # noqa: E402
from perceptual_style.core.engine.lowering import Norm  # noqa: E402
from perceptual_style.core.engine.whole import WholeNetwork  # noqa: E402
from perceptual_style.core.engine.whole_maps import Frame, WholeMap  # noqa: E402
from perceptual_style.core.network.transform_net import extend  # noqa: E402

MAPS = [
    # height, width, channels, phases, shifts
    (7, 9, 3, 1, (0,)),
    (20, 13, 5, 1, (0,)),
    (9, 8, 4, 2, (0, 1)),
    (11, 7, 2, 3, (0, 1, 1)),
    (6, 10, 70, 1, (0,)),
]


def a_map(
    height: int, width: int, channels: int, phases: int, shifts: tuple[int, ...], dtype: torch.dtype = torch.float32
) -> WholeMap:
    rows, columns = (-(-side // phases) + max(shifts) for side in (height, width))
    raw = torch.randn(1, phases**2 * channels, rows, columns).add_(3).to(dtype)
    raw = raw.contiguous(memory_format=torch.channels_last)
    return WholeMap(raw, height, width, channels, phases, shifts)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
@pytest.mark.parametrize("shape", MAPS, ids=str)
def test_statistics_equal_those_of_torch(shape: tuple, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(triton_kernels, "_ELEMENTS", 64)
    monkeypatch.setattr(triton_kernels, "_PARTS", 6)  # several tiles in a part
    source = a_map(*shape, dtype=dtype)
    norm = Norm(torch.rand(shape[2]), torch.randn(shape[2]), 1e-5)
    source.raw[:, 0] = 2  # for one phase, a flat plane
    for bias in (None, torch.randn(source.raw.shape[1])):
        source.bias = None if dtype == torch.float16 else bias  # torch adds it in half precision
        found, expected = (module.statistics(source, norm) for module in (triton_kernels, torch_kernels))
        for one, other in zip(found, expected, strict=True):
            torch.testing.assert_close(one, other, atol=2e-5, rtol=2e-5)
        assert shape[3] > 1 or found[0][0] == 0


@pytest.mark.parametrize("padding", ["reflect", "replicate", "zero"])
@pytest.mark.parametrize("shape", MAPS, ids=str)
def test_values_equal_those_of_torch(shape: tuple, padding: str) -> None:
    source = a_map(*shape)
    channels = shape[2]
    frames = [Frame(), Frame(3, 2, 1, 4, padding), Frame(2, -1, 0, -2, padding)]
    for frame in frames:
        for more in (
            {},
            {"relu": True, "scale": torch.randn(channels), "shift": torch.randn(channels)},
            {"skip": torch.randn(1, channels, *shape[:2]), "times": 2, "bias": torch.randn(source.raw.shape[1])},
        ):
            for name, value in {
                "scale": None,
                "shift": None,
                "skip": None,
                "relu": False,
                "bias": None,
                **more,
            }.items():
                setattr(source, name, value)
            for dtype, contiguous in ((torch.float32, True), (torch.float16, False)):
                found, expected = (
                    module.values(source, frame, dtype, contiguous) for module in (triton_kernels, torch_kernels)
                )
                assert (found.shape, found.dtype, found.stride()) == (expected.shape, dtype, expected.stride())
                torch.testing.assert_close(found, expected, atol=4e-3 if dtype == torch.float16 else 1e-5, rtol=2e-3)


def test_a_reflection_may_exceed_the_map() -> None:
    source = a_map(3, 2, 2, 1, (0,))
    frame = Frame(2, 4, 1, 3, "reflect")
    found, expected = (module.values(source, frame, torch.float32) for module in (triton_kernels, torch_kernels))
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("arch", (ARCHS[0], ARCHS[8]))
def test_networks_match_plain_forward(arch: str) -> None:
    network = randomized(arch)
    image = extend(torch.rand(1, 3, 21, 18), network.spec.smallest_side)
    result, expected = WholeNetwork(network, torch.float32, triton_kernels)(image), network(image)
    assert result.shape == expected.shape
    assert (result - expected).abs().max() / expected.abs().max().clamp_min(1) < 4e-6
