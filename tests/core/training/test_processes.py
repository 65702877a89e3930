"""Test that several processes, started by torchrun or as it starts them, train the same weights as one."""

from __future__ import annotations

import pickle
import signal
import socket
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


DONE = [(0, "0 of 2 done\n"), (0, "1 of 2 done\n")]
CALM = 3e-4  # learning rate that does not amplify rounding: at the tiny run's own, ties in the pooling soon do


@pytest.fixture
def train_together(start_python, python_environment, tmp_path):
    """Function that trains a run in two processes as torchrun does; returns status, stdout and stderr of each."""

    def train(run, what: str = "train") -> list[tuple[int, str, str]]:
        (tmp_path / "run.pickle").write_bytes(pickle.dumps(run))
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        group = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": "2", "TORCHELASTIC_RUN_ID": "test"}
        processes = []
        for rank in "01":
            environment = python_environment | group | {"RANK": rank, "LOCAL_RANK": rank}
            processes.append(start_python(TRAIN, tmp_path / "run.pickle", what, env=environment, cwd=tmp_path))
        ends = [process.communicate() for process in processes]
        return [(process.returncode, *end) for process, end in zip(processes, ends, strict=True)]

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
    assert [end[:2] for end in train_together(run)] == DONE
    assert close(run.out, expected) and not run.checkpoint.exists()


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="needs SIGKILL")
def test_run_with_killed_worker_stops_and_resumes(new_run, train_together):
    expected = load_file(run_training(new_run("one", batch_size=4, learning_rate=CALM)))
    run = new_run(batch_size=4, learning_rate=CALM)
    first, second = train_together(run, "die")
    assert first[0] != 0 and second[0] == -signal.SIGKILL and first[1] == second[1] == ""
    assert load_tensors(run.checkpoint)[1]["step"] == 4 and not run.out.exists()
    assert not list(run.out.parent.glob(".*"))

    assert [end[:2] for end in train_together(run)] == DONE
    assert close(run.out, expected) and not run.checkpoint.exists()


@pytest.mark.slow
def test_processes_with_different_settings_are_rejected(new_run, train_together):
    run = new_run()
    ends = train_together(run, "differ")
    assert not run.out.exists() and not run.checkpoint.exists()
    for status, out, err in ends:
        assert (status, out) == (2, "") and "differ in their settings, photos or checkpoint" in err


@pytest.mark.slow
def test_torchrun_shares_work_and_only_rank_0_prints(
    python_environment, training_photos, deep_loss_weights, tmp_path, run
):
    save_image(tmp_path / "painting.png", torch.rand(3, 70, 80, generator=torch.Generator().manual_seed(2)))
    command = ["train-style", tmp_path / "painting.png", "--content", training_photos]
    command += [
        "--loss-weights",
        deep_loss_weights,
        "--init-from",
        "none",
        "--recipe",
        "paper",
        "--loss-network",
        "vgg16",
    ]
    command += ["--arch", "c3s1-4,R4,c3s1-3", "--steps", 3, "--batch-size", 2, "--size", 32, "--style-size", 48]
    command += ["--device", "cpu", "--precision", "fp32", "--learning-rate", CALM]
    status, out, _ = run(*command, "-o", tmp_path / "one.safetensors")
    assert status == 0 and out.strip() == str(tmp_path / "one.safetensors")

    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    torchrun += ["-m", "perceptual_style.core.cli", *map(str, command), "-o", str(tmp_path / "two.safetensors")]
    environment = python_environment | {"TQDM_MININTERVAL": "0"}  # each step draws the bar, on a fast machine, too
    options = {"capture_output": True, "text": True, "encoding": "utf-8", "timeout": 240}
    process = subprocess.run(torchrun, env=environment, cwd=tmp_path, **options)
    assert process.returncode == 0, process.stderr
    assert process.stdout.strip() == str(tmp_path / "two.safetensors")
    assert process.stderr.count("4_broken.jpg") <= 1 and process.stderr.count("3/3") == 2  # at the end, too
    assert close(tmp_path / "two.safetensors", load_file(tmp_path / "one.safetensors"))
