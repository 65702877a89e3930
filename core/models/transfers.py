"""Images to a GPU and back while it computes: through pinned memory, on streams of their own.

Torch reuses pinned memory only when the copies from and to it have ended.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import torch
from torch import Tensor


class Transfers:
    """Copies to and from a device. Only CUDA devices copy while they compute; on others nothing is copied ahead.

    Args:
        device: the device
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        if device.type == "cuda":
            self._up, self._down = torch.cuda.Stream(device), torch.cuda.Stream(device)

    def upload(self, image: Tensor) -> Tensor:
        """Return an image on the device. The host does not wait for earlier work of the device."""
        if self.device.type != "cuda" or image.device.type != "cpu":
            return image.to(self.device)
        computing = torch.cuda.current_stream(self.device)
        with torch.cuda.stream(self._up):
            result = image.pin_memory().to(self.device, non_blocking=True)
        computing.wait_stream(self._up)
        result.record_stream(computing)
        return result

    def download(self, image: Tensor) -> Callable[[], Tensor]:
        """Begin to copy an image to the host, and return a function that waits for the copy and returns it.

        Images of devices other than CUDA's are returned as they are.
        """
        if image.device.type != "cuda":
            return lambda: image
        self._down.wait_stream(torch.cuda.current_stream(self.device))
        with torch.cuda.stream(self._down):
            copy = image.to("cpu", non_blocking=True)  # in pinned memory
            ended = torch.cuda.Event()
            ended.record()
        image.record_stream(self._down)

        def arrived() -> Tensor:
            ended.synchronize()
            return copy

        return arrived


def flow(
    images: Iterable[Tensor], compute: Callable[[Tensor], Tensor], device: torch.device
) -> Iterator[Tensor]:  # fmt: skip
    """Yield what a function makes of images. A CUDA device computes the next one while the caller uses the last result.

    Args:
        images: images on any device
        compute: maps an image on the device to one on the device
        device: the device

    Yields:
        The results in order, of CUDA devices on the CPU, in pinned memory.
    """
    transfers = Transfers(device)
    last: Callable[[], Tensor] | None = None
    for image in images:
        following = transfers.download(compute(transfers.upload(image)))
        if device.type != "cuda":  # has nothing to overlap
            yield following()
            continue
        if last is not None:
            yield last()
        last = following
    if last is not None:
        yield last()
