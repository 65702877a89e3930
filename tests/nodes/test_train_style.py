"""TrainStyle: what it hands to the training, what comes of it, and what the host sees meanwhile."""

from __future__ import annotations

import gc
import logging

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

SMALL = {"steps": 3, "size": 32, "batch": 2, "style_size": 64, "loss_network": "vgg16.safetensors"}


@pytest.fixture
def photos(host):
    """A folder of four photos in the input folder."""
    random = np.random.default_rng(1)
    (host.input / "photos").mkdir()
    for n in range(4):
        pixels = random.integers(0, 256, (9, 11, 3), np.uint8).repeat(5, axis=0).repeat(5, axis=1)
        Image.fromarray(pixels).save(host.input / "photos" / f"{n}.png")
    return host.input / "photos"


@pytest.fixture
def ready(pack, host, photos, deep_loss_weights):
    """The pack, with a loss network, photos and a tiny style to start from."""
    (host.loss_networks / "vgg16.safetensors").write_bytes(deep_loss_weights.read_bytes())
    pack.style(host.styles / "base.safetensors")
    return pack


def image(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed)).square()


@pytest.fixture
def train(ready):
    """Run the node on a small training; the host gives every input as a list."""

    def train(**inputs):
        settings = {"style_image": image(1, 70, 80, 3), "content": "photos", "name": "mine", "preset": "quick"}
        settings |= {**SMALL, "start_from": "base.safetensors", **inputs}
        settings = {name: value if isinstance(value, list) else [value] for name, value in settings.items()}
        return ready.run("TrainStyle", **settings)

    return train


@pytest.fixture
def asked(ready, monkeypatch):
    """What the node asks of core, which does not train."""
    seen = {}

    class Enough(Exception):
        pass

    def train_style(style_image, content, out, **settings):
        seen.update(settings, style_image=style_image, content=content, out=out, files=sorted(content.iterdir()))
        raise Enough

    monkeypatch.setattr(ready.module("nodes.train_style"), "train_style", train_style)

    def asked(train, **inputs):
        with pytest.raises(Enough):
            train(**inputs)
        return seen

    return asked


def tensors(path) -> dict[str, torch.Tensor]:
    return load_file(path)


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


def test_a_style_is_trained_listed_and_handed_on(train, ready, host):
    style, losses, preview = train()
    assert "mine.safetensors" in ready.schema("LoadStyleModel").inputs[0].options
    assert not [name for name in ready.schema("LoadStyleModel").inputs[0].options if "training" in name]
    assert style.model.name == "mine" and style.patchers[0].model is style.model.network
    assert len(losses["loss"]) == 3 and all(isinstance(value, float) for value in losses["loss"])
    assert (
        preview.shape == (1, 45, 55, 3) and preview.dtype == torch.float32 and 0 <= preview.min() < preview.max() <= 1
    )
    with Image.open(host.input / "photos" / "0.png") as photo:
        first = torch.from_numpy(np.array(photo))[None].float() / 255
    assert torch.equal(preview, ready.run("FastStylize", image=first, style_model=style))
    loaded = ready.run("LoadStyleModel", style="mine.safetensors")
    assert torch.equal(preview, ready.run("FastStylize", image=first, style_model=loaded))


def test_the_result_is_the_one_of_core_outside_of_inference_mode(train, ready, host, photos):
    train(seed=5)
    recipes = ready.module("core.training.style_recipes")
    numbers = {"steps": 3, "size": 32, "batch_size": 2, "style_size": 64, "loss_network": "vgg16"}
    path = ready.module("core.training.train_style").train_style(
        image(1, 70, 80, 3).movedim(-1, 1), photos, host.models / "core.safetensors", seed=5, device="cpu",
        recipe=recipes.adjusted(recipes.get_recipe("quick"), {}, **numbers),
        loss_weights=host.loss_networks / "vgg16.safetensors", init_from=host.styles / "base.safetensors",
    )  # fmt: skip
    assert same(tensors(path), tensors(host.styles / "mine.safetensors"))


def test_the_host_sees_steps_previews_of_one_photo_and_the_time_left(train, host):
    train(steps=5)
    bar = next(bar for bar in host.bars if bar)
    assert bar == [(step, 5) for step in range(1, 6)]
    kinds, pictures, sides = zip(*host.previews, strict=True)
    assert set(kinds) == {"JPEG"} and set(sides) == {55} and {picture.size for picture in pictures} == {(55, 45)}
    assert len(pictures) == 5 and pictures[0].tobytes() != pictures[-1].tobytes()
    texts, nodes = zip(*host.texts, strict=True)
    assert set(nodes) == {"7"} and texts[0].startswith("step 1 of 5, ") and "left, objective" in texts[0]
    assert texts[-1].startswith("step 5 of 5, 0 s left")


def test_long_photos_are_made_smaller_for_previews(train, host):
    (host.input / "wide").mkdir()
    Image.new("RGB", (2048, 256)).save(host.input / "wide" / "a.png")
    _, _, preview = train(content="wide", steps=1)
    assert preview.shape == (1, 64, 512, 3) and host.previews[0][1].size == (512, 64)


def test_an_interruption_keeps_a_checkpoint_and_the_next_run_goes_on(train, host, ready):
    train(name="whole", steps=6)
    host.interrupt_at = host.checks + 4
    with pytest.raises(Exception) as raised:  # noqa: B017 - its identity is what matters
        train(steps=6)
    assert raised.value is host.interruption
    checkpoint = host.styles / "mine.training.safetensors"
    assert ready.module("core.checkpoints.own_format").load_tensors(checkpoint)[1]["step"] == 4
    assert not (host.styles / "mine.safetensors").exists()
    host.bars.clear()
    _, losses, _ = train(steps=6)
    assert next(bar for bar in host.bars if bar) == [(5, 6), (6, 6)] and len(losses["loss"]) == 6
    assert same(tensors(host.styles / "mine.safetensors"), tensors(host.styles / "whole.safetensors"))
    assert not checkpoint.exists()


def test_without_resume_an_interrupted_training_begins_anew(train, host, ready):
    host.interrupt_at = host.checks + 2
    with pytest.raises(Exception):  # noqa: B017
        train()
    errors = ready.module("core.errors")
    with pytest.raises(errors.TrainingError, match="another seed"):
        train(seed=1)
    host.bars.clear()
    train(seed=1, resume=False)
    assert next(bar for bar in host.bars if bar)[0] == (1, 3)


def test_a_finished_training_is_not_done_again_and_never_overwritten(train, host, ready):
    first = train()
    path = host.styles / "mine.safetensors"
    modified = path.stat().st_mtime_ns
    host.bars.clear()
    second = train(resume=False)
    assert path.stat().st_mtime_ns == modified and not any(host.bars)
    assert second[1] == first[1] and torch.equal(second[2], first[2])
    errors = ready.module("core.errors")
    with pytest.raises(errors.InputError, match="mine.safetensors exists already"):
        train(seed=1)
    assert path.stat().st_mtime_ns == modified


def test_photos_can_be_a_batch_or_a_list_of_images(train, host, asked, photos):
    batch, other = image(3, 40, 50, 3, seed=1), image(1, 33, 60, 4, seed=2)
    seen = asked(train, photos=[batch, other, image(2, 40, 40, 1, seed=3)], content="(none)")
    assert len(seen["files"]) == 6 and not seen["content"].exists(), "files were left over"
    assert seen["preview_image"].shape == (1, 3, 40, 50)
    assert (seen["preview_image"] - batch[:1].movedim(-1, 1)).abs().max() <= 0.5 / 255 + 1e-6
    names = [file.name for file in seen["files"]]
    again = [file.name for file in asked(train, photos=[torch.cat([batch[:2], image(1, 40, 50, 3, seed=9)])])["files"]]
    assert again[:2] == names[:2] and again[2] != names[2] and len(again) == 3
    assert list(host.temp.iterdir()) == []


def test_the_same_images_are_the_same_training(train, host):
    batch = image(3, 40, 50, 3, seed=1)
    train(photos=[batch])
    host.bars.clear()
    train(photos=[batch.clone()])
    assert not any(host.bars)
    assert list(host.temp.iterdir()) == []


def test_zero_is_the_presets_number(train, asked, ready):
    presets = ready.module("core.training.style_recipes").RECIPES
    for preset in ("quick", "standard", "paper", "authors"):
        recipe = asked(train, preset=preset, steps=0, size=0, batch=0, style_size=0)["recipe"]
        for field in ("steps", "size", "batch_size", "style_size", "arch", "weights", "learning_rate"):
            assert getattr(recipe, field) == getattr(presets[preset], field), f"{preset}: {field}"
    seen = asked(
        train, preset="paper", steps=7, batch=3, size=64, style_size=99, width=8, style_weight=2.0, tv_weight=0.0,
        content_weight=0.5, seed=11, start_from="none",
    )  # fmt: skip
    recipe, paper = seen["recipe"], presets["paper"]
    assert (recipe.steps, recipe.batch_size, recipe.size, recipe.style_size) == (7, 3, 64, 99)
    assert recipe.arch.startswith("c9s1-8,d16,d32,R32x5,u16,u8,c9s1-3 norm=batch")
    assert recipe.weights == paper.weights.scaled(content=0.5, style=2.0, tv=0.0)
    assert seen["seed"] == 11 and seen["init_from"] is None and seen["device"] == "cpu"


def test_what_is_left_out_is_the_presets(ready, asked, host):
    def train(**inputs):
        ready.run("TrainStyle", **{name: [value] for name, value in inputs.items()})

    preset = ready.module("core.training.style_recipes").get_recipe("authors")
    seen = asked(train, style_image=image(1, 70, 80, 3), content="photos", name="mine", preset="authors")
    assert seen["recipe"] == preset and seen["seed"] == 0 and seen["init_from"] is None
    assert seen["loss_weights"] == host.loss_networks / "vgg16.safetensors"
    assert seen["out"] == host.styles / "mine.safetensors"


def test_auto_starts_quick_from_a_bundled_style_and_the_others_from_nothing(train, asked, ready):
    bundled = ready.module("core.hub.manifest").bundled_path(ready.module("core.training.base_styles").BASES["quick"])
    assert asked(train, preset="quick", start_from="auto")["init_from"] == bundled
    assert asked(train, preset="standard", start_from="auto")["init_from"] is None
    assert asked(train, preset="quick", start_from="none")["init_from"] is None
    assert asked(train, preset="paper", start_from="starry_night")["init_from"] == bundled


def test_starts_are_offered_that_can_be_used(ready, host):
    pack = ready
    pack.style(host.styles / "own.safetensors")
    (host.styles / "theirs.pth").write_bytes(b"any")
    options = next(each for each in pack.schema("TrainStyle").inputs if each.id == "start_from").options
    bundled = [entry.id for entry in pack.module("core.hub.manifest").entries("style") if entry.is_bundled]
    assert options == ["auto", "none", *bundled, "base.safetensors", "own.safetensors"]


def test_a_width_that_the_start_does_not_have_is_refused(train, ready):
    errors = ready.module("core.errors")
    with pytest.raises(errors.InputError, match="base.safetensors is 4 channels wide, not 32"):
        train(width=32)
    with pytest.raises(errors.InputError, match="starry_night is 16 channels wide, not 32"):
        train(width=32, start_from="auto")


@pytest.mark.parametrize("start", ["no_such_style", "../base.safetensors", "/etc/passwd"])
def test_an_unknown_start_is_refused(start, train, ready):
    with pytest.raises(ready.module("core.errors").InputError, match=f"no style named '{start}'"):
        train(start_from=start)


def test_a_style_of_another_program_is_no_start(train, ready, host, deep_loss_weights):
    (host.styles / "foreign.safetensors").write_bytes(deep_loss_weights.read_bytes())
    with pytest.raises(ready.module("core.errors").CheckpointError, match="not a file of this project"):
        train(start_from="foreign.safetensors")


def test_the_loss_network_of_the_preset_is_found_by_its_tensors(train, asked, host, ready):
    (host.loss_networks / "vgg16.safetensors").rename(host.loss_networks / "Some Weights.safetensors")
    pack_file = host.loss_networks / "a.safetensors"
    pack_file.write_bytes((host.styles / "base.safetensors").read_bytes())  # no loss network
    (host.loss_networks / "b.pth").write_bytes(b"no weights")
    assert asked(train, preset="paper", loss_network="auto")["loss_weights"].name == "Some Weights.safetensors"
    recipe = asked(train, preset="quick", loss_network="Some Weights.safetensors")["recipe"]
    assert recipe.loss_network == "vgg16"
    for file in ("a.safetensors", "b.pth"):
        with pytest.raises(ready.module("core.errors").CheckpointError, match=file):
            train(loss_network=file)


def test_a_loss_network_that_is_not_here_is_an_error_that_says_what_to_do(train, ready):
    with pytest.raises(ready.module("core.errors").CheckpointError) as raised:
        train(loss_network="auto")  # that of quick: the file that is there is another one
    message = str(raised.value)
    assert "no file in models/loss_networks" in message and "weights there as vgg19_distilled.safetensors" in message
    assert "vgg16 (download), vgg19 (download)" in message and "\n" not in message
    for name in ("../../x.safetensors", "vgg12"):
        with pytest.raises(ready.module("core.errors").InputError, match=f"no loss network named '{name}'"):
            train(loss_network=name)


def test_a_loss_network_with_a_name_is_downloaded_as_deep_as_it_is_needed(train, asked, ready, host, monkeypatch):
    wanted = {}

    def loss_weights_file(name, layers, folder, *, download=False, progress=None):
        wanted.update(name=name, layers=layers, folder=folder, download=download, progress=progress)
        return host.loss_networks / "downloaded"

    monkeypatch.setattr(ready.module("nodes.training_inputs"), "loss_weights_file", loss_weights_file)
    for choice in ("vgg19 (download)", "vgg19"):
        seen = asked(train, loss_network=choice)
        assert seen["recipe"].loss_network == "vgg19" and seen["loss_weights"] == host.loss_networks / "downloaded"
        assert wanted["name"] == "vgg19" and wanted["download"] and wanted["progress"] is not None
        assert "relu5_1" in wanted["layers"] and wanted["folder"] == [host.loss_networks]


BAD_NAMES = [
    "",
    "   ",
    "a/b",
    "a\\b",
    "../a",
    "a:b",
    "what?",
    "a\nb",
    ".hidden",
    "a.",
    "CON",
    "nul",
    "x.training",
    "é" * 60,
]


@pytest.mark.parametrize("name", BAD_NAMES)
def test_a_name_that_is_no_files_is_refused_before_anything_runs(name, pack, host):
    answer = pack.nodes["TrainStyle"].validate_inputs(name=[name])
    assert isinstance(answer, str) and repr(name) in answer and "my_style" in answer and "\n" not in answer
    with pytest.raises(pack.module("core.errors").InputError, match="style"):
        pack.run(
            "TrainStyle", style_image=[image(1, 70, 80, 3)], content=["photos"], name=[name], preset=["quick"]
        )  # fmt: skip
    assert not (host.models / "fast_style").exists() or list(host.styles.iterdir()) == []


@pytest.mark.parametrize("name", ["wave", "My Style 2", "wave.safetensors", "große_welle", "浪", "v1.5", "console"])
def test_other_names_are_files(name, train, asked, pack, host):
    assert pack.nodes["TrainStyle"].validate_inputs(name=[name]) is True
    assert asked(train, name=name)["out"] == host.styles / f"{name.removesuffix('.safetensors')}.safetensors"


def test_a_linked_name_is_not_refused_before_it_is_known(pack):
    assert pack.nodes["TrainStyle"].validate_inputs(name=(None,)) is True


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({"steps": -1}, "steps is -1; expected at least 1"),
        ({"batch": -2}, "batch size is -2"),
        ({"size": 8}, "size is 8; expected at least 32"),
        ({"size": 33}, "multiple of 4"),
        ({"width": -4, "start_from": "none"}, "cannot be -4 channels wide"),
        ({"style_weight": -1.0}, "not negative"),
        ({"style_weight": float("nan")}, "not negative"),
        ({"seed": -1}, "the seed is -1"),
        ({"preset": "fast"}, "unknown recipe 'fast'"),
        ({"content": "(none)"}, "no folder of photos is chosen; choose one of photos, where"),
        ({"content": "../models"}, "input folder has no '../models'"),
        ({"content": "/etc"}, "input folder has no '/etc'"),
    ],
)
def test_inputs_without_meaning_are_refused_in_one_line(inputs, message, train, ready, host):
    with pytest.raises(ready.module("core.errors").PerceptualStyleError, match=message) as raised:
        train(**inputs)
    assert "\n" not in str(raised.value)
    assert sorted(path.name for path in host.styles.iterdir()) == ["base.safetensors"]


def test_folders_of_one_photo_and_with_corrupt_files_work_and_others_are_refused(train, ready, host, caplog):
    for name in ("one", "none", "corrupt", "some"):
        (host.input / name).mkdir()
    (host.input / "none" / "readme.txt").write_text("any")
    photo = (host.input / "photos" / "0.png").read_bytes()
    (host.input / "one" / "a.png").write_bytes(photo)
    for name in ("corrupt", "some"):
        (host.input / name / "a.jpg").write_bytes(b"\xff\xd8\xff broken")
    (host.input / "some" / "b.png").write_bytes(photo)

    train(content="one", name="one")
    with caplog.at_level(logging.WARNING):
        train(content="some", name="some")
    assert len([line for line in caplog.messages if "skipped" in line and "a.jpg" in line]) == 1
    errors = ready.module("core.errors")
    with pytest.raises(errors.ImageError, match="the folder .*none has no images"):
        train(content="none", name="none")
    with pytest.raises(errors.ImageError, match="none of the 1 photos in .* can be read; the first: .*a.jpg"):
        train(content="corrupt", name="corrupt")


PAINTINGS = pytest.mark.parametrize("shape", [(70, 80, 4), (70, 80, 1), (64, 12_000, 3)], ids=["alpha", "grey", "long"])


@PAINTINGS
def test_paintings_with_alpha_in_grey_and_very_long_ones_train(shape, train):
    style, _, _ = train(style_image=image(1, *shape), steps=1)
    assert all(parameter.isfinite().all() for parameter in style.model.network.parameters())


@PAINTINGS
def test_core_gets_the_colors_of_the_painting(shape, train, asked):
    painting = image(1, *shape)
    seen = asked(train, style_image=painting)["style_image"]
    assert seen.shape == (1, 3, *shape[:2]) and not seen.is_inference()
    assert torch.equal(seen, painting[..., :3].movedim(-1, 1).expand(1, 3, -1, -1))


@pytest.mark.parametrize(
    ("style_image", "message"),
    [
        (torch.rand(1, 50, 50, 3), "the style image is 50x50 px; expected at least 64"),
        (torch.rand(2, 70, 80, 3), "expected one style image, got 2"),
        ([torch.rand(1, 70, 80, 3)] * 3, "expected one style image, got 3"),
        (torch.rand(70, 80, 3), "expected an IMAGE"),
    ],
    ids=["small", "batch", "list", "frame"],
)
def test_other_paintings_are_refused(style_image, message, train, ready, host):
    with pytest.raises(ready.module("core.errors").InputError, match=message):
        train(style_image=style_image)
    assert not list(host.styles.glob("mine*"))


def test_the_device_is_free_before_and_after(train, host, ready):
    train()
    assert host.freed == ["models", "cache", "cache"]
    host.interrupt_at = host.checks + 1
    host.freed.clear()
    with pytest.raises(Exception):  # noqa: B017
        train(name="other")
    assert host.freed == ["models", "cache", "cache"]


def test_nothing_of_a_training_is_kept_but_the_style(train, ready):
    outputs = train()
    gc.collect()
    kinds = (
        ready.module("core.losses.loss_network").LossNetwork,
        torch.optim.Adam,
        ready.module("core.network.transform_net").TransformNet,
    )
    left = [found for found in gc.get_objects() if type(found) in kinds]  # isinstance would wake lazy objects
    assert left == [outputs[0].model.network]


def test_too_little_memory_is_said_in_the_log(train, ready, monkeypatch, caplog):
    objective = ready.module("core.training.train_style").Objective
    original = objective.__call__

    def call(self, output, *arguments):
        if len(output) > 1:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return original(self, output, *arguments)

    monkeypatch.setattr(objective, "__call__", call)
    with caplog.at_level(logging.WARNING):
        train(batch=2)
    (line,) = [line for line in caplog.messages if "out of memory" in line]
    assert "1 at a time, with the gradients of 2 added up" in line


def test_inference_mode_and_gradients_are_as_before(train):
    with torch.inference_mode():
        train()
        assert torch.is_inference_mode_enabled() and not torch.is_grad_enabled()


def test_the_fingerprint_changes_with_photos_and_files_and_only_then(ready, host, photos):
    def fingerprint():
        return ready.nodes["TrainStyle"].fingerprint_inputs(
            content=["photos"],
            loss_network=["vgg16.safetensors"],
            start_from=["base.safetensors"],
            name=["x"],
            steps=[1],
        )

    first = fingerprint()
    (host.styles / "unrelated.safetensors").write_bytes(b"any")
    assert fingerprint() == first
    Image.new("RGB", (9, 9)).save(photos / "new.png")
    second = fingerprint()
    ready.style(host.styles / "base.safetensors", arch="c3s1-4,c3s1-3", seed=3)
    third = fingerprint()
    (host.loss_networks / "vgg16.safetensors").write_bytes(b"other")
    assert len({first, second, third, fingerprint()}) == 4


def test_the_fingerprint_of_linked_or_unknown_inputs_does_not_fail(pack):
    fingerprint = pack.nodes["TrainStyle"].fingerprint_inputs
    assert fingerprint(content=(None,), loss_network=(None,), start_from=(None,)) == fingerprint()
    assert fingerprint(content=["../etc"], loss_network=["x"], start_from=["auto"])
