"""Combine two styles: blended everywhere, or each in its own region. The result is used like any style."""

from __future__ import annotations

from dataclasses import replace

import torch.nn.functional as F
from torch import Tensor

from ..errors import InputError
from ..images.masks import check_feather, fit_mask, softened
from ..images.mixing import mix
from ..images.tensors import check_image
from ..network.arch import ArchSpec
from ..network.interpolation import interpolate
from ..network.transform_net import TransformNet
from ..progress import ProgressCallback, part_of
from .brush import Canvas, Painter
from .style_model import StyleModel
from .stylizer import BaseStyle

_RELATED = 0.9  # least cosine similarity of the weights of two convolutions; unrelated ones have about 0


def blend_styles(first: BaseStyle, second: BaseStyle, amount: float) -> BaseStyle:
    """Return a style between two.

    The weights of related networks are blended, if one was trained from the other or both from a third. The result is
    one network with one kind of stroke, as fast as either. For other networks, the paintings are blended. Between
    unrelated networks, blended weights give pale and blotchy pictures, even if both started with the same training
    steps.

    Args:
        first: The style at amount 0.
        second: The style at amount 1.
        amount: Share of the second style, from 0 to 1.

    Raises:
        InputError: If the amount is not from 0 to 1.
    """
    if not 0 <= amount <= 1:
        raise InputError(f"amount is {amount}; expected a number from 0 (the first style) to 1 (the second)")
    if amount in (0, 1):
        return second if amount else first
    if isinstance(first, StyleModel) and isinstance(second, StyleModel) and related(first, second):
        facts = {key: value for key, value in first.facts.items() if second.facts.get(key) == value}
        network = interpolate(first.network, second.network, amount)
        return StyleModel(network, f"{first.name} + {second.name}", facts, first.pixels)
    return BlendedStyle(first, second, amount)


def related(first: StyleModel, second: StyleModel) -> bool:
    """Return whether the weights of two networks can be blended."""
    if first.spec != second.spec or first.pixels != second.pixels:
        return False
    ours, theirs = first.network.state_dict(), second.network.state_dict()
    return all(
        F.cosine_similarity(ours[key].flatten().float(), theirs[key].flatten().to(ours[key]).float(), dim=0) >= _RELATED
        for key in ours
        if ours[key].ndim == 4
    )


def style_regions(
    first: BaseStyle, first_mask: Tensor, second: BaseStyle, second_mask: Tensor | None = None, feather: float = 0.0
) -> RegionStyle:
    """Return a style that paints with each of two styles where its mask is.

    Where masks overlap, both styles share the pixel. Where neither mask is, photos stay unchanged.

    Args:
        first: The style of the first region.
        first_mask: (N or 1, 1, h, w) in [0, 1] of any size, for N photos.
        second: The style of the second region.
        second_mask: The same for the second style. If None, the second style covers the rest.
        feather: Width in px over which regions fade into one another, half on each side.

    Raises:
        ImageError: If a mask is wrong.
        InputError: If the feather is wrong.
    """
    check_feather(feather)
    for name, mask in (("first mask", first_mask), ("second mask", second_mask)):
        if mask is not None:
            check_image(mask, channels=1, name=name)
    return RegionStyle(first, second, first_mask, second_mask, feather)


class _TwoStyles(BaseStyle):
    def __init__(self, first: BaseStyle, second: BaseStyle) -> None:
        self.first, self.second = first, second
        self.name = f"{first.name} + {second.name}"

    @property
    def spec(self) -> ArchSpec:
        """Architecture of the first network."""
        return self.first.spec

    @property
    def networks(self) -> tuple[TransformNet, ...]:
        """The networks of both styles, each once."""
        both = self.first.networks + self.second.networks
        return tuple({id(network): network for network in both}.values())

    @property
    def training_side(self) -> int:
        """Short side in px of the photos that the first network was trained with."""
        return self.first.training_side

    def painting_bytes(self, canvas: Canvas) -> int:
        """Return the memory for the style that needs more. The second one paints while the first painting is kept."""
        return max(self.first.painting_bytes(canvas), self.second.painting_bytes(_beside_another(canvas)))

    def _painters(self, canvas: Canvas) -> tuple[Painter, Painter]:
        return self.first.painter(canvas), self.second.painter(_beside_another(canvas))


def _beside_another(canvas: Canvas) -> Canvas:
    """Return the canvas for painting while another painting is kept."""
    return replace(canvas, beside=canvas.beside + canvas.photo_bytes)


class BlendedStyle(_TwoStyles):
    """Two styles whose paintings are blended.

    Attributes:
        amount: Share of the second style, above 0 and below 1.
    """

    def __init__(self, first: BaseStyle, second: BaseStyle, amount: float) -> None:
        super().__init__(first, second)
        self.amount = amount

    def painter(self, canvas: Canvas) -> Painter:
        """Return what blends both paintings."""
        return _BlendPainter(*self._painters(canvas), self.amount, canvas.wrap)


class _BlendPainter:
    def __init__(self, first: Painter, second: Painter, amount: float, wrap: str) -> None:
        self.first, self.second, self.amount, self.wrap = first, second, amount, wrap

    def __call__(
        self, photo: Tensor, index: int = 0, moved: tuple[int, int] = (0, 0), progress: ProgressCallback | None = None
    ) -> Tensor:
        one = self.first(photo, index, moved, part_of(progress, 0, 2))
        return mix(one, self.second(photo, index, moved, part_of(progress, 1, 2)), self.amount, self.wrap)

    def coverage(self, index: int) -> Tensor | None:
        one, other = self.first.coverage(index), self.second.coverage(index)
        return None if one is None or other is None else one | other


class RegionStyle(_TwoStyles):
    """Two styles, each in its region, see `style_regions`."""

    def __init__(
        self, first: BaseStyle, second: BaseStyle, first_mask: Tensor, second_mask: Tensor | None, feather: float
    ) -> None:
        super().__init__(first, second)
        self.first_mask, self.second_mask, self.feather = first_mask, second_mask, feather

    def painter(self, canvas: Canvas) -> Painter:
        """Return what paints each style in its region."""
        return _RegionPainter(self, canvas)


class _RegionPainter:
    def __init__(self, style: RegionStyle, canvas: Canvas) -> None:
        self.style, self.canvas = style, canvas
        self.first, self.second = style._painters(canvas)
        self._known: tuple[int, tuple[Tensor, Tensor]] | None = None

    def __call__(
        self, photo: Tensor, index: int = 0, moved: tuple[int, int] = (0, 0), progress: ProgressCallback | None = None
    ) -> Tensor:
        one, other = self._shares(index)
        both = one + other
        if not other.any():
            painting = self.first(photo, index, moved, progress)
        elif not one.any():
            painting = self.second(photo, index, moved, progress)
        else:
            painting = self.first(photo, index, moved, part_of(progress, 0, 2))
            share = other / both.clamp_min(1e-6)
            painting = painting.lerp(self.second(photo, index, moved, part_of(progress, 1, 2)), share)
        return photo.lerp(painting, both)

    def coverage(self, index: int) -> Tensor:
        parts = []
        for share, painter in zip(self._shares(index), (self.first, self.second), strict=True):
            inner = painter.coverage(index)
            parts.append(share > 0 if inner is None else (share > 0) & inner)
        return parts[0] | parts[1]

    def _shares(self, index: int) -> tuple[Tensor, Tensor]:
        """Return the share of each style in each pixel, (1, 1, H, W) each; both add up to at most 1."""
        masks = [mask for mask in (self.style.first_mask, self.style.second_mask) if mask is not None]
        index = min(index, max(map(len, masks)) - 1)
        if self._known is None or self._known[0] != index:
            one, *rest = (self._region(mask, index) for mask in masks)
            other = rest[0] if rest else 1 - one
            both = (one + other).clamp_min(1)
            self._known = index, (one / both, other / both)
        return self._known[1]

    def _region(self, mask: Tensor, index: int) -> Tensor:
        mask = mask[min(index, len(mask) - 1), None].to(self.canvas.device)
        return softened(fit_mask(mask, self.canvas.height, self.canvas.width), self.style.feather, self.canvas.wrap)
