"""StyleModel: stylize gives the network's own result for any image, and never changes its input."""

from __future__ import annotations

import pytest
import torch
from helpers import style_model as model_of
from perceptual_style.core.checkpoints.own_format import save_network
from perceptual_style.core.errors import Cancelled, CheckpointError, ImageError, InputError
from perceptual_style.core.models.style_model import load_style
from perceptual_style.core.network.transform_net import build_network, forward_any_size

ARCHS = (
    "c3s1-4,d8,R8,n2,c3s1-4,c9s1-3 padding=reflect",
    "c9s1-4,d8,d8,R8,R8,u8,u4,c9s1-3 padding=reflect-start norm=batch",
    "c3s1-4,R4,c3s1-3 padding=zero output=linear norm=none",
)


@pytest.mark.parametrize("arch", ARCHS)
@pytest.mark.parametrize(("height", "width"), [(1, 1), (5, 8), (37, 22), (48, 64), (3, 130)])
def test_stylize_equals_network_at_any_size(arch, height, width, rng):
    model, image = model_of(arch), torch.rand(2, 3, height, width, generator=rng)
    before = image.clone()
    styled = model.stylize(image, precision="fp32")
    assert styled.shape == image.shape and torch.equal(image, before)
    expected = torch.cat([forward_any_size(model.network, frame[None]) for frame in image])
    # instance norm amplifies the rounding errors of a single pixel
    if (height, width) != (1, 1) or model.spec.norm != "instance":
        torch.testing.assert_close(styled, expected.clamp(0, 1))
    assert styled.min() >= 0 and styled.max() <= 1


def test_images_of_a_batch_are_independent(rng):
    model, images = model_of(ARCHS[0]), torch.rand(3, 3, 20, 24, generator=rng)
    together = model.stylize(images)
    for i in range(3):
        assert torch.equal(model.stylize(images[i : i + 1])[0], together[i])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_result_has_dtype_of_image(dtype, rng):
    model, image = model_of(ARCHS[0]), torch.rand(1, 3, 16, 16, generator=rng).to(dtype)
    styled = model.stylize(image, precision="fp32")
    assert styled.dtype == dtype
    torch.testing.assert_close(styled, model.stylize(image.float(), precision="fp32").to(dtype))


@pytest.mark.parametrize("deviation", [0.002, 0.02])
def test_pale_images_do_not_depend_on_memory_layout(deviation, rng):
    model = model_of("c9s1-16,d32,R32,n2,c3s1-16,c9s1-3 padding=reflect")
    image = 0.9 + deviation * torch.randn(1, 3, 64, 64, generator=rng).clamp(-4, 4)
    layouts = (
        image,
        image.contiguous(memory_format=torch.channels_last),
        image[0].movedim(0, -1).clone().movedim(-1, 0)[None],
    )
    plain, *strided = (model.stylize(image, precision="fp32") for image in layouts)
    for other in strided:
        torch.testing.assert_close(other, plain, atol=1e-6, rtol=0)


@pytest.mark.parametrize(("precision", "tolerance"), [("bf16", 0.1), ("auto", 2 / 255), ("fp32", 1e-5)])
@pytest.mark.parametrize("arch", ARCHS[:2])
def test_lower_precision_is_close_to_network(arch, precision, tolerance, rng):
    model, image = model_of(arch), torch.rand(1, 3, 48, 40, generator=rng)
    reference = model.network(image)
    assert (model.stylize(image, precision=precision) - reference).abs().max() <= tolerance


@pytest.mark.parametrize("memory", [2_000_000, 50_000_000])
def test_result_does_not_depend_on_memory(memory, rng):
    model, image = model_of(ARCHS[0]), torch.rand(1, 3, 120, 76, generator=rng)
    torch.testing.assert_close(model.stylize(image, precision="fp32", memory=memory), model.network(image))


def test_views_are_read_correctly_and_unchanged(rng):
    model, base = model_of(ARCHS[0]), torch.rand(2, 3, 60, 56, generator=rng)
    views = (base[:, :, ::2, 1::3], base.transpose(2, 3), base.flip(1)[:1], base[:1, :1].expand(2, 3, 60, 56))
    before = base.clone()
    for view in views:
        styled = model.stylize(view, precision="fp32")
        torch.testing.assert_close(styled, model.stylize(view.contiguous(), precision="fp32"))
    assert torch.equal(base, before)


def test_too_little_memory_is_an_error(rng):
    with pytest.raises(InputError, match="76x120 px needs .* of memory"):
        model_of(ARCHS[0]).stylize(torch.rand(1, 3, 120, 76, generator=rng), memory=1000)


def test_progress_rises_to_total_over_all_images(rng):
    model, seen = model_of(ARCHS[0]), []
    model.stylize(torch.rand(2, 3, 16, 16, generator=rng), progress=seen.append)
    done, (total,) = [progress.done for progress in seen], {progress.total for progress in seen}
    assert len(done) >= 4 and done[0] > 0 and done == sorted(done) and done[-1] == total
    assert total // 2 in done


def test_exception_in_callback_stops_work(rng):
    seen = []

    def stop(progress):
        seen.append(progress.done)
        raise Cancelled("enough")

    with pytest.raises(Cancelled, match="enough"):
        model_of(ARCHS[0]).stylize(torch.rand(1, 3, 16, 16, generator=rng), progress=stop)
    assert len(seen) == 1


@pytest.mark.parametrize(
    "image",
    [
        torch.zeros(3, 8, 8),
        torch.zeros(1, 8, 8, 3),
        torch.zeros(1, 3, 8, 8, dtype=torch.uint8),
        torch.full((1, 3, 8, 8), 128.0),
        torch.zeros(1, 3, 8, 8, dtype=torch.int64),
        torch.zeros(0, 3, 8, 8),
        torch.zeros(1, 3, 0, 8),
        torch.zeros(1, 1, 8, 8),
    ],
    ids=[
        "no batch",
        "channels last",
        "bytes",
        "0..255",
        "integers",
        "no image",
        "no rows",
        "one channel",
    ],
)
def test_wrong_images_are_rejected(image):
    with pytest.raises(ImageError, match="expected a float tensor"):
        model_of(ARCHS[0]).stylize(image)


def test_unknown_precision_is_rejected():
    with pytest.raises(InputError, match="'int8'; expected auto, fp32, bf16, fp16"):
        model_of(ARCHS[0]).stylize(torch.zeros(1, 3, 8, 8), precision="int8")


def test_style_file_loads_with_facts(tmp_path, rng):
    network = build_network(ARCHS[0])
    save_network(tmp_path / "mine.safetensors", network, {"task": "style", "name": "Mine", "title": "My style"})
    for path in (tmp_path / "mine.safetensors", str(tmp_path / "mine.safetensors")):
        model = load_style(path)
        assert (model.name, model.facts["title"], model.spec) == ("Mine", "My style", network.spec)
    image = torch.rand(1, 3, 8, 8, generator=rng)
    torch.testing.assert_close(model.stylize(image, precision="fp32"), network.eval()(image).detach())


def test_style_without_name_is_named_after_file(tmp_path):
    save_network(tmp_path / "night.safetensors", build_network("c3s1-3"), {"task": "style"})
    assert load_style(tmp_path / "night.safetensors").name == "night"


@pytest.mark.parametrize(
    ("arch", "task"), [("c3s1-3", "upscale"), ("u3", "style"), ("c3s1-1", "style"), ("c3s1-3", None)]
)
def test_networks_for_other_tasks_are_rejected(arch, task, tmp_path):
    path = tmp_path / "other.safetensors"
    save_network(path, build_network(f"{arch} padding=zero"), {"task": task} if task else {})
    with pytest.raises(CheckpointError, match="not a style") as caught:
        load_style(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("name", ["nothing", "nothing.safetensors", "no/such/file.safetensors", ""])
def test_missing_style_is_one_line_error(name):
    with pytest.raises(CheckpointError) as caught:
        load_style(name)
    assert "\n" not in str(caught.value)
