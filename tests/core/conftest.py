"""Fixtures for tests of training (a tiny run) and of the command."""

from __future__ import annotations

import dataclasses
import re
from functools import partial

import numpy as np
import pytest
import torch
from helpers import same_file
from perceptual_style.core import cli
from perceptual_style.core.errors import Cancelled
from perceptual_style.core.losses.objective import ObjectiveWeights
from perceptual_style.core.training import gradients, step_graph
from perceptual_style.core.training.style_recipes import StyleRecipe
from perceptual_style.core.training.train_style import StyleTraining, run_training
from PIL import Image
from safetensors.torch import load_file
from tape import Tape

RECIPE = StyleRecipe(
    name="tiny",
    arch="c3s1-4,d4,R4,n2,c3s1-3 padding=reflect",
    loss_network="vgg16",
    weights=ObjectiveWeights({"relu2_1": 1.0}, {"relu1_2": 4.0, "relu2_2": 4.0}, "relative", tv=0.1, tv_form="mean"),
    steps=8,
    batch_size=2,
    size=32,
    style_size=48,
    learning_rate=1e-2,
    schedule="cosine",
    warmup=2,
    clip=10.0,
)


@pytest.fixture(scope="session")
def training_photos(tmp_path_factory):
    """Nine photos of colored blocks and a broken one."""
    folder, random = tmp_path_factory.mktemp("photos"), np.random.default_rng(1)
    for n in range(9):
        pixels = random.integers(0, 256, (5, 6, 3), np.uint8).repeat(9, axis=0).repeat(8, axis=1)
        Image.fromarray(pixels).save(folder / f"{n}.png")
    (folder / "4_broken.jpg").write_bytes(b"\xff\xd8\xff broken")
    return folder


@pytest.fixture(scope="session")
def run_in(training_photos, loss_weights):
    """Function that makes a run writing ``name`` in a folder. Keywords change settings or recipe."""
    style = torch.rand(1, 3, 64, 80, generator=torch.Generator().manual_seed(5)).square()

    def make(folder, name: str = "style", **changes) -> StyleTraining:
        settings = {"precision": "fp32", "device": "cpu", "checkpoint_seconds": 1e9, "seed": 3}
        recipe_names = {field.name for field in dataclasses.fields(StyleRecipe)}
        recipe = dataclasses.replace(RECIPE, **{k: v for k, v in changes.items() if k in recipe_names})
        settings |= {k: v for k, v in changes.items() if k not in recipe_names}
        return StyleTraining(style, training_photos, folder / f"{name}.safetensors", recipe, loss_weights, **settings)

    return make


@pytest.fixture
def new_run(tmp_path, run_in):
    """Function that makes a run as ``run_in`` does, in the test's folder."""
    return partial(run_in, tmp_path)


@pytest.fixture(scope="session")
def uninterrupted(run_in, tmp_path_factory):
    """Tensors of the tiny run, trained without interruption."""
    torch.manual_seed(0)
    return load_file(run_training(run_in(tmp_path_factory.mktemp("uninterrupted"))))


@pytest.fixture(scope="session")
def stop_at():
    """Function that makes a progress callback which raises after ``step`` steps."""

    def make(step: int, error: BaseException | None = None):
        def callback(progress):
            if progress.done == step:
                raise error or Cancelled("stopped")

        return callback

    return make


@pytest.fixture(scope="session")
def same():
    """Function that returns whether a file holds exactly these tensors."""
    return same_file


@pytest.fixture
def resumes(new_run, same, stop_at):
    """Function that returns whether the tiny run with these settings gives the same file if it stops after ``step`` steps."""

    def check(step: int, **settings) -> bool:
        expected = load_file(run_training(new_run("expected", **settings)))
        run = new_run(**settings)
        with pytest.raises(Cancelled):
            run_training(run, stop_at(step))
        return same(run_training(run), expected)

    return check


@pytest.fixture
def run(capsys):
    """Function that runs the command and returns exit status, stdout and lines of stderr without progress bars."""

    def run(*arguments) -> tuple[int, str, list[str]]:
        try:
            status = cli.main([str(argument) for argument in arguments])
        except SystemExit as exit_:  # argparse exits
            status = exit_.code
        out, err = capsys.readouterr()
        assert "Traceback" not in err
        lines = err.replace("\r", "\n").splitlines()
        return (
            status,
            out,
            [line for line in lines if line.strip() and not re.search("photo/s|s/photo|frame/s", line)],
        )

    return run


@pytest.fixture
def refused(run):
    """Function that runs the command, expects status 2 and one line on stderr, and returns the line."""

    def refused(*arguments) -> str:
        status, out, lines = run(*arguments)
        assert (status, out, len(lines)) == (2, "", 1), lines
        assert lines[0].startswith("perceptual-style: ")
        return lines[0]

    return refused


@pytest.fixture
def replays(monkeypatch):
    """Record training steps on the CPU. A list of how often each recording was replayed."""
    counts: list[int] = []

    def record(run, device):
        tape, index = Tape(), len(counts)
        with tape:
            result = run()
        counts.append(0)

        def replay():
            counts[index] += 1
            tape.replay()

        return result, replay

    monkeypatch.setattr(step_graph, "record", record)
    monkeypatch.setattr(gradients, "can_record", lambda device: True)
    return counts
