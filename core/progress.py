"""How long work reports its progress, and how it is cancelled."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Progress:
    """Progress of long work. A callback receives it at least once a second on ordinary images.

    Attributes:
        done: units of work done, 0 <= done <= total: bands or stages when stylizing, steps when training, or iterations
        total: units of work in all
        losses: the objective's parts by name (training and optimization only)
        preview: (1, 3, H, W) in [0, 1]: when training only now and then, when optimizing the image so far,
            of a video the last frame
        seconds_left: estimate, None while unknown
        notes: lines that the user should read once, such as a photo that was skipped
    """

    done: int
    total: int
    losses: Mapping[str, float] = field(default_factory=dict)
    preview: torch.Tensor | None = None
    seconds_left: float | None = None
    notes: tuple[str, ...] = ()


#: Any exception it raises stops the work and reaches the caller: raise errors.Cancelled, or your own program's exception.
ProgressCallback = Callable[[Progress], None]


def part_of(progress: ProgressCallback | None, index: int, parts: int) -> ProgressCallback | None:
    """Return the callback for part ``index`` of ``parts`` equal parts, which reports its progress as part of the whole."""
    if progress is None or parts == 1:
        return progress
    return lambda one: progress(Progress(index * one.total + one.done, parts * one.total))
