"""Recording of CUDA graphs, with torch's part replaced: on which stream, one at a time, and what remains after a failure."""

from __future__ import annotations

from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from perceptual_style.core.engine import graph


class Recording:
    """Takes the place of ``torch.cuda.graph``, which keeps its stream in use if the recording fails."""

    def __init__(self, recorded: Any, *, stream: str, capture_error_mode: str) -> None:
        assert capture_error_mode == "thread_local" and graph._one_at_a_time.locked()
        self.stream = stream

    def __enter__(self) -> None:
        self.before = torch.cuda.current_stream()
        torch.cuda.set_stream(self.stream)

    def __exit__(self, kind: Any, *_: Any) -> None:
        if kind is None:
            torch.cuda.set_stream(self.before)


@pytest.fixture
def streams(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """The stream in use."""
    state = SimpleNamespace(current="usual")
    monkeypatch.setattr(torch.cuda, "CUDAGraph", object)
    monkeypatch.setattr(torch.cuda, "device", nullcontext)
    monkeypatch.setattr(torch.cuda, "Stream", lambda device: f"stream of {device}")
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device=None: state.current)
    monkeypatch.setattr(torch.cuda, "set_stream", lambda stream: setattr(state, "current", stream))
    monkeypatch.setattr(torch.cuda, "graph", Recording)
    return state


def test_recording_uses_a_stream_of_its_device(streams: SimpleNamespace) -> None:
    for name in ("cuda:0", "cuda:1"):
        with graph.recording(torch.device(name)):
            assert streams.current == f"stream of {name}"
        assert streams.current == "usual" and not graph._one_at_a_time.locked()


def test_failed_recording_gives_back_the_stream(streams: SimpleNamespace) -> None:
    with pytest.raises(RuntimeError, match="not permitted"), graph.recording(torch.device("cuda:0")):
        raise RuntimeError("operation not permitted when stream is capturing")
    assert streams.current == "usual" and not graph._one_at_a_time.locked()
