"""The training loop, for styles and upscalers alike: batches in, losses by name, a network out.

What an interruption must not change is kept in one checkpoint beside the result, NAME.training.safetensors: network,
optimizer and step. Batches follow from seed and step (data.py), so nothing else has a state, and a resumed training ends
with the same weights, bit for bit on the CPU. Several processes can share the work, see processes.py.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Set
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..checkpoints.own_format import save_network
from ..errors import CheckpointError, InputError, TrainingError
from ..files import remove_leftovers
from ..network.stages import ConvStage
from ..network.transform_net import TransformNet
from ..progress import Progress, ProgressCallback
from . import processes
from . import state as training_state
from .gradients import Gradients, Losses
from .optimizers import build_optimizer
from .state import CHECKPOINT_SUFFIX, save_checkpoint
from .style_recipes import Schedule

_PATIENCE = 20  # steps in a row without a finite gradient after which a training stops


@dataclass
class Training:
    """One run, as the loop sees it. style_training.py and upscale_training.py make them.

    out: the file to write; identity: what must be equal for a checkpoint to be this run's
    schedule: steps and learning rate; network: on its device, in training mode; data: PhotoFolder or the like
    losses: from a batch and its step to the parts of the objective; sums: the parts that are sums over its photos
    start: called before step 0, not when a run is resumed
    report: what the user is shown after a step, from the weights that would be the result: fields of Progress
    facts: what the finished file says of itself; half: write it as float16
    average: decay of an exponential moving average of the weights, which becomes the result (0: the last weights)
    result: what is written, from the trained network; None: that network itself
    """

    out: Path
    identity: Mapping[str, Any]
    schedule: Schedule
    network: TransformNet
    data: Any
    losses: Losses
    sums: Set[str] = frozenset()
    start: Callable[[], None] | None = None
    report: Callable[[int, Mapping[str, Tensor]], dict[str, Any]] | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)
    half: bool = False
    average: float = 0.0
    checkpoint_seconds: float = 30.0
    result: Callable[[TransformNet], TransformNet] | None = None


def checkpoint_path(out: str | Path) -> Path:
    """Where the checkpoint of an unfinished training of ``out`` is."""
    out = Path(out)
    return out.with_name(out.name.removesuffix(".safetensors") + CHECKPOINT_SUFFIX)


def prepare(out: Path, identity: Mapping[str, Any]) -> bool:
    """Make room for the result; False when it is there already. Raises InputError when ``out`` cannot be it."""
    if training_state.is_finished(out, identity):
        return False
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CheckpointError(f"cannot write {out}: {error.strerror or error}") from None
    for path in (out, checkpoint_path(out)):
        remove_leftovers(path)
    return True


def check_name(out: str | Path) -> Path:
    """The path of a result. Raises InputError when it does not end in .safetensors."""
    out = Path(out)
    if out.suffix != ".safetensors":
        raise InputError(
            f"the result is written as safetensors; name it {out.with_suffix('.safetensors').name}, not {out.name}"
        )
    return out


def train(run: Training, progress: ProgressCallback | None = None) -> Path:
    """Carry out a run, or go on with one that was interrupted, and write ``run.out``. Returns its path.

    Whatever the progress callback raises stops the training after a checkpoint was written. Raises CheckpointError for
    a full disk, TrainingError when the objective stays non-finite, memory does not suffice for a single photo, the
    checkpoint is another run's or another process of this run has ended.
    """
    network, schedule, checkpoint = run.network, run.schedule, checkpoint_path(run.out)
    has_statistics = next(network.buffers(), None) is not None  # which the forward pass changes
    _rest_idle_biases(network)
    optimizer = build_optimizer(schedule.optimizer, network.parameters(), schedule.learning_rate)
    device = next(network.parameters()).device
    gradients = Gradients(network, run.losses, run.data.batch_size, run.sums)
    step, history, average = training_state.resume(checkpoint, run.identity, network, optimizer)
    processes.check_same(f"{run.identity} {step}", device)
    if not step and run.start is not None:
        run.start()
    processes.take_from_first([*network.parameters(), *network.buffers()])
    if run.average and average is None:
        average = {key: value.detach().clone() for key, value in network.state_dict().items()}

    def save() -> None:
        if processes.is_first():
            save_checkpoint(checkpoint, run.identity, network, optimizer, step, history, average)

    clock, started, first = time.monotonic(), time.monotonic(), step
    noted: set[Path] = set()
    failures, whole = 0, True  # whole: network, optimizer, step and history belong together
    try:
        for batch in run.data.batches(step, schedule.steps, processes.share()):
            for group in optimizer.param_groups:
                group["lr"] = learning_rate(schedule, step)
            whole = not has_statistics
            parts, notes = gradients(batch, step)
            loss = sum(parts.values())
            norm = torch.nn.utils.clip_grad_norm_(network.parameters(), schedule.clip or math.inf)
            if bool(torch.isfinite(loss) & torch.isfinite(norm)):
                whole = False
                optimizer.step()
                failures = 0
                if average is not None:
                    _follow(average, network, run.average, step)
            else:  # the step is left out; a single overflow in half precision is harmless
                failures += 1
                if failures >= _PATIENCE:
                    raise _diverged(step, parts, failures)
            history.append([float(value) for value in parts.values()])
            step += 1
            whole = True

            notes += [f"skipped {p}: {why}" for p, why in run.data.skipped.items() if p not in noted]
            noted.update(run.data.skipped)
            if time.monotonic() - clock > run.checkpoint_seconds and failures == 0:
                clock = time.monotonic()
                try:
                    save()
                except CheckpointError as error:  # a full disk may have room again at the next one
                    notes.append(f"{error}; the training goes on without a new checkpoint")
            if progress is not None:
                left = (time.monotonic() - started) / (step - first) * (schedule.steps - step)
                losses = dict(zip(parts, history[-1], strict=True))
                shown = {} if run.report is None else run.report(step, average or network.state_dict())
                shown["notes"] = (*notes, *shown.get("notes", ()))
                progress(Progress(step, schedule.steps, losses, seconds_left=left, **shown))
    except BaseException:
        if failures == 0 and whole and step > first:
            save()
        raise
    if failures:
        raise _diverged(step, parts, failures)
    save()
    last = torch.tensor(history[-100:]).mean(dim=0).tolist()
    figures = {"final losses (mean of the last 100 steps)": dict(zip(parts, last, strict=True))} if first < step else {}
    facts = {**run.facts, "run": run.identity, "figures": figures, "loss curve": training_state.thinned(history)}
    if average is not None:
        network.load_state_dict(average)
    if processes.is_first():
        save_network(run.out, network if run.result is None else run.result(network), facts, half=run.half)
        with suppress(OSError):
            checkpoint.unlink()
    processes.wait_for_all(device)
    return run.out


def learning_rate(schedule: Schedule, step: int) -> float:
    """The optimizer's rate at a step (from 0): linear warm-up, then constant or a half cosine down to 0."""
    rate = schedule.learning_rate * min(1.0, (step + 1) / (schedule.warmup + 1))
    if schedule.schedule == "cosine":
        rate *= 0.5 * (1 + math.cos(math.pi * step / schedule.steps))
    return rate


def _rest_idle_biases(network: TransformNet) -> None:
    """Leave alone the biases that a normalization takes off again: their gradient is rounding noise, which Adam scales up
    to steps of full size, so that they would walk about and differ between any two ways to compute the same."""
    for stage in network.modules():
        if isinstance(stage, ConvStage) and stage.norm is not None and stage.shuffle == 1:
            stage.conv.bias.requires_grad_(False)


@torch.no_grad()
def _follow(average: dict[str, Tensor], network: TransformNet, decay: float, step: int) -> None:
    """Move the average towards the network's weights; at the start, when it has seen little, faster."""
    decay = min(decay, (1 + step) / (10 + step))
    for key, value in network.state_dict().items():
        if value.is_floating_point():
            average[key].lerp_(value, 1 - decay)
        else:
            average[key].copy_(value)


def _diverged(step: int, parts: Mapping[str, Tensor], failures: int) -> TrainingError:
    wrong = [name for name, value in parts.items() if not torch.isfinite(value)]
    what = ", ".join(wrong) or "the gradient"
    return TrainingError(
        f"{what} stayed non-finite for {failures} steps up to step {step}; try a lower learning rate or smaller loss "
        f"weights. The last good checkpoint is kept"
    )
