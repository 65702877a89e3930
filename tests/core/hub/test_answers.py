"""Answers that are not the Hub's: pages of proxies, missing headers, unreadable redirects, and busy servers."""

from __future__ import annotations

import inspect
import random
import time
from datetime import datetime, timedelta, timezone
from email.utils import format_datetime
from types import SimpleNamespace

import helpers
import pytest
from huggingface_hub import file_download
from perceptual_style.core.errors import Cancelled, HubError
from perceptual_style.core.hub import fetch as hub_fetch
from perceptual_style.core.hub import patience
from perceptual_style.core.hub.loss_networks import fetch_tensors
from perceptual_style.core.hub.manifest import Entry, HubFile
from perceptual_style.core.hub.patience import Patience, retry_after

REVISION = "1234567890" * 4
DATA = random.Random(5).randbytes(300_000)
PAGE = b"<!DOCTYPE html><html><title>Sign in to the airport</title></html>"


def _hub_waits() -> bool:
    """Whether huggingface_hub itself tries again after status 429, as some versions below 1.0 do for heads of files."""
    request = getattr(file_download, "_request_wrapper", None)
    return request is not None and "429" in inspect.getsource(request)


waits_here = pytest.mark.skipif(_hub_waits(), reason="this huggingface_hub waits for busy servers itself")


@pytest.fixture
def no_sleep(monkeypatch):
    """A clock that waiting moves on; returns the seconds slept so far."""
    slept: list[float] = []
    clock = SimpleNamespace(monotonic=lambda: sum(slept), sleep=slept.append)
    monkeypatch.setattr(patience, "time", clock)
    return slept


def refusal(entry, **options) -> str:
    text = helpers.refusal(HubError, hub_fetch.fetch, entry, **options)
    assert text.startswith("wave was not downloaded: ") and "in a browser" in text
    return text


@pytest.mark.parametrize("hidden", [{"ETag"}, {"ETag", "X-Repo-Commit"}, {"X-Repo-Commit"}])
def test_server_without_etag_is_read_and_verified(hidden, entry, hub_standin, tmp_path):
    hub_standin.hidden = hidden
    assert hub_fetch.fetch(entry, folder=tmp_path / "models").read_bytes() == DATA
    hub_standin.files[f"some/styles/resolve/{REVISION}/Wave.pth"] = DATA[:-1] + b"x"
    hub_standin.hidden = {"ETag"}
    assert "wrong bytes" in refusal(entry, folder=tmp_path / "others")


def test_page_of_a_proxy_is_named(entry, hub_standin, tmp_path):
    hub_standin.body, hub_standin.hidden = PAGE, {"ETag", "X-Repo-Commit"}
    assert "perhaps the page of a proxy" in refusal(entry)
    assert list(tmp_path.rglob("*.pth")) == []


def test_page_instead_of_a_loss_network_is_named(hub_standin, use_hub, tmp_path):
    hub_standin.put("some/vgg", REVISION, "model.safetensors", PAGE)
    hub_standin.hidden = {"ETag", "X-Repo-Commit"}
    vgg = Entry(
        "vgg16", "VGG", "loss-network", sha256="0" * 64, family="vgg16", hub=HubFile("some/vgg", REVISION, "model.safetensors")
    )  # fmt: skip
    text = helpers.refusal(HubError, fetch_tensors, vgg, "relu1_1", folder=tmp_path)
    assert "is not a safetensors file but a web page, perhaps that of a proxy" in text


@pytest.mark.parametrize("location", [
    "http://[::1", "http://127.0.0.1:99999/", "http://exa mple:80/", "https://" + "a" * 70 + ".invalid/", "ftp", "",
])  # fmt: skip
def test_redirect_to_an_unreadable_address_is_one_line(location, entry, hub_standin):
    hub_standin.location = location
    refusal(entry)


@waits_here
def test_busy_server_is_waited_for_visibly(entry, hub_standin, no_sleep, tmp_path):
    hub_standin.busy, seen = ["3", "2"], []
    assert hub_fetch.fetch(entry, folder=tmp_path / "models", progress=seen.append).read_bytes() == DATA
    assert sum(no_sleep) == pytest.approx(5) and max(no_sleep) <= 1
    notes = [note for progress in seen for note in progress.notes]
    assert notes == [f"the server is busy and asks to wait {n} s" for n in (3, 2)]
    assert all(0 <= progress.done <= progress.total for progress in seen)


def test_waiting_can_be_interrupted(entry, hub_standin, tmp_path):
    hub_standin.busy, calls = ["50"], []

    def progress(state):
        calls.append(state)
        if len(calls) == 2:
            raise Cancelled("enough")

    started = time.monotonic()
    with pytest.raises(Cancelled, match="enough"):
        hub_fetch.fetch(entry, folder=tmp_path / "models", progress=progress)
    assert time.monotonic() - started < 20 and len(calls) == 2


@waits_here
@pytest.mark.parametrize(("busy", "later"), [
    (["61"], "in 61 s"), (["40", "30"], "in 30 s"), ([None], "later"), (["soon"], "later"), (["-3"], "later"),
])  # fmt: skip
def test_longer_or_unknown_waits_are_an_error(busy, later, entry, hub_standin, no_sleep):
    hub_standin.busy = list(busy)
    assert f"status 429; try again {later}" in refusal(entry)
    assert sum(no_sleep) <= 60


@waits_here
def test_server_that_asks_again_and_again_is_given_up(entry, hub_standin, no_sleep):
    hub_standin.busy = ["0"] * 100
    assert "status 429" in refusal(entry)
    assert sum(no_sleep) == pytest.approx(60) and len(hub_standin.busy) == 100 - 61


def test_time_to_wait_may_be_a_date():
    def answer(text, status=429):
        return SimpleNamespace(response=SimpleNamespace(status_code=status, headers={"Retry-After": text}))

    soon = datetime.now(timezone.utc) + timedelta(seconds=30)
    assert retry_after(answer(format_datetime(soon, usegmt=True))) == pytest.approx(30, abs=2)
    assert retry_after(answer("Wed, 21 Oct 2015 07:28:00 GMT")) == 0
    assert retry_after(answer("7", 503)) == 7 and retry_after(answer("7", 500)) is None
    assert retry_after(ValueError()) is None and not Patience().waits(ValueError())
