"""Test the training loop on a tiny network: it learns and follows its settings."""

from __future__ import annotations

import dataclasses

import helpers
import numpy as np
import pytest
import torch
from perceptual_style.core.checkpoints.own_format import load_network, save_network
from perceptual_style.core.errors import Cancelled, CheckpointError, ImageError, InputError
from perceptual_style.core.models.style_model import load_style
from perceptual_style.core.network.transform_net import build_network
from perceptual_style.core.training.train_style import run_training, train_style
from perceptual_style.core.training.trainer import learning_rate
from safetensors.torch import load_file


def test_objective_falls(new_run):
    seen = []
    run_training(new_run(steps=30), seen.append)
    totals = [sum(progress.losses.values()) for progress in seen]
    assert np.mean(totals[-5:]) < 0.8 * np.mean(totals[:5])
    assert [progress.done for progress in seen] == list(range(1, 31)) and {progress.total for progress in seen} == {30}
    assert list(seen[0].losses) == ["content relu2_1", "style relu1_2", "style relu2_2", "tv"]
    assert all(progress.seconds_left >= 0 for progress in seen) and seen[-1].seconds_left == 0


def test_finished_file_is_a_style_with_recipe_and_losses(new_run):
    run = new_run(facts={"title": "Noise", "license": "CC0-1.0"})
    path = run_training(run)
    model = load_style(path)
    assert path == run.out and model.name == "style" and model.facts["title"] == "Noise"
    assert model.facts["recipe"]["steps"] == 8 and model.facts["recipe"]["weights"]["style"]["relu2_2"] == 4.0
    losses = model.facts["figures"]["final losses (mean of the last 100 steps)"]
    curve = model.facts["loss curve"]
    assert [step for step, _ in curve] == list(range(1, 9))
    assert sum(losses.values()) == pytest.approx(np.mean([value for _, value in curve]), rel=1e-3)
    assert model.stylize(torch.rand(1, 3, 21, 34)).shape == (1, 3, 21, 34)


def test_equal_settings_give_equal_weights_and_another_seed_does_not(new_run, uninterrupted, same):
    assert same(run_training(new_run("again")), uninterrupted)
    assert not same(run_training(new_run("other", seed=4)), uninterrupted)


def test_skipped_photos_are_noted_once(new_run):
    notes = []
    run_training(new_run(steps=12), lambda progress: notes.extend(progress.notes))
    assert len(notes) == 1 and "4_broken.jpg" in notes[0] and notes[0].startswith("skipped ")


def test_previews_come_at_intervals_and_at_the_end(new_run):
    seen = {}
    run = new_run(preview_steps=3, preview_image=torch.rand(1, 3, 17, 23))
    run_training(run, lambda progress: seen.update({progress.done: progress.preview}))
    previews = {step: preview for step, preview in seen.items() if preview is not None}
    assert list(previews) == [3, 6, 8]
    assert all(p.shape == (1, 3, 17, 23) and 0 <= p.min() <= p.max() <= 1 for p in previews.values())
    assert not torch.equal(previews[3], previews[8])


def test_previews_do_not_change_the_result(new_run, uninterrupted, same):
    assert same(run_training(new_run(preview_steps=2, preview_image=torch.rand(1, 3, 16, 16))), uninterrupted)


def test_learning_rate_warms_up_and_stays_or_falls_to_zero(new_run):
    constant = dataclasses.replace(new_run().recipe, learning_rate=1e-3, warmup=4, schedule="constant", steps=100)
    assert [learning_rate(constant, step) for step in (0, 1, 3, 4, 99)] == pytest.approx([2e-4, 4e-4, 8e-4, 1e-3, 1e-3])
    assert learning_rate(dataclasses.replace(constant, warmup=0), 0) == 1e-3
    cosine = dataclasses.replace(constant, warmup=0, schedule="cosine")
    assert [learning_rate(cosine, step) for step in (0, 50, 100)] == pytest.approx([1e-3, 5e-4, 0])
    rates = [learning_rate(cosine, step) for step in range(100)]
    assert all(late < early for early, late in zip(rates, rates[1:], strict=False)) and rates[-1] > 0


def test_optimizer_gets_rate_of_each_step(new_run, monkeypatch, stop_at):
    rates, original = [], torch.optim.Adam.step

    def step(self, *arguments):
        rates.append(self.param_groups[0]["lr"])
        return original(self, *arguments)

    monkeypatch.setattr(torch.optim.Adam, "step", step)
    run = new_run()
    with pytest.raises(Cancelled):
        run_training(run, stop_at(4))
    run_training(run)
    assert rates == [learning_rate(run.recipe, step) for step in range(8)]


def test_large_gradient_is_clipped(new_run, monkeypatch):
    norms, original = [], torch.optim.Adam.step

    def step(self, *arguments):
        gradients = [p.grad for p in self.param_groups[0]["params"] if p.grad is not None]
        norms.append(float(torch.cat([gradient.flatten() for gradient in gradients]).norm()))
        return original(self, *arguments)

    monkeypatch.setattr(torch.optim.Adam, "step", step)
    run_training(new_run("clipped", clip=1e-3))
    run_training(new_run("free", clip=0.0))
    assert norms[:8] == pytest.approx([1e-3] * 8, rel=1e-3)
    assert min(norms[8:]) > 2e-3


def test_run_from_trained_style_has_its_architecture(new_run, tmp_path):
    start = build_network("c3s1-6,R6,c3s1-3 padding=zero")
    save_network(tmp_path / "start.safetensors", start, {"task": "style"})
    run = new_run(steps=1, learning_rate=1e-9, init_from=tmp_path / "start.safetensors", schedule="constant")
    trained, facts = load_network(run_training(run))
    assert trained.spec == start.spec and facts["arch"] == str(start.spec)
    for key, tensor in start.state_dict().items():
        torch.testing.assert_close(trained.state_dict()[key], tensor, atol=2e-9, rtol=1e-6)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_half_files_and_mixed_precision(precision, new_run):
    path = run_training(new_run(half=True, precision=precision))
    stored = load_file(path)
    assert {tensor.dtype for tensor in stored.values()} == {torch.float16}
    assert all(tensor.isfinite().all() for tensor in stored.values())
    assert load_style(path).facts["run"]["precision"] == {"fp32": "float32", "bf16": "bfloat16"}[precision]


def test_training_keeps_torchs_global_generator_and_settings(new_run):
    state, grad = torch.get_rng_state(), torch.is_grad_enabled()
    run_training(new_run())
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.is_grad_enabled() == grad and not helpers.autocasts_on_the_cpu()


def test_global_generator_does_not_change_the_result(new_run, uninterrupted, same):
    torch.manual_seed(12345)
    assert same(run_training(new_run()), uninterrupted)


def test_training_keeps_style_image_and_photos(new_run, training_photos):
    run, before = new_run(), {path: path.read_bytes() for path in training_photos.iterdir()}
    style = run.style_image.clone()
    run_training(run)
    assert torch.equal(run.style_image, style)
    assert {path: path.read_bytes() for path in training_photos.iterdir()} == before


@pytest.mark.parametrize(
    ("change", "error", "named"),
    [
        ({"content": "nothing"}, ImageError, "nothing does not exist"),
        ({"loss_weights": "nothing.safetensors"}, CheckpointError, "nothing.safetensors does not exist"),
        ({"init_from": "nothing.safetensors"}, CheckpointError, "nothing.safetensors does not exist"),
        ({"out": "style.pth"}, InputError, "name it style.safetensors"),
        ({"seed": -1}, InputError, "seed"),
        ({"precision": "fp16"}, InputError, "fp16"),
        ({"device": "cuda:99"}, InputError, "cuda:99"),
        ({"style_image": torch.zeros(1, 3, 20, 90)}, InputError, "90x20"),
    ],
)
def test_bad_settings_are_rejected_before_anything_is_written(change, error, named, new_run, tmp_path):
    change = {
        k: tmp_path / v if isinstance(v, str) and k not in ("precision", "device") else v for k, v in change.items()
    }
    run = dataclasses.replace(new_run(), **change)
    with pytest.raises(error, match=named) as caught:
        run_training(run)
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"arch": "c3s1-4,u3"}, "2 times the size"),
        ({"arch": "c3s1-4,c3s1-1"}, "gives 1 channels"),
        ({"arch": "d4,u3", "size": 33}, "multiple of 2"),
        ({"arch": "c9s1-32,d4,d4,R4x5,u4,u4,c9s1-3"}, "at least 41 px"),
        ({"arch": "c9s1-32,what"}, "'what'"),
        ({"loss_network": "vgg12"}, "vgg12"),
        ({"loss_network": "squeezenet1_1"}, "no layer 'relu2_1'"),
    ],
)
def test_bad_recipes_are_rejected(change, named, new_run):
    with pytest.raises(InputError, match=named) as caught:
        run_training(new_run(**change))
    assert "\n" not in str(caught.value)


def test_folder_that_cannot_be_made_is_rejected_at_once(new_run, tmp_path):
    (tmp_path / "file").write_text("not a folder")
    seen = []
    with pytest.raises(CheckpointError, match="cannot write"):
        run_training(dataclasses.replace(new_run(), out=tmp_path / "file" / "style.safetensors"), seen.append)
    assert seen == []


def test_train_style_accepts_name_of_recipe(new_run, same):
    run = new_run()
    with pytest.raises(InputError, match="unknown recipe 'fast'"):
        train_style(run.style_image, run.content, run.out, loss_weights=run.loss_weights, recipe="fast")
    path = train_style(
        run.style_image, run.content, str(run.out), loss_weights=str(run.loss_weights), recipe=run.recipe, seed=3,
        precision="fp32", device="cpu",
    )  # fmt: skip
    assert path == run.out and same(run.out, load_file(run_training(new_run("again"))))


def test_new_network_first_learns_to_reproduce_its_input(new_run):
    seen = []
    run = new_run("identity", steps=2, identity_steps=60)
    run_training(run, seen.append)
    first = [sum(progress.losses.values()) for progress in seen if progress.done == 0]
    assert len(first) == 60 and np.mean(first[-10:]) < 0.8 * np.mean(first[:10])
    assert [progress.done for progress in seen if progress.done] == [1, 2]


def test_run_stopped_in_identity_pretraining_gives_same_weights(new_run, same):
    expected = load_file(run_training(new_run("whole", steps=3, identity_steps=6)))

    def stop(progress):
        stop.calls += 1
        if stop.calls == 4:
            raise Cancelled("enough")

    stop.calls = 0
    with pytest.raises(Cancelled):
        run_training(new_run("stopped", steps=3, identity_steps=6), stop)
    assert same(run_training(new_run("stopped", steps=3, identity_steps=6)), expected)


def test_run_from_trained_style_skips_identity_pretraining(new_run):
    seen = []
    style = run_training(new_run("base", steps=1))
    run_training(new_run("from", steps=2, identity_steps=5, init_from=style), seen.append)
    assert [progress.done for progress in seen] == [1, 2]


@pytest.mark.parametrize("norm", ["instance", "batch", "none"])
def test_biases_cancelled_by_normalization_are_frozen(norm, new_run):
    run = new_run(norm, arch=f"c3s1-4,R4,c3s1-3 padding=zero norm={norm}", steps=3, learning_rate=1e-3, warmup=0)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(run.seed)
        start = build_network(run.recipe.arch).state_dict()
    moved = {key: not torch.equal(start[key], tensor) for key, tensor in load_file(run_training(run)).items()}
    idle = {"stages.0.conv.bias", "stages.1.first.conv.bias", "stages.1.second.conv.bias"} if norm != "none" else set()
    assert {key for key, value in moved.items() if not value} == idle
