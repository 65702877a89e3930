"""The training loop for styles, predictors and upscalers: it trains a network on batches and writes it to a file.

One checkpoint beside the result, NAME.training.safetensors, holds the state that an interruption must not change: network,
optimizer and step. Batches depend only on seed and step (photos.py). A resumed run therefore ends with the same weights,
bit for bit on the CPU. Several processes can share the work, see processes.py.
"""

from __future__ import annotations

import copy
import math
import shutil
import time
import warnings
from collections.abc import Callable, Mapping, Sequence, Set
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..checkpoints.own_format import save_network
from ..errors import CheckpointError, DiskFullError, InputError, TrainingError
from ..files import remove_leftovers
from ..losses.functional import total
from ..network.pixels import OURS, PixelConvention
from ..network.stages import ConvStage
from ..progress import Progress, ProgressCallback
from . import processes
from . import state as training_state
from .backup import Backup
from .gradients import Gradients, Losses
from .optimizers import build_optimizer
from .photos import TrainingData
from .state import checkpoint_path, save_checkpoint
from .style_recipes import Schedule

_HEADER_BYTES = 2**16  # of a file of weights, roughly
_UNWATCHED = 16  # steps on a GPU between which the host does not read anything from it
_PATIENCE = 20  # steps in a row without a finite gradient after which training stops


@dataclass
class Training:
    """A training run as the loop sees it, made by train_style.py and train_upscaler.py.

    Attributes:
        out: the file to write.
        identity: facts that must be equal for a checkpoint to belong to this run, see `state.identity`.
        schedule: number of steps and learning rate.
        network: the network, on its device, in training mode.
        data: the training data.
        losses: maps a batch and its step to the parts of the objective.
        sums: names of the parts that are sums over the photos of a batch. All others are means.
        start: called before step 0, but not if the run is resumed.
        constrain: called before step 0 and after each step. It changes the weights, in place and always in the same way.
        report: maps a step, and the weights that would be the result, to fields of Progress.
        facts: facts to save in the finished file.
        half: write the network as float16.
        average: decay of an exponential moving average of the weights, which becomes the result. 0 uses the last weights.
        checkpoint_seconds: time between checkpoints, s.
        result: maps the trained network to the network to write. If None, the trained network is written.
        pixels: pixel convention of the network.
        discriminator: a network that is trained with this one, by parts of the objective that reach it alone. It is saved
            in checkpoints, but not in the result.
        save: writes the result, with the arguments of `save_network`.
    """

    out: Path
    identity: Mapping[str, Any]
    schedule: Schedule
    network: nn.Module
    data: TrainingData
    losses: Losses
    sums: Set[str] = frozenset()
    start: Callable[[], None] | None = None
    constrain: Callable[[], None] | None = None
    report: Callable[[int, Mapping[str, Tensor]], dict[str, Any]] | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)
    half: bool = False
    average: float = 0.0
    checkpoint_seconds: float = 30.0
    result: Callable[[Any], nn.Module] | None = None
    pixels: PixelConvention = OURS
    discriminator: nn.Module | None = None
    save: Callable[..., None] = save_network


def prepare(out: Path, identity: Mapping[str, Any], photos: Sequence[Path] = ()) -> bool:
    """Make the folder of the result and remove leftovers of killed runs.

    Args:
        out: the file to write.
        identity: the run's identity.
        photos: the training photos.

    Returns:
        False if the result of this run exists already, else True.

    Raises:
        InputError: ``out`` is something else.
        CheckpointError: The folder cannot be made.
    """
    if training_state.is_finished(out, identity, photos):
        return False
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CheckpointError(f"cannot write {out}: {error.strerror or error}") from None
    for path in (out, checkpoint_path(out)):
        remove_leftovers(path)
    return True


def check_name(out: str | Path) -> Path:
    """Return the path of a result.

    Raises:
        InputError: It does not end in .safetensors.
    """
    out = Path(out)
    if out.suffix != ".safetensors":
        raise InputError(
            f"the result is written as safetensors; name it {out.with_suffix('.safetensors').name}, not {out.name}"
        )
    return out


def train(run: Training, progress: ProgressCallback | None = None) -> Path:
    """Carry out a training run, or resume an interrupted one, and write ``run.out``.

    If the progress callback raises, training stops after a checkpoint is written.

    Returns:
        The path of the result.

    Raises:
        CheckpointError: The disk is full.
        TrainingError: The objective stays non-finite, memory does not suffice for a single photo, the checkpoint belongs to
            another run, or another process of this run has ended.
    """
    return _Loop(run, progress).carry_out()


class _Loop:
    """A training run in progress.

    Attributes:
        step: steps done.
        first: steps done before this process resumed the run.
        history: parts of the objective at these steps.
        average: moving average of the weights by name, or None.
        parts: parts of the objective at the last step.
        failures: steps in a row without a finite gradient.
        consistent: whether network, optimizer, step and history belong together, so that they can be saved.
        unread: batches of the last steps, and on the device whether each step was finite, and its parts. Reading them at
            every step would make a GPU wait.
        backup: the state before these steps.
    """

    def __init__(self, run: Training, progress: ProgressCallback | None) -> None:
        self.run, self.progress, self.network, self.schedule = run, progress, run.network, run.schedule
        self.checkpoint = checkpoint_path(run.out)
        self.has_statistics = next(run.network.buffers(), None) is not None  # the forward pass changes them
        _freeze_cancelled_biases(run.network)
        self.trained = nn.ModuleList([run.network] + ([] if run.discriminator is None else [run.discriminator]))
        self.optimizer = build_optimizer(run.schedule.optimizer, self.trained.parameters(), run.schedule.learning_rate)
        self.device = next(run.network.parameters()).device
        self.gradients = Gradients(self.trained, run.losses, run.data.batch_size, run.sums)
        self.first = self.step = 0
        self.history: training_state.History = []
        self.average: dict[str, Tensor] | None = None
        self.parts: dict[str, Tensor] = {}
        self.noted: set[Path] = set()
        self.failures, self.consistent = 0, True
        self.started = self.saved = 0.0
        self.unread: list[tuple[Any, Tensor]] = []
        self.backup: Backup | None = None

    def carry_out(self) -> Path:
        """Train the remaining steps and write the result."""
        self._resume()
        self.started = self.saved = time.monotonic()
        try:
            for batch in self.run.data.batches(self.step, self.schedule.steps, processes.share()):
                notes = [*self._step(batch), *self._new_skips(), *self._save_in_time()]
                if self.progress is not None:
                    self.progress(self._report(notes))
            self._read()
        except BaseException:
            if self.consistent:
                self._read()
            else:
                self._forget_unread()
            if self.failures == 0 and self.consistent and self.step > self.first:
                self._in_room_of_old(self._save, self._state_bytes())
            raise
        if self.failures:
            raise _diverged(self.step, self.parts, self.failures)
        self._finish()
        return self.run.out

    def _resume(self) -> None:
        """Load the checkpoint, or start the run, and make all processes equal."""
        run, network = self.run, self.network
        self.step, self.history, self.average = training_state.resume(
            self.checkpoint, run.identity, network, self.optimizer, steps=run.schedule.steps,
            averaged=bool(run.average), photos=run.data.files, discriminator=run.discriminator,
        )  # fmt: skip
        self.first = self.step
        processes.check_same(f"{run.identity} {self.step}", self.device)
        if not self.step and run.start is not None:
            run.start()
        if not self.step and run.constrain is not None:
            run.constrain()
        processes.take_from_first([*self.trained.parameters(), *self.trained.buffers()])
        if run.average and self.average is None:
            self.average = {key: value.detach().clone() for key, value in network.state_dict().items()}

    def _step(self, batch: Any) -> list[str]:
        """Train on one batch and return notes for the user."""
        if not _runs_ahead(self.device) or self.failures or processes.are_several():
            return self._train_step(batch)
        notes = self._unwatched_step(batch)
        if len(self.unread) >= _UNWATCHED or self.step == self.schedule.steps:
            self._read()
        return notes

    def _unwatched_step(self, batch: Any) -> list[str]:
        """Train on one batch as if it were sure to give a finite gradient; `_read` finds out."""
        if not self.unread:
            self.backup = Backup(self.trained, self.optimizer, self.average)
        finite, notes = self._gradients(batch)
        self._update()
        self.unread.append((batch, torch.stack([finite, *self.parts.values()])))
        self.step += 1
        self.consistent = True
        return notes

    def _read(self) -> None:
        """Read what the last steps gave. If one of them failed, go back and do them again one by one."""
        if not self.unread:
            return
        rows = torch.stack([values for _, values in self.unread]).tolist()
        if all(finite for finite, *_ in rows):
            self.history += [parts for _, *parts in rows]
            self.unread.clear()
            self.backup = None
            return
        batches = [batch for batch, _ in self.unread]
        self._forget_unread()
        for batch in batches:
            self._train_step(batch)

    def _forget_unread(self) -> None:
        """Go back to before the steps that were not read, and one that was interrupted."""
        if self.backup is not None:
            self.backup.restore()
            self.step -= len(self.unread)
            self.consistent = True
        self.unread.clear()
        self.backup = None

    def _gradients(self, batch: Any) -> tuple[Tensor, list[str]]:
        """Compute the gradients of a batch. Return whether they are finite, 1.0 or 0.0, and notes for the user."""
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(self.schedule, self.step)
        self.consistent = not self.has_statistics
        self.parts, notes = self.gradients(batch, self.step)
        loss = total(self.parts.values())
        limit = self.schedule.clip or math.inf
        norms = [nn.utils.clip_grad_norm_(module.parameters(), limit) for module in self.trained]
        return (torch.isfinite(loss) & torch.isfinite(torch.stack(norms)).all()).float(), notes

    def _train_step(self, batch: Any) -> list[str]:
        """Train on one batch, look at the result, and return notes for the user."""
        finite, notes = self._gradients(batch)
        if bool(finite):
            self._update()
            self.failures = 0
        else:  # skip the update: a single overflow in half precision is harmless
            self.failures += 1
            if self.failures >= _PATIENCE:
                raise _diverged(self.step, self.parts, self.failures)
        self.history.append([float(value) for value in self.parts.values()])
        self.step += 1
        self.consistent = True
        return notes

    def _update(self) -> None:
        """Change the weights, and their average, by the gradients."""
        self.consistent = False
        self.optimizer.step()
        if self.run.constrain is not None:
            self.run.constrain()
        if self.average is not None:
            _follow(self.average, self.network, self.run.average, self.step)

    def _new_skips(self) -> list[str]:
        """Return notes about the photos that were skipped since the last step."""
        skipped = self.run.data.skipped
        notes = [f"skipped {path}: {why}" for path, why in skipped.items() if path not in self.noted]
        self.noted.update(skipped)
        return notes

    def _save(self) -> None:
        if processes.is_first():
            save_checkpoint(
                self.checkpoint, self.run.identity, self.network, self.optimizer, self.step, self.history, self.average,
                self.run.discriminator,
            )  # fmt: skip

    def _save_in_time(self) -> list[str]:
        """Write a checkpoint if the last one is old enough, and return notes for the user."""
        if time.monotonic() - self.saved <= self.run.checkpoint_seconds or self.failures:
            return []
        self.saved = time.monotonic()
        self._read()
        try:
            self._save()
        except (CheckpointError, MemoryError) as error:  # a full disk may have room again next time
            note = f"{error or 'out of memory'}; training continues without a new checkpoint"
            if self.progress is not None:
                return [note]
            warnings.warn(note, stacklevel=2)
        return []

    def _report(self, notes: list[str]) -> Progress:
        seconds = time.monotonic() - self.started
        left = seconds / (self.step - self.first) * (self.schedule.steps - self.step)
        losses = dict(zip(self.parts, self.history[-1], strict=True)) if self.history else {}
        shown: dict[str, Any] = {}
        if self.run.report is not None:
            shown = self.run.report(self.step, self.average or self.network.state_dict())
        shown["notes"] = (*notes, *shown.get("notes", ()))
        return Progress(self.step, self.schedule.steps, losses, seconds_left=left, **shown)

    def _finish(self) -> None:
        """Write the result and remove the checkpoint. The result comes first: it must not lack the room of a new checkpoint."""
        if processes.is_first():
            try:
                self._in_room_of_old(self._write_result, sum(t.nbytes for t in self.network.state_dict().values()))
            except BaseException as error:  # such as Ctrl-C
                try:
                    self._in_room_of_old(self._save, self._state_bytes())
                except CheckpointError as lost:
                    if isinstance(error, CheckpointError):
                        raise CheckpointError(f"{error}; the training state cannot be saved either: {lost}") from None
                raise
            with suppress(OSError):
                self.checkpoint.unlink()
        processes.wait_for_all(self.device)

    def _in_room_of_old(self, write: Callable[[], None], needed: int) -> None:
        """Write a file. On a full disk the old checkpoint gives way, if ``needed`` bytes will fit then."""
        try:
            write()
        except DiskFullError:
            try:
                room = self.checkpoint.stat().st_size + shutil.disk_usage(self.checkpoint.parent).free
            except OSError:  # there is no old checkpoint
                room = 0
            if room < needed + _HEADER_BYTES:
                raise
            self.checkpoint.unlink(missing_ok=True)
            write()

    def _state_bytes(self) -> int:
        """Return the size of a checkpoint's tensors."""
        tensors = [*self.trained.state_dict().values(), *(self.average or {}).values()]
        for values in self.optimizer.state.values():
            tensors += [value for value in values.values() if isinstance(value, Tensor)]
        return sum(tensor.nbytes for tensor in tensors) + 8 * len(self.history) * len(self.parts)

    def _write_result(self) -> None:
        run, network = self.run, self.network
        facts = {
            **run.facts,
            "run": run.identity,
            "figures": self._figures(),
            "loss curve": training_state.thinned(self.history),
        }
        if self.average is not None:
            network = copy.deepcopy(network)
            network.load_state_dict(self.average)
        network = network if run.result is None else run.result(network)
        run.save(run.out, network, facts, half=run.half, pixels=run.pixels)

    def _figures(self) -> dict[str, dict[str, float]]:
        if not self.parts:  # resumed after the last step
            return {}
        last = torch.tensor(self.history[-100:], dtype=torch.float32, device="cpu").mean(dim=0).tolist()
        return {"final losses (mean of the last 100 steps)": dict(zip(self.parts, last, strict=True))}


def _runs_ahead(device: torch.device) -> bool:
    """Return whether a device computes while the host goes on."""
    return device.type != "cpu"


def learning_rate(schedule: Schedule, step: int) -> float:
    """Return the learning rate at a step (from 0): linear warm-up, then constant or a half cosine down to 0."""
    rate = schedule.learning_rate * min(1.0, (step + 1) / (schedule.warmup + 1))
    if schedule.schedule == "cosine":
        rate *= 0.5 * (1 + math.cos(math.pi * step / schedule.steps))
    return rate


def _freeze_cancelled_biases(network: nn.Module) -> None:
    """Freeze the biases that the following normalization cancels.

    Their gradient is rounding noise, which Adam scales up to steps of full size. They would drift, and differ between any
    two ways to compute the same.
    """
    for stage in network.modules():
        if (
            isinstance(stage, ConvStage)
            and stage.norm is not None
            and stage.shuffle == 1
            and stage.conv.bias is not None
        ):
            stage.conv.bias.requires_grad_(False)


@torch.no_grad()
def _follow(average: dict[str, Tensor], network: nn.Module, decay: float, step: int) -> None:
    """Move the average towards the network's weights, faster in the first steps."""
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
