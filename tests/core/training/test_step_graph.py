"""Recorded training steps, with a recorder for the CPU: the same weights, and the usual way wherever recording fails."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from perceptual_style.core.errors import Cancelled
from perceptual_style.core.network.transform_net import build_network
from perceptual_style.core.training import gradients, step_graph, trainer
from perceptual_style.core.training.gradients import Gradients
from perceptual_style.core.training.train_style import run_training
from torch import Tensor

ARCH = "c3s1-4,R4,c3s1-3 padding=reflect norm=instance"


class Losses:
    is_fixed = True

    def __init__(self, network: torch.nn.Module) -> None:
        self.network = network

    def __call__(self, batch: Any, step: int) -> dict[str, Tensor]:
        image, target = batch if isinstance(batch, tuple) else (batch, 1 - batch)
        return {"pixel": (self.network(image) - target).square().mean()}


def batches(*sizes: int) -> list[tuple[Tensor, Tensor]]:
    torch.manual_seed(3)
    return [(torch.rand(size, 3, 12, 12), torch.rand(size, 3, 12, 12)) for size in sizes]


def steps(losses: Any, network: torch.nn.Module, data: list) -> tuple[list, list, list[str]]:
    """Compute gradients batch by batch; return losses, gradients and notes."""
    compute, found, seen, notes = Gradients(network, losses, 4), [], [], []
    for index, batch in enumerate(data):
        parts, more = compute(batch, index)
        found.append({name: value.clone() for name, value in parts.items()})
        seen.append([p.grad.clone() for p in network.parameters() if p.grad is not None])
        notes += more
    return found, seen, notes


@pytest.mark.parametrize("arch", [ARCH, ARCH.replace("instance", "batch")])
def test_recorded_steps_equal_others(arch: str, replays: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = (4, 4, 4, 4, 4, 3, 4, 4)
    network = build_network(arch)
    before = {key: value.clone() for key, value in network.state_dict().items()}
    found = steps(Losses(network), network, batches(*sizes))
    assert replays == [4]  # the first is compared; the batch of 3 is no replay
    after = {key: value.clone() for key, value in network.state_dict().items()}
    network.load_state_dict(before)
    monkeypatch.setattr(gradients, "can_record", lambda device: False)
    expected = steps(Losses(network), network, batches(*sizes))
    assert replays == [4]
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(after, network.state_dict())  # running statistics


def test_batches_of_changing_shape_are_never_recorded(replays: list[int]) -> None:
    network = build_network(ARCH)
    steps(Losses(network), network, batches(4, 4, 4, 3, 4, 4, 4, 2))
    assert replays == []


def test_pieces_are_not_recorded(replays: list[int]) -> None:
    network, sizes = build_network(ARCH), []

    class Large(Losses):
        def __call__(self, batch: Any, step: int) -> dict[str, Tensor]:
            sizes.append(len(batch[0]))
            if len(batch[0]) > 2:
                raise torch.cuda.OutOfMemoryError("CUDA out of memory")
            return super().__call__(batch, step)

    steps(Large(network), network, batches(*[4] * 8))
    assert replays == [] and sizes == [4] + [2] * 16


def wait(parts: dict[str, Tensor], step: int) -> dict[str, Tensor]:
    return {name: value * float(value.detach()) / float(value.detach()) for name, value in parts.items()}


def change(parts: dict[str, Tensor], step: int) -> dict[str, Tensor]:
    change.calls += 1
    return {name: value * change.calls for name, value in parts.items()}


change.calls = 0


@pytest.mark.parametrize(
    ("spoil", "note"), [(wait, "not permitted when stream is capturing"), (change, "its results differ")]
)
def test_what_cannot_be_recorded_is_noted_once(spoil: Callable, note: str, replays: list[int]) -> None:
    network = build_network(ARCH)

    class Spoiled(Losses):
        def __call__(self, batch: Any, step: int) -> dict[str, Tensor]:
            return spoil(super().__call__(batch, step), step)

    change.calls = 0
    *_, notes = steps(Spoiled(network), network, batches(*[4] * 9))
    assert len(notes) == 1 and notes[0].endswith(note) and "\n" not in notes[0]
    assert sum(replays) <= 1


def test_without_memory_nothing_is_recorded(replays: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    def record(run: Callable[[], Any], device: torch.device) -> Any:
        run()
        raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB\nmore")

    network = build_network(ARCH)
    expected = steps(Losses(network), network, batches(*[4] * 6))[:2]
    monkeypatch.setattr(step_graph, "record", record)
    *found, notes = steps(Losses(network), network, batches(*[4] * 6))
    assert len(notes) == 1 and notes[0].endswith("Tried to allocate 2.00 GiB")
    torch.testing.assert_close(tuple(found), expected)


def test_step_that_is_not_finite_is_not_compared(replays: list[int]) -> None:
    network, data = build_network(ARCH), batches(*[4] * 6)
    data[3][1].fill_(float("nan"))
    *_, notes = steps(Losses(network), network, data)
    assert replays == [2] and not notes


def test_objectives_that_change_from_step_to_step_are_not_recorded(new_run, replays: list[int], monkeypatch) -> None:
    run_training(new_run(steadiness=1.0))
    assert replays == []


@pytest.mark.parametrize("ahead", [False, True])
def test_training_gives_the_same_weights(ahead, new_run, uninterrupted, same, replays, monkeypatch, stop_at) -> None:
    monkeypatch.setattr(trainer, "_runs_ahead", lambda device: ahead)
    seen: list = []
    assert same(run_training(new_run(), seen.append), uninterrupted)
    assert replays == [5] and not any("recorded" in note for one in seen for note in one.notes)
    run = new_run("stopped")
    with pytest.raises(Cancelled):
        run_training(run, stop_at(6))
    assert same(run_training(run), uninterrupted)
    assert replays[:2] == [5, 3]
