"""Many photos: same results, overlapping steps, a bounded number in hand, nothing half-written."""

from __future__ import annotations

import threading
import time
from contextlib import closing
from functools import partial
from itertools import count

import numpy as np
import pytest
import torch
from perceptual_style.core import devices
from perceptual_style.core.batch import local
from perceptual_style.core.batch.local import Processor, Room, Treatment, process_photos
from perceptual_style.core.batch.places import plan_jobs
from perceptual_style.core.devices import pick_devices
from perceptual_style.core.errors import InputError
from perceptual_style.core.images.reading import read_image
from perceptual_style.core.models.style_model import StyleModel
from perceptual_style.core.models.upscale_model import UpscaleModel
from perceptual_style.core.network.transform_net import build_network
from perceptual_style.core.progress import Progress
from PIL import Image

ARCH = "c3s1-4,d4,R4,n2,c3s1-3 norm=instance padding=reflect output=tanh"
UPSCALER = "c3s1-4,R4,u4,c3s1-3 norm=none padding=replicate output=linear"
CPU = torch.device("cpu")
SECONDS = 60  # after which a test counts as stuck


@pytest.fixture
def model() -> StyleModel:
    return StyleModel(build_network(ARCH), "tiny")


@pytest.fixture
def photos(tmp_path):
    """Write ``number`` photos of noise to a folder and return the folder."""

    def make(number: int, size: int = 20, mode: str = "RGB"):
        folder = tmp_path / "in"
        folder.mkdir(exist_ok=True)
        for i in range(number):
            noise = np.random.default_rng(i).integers(0, 256, (size, size + i, len(mode)), np.uint8)
            Image.fromarray(noise).save(folder / f"{i:02}.png")
        return folder

    return make


@pytest.fixture
def jobs(photos, tmp_path):
    """Return a function that plans jobs for new photos, into the folder out."""
    return lambda *arguments: plan_jobs([str(photos(*arguments))], str(tmp_path / "out"))


def written(tmp_path) -> list[str]:
    """Return the names of all files in the folder out, hidden ones included."""
    return sorted(path.name for path in (tmp_path / "out").iterdir()) if (tmp_path / "out").exists() else []


@pytest.mark.parametrize("workers", [1, 3])
def test_results_equal_model(workers, model, jobs):
    planned = jobs(9)
    outcomes = list(process_photos(planned, Treatment(model, model.stylize), [CPU] * workers))
    assert {outcome.job for outcome in outcomes} == set(planned) and len(outcomes) == 9
    for outcome in outcomes:
        assert (outcome.error, outcome.warning) == (None, None)
        assert "px, working in" in outcome.note and outcome.job.source in outcome.note
        expected = model.stylize(read_image(outcome.job.source).pixels)
        assert (read_image(outcome.job.target).pixels - expected).abs().max() <= 0.5 / 255 + 1e-6


def test_alpha_is_enlarged_with_photo(jobs):
    model = UpscaleModel(build_network(UPSCALER), "tiny")
    (outcome,) = process_photos(jobs(1, 9, "RGBA"), Treatment(model, partial(model.upscale, match_colors=True)), [CPU])
    assert outcome.error is None
    assert read_image(outcome.job.target).alpha.shape == (1, 1, 18, 18)


def test_next_photo_is_read_while_one_is_computed(model, jobs, monkeypatch):
    second_is_read, reads = threading.Event(), count(1)

    def decode(*arguments):
        image = original(*arguments)
        if next(reads) == 2:
            second_is_read.set()
        return image

    def compute(pixels, **_):
        assert second_is_read.wait(SECONDS), "the second photo waits for the first one"
        return pixels

    original = local.decode_image
    monkeypatch.setattr(local, "decode_image", decode)
    assert [each.error for each in process_photos(jobs(2), Treatment(model, compute), [CPU])] == [None, None]


def test_next_photo_is_computed_while_one_is_written(model, jobs, monkeypatch):
    second_is_computed, computed = threading.Event(), count(1)

    def compute(pixels, **_):
        if next(computed) == 2:
            second_is_computed.set()
        return pixels

    def write(*_):
        assert second_is_computed.wait(SECONDS), "the second photo waits for the first one"

    monkeypatch.setattr(local, "write_photo", write)
    assert [each.error for each in process_photos(jobs(2), Treatment(model, compute), [CPU])] == [None, None]


@pytest.fixture
def crowd(monkeypatch):
    """Count how many photos are in hand and how many are computed at once, and keep the maximum of each."""

    class Crowd:
        def __init__(self) -> None:
            self.now, self.most, self.lock = (
                {"in hand": 0, "computed": 0},
                {"in hand": 0, "computed": 0},
                threading.Lock(),
            )

        def change(self, what: str, by: int) -> None:
            with self.lock:
                self.now[what] += by
                self.most[what] = max(self.most[what], self.now[what])

        def compute(self, pixels, **_):
            self.change("computed", 1)
            time.sleep(0.01)  # long enough for others to start if they could
            self.change("computed", -1)
            return pixels

    crowd = Crowd()
    decode, write = local.decode_image, local.write_photo

    def decoded(*arguments):
        crowd.change("in hand", 1)
        return decode(*arguments)

    def written(*arguments):
        write(*arguments)
        crowd.change("in hand", -1)

    monkeypatch.setattr(local, "decode_image", decoded)
    monkeypatch.setattr(local, "write_photo", written)
    return crowd


@pytest.mark.parametrize("workers", [1, 2])
def test_photos_in_hand_are_bounded(workers, model, jobs, crowd):
    assert len(list(process_photos(jobs(30), Treatment(model, crowd.compute), [CPU] * workers))) == 30
    assert crowd.most["computed"] <= workers
    assert 1 < crowd.most["in hand"] <= workers + local._SPARE_ON_CPU


def test_large_photos_are_processed_singly_with_all_cores(model, jobs, crowd, monkeypatch):
    monkeypatch.setattr(local, "free_memory", lambda device: 1000)
    threads = []

    def compute(pixels, **options):
        threads.append(torch.get_num_threads())
        return crowd.compute(pixels, **options)

    usual = torch.get_num_threads()
    processor = Processor(Treatment(model, compute), [CPU] * 4, cores=4)
    hands = [threading.Thread(target=processor, args=[job]) for job in jobs(6)]
    for hand in hands:
        hand.start()
    for hand in hands:
        hand.join(SECONDS)
    assert crowd.most == {"in hand": 1, "computed": 1}
    assert threads == [4] * 6 and torch.get_num_threads() == usual


def test_memory_budget_is_shared_by_concurrent_photos(model, jobs, crowd):
    planned = jobs(8)
    needs = [model.working_bytes(*Image.open(job.source).size[::-1], CPU, "auto", 2**30) for job in planned]
    budget = int(1.9 * min(needs))  # enough for any of them, never for two
    assert max(needs) <= budget
    outcomes = list(process_photos(planned, Treatment(model, crowd.compute, memory=budget), [CPU] * 3))
    assert [each.error for each in outcomes] == [None] * 8
    assert crowd.most["computed"] == 1


def test_each_device_has_its_own_network(model, jobs):
    devices, barrier, networks = [CPU, torch.device("cpu", 0)], threading.Barrier(2, timeout=SECONDS), []

    def compute(self, pixels, **_):
        networks.append(self.network)
        barrier.wait()  # both run at the same time
        return pixels

    treatment = Treatment(model, compute.__get__(model))
    assert [each.error for each in process_photos(jobs(2), treatment, devices)] == [None, None]
    assert networks[0] is not networks[1] and model.network in networks


def test_failed_photos_are_reported_and_others_continue(model, jobs, photos, tmp_path):
    def compute(pixels, **options):
        if pixels.shape[-1] == 22:
            raise RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory")
        return model.stylize(pixels, **options)

    (photos(4) / "01.png").write_text("no picture")
    (tmp_path / "out" / "03.png").mkdir(parents=True)
    planned = plan_jobs([str(tmp_path / "in")], str(tmp_path / "out"))
    outcomes = {each.job.source[-6:]: each.error for each in process_photos(planned, Treatment(model, compute), [CPU])}
    assert outcomes["00.png"] is None
    assert "expected an image" in outcomes["01.png"]
    assert "not enough memory" in outcomes["02.png"] and "02.png" in outcomes["02.png"]
    assert "cannot write" in outcomes["03.png"]
    assert written(tmp_path) == ["00.png", "03.png"]


def test_programming_errors_are_raised(model, jobs):
    def compute(pixels, **_):
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    with pytest.raises(RuntimeError, match="mat1 and mat2"):
        list(process_photos(jobs(3), Treatment(model, compute), [CPU]))


def test_closing_stops_work_and_leaves_no_half_file(model, jobs, tmp_path):
    eleventh = threading.Event()

    def compute(pixels, progress, **_):
        if pixels.shape[-1] >= 30:  # the eleventh photo, and all after it
            eleventh.set()
            deadline = time.monotonic() + SECONDS
            while time.monotonic() < deadline:
                progress(Progress(1, 2))
                time.sleep(0.001)
        return pixels

    before = threading.active_count()
    with closing(process_photos(jobs(20), Treatment(model, compute), [CPU])) as outcomes:
        assert next(outcomes).error is None
        assert eleventh.wait(SECONDS)
    assert threading.active_count() == before
    assert set(written(tmp_path)) <= {f"{i:02}.png" for i in range(10)}, "an unfinished result exists"


@pytest.mark.slow
def test_leftovers_of_killed_process_are_removed(model, jobs, run_python, tmp_path):
    planned = jobs(1)
    (tmp_path / "out").mkdir()
    script = "import os, sys; from perceptual_style.core.files import atomic_write\n"
    script += "with atomic_write(sys.argv[1]) as file:\n    file.write_bytes(b'half')\n    os._exit(9)"
    assert run_python(script, tmp_path / "out" / "other.png").returncode == 9
    assert len(written(tmp_path)) == 1
    list(process_photos(planned, Treatment(model, model.stylize), [CPU]))
    assert written(tmp_path) == ["00.png"]


def test_no_jobs_give_no_outcomes(model):
    assert list(process_photos([], Treatment(model, model.stylize), [CPU] * 2)) == []


def test_pick_devices(monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: 5)
    assert pick_devices("cpu") == [CPU] * 5 and pick_devices("cpu", 2) == [CPU] * 2
    for workers in (0, -1):
        with pytest.raises(InputError, match="expected 1 or more"):
            pick_devices("cpu", workers)
    monkeypatch.setattr(devices, "pick_device", lambda name: torch.device("cuda"))
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)
    cuda = [torch.device("cuda", index) for index in range(3)]
    assert pick_devices("auto") == cuda and pick_devices("auto", 2) == cuda[:2]
    assert pick_devices("auto", 4) == [*cuda, cuda[0]] and pick_devices("cuda") == [torch.device("cuda")]


def in_threads(use, sizes):
    threads = [threading.Thread(target=use, args=[size], daemon=True) for size in sizes]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(SECONDS)


def test_room_is_never_exceeded_and_too_large_requests_run_alone():
    room, lock, taken, most = Room(100), threading.Lock(), [], []

    def use(size):
        for _ in range(20):
            with room.take(size):
                with lock:
                    taken.append(size)
                    most.append(list(taken))
                time.sleep(0.0005)
                with lock:
                    taken.remove(size)

    in_threads(use, (10, 30, 60, 100, 500))
    assert len(most) == 100
    assert all(sum(each) <= 100 or each == [500] for each in most)


def test_requests_that_fit_together_have_room_at_once():
    room, together, met = Room(100), threading.Barrier(3, timeout=SECONDS), []

    def use(size):
        with room.take(size):
            met.append(together.wait())

    in_threads(use, (10, 30, 60))
    assert sorted(met) == [0, 1, 2]
