"""A checkpoint of a training run is checked before it is used: damaged or edited ones are rejected in one line."""

from __future__ import annotations

import dataclasses
import os
import shutil

import numpy as np
import pytest
import torch
from perceptual_style.core.checkpoints.own_format import load_network, load_tensors, save_tensors
from perceptual_style.core.errors import Cancelled, CheckpointError, ImageError, TrainingError
from perceptual_style.core.evaluation.upscalers import _inspect
from perceptual_style.core.training import saved_state
from perceptual_style.core.training import state as training_state
from perceptual_style.core.training.train_style import run_training
from PIL import Image


@pytest.fixture(scope="module")
def checkpoint(run_in, stop_at, tmp_path_factory):
    """The checkpoint of a run that was stopped after 3 of its 8 steps."""
    torch.manual_seed(0)
    run = run_in(tmp_path_factory.mktemp("stopped"))
    with pytest.raises(Cancelled):
        run_training(run, stop_at(3))
    return run.checkpoint


@pytest.fixture
def stopped(new_run, checkpoint):
    """A run that was stopped after 3 of its 8 steps."""
    run = new_run()
    shutil.copy(checkpoint, run.checkpoint)
    return run


def _earlier(run, tensors, header):
    """Return a checkpoint as earlier versions wrote it."""
    photos = sorted(run.content.iterdir())
    return tensors, {
        "format": 1,
        "task": "training",
        "step": 3,
        "run": training_state._as_of_format_1(header["run"], photos),
    }


def _signed(tensors, header):
    """Return a checkpoint with a digest that fits."""
    return tensors, {**header, "digest": saved_state.digest(tensors, header)}


def test_checkpoint_of_the_first_format_resumes_bit_for_bit(stopped, uninterrupted, same):
    tensors, header = _earlier(stopped, *load_tensors(stopped.checkpoint))
    renamed = {key.replace("optimizer.", "adam."): tensor for key, tensor in tensors.items()}
    save_tensors(stopped.checkpoint, renamed, header)
    assert same(run_training(stopped), uninterrupted)


def test_result_of_an_earlier_version_is_not_trained_again(stopped):
    path = run_training(stopped)
    tensors, header = load_tensors(path)
    header["run"] = training_state._as_of_format_1(header["run"], sorted(stopped.content.iterdir()))
    save_tensors(path, tensors, header)
    before = path.read_bytes()
    assert run_training(stopped) == path and path.read_bytes() == before


def test_checkpoint_is_format_2_and_no_network(stopped):
    header = load_tensors(stopped.checkpoint)[1]
    assert header["format"] == 2 and len(header["digest"]) == 64
    with pytest.raises(CheckpointError, match="unfinished training run"):
        load_network(stopped.checkpoint)


def _changed(key, change):
    return lambda tensors, header: ({**tensors, key: change(tensors[key])}, header)


def _without(key):
    return lambda tensors, header: ({k: t for k, t in tensors.items() if k != key}, header)


def _with(**facts):
    return lambda tensors, header: (tensors, {**header, **facts})


FIRST, MOMENT = "network.stages.0.conv.weight", "optimizer.stages.0.conv.weight.exp_avg"
DAMAGE = [
    (_with(step=-1), "step -1 of 8"), (_with(step=9), "step 9 of 8"), (_with(step="3"), "step '3' of 8"),
    (_with(step=True), "step True of 8"), (_with(step=3.0), "step 3.0 of 8"), (_with(step=None), "step None of 8"),
    (_with(step=2), "losses of its 2 steps"), (_with(run=None), "which run"), (_with(run=[1]), "which run"),
    (_without(FIRST), f"{FIRST} is missing"), (_without(MOMENT), "optimizer's state of stages.0.conv.weight"),
    (_without("history"), "are missing"), (_changed(FIRST, lambda t: t * torch.nan), "nan or infinite"),
    (_changed(FIRST, lambda t: t[:2]), "expected .4, 3, 3, 3. of float32"), (_changed(FIRST, torch.Tensor.half), "of float16"),
    (_changed(MOMENT, lambda t: t * torch.inf), "nan or infinite"), (_changed(MOMENT, lambda t: t[:1]), "expected"),
    (_changed(MOMENT + "_sq", lambda t: t - 1), "below 0"), (_changed("history", lambda t: t[:2]), "losses of its 3 steps"),
    (_changed("history", torch.Tensor.float), "losses of its 3 steps"),
    (lambda tensors, header: ({**tensors, "more": torch.ones(1)}, header), "more"),
    (lambda tensors, header: ({k: t for k, t in tensors.items() if not k.startswith("optimizer")}, header), "missing"),
    (lambda tensors, header: ({**tensors, "average.stages.0.conv.weight": tensors[FIRST].clone()}, header), "average"),
]  # fmt: skip


@pytest.mark.parametrize(("damage", "named"), DAMAGE)
@pytest.mark.parametrize("earlier", [False, True])
def test_every_field_is_checked(damage, named, earlier, stopped):
    tensors, header = load_tensors(stopped.checkpoint)
    tensors, header = _earlier(stopped, tensors, header) if earlier else (tensors, header)
    tensors, header = damage(tensors, header)
    save_tensors(stopped.checkpoint, *((tensors, header) if earlier else _signed(tensors, header)))
    before = stopped.checkpoint.read_bytes()
    with pytest.raises(CheckpointError, match=named) as caught:
        run_training(stopped)
    text = str(caught.value)
    assert "\n" not in text and str(stopped.checkpoint) in text and "remove it to start over" in text
    assert stopped.checkpoint.read_bytes() == before and not stopped.out.exists()


@pytest.mark.parametrize(
    "change", [_changed(FIRST, lambda t: t + 1e-4), _with(step=2), _with(digest=None), _with(digest=5)]
)
def test_changes_that_no_field_shows_are_found_by_the_digest(change, stopped):
    tensors, header = change(*load_tensors(stopped.checkpoint))
    tensors["history"] = tensors["history"][: header["step"]]
    save_tensors(stopped.checkpoint, tensors, header)
    with pytest.raises(CheckpointError, match="differs from its digest"):
        run_training(stopped)


@pytest.mark.parametrize("format", [0, 3, "2", 2.0, True, None])
def test_unknown_format_is_rejected(format, stopped):
    tensors, header = load_tensors(stopped.checkpoint)
    save_tensors(stopped.checkpoint, tensors, {**header, "format": format})
    with pytest.raises(CheckpointError, match="this version reads format 2"):
        run_training(stopped)


def test_network_with_the_checkpoints_name_is_rejected(stopped, new_run):
    run_training(new_run("other")).replace(stopped.checkpoint)
    with pytest.raises(TrainingError, match="is not the checkpoint of a training run"):
        run_training(stopped)


def test_flipped_bits_are_never_believed(stopped, uninterrupted, same):
    whole = stopped.checkpoint.read_bytes()
    random = np.random.default_rng(4)
    outcomes = set()
    for _ in range(40):
        data = bytearray(whole)
        data[random.integers(len(data))] ^= 1 << int(random.integers(8))
        stopped.checkpoint.write_bytes(data)
        try:
            run_training(stopped)
        except (CheckpointError, TrainingError) as error:
            assert "\n" not in str(error)
            outcomes.add("rejected")
        else:  # a byte that means nothing, such as padding
            assert same(stopped.out, uninterrupted)
            outcomes.add("believed")
            stopped.out.unlink()
    assert "rejected" in outcomes


def test_photos_are_known_by_content(new_run, stop_at, training_photos, tmp_path):
    """Photos of the same name and size are others; the same photos under other names and dates are the same."""
    folder = tmp_path / "photos"
    shutil.copytree(training_photos, folder)
    for path in folder.iterdir():
        path.rename(path.with_name(f"renamed_{path.name}"))
    with pytest.raises(Cancelled):
        run_training(new_run(), stop_at(3))
    with pytest.raises(Cancelled):
        run_training(dataclasses.replace(new_run(), content=folder), stop_at(5))
    assert load_tensors(new_run().checkpoint)[1]["step"] == 5
    photo = folder / "renamed_0.png"
    data = bytearray(photo.read_bytes())
    data[len(data) // 2] ^= 1
    photo.write_bytes(data)
    with pytest.raises(TrainingError, match="another photos;"):
        run_training(dataclasses.replace(new_run(), content=folder))


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_pipes_among_photos_do_not_hang(tmp_path):
    os.mkfifo(tmp_path / "a.png")
    assert training_state._photo_digest(tmp_path / "a.png") == "unreadable"
    with pytest.raises(ImageError, match="a pipe or a device"):
        _inspect(tmp_path / "a.png")


@pytest.mark.parametrize("place", [0, 1, 5000, -1])
def test_parts_of_large_photos_are_read(place, tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (200, 300, 3), np.uint8)
    for name in ("a.bmp", "b.bmp"):
        Image.fromarray(pixels).save(tmp_path / name)
    data = bytearray((tmp_path / "a.bmp").read_bytes())
    data[place] ^= 1
    (tmp_path / "b.bmp").write_bytes(data)
    digests = [training_state._photo_digest(tmp_path / name) for name in ("a.bmp", "b.bmp", "missing.bmp")]
    assert len(set(digests)) == 3 and len(data) > 65536


def test_command_rejects_damaged_checkpoint_in_one_line(refused, stopped, tmp_path, training_photos, deep_loss_weights):
    Image.fromarray(np.zeros((80, 80, 3), np.uint8)).save(tmp_path / "painting.png")
    stopped.checkpoint.write_bytes(stopped.checkpoint.read_bytes()[:-5])
    command = ["train-style", tmp_path / "painting.png", "--content", training_photos, "-o", stopped.out]
    text = refused(*command, "--loss-weights", deep_loss_weights, "--recipe", "paper", "--steps", "1")
    assert f"{stopped.checkpoint} is not a readable safetensors file" in text
