"""Test that several processes, started by torchrun, train the same weights as one."""

from __future__ import annotations

import pickle
import subprocess
import sys

import pytest
import torch
from helpers import same_file
from perceptual_style.core.checkpoints.own_format import load_tensors
from perceptual_style.core.errors import InputError
from perceptual_style.core.images.writing import save_image
from perceptual_style.core.training import processes
from perceptual_style.core.training.gradients import Gradients
from perceptual_style.core.training.train_style import run_training
from safetensors.torch import load_file

#: Trains a pickled run. With "die" as the second argument, the second process kills itself after its fourth step.
TRAIN = """
import dataclasses, os, pickle, signal, sys, torch
from pathlib import Path
from perceptual_style.core.training import processes
from perceptual_style.core.cli.ending import leave
from perceptual_style.core.cli.processes import process_group
from perceptual_style.core.errors import PerceptualStyleError
from perceptual_style.core.training.train_style import run_training

torch.set_num_threads(1)
run = pickle.loads(Path(sys.argv[1]).read_bytes())
with process_group("cpu") as check:
    part, parts = processes.share()
    if sys.argv[2] == "differ":
        run = dataclasses.replace(run, seed=run.seed + part)

    def progress(progress):
        if part == 1 and progress.done == 4 and sys.argv[2] == "die":
            os.kill(os.getpid(), signal.SIGKILL)
        check()

    try:
        run_training(run, progress)
        os.write(1, f"{part} of {parts} done\\n".encode())  # in one call: print may write the line break separately
    except PerceptualStyleError as error:
        print(f"{part} of {parts}: {error}", file=sys.stderr)
        leave(2)
leave(0)
"""


CALM = 3e-4  # learning rate that does not amplify rounding: at the tiny run's own, ties in the pooling soon do


@pytest.fixture
def torchrun(python_environment, tmp_path):
    """Function that runs a script, or a module with -m, in two processes and returns the process of torchrun."""

    def run(*command) -> subprocess.CompletedProcess[str]:
        start = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
        options = {"capture_output": True, "text": True, "encoding": "utf-8", "timeout": 240}
        environment = python_environment | {"TQDM_MININTERVAL": "0"}  # each step draws the bar, on a fast machine, too
        return subprocess.run([*start, *map(str, command)], env=environment, cwd=tmp_path, **options)

    return run


@pytest.fixture
def train_together(torchrun, tmp_path):
    """Function that trains a run in two processes."""

    def train(run, what: str = "train") -> subprocess.CompletedProcess[str]:
        (tmp_path / "run.pickle").write_bytes(pickle.dumps(run))
        (tmp_path / "train.py").write_text(TRAIN, encoding="utf-8")
        return torchrun(tmp_path / "train.py", tmp_path / "run.pickle", what)

    return train


def close(path, expected) -> bool:
    return same_file(path, expected, tolerance=1e-5)


def test_single_process_has_the_whole_batch():
    assert processes.share() == (0, 1) and processes.is_first() and not processes.are_several()
    tensor = torch.ones(3)
    processes.add_up([tensor])
    processes.take_from_first([tensor])
    processes.check_same("anything", tensor.device)
    processes.wait_for_all(tensor.device)
    assert torch.equal(tensor, torch.ones(3))


def test_more_processes_than_photos_in_a_batch_are_rejected(monkeypatch):
    monkeypatch.setattr(processes, "share", lambda: (2, 3))
    with pytest.raises(InputError, match="batch size is 2; expected at least one photo for each of 3 processes"):
        Gradients(torch.nn.Conv2d(3, 3, 1), lambda batch, step: {}, 2)
    assert Gradients(torch.nn.Conv2d(3, 3, 1), lambda batch, step: {}, 4).at_once == 1
    assert Gradients(torch.nn.Conv2d(3, 3, 1), lambda batch, step: {}, 9).at_once == 3


@pytest.mark.slow
@pytest.mark.parametrize(
    "optimizer", [{}, {"optimizer": "muon", "arch": "c3s1-16,d16,R16,n2,c3s1-3 padding=reflect"}], ids=["adam", "muon"]
)
def test_several_processes_give_weights_of_one(optimizer, new_run, train_together):
    changes = {"batch_size": 3, "identity_steps": 3, "learning_rate": CALM, **optimizer}  # two photos and one
    expected = load_file(run_training(new_run("one", **changes)))
    assert not close(run_training(new_run("fewer", **changes | {"batch_size": 2})), expected)
    run = new_run(**changes)
    process = train_together(run)
    assert process.returncode == 0, process.stderr
    assert sorted(process.stdout.split("\n"))[1:] == ["0 of 2 done", "1 of 2 done"]
    assert close(run.out, expected) and not run.checkpoint.exists()


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="needs SIGKILL")
def test_run_with_killed_worker_stops_and_resumes(new_run, train_together):
    expected = load_file(run_training(new_run("one", batch_size=4, learning_rate=CALM)))
    run = new_run(batch_size=4, learning_rate=CALM)
    process = train_together(run, "die")
    assert process.returncode != 0 and "done" not in process.stdout
    assert load_tensors(run.checkpoint)[1]["step"] == 4 and not run.out.exists()
    assert not list(run.out.parent.glob(".*"))

    process = train_together(run)
    assert process.returncode == 0, process.stderr
    assert close(run.out, expected) and not run.checkpoint.exists()


@pytest.mark.slow
def test_processes_with_different_settings_are_rejected(new_run, train_together):
    run = new_run()
    process = train_together(run, "differ")
    assert process.returncode != 0 and not run.out.exists() and not run.checkpoint.exists()
    assert "differ in their settings, photos or checkpoint" in process.stderr


@pytest.mark.slow
def test_command_shares_work_and_only_rank_0_prints(torchrun, training_photos, deep_loss_weights, tmp_path, run):
    save_image(tmp_path / "painting.png", torch.rand(3, 70, 80, generator=torch.Generator().manual_seed(2)))
    command = [
        "train-style",
        tmp_path / "painting.png",
        "--content",
        training_photos,
        "--loss-weights",
        deep_loss_weights,
    ]
    command += ["--init-from", "none", "--recipe", "paper", "--loss-network", "vgg16", "--arch", "c3s1-4,R4,c3s1-3"]
    command += [
        "--steps",
        3,
        "--batch-size",
        2,
        "--size",
        32,
        "--style-size",
        48,
        "--device",
        "cpu",
        "--precision",
        "fp32",
    ]
    command += ["--learning-rate", CALM]
    status, out, _ = run(*command, "-o", tmp_path / "one.safetensors")
    assert status == 0 and out.strip() == str(tmp_path / "one.safetensors")

    process = torchrun("-m", "perceptual_style.core.cli", *command, "-o", tmp_path / "two.safetensors")
    assert process.returncode == 0, process.stderr
    assert process.stdout.strip() == str(tmp_path / "two.safetensors")
    assert process.stderr.count("4_broken.jpg") <= 1 and process.stderr.count("3/3") == 2  # at the end, too
    assert close(tmp_path / "two.safetensors", load_file(tmp_path / "one.safetensors"))
