"""Less flicker between the frames of a video, without optical flow.

Three things make a stylized video flicker, and each is dealt with where it comes from:

- Noise, which a style network takes for detail. Where frames differ by no more than noise, the grain of the earlier one is
  kept and only the light follows. Averaging frames over time flickers as little, but a network paints less where there is
  no grain, and that is another painting.
- The network's grid: strides make it a function of pixel coordinates modulo 4, so that whatever pans is painted anew in
  each frame. The pan of the whole frame is found by phase correlation (Kuglin and Hines 1975), the grid moves with it,
  and so does what is remembered.
- What is left: the painting is averaged over time, away from what moves.

Smoothing the statistics of the normalizations over time was measured as well and changes nothing: taken over whole frames,
they hardly flicker.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ..images.filters import gaussian_blur
from ..progress import ProgressCallback
from .brush import Painter

_SLOWEST = 0.2  # share of a new painting where nothing moves, at full amount
_LIGHT, _BLUR = 0.2, 4.0  # share of a new frame's light, and px of a Gaussian that light and grain are told apart by
_WINDOW = 3  # px around each pixel in which frames are compared
_MOVES, _SURELY = 1.4, 2.0  # times the noise: differences that are beginning to be, and surely are, motion
_QUANTIZATION = 0.5 / 255
_MEDIAN = 0.789  # of the mean of three squared normal variables
_GAIN = 0.9  # a pan must leave this share of the difference, or less
_OVERLAP = 0.25  # of two frames, at least


class Steady:
    """Paints the frames of one video, in order; remembers one frame and one painting, and nothing else.

    amount: from 0 to 1, how much of the past is kept; reach: px around motion in which the painting may change
    """

    def __init__(self, painter: Painter, amount: float, reach: int = 9) -> None:
        self.painter, self.amount, self.reach = painter, amount, reach
        self.moved = (0, 0)
        self.seen: Tensor | None = None  # the frame as it was painted
        self.painted: Tensor | None = None

    def __call__(self, frame: Tensor, index: int = 0, progress: ProgressCallback | None = None) -> Tensor:
        """(1, 3, H, W) float32 in [0, 1] -> the painting. index: the frame's, for the painter."""
        if self.seen is None:
            self.seen, self.painted = frame, self.painter(frame, index, self.moved, progress)
            return self.painted.clone()
        step = pan(self.seen, frame)
        self.moved = self.moved[0] + step[0], self.moved[1] + step[1]
        self.seen, self.painted = shifted(self.seen, step), shifted(self.painted, step)
        motion = _motion(frame, self.seen, shifted(torch.ones_like(frame[:, :1]), step))
        self.seen = self._followed(frame, motion)
        new = self.painter(self.seen, index, self.moved, progress)
        share = _widened(motion, self.reach).clamp_min(1 - self.amount * (1 - _SLOWEST))
        self.painted = self.painted.lerp(new, share)
        return self.painted.clone()

    def _followed(self, frame: Tensor, motion: Tensor) -> Tensor:
        """The frame where there is motion; elsewhere the grain that was seen, in the frame's light."""
        difference = frame - self.seen
        light = gaussian_blur(difference, _BLUR)
        grain = difference.sub_(light).mul_(motion.clamp_min(1 - self.amount))
        mixed = (self.seen + light.mul_(motion.clamp_min(_LIGHT))).add_(grain).clamp_(0, 1)
        return torch.where(motion < 1, mixed, frame)


def pan(before: Tensor, after: Tensor) -> tuple[int, int]:
    """By how many rows and columns the content of a frame (1, 3, H, W) has moved as a whole; (0, 0) for any other motion."""
    height, width = after.shape[-2:]
    window = _hann(height, after)[:, None] * _hann(width, after)
    planes = [(each.mean(dim=(0, 1)) - each.mean()) * window for each in (before, after)]
    if after.device.type != "cuda":
        planes = [plane.cpu() for plane in planes]  # where every build of torch has Fourier transforms
    first, second = (torch.fft.rfft2(plane) for plane in planes)
    cross = second * first.conj()
    peak = int(torch.fft.irfft2(cross / (cross.abs() + 1e-9), s=(height, width)).argmax())
    step = tuple(
        (at + side // 2) % side - side // 2 for at, side in zip(divmod(peak, width), (height, width), strict=True)
    )
    inside = shifted(torch.ones_like(after[:, :1]), step)
    if step == (0, 0) or inside.mean() < _OVERLAP:
        return 0, 0
    there, here = ((inside * (each - after).abs()).mean() for each in (shifted(before, step), before))
    return step if there < _GAIN * here else (0, 0)


def shifted(image: Tensor, step: tuple[int, int]) -> Tensor:
    """(N, C, H, W) moved by rows and columns; what comes into view is 0."""
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
    """From 0, where a frame differs from what was seen by no more than noise, to 1; (1, 1, H, W).

    inside: 1 where something was seen at all, else 0
    """
    squared = (frame - seen).square().mean(dim=1, keepdim=True) / 2  # both have the noise
    # One measure of it counts texture as well, and the other motion: the smaller of the two.
    noise = torch.minimum(_grain(frame), (squared[inside > 0].median() / _MEDIAN).sqrt())
    difference = _averaged(squared, _WINDOW).sqrt() / (noise + _QUANTIZATION)
    motion = ((difference - _MOVES) / (_SURELY - _MOVES)).clamp(0, 1)
    return torch.where(inside > 0, motion, torch.ones_like(motion))


def _grain(frame: Tensor) -> Tensor:
    """Standard deviation of the noise in one frame, or more (Immerkaer 1996, with a median for the mean)."""
    response = frame[..., ::2]  # half of the columns are enough for a median
    for axis in (2, 3):
        side = max(response.shape[axis] - 2, 0)
        first, middle, last = (response.narrow(axis, start, side) for start in (0, min(1, side), min(2, side)))
        response = first + last - 2 * middle
    if not response.numel():
        return frame.new_zeros(())
    return response.abs().median() / (6 * 0.6745)


def _widened(motion: Tensor, reach: int) -> Tensor:
    """Motion, and ``reach`` px around it, fading out."""
    side = 2 * reach + 1
    wide = F.max_pool2d(F.max_pool2d(motion, (side, 1), 1, (reach, 0)), (1, side), 1, (0, reach))
    return _averaged(wide, reach // 2)


def _averaged(plane: Tensor, radius: int) -> Tensor:
    """Mean of the pixels within ``radius`` rows and columns, of those that there are."""
    for side, edge in (((2 * radius + 1, 1), (radius, 0)), ((1, 2 * radius + 1), (0, radius))):
        plane = F.avg_pool2d(plane, side, 1, edge, count_include_pad=False)
    return plane


def _hann(side: int, like: Tensor) -> Tensor:
    return torch.hann_window(side + 2, periodic=False, device=like.device)[1:-1]
