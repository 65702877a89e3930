"""TrainStyle: how its inputs become the arguments of a training run, and which are rejected."""

from __future__ import annotations

import logging

import pytest
import torch
from foreign_files import make
from helpers import pixels_of


def _image(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed)).square()


def test_photos_can_be_batches_and_lists(train, host, asked, photos):
    batch, other = _image(3, 40, 50, 3, seed=1), _image(1, 33, 60, 4, seed=2)
    seen = asked(train, photos=[batch, other, _image(2, 40, 40, 1, seed=3)], content="(none)")
    assert len(seen["files"]) == 6 and not seen["content"].exists(), "temporary files remain"
    assert seen["preview_image"].shape == (1, 3, 40, 50)
    assert (seen["preview_image"] - batch[:1].movedim(-1, 1)).abs().max() <= 0.5 / 255 + 1e-6
    names = [file.name for file in seen["files"]]
    again = [file.name for file in asked(train, photos=[torch.cat([batch[:2], _image(1, 40, 50, 3, seed=9)])])["files"]]
    assert again[:2] == names[:2] and again[2] != names[2] and len(again) == 3
    assert list(host.temp.iterdir()) == []


def test_zero_uses_preset_value(train, asked, ready):
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


def test_omitted_inputs_use_preset(ready, asked, host, painting):
    def train(**inputs):
        ready.run("TrainStyle", **{name: [value] for name, value in inputs.items()})

    preset = ready.module("core.training.style_recipes").get_recipe("authors")
    seen = asked(train, style_image=painting, content="photos", name="mine", preset="authors")
    assert seen["recipe"] == preset and seen["seed"] == 0 and seen["init_from"] is None
    assert seen["loss_weights"] == host.loss_networks / "vgg16.safetensors"
    assert seen["out"] == host.styles / "mine.safetensors"


def test_auto_starts_only_quick_from_what_is_predicted(train, asked, ready):
    bundled_path = ready.module("core.hub.manifest").bundled_path
    assert asked(train, preset="quick", start_from="auto")["init_from"] == bundled_path("any_style")
    assert asked(train, preset="standard", start_from="predicted")["init_from"] == bundled_path("any_style")
    assert asked(train, preset="standard", start_from="auto")["init_from"] is None
    assert asked(train, preset="quick", start_from="none")["init_from"] is None
    assert asked(train, preset="paper", start_from="udnie")["init_from"] == bundled_path("udnie")


def test_only_usable_starts_are_offered(ready, host):
    pack = ready
    pack.style(host.styles / "own.safetensors")
    (host.styles / "unreadable.pth").write_bytes(b"any")
    torch.save(make("rrmina"), host.styles / "theirs.pth")
    options = next(each for each in pack.schema("TrainStyle").inputs if each.id == "start_from").options
    bundled = [entry.id for entry in pack.module("core.hub.manifest").entries("style") if entry.is_bundled]
    assert options == ["auto", "none", "predicted", *bundled, "base.safetensors", "own.safetensors", "theirs.pth"]


def test_width_other_than_base_raises(train, ready):
    errors = ready.module("core.errors")
    with pytest.raises(errors.InputError, match="base.safetensors is 4 channels wide, not 32"):
        train(width=32)
    with pytest.raises(errors.InputError, match="predicted is 16 channels wide, not 32"):
        train(width=32, start_from="auto")


@pytest.mark.parametrize("start", ["no_such_style", "../base.safetensors", "/etc/passwd"])
def test_unknown_start_raises(start, train, ready):
    with pytest.raises(ready.module("core.errors").InputError, match=f"no style named '{start}'"):
        train(start_from=start)


def test_other_network_as_start_raises(train, ready, host, deep_loss_weights):
    (host.styles / "foreign.safetensors").write_bytes(deep_loss_weights.read_bytes())
    with pytest.raises(ready.module("core.errors").CheckpointError, match="unknown architecture"):
        train(start_from="foreign.safetensors")


def test_loss_network_is_found_by_its_tensors(train, asked, host, ready):
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


def test_quick_uses_bundled_loss_network(train, asked, host, ready):
    for name in ("auto", "vgg16_small"):
        seen = asked(train, loss_network=name)
        assert seen["recipe"].loss_network == "vgg16_small"
        assert seen["loss_weights"] == ready.module("core.hub.manifest").bundled_path("vgg16_small")


def test_missing_loss_network_error_says_what_to_do(train, ready, host):
    (host.loss_networks / "vgg16.safetensors").unlink()
    with pytest.raises(ready.module("core.errors").CheckpointError) as raised:
        train(preset="paper", loss_network="auto")
    message = str(raised.value)
    assert "no file in models/loss_networks" in message and "weights there as vgg16.safetensors" in message
    assert "vgg16_small, vgg16 (download), vgg19 (download)" in message and "\n" not in message
    for name in ("../../x.safetensors", "vgg12"):
        with pytest.raises(ready.module("core.errors").InputError, match=f"no loss network named '{name}'"):
            train(loss_network=name)


def test_named_loss_network_is_downloaded_as_far_as_needed(train, asked, ready, host, monkeypatch):
    wanted = {}

    def loss_weights_file(name, layers, folder, *, download=False, progress=None):
        wanted.update(name=name, layers=layers, folder=folder, download=download, progress=progress)
        return host.loss_networks / "downloaded"

    monkeypatch.setattr(ready.module("nodes.loss_networks"), "loss_weights_file", loss_weights_file)
    for choice in ("vgg19 (download)", "vgg19"):
        seen = asked(train, loss_network=choice)
        assert seen["recipe"].loss_network == "vgg19" and seen["loss_weights"] == host.loss_networks / "downloaded"
        assert wanted["name"] == "vgg19" and wanted["download"] and wanted["progress"] is not None
        assert "relu4_3" in wanted["layers"] and wanted["folder"] == [host.loss_networks]


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
def test_invalid_names_raise_before_training(name, pack, host, painting):
    answer = pack.nodes["TrainStyle"].validate_inputs(name=[name])
    assert isinstance(answer, str) and repr(name) in answer and "my_style" in answer and "\n" not in answer
    with pytest.raises(pack.module("core.errors").InputError, match="style"):
        pack.run(
            "TrainStyle", style_image=[painting], content=["photos"], name=[name], preset=["quick"]
        )  # fmt: skip
    assert not (host.models / "fast_style").exists() or list(host.styles.iterdir()) == []


@pytest.mark.parametrize("name", ["wave", "My Style 2", "wave.safetensors", "große_welle", "浪", "v1.5", "console"])
def test_valid_names_become_files(name, train, asked, pack, host):
    assert pack.nodes["TrainStyle"].validate_inputs(name=[name]) is True
    assert asked(train, name=name)["out"] == host.styles / f"{name.removesuffix('.safetensors')}.safetensors"


def test_linked_name_is_valid_until_known(pack):
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
        ({"preset": [["quick"]]}, "unknown recipe"),
        ({"preset": [None]}, "unknown recipe None"),
        ({"loss_network": [3]}, "no loss network named 3"),
        ({"start_from": [3]}, "no style named 3"),
        ({"content": "(none)"}, r"no photo folder is chosen; choose one of: photos \(press R"),
        ({"content": "../models"}, "input folder has no folder '../models'"),
        ({"content": "/etc"}, "input folder has no folder '/etc'"),
    ],
)
def test_bad_input_errors_are_one_line(inputs, message, train, ready, host):
    with pytest.raises(ready.module("core.errors").PerceptualStyleError, match=message) as raised:
        train(**inputs)
    assert "\n" not in str(raised.value)
    assert sorted(path.name for path in host.styles.iterdir()) == ["base.safetensors"]


def test_folders_with_few_or_corrupt_photos(train, ready, host, caplog):
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
    with pytest.raises(errors.ImageError, match="none of the 1 photos in .* can be read; the first error: .*a.jpg"):
        train(content="corrupt", name="corrupt")


PAINTINGS = pytest.mark.parametrize("shape", [(70, 80, 4), (70, 80, 1), (64, 12_000, 3)], ids=["alpha", "grey", "long"])


@PAINTINGS
def test_unusual_paintings_train(shape, train):
    style, _, _ = train(style_image=_image(1, *shape), steps=1)
    assert all(parameter.isfinite().all() for parameter in style.model.network.parameters())


@PAINTINGS
def test_core_gets_painting_colors(shape, train, asked):
    style_image = _image(1, *shape)
    (seen,) = asked(train, style_image=style_image)["style_image"]
    assert seen.shape == (1, 3, *shape[:2]) and not seen.is_inference()
    assert torch.equal(seen, pixels_of(style_image))


@pytest.mark.parametrize("listed", [False, True])
def test_several_paintings_make_one_style(listed, ready, train, asked, host):
    images = [_image(1, 70, 80, 3), _image(1, 64 + 6 * (not listed), 80 + 20 * listed, 3)]
    paintings = images if listed else [torch.cat(images)]

    def given(**inputs):
        train(**{**inputs, "style_image": paintings[0]}) if not listed else ready.run(
            "TrainStyle", style_image=paintings, content=["photos"], name=["mine"], preset=["quick"]
        )

    seen = asked(given)["style_image"]
    assert [torch.equal(one, pixels_of(image)) for one, image in zip(seen, images, strict=True)] == [True, True]


def test_missing_painting_is_reported(ready):
    with pytest.raises(ready.module("core.errors").ImageError, match="there is no style image; connect a painting"):
        ready.run("TrainStyle", style_image=[], content=["photos"], name=["mine"], preset=["quick"])


@pytest.mark.parametrize(
    ("style_image", "message"),
    [
        (torch.rand(1, 50, 50, 3), "the style image is 50x50 px; expected at least 64"),
        (torch.rand(70, 80, 3), "expected an IMAGE"),
    ],
    ids=["small", "frame"],
)
def test_bad_paintings_raise(style_image, message, train, ready, host):
    with pytest.raises(ready.module("core.errors").InputError, match=message):
        train(style_image=style_image)
    assert not list(host.styles.glob("mine*"))


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({"content": ["gone"]}, "ComfyUI's input folder has no folder 'gone'; choose one of: photos (press R"),
        ({"content": ["(none)"]}, "no photo folder is chosen; choose one of: photos"),
        ({"content": [5]}, "ComfyUI's input folder has no folder 5;"),
        ({"loss_network": ["gone.pth"]}, "there is no loss network named 'gone.pth'; choose one of: "),
        ({"loss_network": [["auto"]]}, "there is no loss network named ['auto'];"),
        ({"start_from": ["gone"]}, "there is no style named 'gone'; choose one of: "),
        ({"start_from": [0.5]}, "there is no style named 0.5;"),
        ({"name": [7]}, "the style name is 7; expected text"),
    ],
)
def test_missing_choices_are_reported_before_training(inputs, message, ready):
    """The host leaves the check of the inputs that validate_inputs names to the node."""
    answer = ready.nodes["TrainStyle"].validate_inputs(**{"name": ["mine"], **inputs})
    assert isinstance(answer, str) and answer.startswith(message) and "\n" not in answer


def test_existing_choices_are_valid(ready):
    validate = ready.nodes["TrainStyle"].validate_inputs
    inputs = {each.id: each for each in ready.schema("TrainStyle").inputs}
    for name in ("loss_network", "start_from"):
        assert all(validate(name=["mine"], **{name: [option]}) is True for option in inputs[name].options)
    assert validate(name=["mine"], content=["photos"]) is True
    assert validate(name=["mine"], content=["(none)"], photos=(None,)) is True, "photos are connected"
    unknown = {name: (None,) for name in ("content", "loss_network", "start_from")}
    assert validate(name=["mine"], **unknown) is True, "linked inputs are not known yet"
