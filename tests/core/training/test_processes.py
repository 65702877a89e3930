"""Several processes that train one network, as torchrun starts them: the same weights as of a single one."""

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

#: Trains a pickled run; "die" as the third argument ends the second process without a word after its fourth step.
TRAIN = """
import dataclasses, os, pickle, signal, sys, torch
from pathlib import Path
from perceptual_style.core.training import processes
from perceptual_style.core.cli.processes import leave, process_group
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
        os.write(1, f"{part} of {parts} done\\n".encode())  # in one piece: print may write the end of the line apart
    except PerceptualStyleError as error:
        print(f"{part} of {parts}: {error}", file=sys.stderr)
        leave(2)
leave(0)
"""


CALM = 3e-4  # Adam's rate at which rounding stays rounding: at the tiny run's own, ties of the pooling soon decide


@pytest.fixture
def torchrun(python_environment, tmp_path):
    """Run a script, or a module with -m, in two processes of torchrun's; returns the finished process of torchrun."""

    def run(*command) -> subprocess.CompletedProcess[str]:
        start = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
        options = {"capture_output": True, "text": True, "encoding": "utf-8", "timeout": 240}
        return subprocess.run([*start, *map(str, command)], env=python_environment, cwd=tmp_path, **options)

    return run


@pytest.fixture
def train_together(torchrun, tmp_path):
    """Carry out a run in two processes."""

    def train(run, what: str = "train") -> subprocess.CompletedProcess[str]:
        (tmp_path / "run.pickle").write_bytes(pickle.dumps(run))
        (tmp_path / "train.py").write_text(TRAIN, encoding="utf-8")
        return torchrun(tmp_path / "train.py", tmp_path / "run.pickle", what)

    return train


def close(path, expected) -> bool:
    return same_file(path, expected, tolerance=1e-5)


def test_a_process_alone_has_everything_to_itself():
    assert processes.share() == (0, 1) and processes.is_first() and not processes.are_several()
    tensor = torch.ones(3)
    processes.add_up([tensor])
    processes.take_from_first([tensor])
    processes.check_same("anything", tensor.device)
    processes.wait_for_all(tensor.device)
    assert torch.equal(tensor, torch.ones(3))


def test_more_processes_than_photos_in_a_batch_are_refused(monkeypatch):
    monkeypatch.setattr(processes, "share", lambda: (2, 3))
    with pytest.raises(InputError, match="batch size is 2; expected at least one photo for each of 3 processes"):
        Gradients(torch.nn.Conv2d(3, 3, 1), lambda batch, step: {}, 2)
    assert Gradients(torch.nn.Conv2d(3, 3, 1), lambda batch, step: {}, 4).at_once == 1
    assert Gradients(torch.nn.Conv2d(3, 3, 1), lambda batch, step: {}, 9).at_once == 3


@pytest.mark.slow
@pytest.mark.parametrize(
    "optimizer", [{}, {"optimizer": "muon", "arch": "c3s1-16,d16,R16,n2,c3s1-3 padding=reflect"}], ids=["adam", "muon"]
)
def test_processes_give_the_weights_of_a_single_one(optimizer, new_run, train_together):
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
def test_a_worker_that_is_killed_ends_the_training_which_goes_on_where_it_was(new_run, train_together):
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
def test_processes_with_different_settings_are_refused(new_run, train_together):
    run = new_run()
    process = train_together(run, "differ")
    assert process.returncode != 0 and not run.out.exists() and not run.checkpoint.exists()
    assert "differ in their settings, photos or checkpoint" in process.stderr


@pytest.mark.slow
def test_the_command_shares_the_work_and_its_first_process_alone_speaks(
    torchrun, training_photos, deep_loss_weights, tmp_path, run
):
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
    assert process.stderr.count("4_broken.jpg") <= 1 and process.stderr.count("3/3") == 1
    assert close(tmp_path / "two.safetensors", load_file(tmp_path / "one.safetensors"))
