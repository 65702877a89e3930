"""Test that gradients in pieces equal those of the whole batch, and what happens when memory runs out."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from perceptual_style.core.checkpoints.own_format import load_tensors
from perceptual_style.core.errors import TrainingError
from perceptual_style.core.losses.functional import total_variation
from perceptual_style.core.losses.objective import ObjectiveWeights
from perceptual_style.core.network.transform_net import build_network
from perceptual_style.core.training import gradients
from perceptual_style.core.training import train_style as style_training
from perceptual_style.core.training.gradients import Gradients
from perceptual_style.core.training.train_style import run_training
from safetensors.torch import load_file

ARCH = "c3s1-4,R4,c3s1-3 padding=zero norm=none"


@pytest.fixture
def network():
    return build_network(ARCH).double()


def losses_of(network, sizes: list[int] | None = None, room: float = float("inf")):
    """Return losses with a mean and a sum over photos. More than ``room`` photos run out of memory."""

    def losses(batch, step):
        image, target = batch if isinstance(batch, tuple) else (batch, 1 - batch)
        if sizes is not None:
            sizes.append(len(image))
        output = network(image)
        if len(image) > room:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return {"pixel": (output - target).square().mean(), "tv": 1e-5 * total_variation(output, "code")}

    return losses


def by_autograd(network, batch) -> dict[str, torch.Tensor]:
    network.zero_grad()
    sum(losses_of(network)(batch, 0).values()).backward()
    return {name: parameter.grad.clone() for name, parameter in network.named_parameters()}


@pytest.mark.parametrize("at_once", [1, 2, 3, 4, 5, 9])
def test_pieces_give_gradients_and_losses_of_whole_batch(at_once, network, rng):
    batch = torch.rand(5, 3, 16, 16, generator=rng, dtype=torch.float64)
    expected, whole = by_autograd(network, batch), losses_of(network)(batch, 0)
    sizes = []
    compute = Gradients(network, losses_of(network, sizes), 5, sums={"tv"})
    compute.at_once = at_once
    parts, notes = compute(batch, 0)
    assert sum(sizes) == 5 and max(sizes) == min(at_once, 5) and notes == []
    for name, parameter in network.named_parameters():
        torch.testing.assert_close(parameter.grad, expected[name])
    torch.testing.assert_close(parts, {name: value.detach() for name, value in whole.items()})
    assert not any(value.requires_grad for value in parts.values())


def test_tuples_are_split_together(network, rng):
    low, high = (torch.rand(3, 3, 16, 16, generator=rng, dtype=torch.float64) for _ in range(2))
    expected = by_autograd(network, (low, high))
    compute = Gradients(network, losses_of(network), 3, sums={"tv"})
    compute.at_once = 2
    compute((low, high), 0)
    for name, parameter in network.named_parameters():
        torch.testing.assert_close(parameter.grad, expected[name])


@pytest.mark.parametrize(
    "error",
    [torch.cuda.OutOfMemoryError("CUDA out of memory"), MemoryError(), RuntimeError("DefaultCPUAllocator: not enough")],
)
@pytest.mark.parametrize("where", ["forward", "backward"])
def test_out_of_memory_halves_the_pieces_for_good(where, error, network, rng, monkeypatch):
    batch, sizes = torch.rand(6, 3, 16, 16, generator=rng, dtype=torch.float64), []
    expected, original = by_autograd(network, batch), losses_of(network, sizes)

    def losses(batch, step):
        parts = original(batch, step)
        if len(batch) > 2 and where == "forward":
            raise error
        if len(batch) > 2:
            parts["pixel"].register_hook(fail)
        return parts

    def fail(gradient):
        raise error

    compute = Gradients(network, losses, 6, sums={"tv"})
    _, notes = compute(batch, 0)
    for name, parameter in network.named_parameters():
        torch.testing.assert_close(parameter.grad, expected[name])
    assert sizes == [6, 3, 1, 1, 1, 1, 1, 1]
    assert len(notes) == 2 and "1 at a time, with the gradients of 6 added up as before" in notes[1]
    sizes.clear()
    assert compute(batch, 1)[1] == [] and sizes == [1] * 6


def test_memory_of_failed_attempt_is_released_before_the_next(network, rng, monkeypatch):
    alive, released = [], []

    class Large:
        def __init__(self):
            alive.append(1)

        def __del__(self):
            alive.pop()

    def losses(batch, step):
        large = Large()  # like an activation, held by the traceback of the error
        if len(batch) > 1:
            raise torch.cuda.OutOfMemoryError("out of memory")
        return {"pixel": network(batch).mean() + 0 * len(str(large))}

    monkeypatch.setattr(gradients, "release_memory", lambda device: released.append(len(alive)))
    Gradients(network, losses, 2)(torch.rand(2, 3, 8, 8, generator=rng, dtype=torch.float64), 0)
    assert released == [0]


def test_note_mentions_batch_normalization(rng):
    network = build_network(ARCH.replace("none", "batch")).double()
    compute = Gradients(network, losses_of(network, room=1), 2)
    _, notes = compute(torch.rand(2, 3, 16, 16, generator=rng, dtype=torch.float64), 0)
    assert "batch normalization uses the statistics of these 1 alone" in notes[0]


def test_out_of_memory_with_a_single_photo_is_a_one_line_error(network, rng):
    compute = Gradients(network, losses_of(network, room=0), 4)
    with pytest.raises(TrainingError, match="single photo at a time; try a smaller size") as caught:
        compute(torch.rand(4, 3, 16, 16, generator=rng, dtype=torch.float64), 0)
    assert "\n" not in str(caught.value)


def test_other_errors_are_raised_unchanged(network, rng):
    def losses(batch, step):
        raise RuntimeError("shapes do not fit")

    with pytest.raises(RuntimeError, match="shapes do not fit"):
        Gradients(network, losses, 2)(torch.rand(2, 3, 16, 16, generator=rng, dtype=torch.float64), 0)


def out_of_memory(monkeypatch, room: int, from_call: int = 1) -> None:
    """Make the objective run out of memory with more than ``room`` photos, starting with call ``from_call``."""
    original, calls = style_training.Objective.__call__, []

    def objective(self, output, content, *more):
        calls.append(1)
        if len(output) > room and len(calls) >= from_call:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return original(self, output, content, *more)

    monkeypatch.setattr(style_training.Objective, "__call__", objective)


@pytest.mark.parametrize("tv_form", ["mean", "code"])
def test_training_run_out_of_memory_ends_with_same_weights(tv_form, new_run, monkeypatch):
    weights = ObjectiveWeights({"relu2_1": 1.0}, {"relu2_2": 4.0}, "relative", tv=1e-5, tv_form=tv_form)
    run = new_run(batch_size=3, weights=weights, learning_rate=3e-4)
    expected, notes, seen = load_file(run_training(dataclasses.replace(run, out=run.out.with_stem("whole")))), [], []
    out_of_memory(monkeypatch, room=1, from_call=4)
    path = run_training(run, lambda progress: (notes.extend(progress.notes), seen.append(progress.losses)))
    assert len([note for note in notes if "out of memory; from here on" in note]) == 1
    for name, tensor in load_file(path).items():
        torch.testing.assert_close(tensor, expected[name], atol=1e-5, rtol=0)
    assert len(seen) == 8 and all(losses.keys() == seen[0].keys() for losses in seen)


def test_training_run_stopped_by_lack_of_memory_keeps_checkpoint(new_run, monkeypatch, uninterrupted, same):
    run = new_run()
    with monkeypatch.context() as patch:
        out_of_memory(patch, room=0, from_call=4)
        with pytest.raises(TrainingError, match="out of memory"):
            run_training(run)
    assert load_tensors(run.checkpoint)[1]["step"] == 3 and not run.out.exists()
    assert same(run_training(run), uninterrupted)
