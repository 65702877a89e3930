"""A run of a network as a CUDA graph: recorded once, then started with a single launch."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

_one_at_a_time = threading.Lock()  # torch allows a single recording in a process


@contextmanager
def recording(device: torch.device) -> Iterator[torch.cuda.CUDAGraph]:
    """Record what this thread gives to a CUDA device within the block, without doing it.

    Args:
        device: the device.

    Yields:
        The graph, which can be replayed after the block.

    Raises:
        RuntimeError: The work cannot be recorded, or memory ran out.
    """
    graph = torch.cuda.CUDAGraph()
    with _one_at_a_time, torch.cuda.device(device):
        before = torch.cuda.current_stream(device)
        # By default torch records on a stream of the device that was the first to record, and misses the work of others.
        stream = torch.cuda.Stream(device)
        try:
            # Other threads may go on to use the device while this one records.
            with torch.cuda.graph(graph, stream=stream, capture_error_mode="thread_local"):
                yield graph
        finally:
            torch.cuda.set_stream(before)  # torch goes on with its own stream after a failure


class Graph:
    """A recorded run over images of one size. Its memory is held as long as it exists.

    The run must have been done once before, outside of the graph, so that kernels are compiled and algorithms chosen.

    Args:
        run: maps an image to a result, without waiting for the device
        image: the first image
    """

    def __init__(self, run: Callable[[Tensor], Tensor], image: Tensor) -> None:
        with torch.inference_mode(False), torch.no_grad():  # later images may come from outside of inference mode
            self.image = image.clone()
            with recording(image.device) as self.graph:
                self.result = run(self.image)

    def __call__(self, image: Tensor) -> Tensor:
        """Return the result for another image. It is a copy, which the next call leaves alone."""
        with torch.cuda.device(image.device):
            self.image.copy_(image, non_blocking=True)
            self.graph.replay()
            return self.result.clone()
