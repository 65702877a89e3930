"""What is done while a GPU computes, with stand-ins for torch's events: frames flow, and results are checked later."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from perceptual_style.core.errors import NetworkError
from perceptual_style.core.models import transfers
from perceptual_style.core.models.finite import check_finite, checked_later
from perceptual_style.core.models.transfers import flow

CUDA = torch.device("cuda")


@pytest.fixture
def waits(monkeypatch):
    """Numbers of the events that were waited for, in the order of their making."""
    made, waited = iter(range(1000)), []

    class Event:
        def __init__(self):
            self.number = next(made)

        def record(self, stream):
            pass

        def synchronize(self):
            waited.append(self.number)

    monkeypatch.setattr(torch.cuda, "Event", Event)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: None)
    return waited


def on_gpu(*values: float) -> SimpleNamespace:
    """Return a stand-in for a result on a GPU."""
    return SimpleNamespace(device=CUDA, aminmax=torch.tensor(values).aminmax)


def test_results_are_checked_when_the_next_one_is_there(waits):
    with checked_later():
        check_finite(on_gpu(0.0, 1.0), "first")
        assert waits == []
        check_finite(on_gpu(0.5), "second")
        assert waits == [0]
    assert waits == [0, 1]


@pytest.mark.parametrize("position", [0, 1, 2])
def test_every_damaged_result_is_reported(position, waits):
    with pytest.raises(NetworkError, match=f"frame {position}"), checked_later():
        for i in range(3):
            check_finite(on_gpu(float("nan") if i == position else 0.0), f"frame {i}")


def test_blocks_join_the_outer_one(waits):
    with checked_later():
        with checked_later():
            check_finite(on_gpu(0.0), "inner")
        assert waits == []
    assert waits == [0]


def test_results_are_checked_at_once_outside_of_a_block_and_on_a_cpu(waits):
    with pytest.raises(NetworkError, match="alone"):
        check_finite(on_gpu(float("inf")), "alone")
    with checked_later(), pytest.raises(NetworkError, match="on the CPU"):
        check_finite(torch.tensor([float("nan")]), "on the CPU")


def test_next_frame_is_computed_before_the_last_result_is_awaited(monkeypatch):
    log: list[str] = []

    class Transfers:
        def __init__(self, device):
            pass

        def upload(self, image):
            return image

        def download(self, image):
            return lambda: log.append(f"await {image}") or image

    monkeypatch.setattr(transfers, "Transfers", Transfers)
    results = list(flow([1, 2, 3], lambda image: log.append(f"compute {image}") or image, CUDA))
    assert results == [1, 2, 3]
    assert log == ["compute 1", "compute 2", "await 1", "compute 3", "await 2", "await 3"]


def test_frames_on_a_cpu_are_computed_one_by_one():
    seen = []
    images = [torch.full((2, 2), float(i)) for i in range(3)]
    for result in flow(images, lambda image: seen.append(image) or 2 * image, torch.device("cpu")):
        assert torch.equal(result, 2 * seen[-1])
    assert len(seen) == 3
