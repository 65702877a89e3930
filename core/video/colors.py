"""Conversion between decoded frames and RGB, by the color matrix, the range and the bit depth of a video.

Tags of primaries and transfer function are copied, and pixel values are not converted by them: a style paints HDR frames
as they are coded.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from .failures import load_av

if TYPE_CHECKING:
    import av

# numbers of ITU-T H.273 for matrices, and FFmpeg's for ranges
_BT709, _UNSPECIFIED, _SMPTE170M = 1, 2, 6
_RGB = 0
_LIMITED, _FULL = 1, 2
_BICUBIC, _FULL_CHROMA, _ACCURATE = 0x4, 0x2000, 0x40000  # flags of FFmpeg's scaler; old PyAV has no names for two
_ANY_MATRIX = 5  # for RGB, which has none. Old PyAV sets no matrix if source and target have the same one.
_HOW = _BICUBIC | _FULL_CHROMA | _ACCURATE
_HD_HEIGHT = 576  # px; larger frames without a tag count as BT.709, as in players


@dataclass(frozen=True)
class Colors:
    """How a video codes its colors.

    Attributes:
        matrix: Tag of the matrix between RGB and YUV.
        range: Tag of the range of values, 0 if there is none.
        primaries: Tag of the primaries.
        transfer: Tag of the transfer function.
        bits: Bits per channel.
    """

    matrix: int
    range: int
    primaries: int
    transfer: int
    bits: int

    @classmethod
    def of(cls, frame: av.VideoFrame, stream: av.VideoStream) -> Colors:
        """Return the colors of a decoded frame of a stream."""
        context = stream.codec_context
        matrix, value_range = int(frame.colorspace), int(frame.color_range)
        if frame.format.name.startswith("yuvj"):
            value_range = _FULL
        if frame.format.is_rgb or frame.format.has_palette or matrix == _RGB:  # the result is YUV
            matrix, value_range = _BT709, _LIMITED
        bits = max((component.bits for component in frame.format.components), default=8)
        return cls(matrix, value_range, int(context.color_primaries), int(context.color_trc), bits)

    def coefficients(self, height: int) -> int:
        """Return the matrix to compute with. For a video without a tag it depends on the height in px."""
        if self.matrix != _UNSPECIFIED:
            return self.matrix
        return _BT709 if height > _HD_HEIGHT else _SMPTE170M

    @property
    def computed_range(self) -> int:
        """The range to compute with."""
        return self.range or _LIMITED


class Converter:
    """Converts frames of one size. It keeps FFmpeg's tables from frame to frame.

    Args:
        colors: The colors of the coded frames.
        height: The height of the frames as they are shown, in px.
    """

    def __init__(self, colors: Colors, height: int) -> None:
        self._av = av = load_av("cannot convert colors")
        self.colors, self.matrix = colors, colors.coefficients(height)
        self.deep = colors.bits > 8
        self._from, self._to = av.video.reformatter.VideoReformatter(), av.video.reformatter.VideoReformatter()

    def to_rgb(self, frame: av.VideoFrame, width: int, height: int) -> np.ndarray[Any, Any]:
        """Return a decoded frame as (height, width, 3) uint8, or uint16 for more than 8 bits."""
        rgb = self._from.reformat(
            frame, width=width, height=height, format="rgb48le" if self.deep else "rgb24", interpolation=_HOW,
            src_colorspace=self.matrix, dst_colorspace=_ANY_MATRIX,
            src_color_range=self._range_of(frame), dst_color_range=_FULL,
        )  # fmt: skip
        return rgb.to_ndarray()

    def to_frame(self, pixels: Tensor, pix_fmt: str) -> av.VideoFrame:
        """Return (1, 3, H, W) in [0, 1], on any device, as a frame to encode."""
        quantized = pixels[0].float().clamp(0, 1).mul(65535 if self.deep else 255).round()
        array = quantized.to(torch.int32 if self.deep else torch.uint8).movedim(0, -1).cpu().numpy()
        array = np.ascontiguousarray(array, np.uint16 if self.deep else np.uint8)
        frame = self._av.VideoFrame.from_ndarray(array, format="rgb48le" if self.deep else "rgb24")
        return self._to.reformat(
            frame, format=pix_fmt, interpolation=_HOW, src_colorspace=_ANY_MATRIX, dst_colorspace=self.matrix,
            src_color_range=_FULL, dst_color_range=self.colors.computed_range,
        )  # fmt: skip

    def _range_of(self, frame: av.VideoFrame) -> int:
        if frame.format.is_rgb or frame.format.has_palette or frame.format.name.startswith("yuvj"):
            return _FULL
        return self.colors.computed_range


def to_tensor(array: np.ndarray[Any, Any]) -> Tensor:
    """Convert (H, W, 3) uint8 or uint16 to (1, 3, H, W) float32 in [0, 1]."""
    largest = np.iinfo(array.dtype).max
    numbers = array if array.dtype == np.uint8 else array.astype(np.float32)
    return torch.from_numpy(np.ascontiguousarray(numbers)).movedim(-1, 0)[None].float().div_(largest).contiguous()
