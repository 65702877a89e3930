"""The one way in which long work reports and is cancelled."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Progress:
    """What a callback receives, at least once a second of work on ordinary images.

    done, total: units of work, 0 <= done <= total (bands or stages when stylizing, steps when training, iterations)
    losses: the objective's parts by name (training and optimization only)
    preview: (1, 3, H, W) in [0, 1]: when training only now and then, when optimizing the image so far
    seconds_left: estimate, None while unknown
    notes: what the user should read once, such as a photo that was skipped
    """

    done: int
    total: int
    losses: Mapping[str, float] = field(default_factory=dict)
    preview: torch.Tensor | None = None
    seconds_left: float | None = None
    notes: tuple[str, ...] = ()


#: Whatever it raises stops the work and reaches the caller: raise errors.Cancelled, or the exception of your own program.
ProgressCallback = Callable[[Progress], None]


def part_of(progress: ProgressCallback | None, index: int, parts: int) -> ProgressCallback | None:
    """Progress of one part as part of all."""
    if progress is None or parts == 1:
        return progress
    return lambda one: progress(Progress(index * one.total + one.done, parts * one.total))
