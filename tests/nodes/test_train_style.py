"""TrainStyle: training runs and their results, and what the host sees meanwhile."""

from __future__ import annotations

import gc
import logging

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file


def tensors(path) -> dict[str, torch.Tensor]:
    return load_file(path)


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


def test_trained_style_is_listed_and_returned(train, ready, host):
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


def test_result_matches_core_outside_inference_mode(train, ready, host, photos, painting):
    train(seed=5)
    recipes = ready.module("core.training.style_recipes")
    numbers = {"steps": 3, "size": 32, "batch_size": 2, "style_size": 64, "loss_network": "vgg16"}
    path = ready.module("core.training.train_style").train_style(
        painting.movedim(-1, 1), photos, host.models / "core.safetensors", seed=5, device="cpu",
        recipe=recipes.adjusted(recipes.get_recipe("quick"), {}, **numbers),
        loss_weights=host.loss_networks / "vgg16.safetensors", init_from=host.styles / "base.safetensors",
    )  # fmt: skip
    assert same(tensors(path), tensors(host.styles / "mine.safetensors"))


def test_host_gets_steps_previews_and_remaining_time(train, host):
    train(steps=5)
    bar = next(bar for bar in host.bars if bar)
    assert bar == [(step, 5) for step in range(1, 6)]
    kinds, pictures, sides = zip(*host.previews, strict=True)
    assert set(kinds) == {"JPEG"} and set(sides) == {55} and {picture.size for picture in pictures} == {(55, 45)}
    assert len(pictures) == 5 and pictures[0].tobytes() != pictures[-1].tobytes()
    texts, nodes = zip(*host.texts, strict=True)
    assert set(nodes) == {"7"} and texts[0].startswith("step 1 of 5, ") and "left, objective" in texts[0]
    assert texts[-1].startswith("step 5 of 5, 0 s left")


def test_previews_of_large_photos_are_reduced(train, host):
    (host.input / "wide").mkdir()
    Image.new("RGB", (2048, 256)).save(host.input / "wide" / "a.png")
    _, _, preview = train(content="wide", steps=1)
    assert preview.shape == (1, 64, 512, 3) and host.previews[0][1].size == (512, 64)


def test_interrupted_run_resumes_from_checkpoint(train, host, ready):
    train(name="whole", steps=6)
    host.interrupt_at = host.checks + 4
    with pytest.raises(Exception) as raised:  # noqa: B017 - compared by identity
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


def test_without_resume_training_starts_over(train, host, ready):
    host.interrupt_at = host.checks + 2
    with pytest.raises(Exception):  # noqa: B017
        train()
    errors = ready.module("core.errors")
    with pytest.raises(errors.TrainingError, match="another seed"):
        train(seed=1)
    host.bars.clear()
    train(seed=1, resume=False)
    assert next(bar for bar in host.bars if bar)[0] == (1, 3)


def test_finished_run_is_not_repeated_or_overwritten(train, host, ready):
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


def test_same_images_are_the_same_run(train, host):
    batch = torch.rand(3, 40, 50, 3)
    train(photos=[batch])
    host.bars.clear()
    train(photos=[batch.clone()])
    assert not any(host.bars)
    assert list(host.temp.iterdir()) == []


def test_device_memory_is_released_before_and_after(train, host, ready):
    train()
    assert host.freed == ["models", "cache", "cache"]
    host.interrupt_at = host.checks + 1
    host.freed.clear()
    with pytest.raises(Exception):  # noqa: B017
        train(name="other")
    assert host.freed == ["models", "cache", "cache"]


def test_only_the_style_stays_in_memory(train, ready):
    outputs = train()
    gc.collect()
    kinds = (
        ready.module("core.losses.loss_network").LossNetwork,
        torch.optim.Adam,
        ready.module("core.network.transform_net").TransformNet,
    )
    left = [found for found in gc.get_objects() if type(found) in kinds]  # isinstance would trigger lazy objects
    assert left == [outputs[0].model.network]


def test_out_of_memory_is_logged(train, ready, monkeypatch, caplog):
    objective = ready.module("core.training.train_style").Objective
    original = objective.__call__

    def call(self, output, *arguments):
        if len(output) > 1:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory")
        return original(self, output, *arguments)

    monkeypatch.setattr(objective, "__call__", call)
    with caplog.at_level(logging.WARNING):
        train(batch=2)
    (line,) = [line for line in caplog.messages if "out of memory" in line]
    assert "1 at a time, with the gradients of 2 added up" in line


def test_inference_mode_is_restored(train):
    with torch.inference_mode():
        train()
        assert torch.is_inference_mode_enabled() and not torch.is_grad_enabled()


def test_fingerprint_changes_only_with_photos_and_files(ready, host, photos):
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


def test_fingerprint_of_linked_or_unknown_inputs_does_not_raise(pack):
    fingerprint = pack.nodes["TrainStyle"].fingerprint_inputs
    assert fingerprint(content=(None,), loss_network=(None,), start_from=(None,)) == fingerprint()
    assert fingerprint(content=["../etc"], loss_network=["x"], start_from=["auto"])
