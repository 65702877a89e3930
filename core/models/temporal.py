"""Reduce flicker between the frames of a video, without optical flow.

A stylized video flickers for three reasons, and each is handled at its source:

- Noise. A style network takes it for detail. Where frames differ by no more than noise, the earlier frame's grain is
  kept and only the light follows. Averaging frames over time flickers as little, but a network paints less where there
  is no grain, so the painting changes.
- The network's grid. Because of its strides, the network is a function of pixel coordinates modulo 4, so content that
  pans is painted differently in each frame. The pan of the whole frame is found by phase correlation (Kuglin and Hines
  1975). The grid moves with it, and so does everything that is remembered.
- The rest. The painting is averaged over time, except near motion.

Smoothing the normalizations' statistics over time was measured, too, and changes nothing: statistics of whole frames
hardly flicker.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ..images.filters import gaussian_blur
from ..progress import ProgressCallback
from .brush import Painter

_SLOWEST = 0.2  # share of the new painting where nothing moves, at full amount
_LIGHT, _BLUR = 0.2, 4.0  # share of the new frame's light; px of the Gaussian that separates light from grain
_WINDOW = 3  # px around each pixel within which frames are compared
_MOVES, _SURELY = 1.4, 2.0  # times the noise: differences from which motion is possible, and certain
_QUANTIZATION = 0.5 / 255
_MEDIAN = 0.789  # median of the mean of three squared normal variables
_GAIN = 0.9  # a pan must reduce the difference to this share or less
_OVERLAP = 0.25  # least share of a frame that the panned one must cover


class Steady:
    """Paints the frames of one video, in order. It remembers one frame and one painting, nothing else.

    Args:
        painter: Paints single frames.
        amount: How much of the past is kept, from 0 to 1.
        reach: px around motion within which the painting may change.
    """

    def __init__(self, painter: Painter, amount: float, reach: int = 9) -> None:
        self.painter, self.amount, self.reach = painter, amount, reach
        self.moved = (0, 0)
        self.seen: Tensor | None = None  # the frame as it was painted
        self.painted: Tensor | None = None

    def __call__(self, frame: Tensor, index: int = 0, progress: ProgressCallback | None = None) -> Tensor:
        """Return the painting of a frame (1, 3, H, W) float32 in [0, 1]; other arguments as the painter's."""
        if self.seen is None or self.painted is None:
            self.seen, self.painted = frame, self.painter(frame, index, self.moved, progress)
            return self.painted.clone()
        step = pan(self.seen, frame)
        self.moved = self.moved[0] + step[0], self.moved[1] + step[1]
        self.seen, self.painted = seen, painted = shifted(self.seen, step), shifted(self.painted, step)
        motion = _motion(frame, seen, shifted(torch.ones_like(frame[:, :1]), step))
        self.seen = seen = self._followed(frame, seen, motion)
        new = self.painter(seen, index, self.moved, progress)
        share = _widened(motion, self.reach).clamp_min(1 - self.amount * (1 - _SLOWEST))
        self.painted = painted = painted.lerp(new, share)
        return painted.clone()

    def _followed(self, frame: Tensor, seen: Tensor, motion: Tensor) -> Tensor:
        """Return the frame where there is motion, and elsewhere the grain that was seen, in the frame's light."""
        difference = frame - seen
        light = gaussian_blur(difference, _BLUR)
        grain = difference.sub_(light).mul_(motion.clamp_min(1 - self.amount))
        mixed = (seen + light.mul_(motion.clamp_min(_LIGHT))).add_(grain).clamp_(0, 1)
        return torch.where(motion < 1, mixed, frame)


def pan(before: Tensor, after: Tensor) -> tuple[int, int]:
    """Return the rows and columns by which the content of a frame (1, 3, H, W) has moved as a whole.

    For any other motion, return (0, 0).
    """
    height, width = after.shape[-2:]
    window = _hann(height, after)[:, None] * _hann(width, after)
    planes = [(each.mean(dim=(0, 1)) - each.mean()) * window for each in (before, after)]
    if after.device.type != "cuda":
        planes = [plane.cpu() for plane in planes]  # every build of torch has Fourier transforms there
    first, second = (torch.fft.rfft2(plane) for plane in planes)
    cross = second * first.conj()
    peak = int(torch.fft.irfft2(cross / (cross.abs() + 1e-9), s=(height, width)).argmax())
    row, column = divmod(peak, width)
    step = _signed(row, height), _signed(column, width)
    inside = shifted(torch.ones_like(after[:, :1]), step)
    if step == (0, 0) or inside.mean() < _OVERLAP:
        return 0, 0
    there, here = ((inside * (each - after).abs()).mean() for each in (shifted(before, step), before))
    return step if there < _GAIN * here else (0, 0)


def _signed(shift: int, side: int) -> int:
    """Return a cyclic shift as one from -side / 2 to side / 2."""
    return (shift + side // 2) % side - side // 2


def shifted(image: Tensor, step: tuple[int, int]) -> Tensor:
    """Return (N, C, H, W) moved by rows and columns, with 0 in the area that comes into view."""
    if step == (0, 0):
        return image
    height, width = image.shape[-2:]
    down, right = step
    result = torch.zeros_like(image)
    result[..., max(down, 0) : height + min(down, 0), max(right, 0) : width + min(right, 0)] = image[
        ..., max(-down, 0) : height - max(down, 0), max(-right, 0) : width - max(right, 0)
    ]
    return result


def _motion(frame: Tensor, seen: Tensor, inside: Tensor) -> Tensor:
    """Return the motion, (1, 1, H, W) from 0, where a frame differs from the last by no more than noise, to 1.

    inside: 1 where something was seen at all, else 0
    """
    squared = (frame - seen).square().mean(dim=1, keepdim=True) / 2  # both frames are noisy
    # One estimate of the noise includes texture, and the other includes motion: take the smaller one.
    noise = torch.minimum(_grain(frame), (squared[inside > 0].median() / _MEDIAN).sqrt())
    difference = _averaged(squared, _WINDOW).sqrt() / (noise + _QUANTIZATION)
    motion = ((difference - _MOVES) / (_SURELY - _MOVES)).clamp(0, 1)
    return torch.where(inside > 0, motion, torch.ones_like(motion))


def _grain(frame: Tensor) -> Tensor:
    """Return an upper estimate of the noise's standard deviation (Immerkaer 1996, with a median for the mean)."""
    response = frame[..., ::2]  # half of the columns are enough for a median
    for axis in (2, 3):
        side = max(response.shape[axis] - 2, 0)
        first, middle, last = (response.narrow(axis, start, side) for start in (0, min(1, side), min(2, side)))
        response = first + last - 2 * middle
    if not response.numel():
        return frame.new_zeros(())
    return response.abs().median() / (6 * 0.6745)


def _widened(motion: Tensor, reach: int) -> Tensor:
    """Return the motion widened by ``reach`` px, fading out."""
    side = 2 * reach + 1
    wide = F.max_pool2d(F.max_pool2d(motion, (side, 1), 1, (reach, 0)), (1, side), 1, (0, reach))
    return _averaged(wide, reach // 2)


def _averaged(plane: Tensor, radius: int) -> Tensor:
    """Return the mean of the pixels within ``radius`` rows and columns, without any outside of the image."""
    for side, edge in (((2 * radius + 1, 1), (radius, 0)), ((1, 2 * radius + 1), (0, radius))):
        plane = F.avg_pool2d(plane, side, 1, edge, count_include_pad=False)
    return plane


def _hann(side: int, like: Tensor) -> Tensor:
    return torch.hann_window(side + 2, periodic=False, dtype=torch.float32, device=like.device)[1:-1]
