"""Test interrupted training runs: the result is the same, and no incomplete file is ever visible."""

from __future__ import annotations

import dataclasses
import math
import os
import pickle
import re
import shutil
import signal
import subprocess
import sys
import time
from types import SimpleNamespace

import pytest
import torch
from perceptual_style.core import files
from perceptual_style.core.checkpoints.own_format import load_network, load_tensors
from perceptual_style.core.errors import Cancelled, CheckpointError, DiskFullError, InputError, TrainingError
from perceptual_style.core.losses.objective import Objective
from perceptual_style.core.training import state as training_state
from perceptual_style.core.training import train_style as style_training
from perceptual_style.core.training.train_style import run_training
from PIL import Image
from safetensors.torch import load_file, save_file
from safetensors.torch import save as save_bytes


@pytest.mark.parametrize("steps", [(1,), (5,), (7,), (8,), (2, 3, 6)])
def test_run_stopped_by_callback_resumes_bit_for_bit(steps, new_run, uninterrupted, same, stop_at):
    run = new_run()
    for step in steps:
        with pytest.raises(Cancelled):
            run_training(run, stop_at(step))
        assert load_tensors(run.checkpoint)[1]["step"] == step
        assert not run.out.exists()
    seen = []
    assert same(run_training(run, seen.append), uninterrupted)
    assert [progress.done for progress in seen] == list(range(steps[-1] + 1, 9))


@pytest.mark.parametrize("prefix", ["optimizer", "adam"])
def test_checkpoint_of_this_or_an_earlier_version_resumes_bit_for_bit(prefix, new_run, uninterrupted, same, stop_at):
    run = new_run()
    with pytest.raises(Cancelled):
        run_training(run, stop_at(3))
    tensors, header = load_tensors(run.checkpoint)
    assert {key.split(".")[0] for key in tensors} == {"network", "optimizer", "history"}
    renamed = {re.sub(r"^optimizer\.", f"{prefix}.", key): tensor for key, tensor in tensors.items()}
    training_state.save_tensors(run.checkpoint, renamed, header)
    assert same(run_training(run), uninterrupted)


@pytest.mark.parametrize("arch", ["c3s1-4,d4,R4,n2,c3s1-3 padding=reflect", "c3s1-4,R4,c3s1-3 padding=zero norm=batch"])
@pytest.mark.parametrize("place", ["the optimizer", "the network"])
def test_run_interrupted_inside_a_step_resumes_bit_for_bit(place, arch, new_run, monkeypatch, same):
    expected = load_file(run_training(new_run("expected", arch=arch)))
    run, calls = new_run(arch=arch, checkpoint_seconds=0), []
    owner, name = (torch.optim.Adam, "step") if place == "the optimizer" else (style_training.Objective, "__call__")
    original = getattr(owner, name)

    def interrupted(self, *arguments):
        result = original(self, *arguments)
        calls.append(1)
        if len(calls) == 4:  # like Ctrl-C after the work is done and before it is recorded
            raise KeyboardInterrupt
        return result

    monkeypatch.setattr(owner, name, interrupted)
    with pytest.raises(KeyboardInterrupt):
        run_training(run)
    assert load_tensors(run.checkpoint)[1]["step"] == 3
    assert same(run_training(run), expected)


def test_exception_of_callback_reaches_the_caller(new_run, stop_at):
    error = RuntimeError("the host's own way to cancel")
    with pytest.raises(RuntimeError) as caught:
        run_training(new_run(), stop_at(2, error))
    assert caught.value is error


KILLED = """
import pickle, sys, torch
from pathlib import Path
from perceptual_style.core.training.train_style import run_training
torch.set_num_threads(1)
run = pickle.loads(Path(sys.argv[1]).read_bytes())
run_training(run, lambda progress: print(progress.done, flush=True))
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="needs SIGKILL")
@pytest.mark.parametrize("wait", [0.0, 0.003, 0.011])
def test_killed_run_resumes_bit_for_bit(wait, new_run, uninterrupted, start_python, tmp_path, same):
    run = new_run(checkpoint_seconds=0)
    (tmp_path / "run.pickle").write_bytes(pickle.dumps(run))
    with start_python(KILLED, tmp_path / "run.pickle") as process:
        while int(process.stdout.readline() or 99) < 4:
            pass
        time.sleep(wait)  # at some point in a step, or while its checkpoint is written
        os.kill(process.pid, signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL and not run.out.exists()
    assert 3 <= load_tensors(run.checkpoint)[1]["step"] <= 8
    assert same(run_training(run), uninterrupted)
    assert list(tmp_path.glob("*.safetensors")) == [run.out]
    assert not list(tmp_path.glob(".*"))


def test_final_name_appears_only_at_the_end_and_no_other_file_remains(new_run, tmp_path):
    run = new_run(checkpoint_seconds=0)
    names = []
    run_training(run, lambda progress: names.append(sorted(path.name for path in tmp_path.iterdir())))
    assert names == [["style.training.safetensors"]] * 8
    assert list(tmp_path.iterdir()) == [run.out]


def test_leftovers_of_killed_runs_are_removed(new_run, tmp_path):
    process = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, text=True)
    left = tmp_path / f".perceptual-style-{files._host()}-{int(process.stdout)}-0123abcd.style.training.safetensors"
    left.write_bytes(b"half a checkpoint")
    run_training(new_run())
    assert not left.exists()


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"seed": 9}, "another seed;"),
        ({"learning_rate": 1e-4}, "another recipe;"),
        ({"steps": 9, "seed": 9}, "another recipe, seed;"),
        ({"precision": "bf16"}, "another precision;"),
    ],
)
def test_checkpoint_of_another_run_is_rejected_naming_the_difference(change, named, new_run, stop_at):
    with pytest.raises(Cancelled):
        run_training(new_run(), stop_at(3))
    before = new_run().checkpoint.read_bytes()
    with pytest.raises(TrainingError, match=named) as caught:
        run_training(new_run(**change))
    assert "style.training.safetensors" in str(caught.value) and "\n" not in str(caught.value)
    assert new_run().checkpoint.read_bytes() == before and not new_run().out.exists()


def test_other_style_image_loss_network_or_photos_are_another_run(
    new_run, loss_weights, training_photos, tmp_path, stop_at
):
    with pytest.raises(Cancelled):
        run_training(new_run(), stop_at(1))
    other = tmp_path / "vgg.safetensors"
    save_file({key: 1.01 * tensor for key, tensor in load_file(loss_weights).items()}, other)
    (tmp_path / "more").mkdir()
    Image.open(training_photos / "0.png").save(tmp_path / "more" / "0.png")
    style = 1 - new_run().style_image
    for change, named in (
        ({"style_image": style}, "style image"), ({"loss_weights": other}, "loss network"),
        ({"content": tmp_path / "more"}, "photos"),
    ):  # fmt: skip
        with pytest.raises(TrainingError, match=f"another {named};"):
            run_training(dataclasses.replace(new_run(), **change))


def test_finished_run_is_not_trained_again(new_run):
    path = run_training(new_run())
    before, seen = path.stat().st_mtime_ns, []
    assert run_training(new_run(), seen.append) == path
    assert seen == [] and path.stat().st_mtime_ns == before


@pytest.mark.parametrize("content", ["a text", "another run", "a foreign file"])
def test_other_file_with_the_final_name_is_rejected_and_kept(content, new_run):
    run = new_run()
    if content == "a text":
        run.out.write_text("my notes")
    elif content == "a foreign file":
        save_file({"a": torch.zeros(1)}, run.out)
    else:
        run_training(new_run(seed=8))
    before = run.out.read_bytes()
    with pytest.raises(InputError, match=r"style.safetensors exists already"):
        run_training(run)
    assert run.out.read_bytes() == before and not run.checkpoint.exists()


def test_broken_checkpoint_error_names_the_file(new_run):
    run = new_run()
    run.checkpoint.write_bytes(b"half a checkpoint, cut off")
    with pytest.raises(CheckpointError, match="style.training.safetensors"):
        run_training(run)


def test_nan_in_loss_network_is_a_training_error(new_run, loss_weights, tmp_path):
    tensors = load_file(loss_weights)
    tensors["features.7.weight"].fill_(float("nan"))
    save_file(tensors, tmp_path / "nan.safetensors")
    run = dataclasses.replace(new_run(steps=40, facts={}), loss_weights=tmp_path / "nan.safetensors")
    seen = []
    with pytest.raises(TrainingError, match="style relu2_2 stayed non-finite for 20 steps") as caught:
        run_training(run, seen.append)
    assert "\n" not in str(caught.value) and len(seen) == 19
    assert not run.out.exists() and not run.checkpoint.exists()


def test_short_run_without_finite_end_is_an_error(new_run, monkeypatch):
    explode(monkeypatch, from_call=6)
    with pytest.raises(TrainingError, match="non-finite for 3 steps"):
        run_training(new_run())
    assert not new_run().out.exists()


def explode(monkeypatch, from_call: int, until_call: float = math.inf) -> None:
    """Make the objective infinite in calls from ``from_call`` to before ``until_call``, counted from 1."""
    original, calls = Objective.__call__, []

    def objective(self, *arguments):
        calls.append(1)
        parts = original(self, *arguments)
        return {k: v * math.inf if from_call <= len(calls) < until_call else v for k, v in parts.items()}

    monkeypatch.setattr(Objective, "__call__", objective)


def test_last_good_checkpoint_survives_divergence(new_run, uninterrupted, monkeypatch, same):
    run = new_run(steps=26, checkpoint_seconds=0)
    with monkeypatch.context() as patch:
        explode(patch, from_call=6)
        with pytest.raises(TrainingError, match="last good checkpoint is kept"):
            run_training(run)
    tensors, header = load_tensors(run.checkpoint)
    assert header["step"] == 5 and all(tensor.isfinite().all() for tensor in tensors.values())
    expected = load_file(run_training(new_run("expected", steps=26)))
    assert same(run_training(run), expected)


def test_single_steps_without_finite_gradient_are_skipped(new_run, monkeypatch):
    explode(monkeypatch, from_call=3, until_call=6)
    network, _ = load_network(run_training(new_run()))
    assert all(parameter.isfinite().all() for parameter in network.parameters())


def full_disk(monkeypatch, names: tuple[str, ...]) -> list[str]:
    """Make writing files of these names fail as on a full disk, and return the list of names tried."""
    original, tried = training_state.save_tensors, []

    def save(path, tensors, header):
        tried.append(path.name)
        if path.name in names:
            raise DiskFullError(f"cannot write {path}: No space left on device")
        original(path, tensors, header)

    monkeypatch.setattr(training_state, "save_tensors", save)
    monkeypatch.setattr("perceptual_style.core.checkpoints.own_format.save_tensors", save)
    return tried


def test_disk_full_for_a_while_only_gives_notes(new_run, uninterrupted, monkeypatch, same):
    notes = []

    def progress(progress):
        notes.extend(note for note in progress.notes if "No space left" in note)
        if progress.done == 5:
            patch.undo()

    with monkeypatch.context() as patch:
        full_disk(patch, ("style.training.safetensors",))
        path = run_training(new_run(checkpoint_seconds=0), progress)
    assert len(notes) == 5 and all("continues without a new checkpoint" in note for note in notes)
    assert same(path, uninterrupted)


def test_disk_full_without_progress_callback_warns(new_run, uninterrupted, monkeypatch, same):
    full_disk(monkeypatch, ("style.training.safetensors",))
    with pytest.warns(UserWarning, match="No space left on device; training continues without a new checkpoint"):
        path = run_training(new_run(checkpoint_seconds=0))
    assert same(path, uninterrupted)


def test_result_is_written_without_room_for_a_checkpoint(new_run, uninterrupted, monkeypatch, same):
    tried = full_disk(monkeypatch, ("style.training.safetensors",))
    assert same(run_training(new_run()), uninterrupted) and tried == ["style.safetensors"]


def test_disk_full_at_the_end_is_an_error_and_run_resumes(new_run, uninterrupted, monkeypatch, same):
    run = new_run()
    with monkeypatch.context() as patch:
        full_disk(patch, ("style.safetensors",))
        with pytest.raises(CheckpointError, match="No space left on device"):
            run_training(run)
    assert not run.out.exists() and load_tensors(run.checkpoint)[1]["step"] == 8
    assert same(run_training(run), uninterrupted)


@pytest.fixture
def small_disk(monkeypatch, tmp_path):
    """Function that gives the test's folder a disk of so many bytes."""

    def held() -> int:
        return sum(path.stat().st_size for path in tmp_path.iterdir() if path.is_file())

    def limit(size: int) -> None:
        def save(path, tensors, header):
            needed = len(save_bytes({key: tensor.contiguous() for key, tensor in tensors.items()}, {"a": str(header)}))
            if held() + needed > size:
                raise DiskFullError(f"cannot write {path}: No space left on device")
            original(path, tensors, header)

        monkeypatch.setattr(training_state, "save_tensors", save)
        monkeypatch.setattr("perceptual_style.core.checkpoints.own_format.save_tensors", save)
        monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=max(0, size - held())))

    original = training_state.save_tensors
    monkeypatch.setattr("perceptual_style.core.training.trainer._HEADER_BYTES", 4000)
    return limit


@pytest.mark.slow
def test_nothing_is_lost_on_disks_of_any_size(new_run, small_disk, same, stop_at, tmp_path):
    with pytest.raises(Cancelled):
        run_training(new_run("state"), stop_at(4))
    state = (tmp_path / "state.training.safetensors").stat().st_size
    expected = load_file(run_training(new_run("state")))
    result = (tmp_path / "state.safetensors").stat().st_size
    (tmp_path / "state.safetensors").unlink()
    assert 2 * result < state
    for size in (result // 2, result + 2000, state - 2000, state + 6000, state + result + 6000, 2 * state, 4 * state):
        run, notes = new_run(f"disk{size}", checkpoint_seconds=0), []

        def progress(progress, notes=notes):
            notes.extend(note for note in progress.notes if "continues without a new checkpoint" in note)

        small_disk(size)
        if size < result:
            with pytest.raises(CheckpointError, match="the training state cannot be saved either"):
                run_training(run, progress)
            assert list(tmp_path.iterdir()) == []
        else:
            assert same(run_training(run, progress), expected), size
            assert list(tmp_path.iterdir()) == [run.out]
            run.out.unlink()
        if size < state or size == 4 * state:
            assert len(notes) == (8 if size < state else 0), size


def test_old_checkpoint_gives_way_when_a_run_stops(new_run, uninterrupted, small_disk, same, stop_at):
    run = new_run(checkpoint_seconds=0)
    with pytest.raises(Cancelled):
        run_training(new_run(), stop_at(2))
    small_disk(int(1.5 * run.checkpoint.stat().st_size))
    with pytest.raises(Cancelled):
        run_training(run, stop_at(6))
    assert load_tensors(run.checkpoint)[1]["step"] == 6
    assert same(run_training(run), uninterrupted)


def test_failure_of_another_kind_keeps_the_old_checkpoint(new_run, monkeypatch, stop_at):
    with pytest.raises(Cancelled):
        run_training(new_run(), stop_at(2))
    before = new_run().checkpoint.read_bytes()

    def save(path, tensors, header):
        raise CheckpointError(f"cannot write {path}: Permission denied")

    monkeypatch.setattr(training_state, "save_tensors", save)
    with pytest.raises(CheckpointError, match="Permission denied"):
        run_training(new_run(), stop_at(5))
    assert new_run().checkpoint.read_bytes() == before
