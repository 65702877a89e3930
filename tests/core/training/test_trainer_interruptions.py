"""Trainings that are interrupted, one way or another: the result is the same, and no half file is ever seen."""

from __future__ import annotations

import dataclasses
import math
import os
import pickle
import signal
import subprocess
import sys
import time

import pytest
import torch
from perceptual_style.core import files
from perceptual_style.core.checkpoints.own_format import load_network, load_tensors
from perceptual_style.core.errors import Cancelled, CheckpointError, InputError, TrainingError
from perceptual_style.core.losses.objective import Objective
from perceptual_style.core.training import state as training_state
from perceptual_style.core.training import train_style as style_training
from perceptual_style.core.training.train_style import run_training
from PIL import Image
from safetensors.torch import load_file, save_file


@pytest.mark.parametrize("steps", [(1,), (5,), (7,), (8,), (2, 3, 6)])
def test_a_training_stopped_by_its_callback_and_resumed_is_the_same_bit_for_bit(
    steps, new_run, uninterrupted, same, stop_at
):
    run = new_run()
    for step in steps:
        with pytest.raises(Cancelled):
            run_training(run, stop_at(step))
        assert load_tensors(run.checkpoint)[1]["step"] == step
        assert not run.out.exists()
    seen = []
    assert same(run_training(run, seen.append), uninterrupted)
    assert [progress.done for progress in seen] == list(range(steps[-1] + 1, 9))


@pytest.mark.parametrize("arch", ["c3s1-4,d4,R4,n2,c3s1-3 padding=reflect", "c3s1-4,R4,c3s1-3 padding=zero norm=batch"])
@pytest.mark.parametrize("place", ["the optimizer", "the network"])
def test_an_interrupt_in_the_middle_of_a_step_is_no_exception(place, arch, new_run, monkeypatch, same):
    expected = load_file(run_training(new_run("expected", arch=arch)))
    run, calls = new_run(arch=arch, checkpoint_seconds=0), []
    owner, name = (torch.optim.Adam, "step") if place == "the optimizer" else (style_training.Objective, "__call__")
    original = getattr(owner, name)

    def interrupted(self, *arguments):
        result = original(self, *arguments)
        calls.append(1)
        if len(calls) == 4:  # as Ctrl-C would, after the work was done and before it was noted
            raise KeyboardInterrupt
        return result

    monkeypatch.setattr(owner, name, interrupted)
    with pytest.raises(KeyboardInterrupt):
        run_training(run)
    assert load_tensors(run.checkpoint)[1]["step"] == 3
    assert same(run_training(run), expected)


def test_the_callbacks_own_exception_reaches_the_caller(new_run, stop_at):
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
def test_a_training_that_is_killed_and_resumed_is_the_same_bit_for_bit(
    wait, new_run, uninterrupted, python_environment, tmp_path, same
):
    run = new_run(checkpoint_seconds=0)
    (tmp_path / "run.pickle").write_bytes(pickle.dumps(run))
    command = [sys.executable, "-c", KILLED, str(tmp_path / "run.pickle")]
    with subprocess.Popen(command, env=python_environment, stdout=subprocess.PIPE, text=True) as process:
        while int(process.stdout.readline() or 99) < 4:
            pass
        time.sleep(wait)  # somewhere in a step, or in the writing of its checkpoint
        os.kill(process.pid, signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL and not run.out.exists()
    assert 3 <= load_tensors(run.checkpoint)[1]["step"] <= 8
    assert same(run_training(run), uninterrupted)
    assert {path.name for path in tmp_path.glob("*.safetensors")} == {"style.safetensors", "uninterrupted.safetensors"}
    assert not list(tmp_path.glob(".*"))


def test_no_file_has_the_final_name_before_the_end_and_none_is_left_over(new_run, tmp_path):
    run = new_run(checkpoint_seconds=0)
    names = []
    run_training(run, lambda progress: names.append(sorted(path.name for path in tmp_path.iterdir())))
    assert names == [["style.training.safetensors"]] * 8
    assert list(tmp_path.iterdir()) == [run.out]


def test_leftovers_of_killed_trainings_are_removed(new_run, tmp_path):
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
def test_a_checkpoint_of_another_run_is_refused_naming_what_differs(change, named, new_run, stop_at):
    with pytest.raises(Cancelled):
        run_training(new_run(), stop_at(3))
    before = new_run().checkpoint.read_bytes()
    with pytest.raises(TrainingError, match=named) as caught:
        run_training(new_run(**change))
    assert "style.training.safetensors" in str(caught.value) and "\n" not in str(caught.value)
    assert new_run().checkpoint.read_bytes() == before and not new_run().out.exists()


def test_another_painting_loss_network_or_folder_of_photos_is_another_run(
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


def test_a_finished_run_is_not_trained_again(new_run):
    path = run_training(new_run())
    before, seen = path.stat().st_mtime_ns, []
    assert run_training(new_run(), seen.append) == path
    assert seen == [] and path.stat().st_mtime_ns == before


@pytest.mark.parametrize("content", ["a text", "another run", "a foreign file"])
def test_another_file_under_the_final_name_is_refused_and_kept(content, new_run):
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


def test_a_broken_checkpoint_is_refused_by_name(new_run):
    run = new_run()
    run.checkpoint.write_bytes(b"half a checkpoint, cut off")
    with pytest.raises(CheckpointError, match="style.training.safetensors"):
        run_training(run)


def test_loss_weights_of_nan_end_in_a_training_error(new_run, loss_weights, tmp_path):
    tensors = load_file(loss_weights)
    tensors["features.7.weight"].fill_(float("nan"))
    save_file(tensors, tmp_path / "nan.safetensors")
    run = dataclasses.replace(new_run(steps=40, facts={}), loss_weights=tmp_path / "nan.safetensors")
    seen = []
    with pytest.raises(TrainingError, match="style relu2_2 stayed non-finite for 20 steps") as caught:
        run_training(run, seen.append)
    assert "\n" not in str(caught.value) and len(seen) == 19
    assert not run.out.exists() and not run.checkpoint.exists()


def test_a_short_training_without_a_finite_end_says_so(new_run, monkeypatch):
    explode(monkeypatch, from_call=6)
    with pytest.raises(TrainingError, match="non-finite for 3 steps"):
        run_training(new_run())
    assert not new_run().out.exists()


def explode(monkeypatch, from_call: int, until_call: float = math.inf) -> None:
    """Let the objective be infinite in these of its calls, counted from 1."""
    original, calls = Objective.__call__, []

    def objective(self, *arguments):
        calls.append(1)
        parts = original(self, *arguments)
        return {k: v * math.inf if from_call <= len(calls) < until_call else v for k, v in parts.items()}

    monkeypatch.setattr(Objective, "__call__", objective)


def test_the_last_good_checkpoint_outlives_an_explosion(new_run, uninterrupted, monkeypatch, same):
    run = new_run(steps=40, checkpoint_seconds=0)
    with monkeypatch.context() as patch:
        explode(patch, from_call=6)
        with pytest.raises(TrainingError, match="last good checkpoint is kept"):
            run_training(run)
    tensors, header = load_tensors(run.checkpoint)
    assert header["step"] == 5 and all(tensor.isfinite().all() for tensor in tensors.values())
    expected = load_file(run_training(new_run("expected", steps=40)))
    assert same(run_training(run), expected)


def test_single_steps_without_a_finite_gradient_are_left_out(new_run, monkeypatch):
    explode(monkeypatch, from_call=3, until_call=6)
    network, _ = load_network(run_training(new_run()))
    assert all(parameter.isfinite().all() for parameter in network.parameters())


def full_disk(monkeypatch, names: tuple[str, ...]) -> list[str]:
    """Let writing files of these names fail as on a full disk; returns the names that were tried."""
    original, tried = training_state.save_tensors, []

    def save(path, tensors, header):
        tried.append(path.name)
        if path.name in names:
            raise CheckpointError(f"cannot write {path}: No space left on device")
        original(path, tensors, header)

    monkeypatch.setattr(training_state, "save_tensors", save)
    monkeypatch.setattr("perceptual_style.core.checkpoints.own_format.save_tensors", save)
    return tried


def test_a_disk_that_is_full_for_a_while_costs_nothing_but_a_note(new_run, uninterrupted, monkeypatch, same):
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


@pytest.mark.parametrize("name", ["style.training.safetensors", "style.safetensors"])
def test_a_disk_that_is_full_at_the_end_is_an_error_and_can_be_gone_on_from(
    name, new_run, uninterrupted, monkeypatch, same
):
    run = new_run()
    with monkeypatch.context() as patch:
        full_disk(patch, (name,))
        with pytest.raises(CheckpointError, match="No space left on device"):
            run_training(run)
    assert not run.out.exists()
    assert same(run_training(run), uninterrupted)
