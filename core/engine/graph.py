"""A run of a network as a CUDA graph: recorded once, then started with a single launch."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


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
            self.graph = torch.cuda.CUDAGraph()
            # Other threads may go on to use the device while this one records.
            with torch.cuda.device(image.device), torch.cuda.graph(self.graph, capture_error_mode="thread_local"):
                self.result = run(self.image)

    def __call__(self, image: Tensor) -> Tensor:
        """Return the result for another image. It is a copy, which the next call leaves alone."""
        with torch.cuda.device(image.device):
            self.image.copy_(image, non_blocking=True)
            self.graph.replay()
            return self.result.clone()
