"""Photos on two Ray workers: each is processed once and completely, whatever happens to a worker."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import numpy as np
import psutil
import pytest
import torch
from perceptual_style.core.batch import ray_cluster as cluster
from perceptual_style.core.batch.local import Treatment
from perceptual_style.core.batch.places import Job, plan_jobs
from perceptual_style.core.checkpoints.own_format import save_network
from perceptual_style.core.errors import InputError
from perceptual_style.core.images.reading import read_image
from perceptual_style.core.models.style_model import StyleModel, load_style
from perceptual_style.core.network.transform_net import build_network
from PIL import Image

ARCH = "c9s1-8,d16,d16,R16x2,n2,c3s1-16,n2,c3s1-8,c9s1-3 norm=instance padding=reflect output=tanh"
MAIN = "import sys; from perceptual_style.core.cli import main; sys.exit(main(sys.argv[1:]))"
SECONDS = 600

pytestmark = pytest.mark.slow


@pytest.fixture
def environment(python_environment):
    """Return an environment in which workers find this repository and run at normal priority."""
    pytest.importorskip("ray", reason="ray is not installed")
    return {**python_environment, "RAY_worker_niceness": "0"}


def photos(folder, number: int, size: int = 64):
    folder.mkdir()
    for i in range(number):
        noise = np.random.default_rng(i).integers(0, 256, (size, size, 3), np.uint8)
        Image.fromarray(noise).save(folder / f"{i:03}.png")
    return folder


def wait_for(found, process: subprocess.Popen):
    deadline = time.monotonic() + SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        if value := found():
            return value
        time.sleep(0.05)
    raise AssertionError(f"the process ended with {process.poll()}, or nothing happened in time")


@pytest.mark.skipif(os.name == "nt", reason="needs POSIX signals")
def test_killed_worker_loses_no_photo(environment, tmp_path):
    source, target, style = photos(tmp_path / "in", 200), tmp_path / "out", tmp_path / "tiny.safetensors"
    save_network(style, build_network(ARCH), {"task": "style", "name": "tiny"})
    (source / "050.png").write_text("no picture")
    command = [sys.executable, "-c", MAIN, "stylize", str(source), "-o", str(target), "--style", str(style)]
    command += ["--ray", "local", "--workers", "2"]
    process = subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, encoding="utf-8"
    )

    def whole():
        return [path for path in target.glob("*.png") if not path.name.startswith(".")]

    try:
        wait_for(lambda: len(whole()) >= 60, process)
        family = psutil.Process(process.pid).children(recursive=True)
        workers = [each for each in family if each.name().startswith("ray::Worker")]
        assert len(workers) == 2
        workers[0].send_signal(signal.SIGKILL)
        written = {path.name: path.stat().st_ino for path in whole()}
        assert len(written) < 190, "the worker was killed too late"
        out, err = process.communicate(timeout=SECONDS)
    finally:
        process.kill()
    assert (process.returncode, out) == (2, "") and "Traceback" not in err.split("perceptual-style: ")[-1]
    assert "050.png: expected an image" in err
    expected = {f"{i:03}.png" for i in range(200)} - {"050.png"}
    assert {path.name for path in target.iterdir()} == expected, "a result is missing, or a leftover exists"
    model = load_style(style)
    for name in sorted(expected)[::7]:
        result = model.stylize(read_image(source / name).pixels)
        assert (read_image(target / name).pixels - result).abs().max() <= 0.5 / 255 + 1e-6
    for path in target.iterdir():
        read_image(path)  # complete
    assert {name: (target / name).stat().st_ino for name in written} == written, "a result was written twice"


def test_photo_that_kills_workers_is_reported_and_others_continue(environment, tmp_path, monkeypatch):
    from ray import cloudpickle

    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    cloudpickle.register_pickle_by_value(sys.modules[__name__])
    model = StyleModel(build_network("c3s1-3"), "tiny")

    def compute(pixels, **_):
        if pixels.shape[-1] == 65:
            os._exit(1)
        return pixels

    source = photos(tmp_path / "in", 12)
    Image.new("RGB", (65, 64)).save(source / "005.png")
    jobs = plan_jobs([str(source)], str(tmp_path / "out"))
    found = cluster.process_on_ray(jobs, Treatment(model, compute), workers=1)
    outcomes = {each.job.source[-7:]: each.error for each in found}
    assert len(outcomes) == 12
    assert "each worker that had" in outcomes.pop("005.png")
    assert set(outcomes.values()) == {None}
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == sorted(outcomes)


def test_unreachable_cluster_is_an_error(environment, monkeypatch):
    treatment, jobs = Treatment(StyleModel(build_network("c3s1-3"), "tiny"), torch.clone), [Job("a.png", "b.png")]
    for address in ("127.0.0.1:9", "ray://127.0.0.1:9"):
        with pytest.raises(InputError, match=f"there is no Ray cluster at '{address}'"):
            cluster.process_on_ray(jobs, treatment, address)
    with pytest.raises(InputError, match="number of workers is 0"):
        cluster.process_on_ray(jobs, treatment, workers=0)
    assert list(cluster.process_on_ray([], treatment)) == []
