"""Downloads by name from a stand-in for the Hub: complete, interrupted, wrong, refused, offline, concurrent."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import random
import shutil
import time
from pathlib import Path

import helpers
import pytest
import torch
from foreign_files import make
from huggingface_hub import constants, hf_hub_download, scan_cache_dir, try_to_load_from_cache, utils
from perceptual_style.core.cli import main
from perceptual_style.core.errors import Cancelled, CheckpointError, HubError
from perceptual_style.core.hub import checksums, manifest
from perceptual_style.core.hub import fetch as hub_fetch
from perceptual_style.core.hub import ranges as hub_ranges
from perceptual_style.core.hub.manifest import HubFile
from perceptual_style.core.hub.places import own_folder, place_of
from perceptual_style.core.models.style_model import load_style

REVISION = "1234567890" * 4
DATA = random.Random(4).randbytes(3_000_000)
CHUNK = 2**16  # older versions of huggingface_hub lose less than this at the end of a broken connection


@pytest.fixture(params=["cache", "folder"])
def folder(request, tmp_path):
    """Both places for downloads: the Hub's cache (None), and a host's folder of models."""
    return None if request.param == "cache" else tmp_path / "models" / "fast_style"


def visible(tmp_path) -> list[str]:
    """Return the names of all files that look like a network."""
    return [path.name for path in tmp_path.rglob("*.pth")]


def refusal(entry, **options) -> str:
    """Return the one-line error of a download."""
    assert issubclass(HubError, CheckpointError)
    return helpers.refusal(HubError, hub_fetch.fetch, entry, **options)


def test_file_is_downloaded_once(entry, folder, hub_standin):
    assert hub_fetch.find(entry, folder) is None and not hub_fetch.is_downloaded(entry, folder)
    path = hub_fetch.fetch(entry, folder=folder)
    assert path.read_bytes() == DATA
    assert hub_fetch.is_downloaded(entry, folder) and hub_fetch.find(entry, folder) == path
    requests = len(hub_standin.requests)
    assert hub_fetch.fetch(entry, folder=folder) == path
    assert len(hub_standin.requests) == requests
    if folder is not None:
        assert [each.name for each in folder.iterdir()] == ["wave.pth"]
    else:
        loaded = try_to_load_from_cache("some/styles", "Wave.pth", revision=REVISION, cache_dir=constants.HF_HUB_CACHE)
        assert loaded == str(path)


def test_progress_reports_bytes(entry, folder):
    seen = []
    hub_fetch.fetch(entry, folder=folder, progress=lambda p: seen.append((p.done, p.total)))
    assert seen[-1] == (len(DATA), len(DATA)) and seen == sorted(seen)


def test_broken_connection_is_resumed(entry, folder, hub_standin):
    hub_standin.cuts = 1
    assert hub_fetch.fetch(entry, folder=folder).read_bytes() == DATA
    starts = [
        int(wanted.removeprefix("bytes=").removesuffix(f"-{len(DATA) - 1}")) for _, _, wanted in hub_standin.gets()
    ]
    lost = hub_standin.sent - len(DATA)
    assert starts == [0, len(DATA) // 2 - lost] and 0 <= lost <= CHUNK


def test_server_without_ranges_starts_over(entry, folder, hub_standin):
    hub_standin.cuts, hub_standin.ranges = 1, False
    assert hub_fetch.fetch(entry, folder=folder).read_bytes() == DATA


def test_bytes_are_kept_after_giving_up_on_the_connection(entry, folder, hub_standin, monkeypatch):
    monkeypatch.setattr(hub_ranges.time, "sleep", lambda _: None)
    hub_standin.cuts, hub_standin.cut_at = 10**9, 0.25
    assert "the connection to the Hub failed" in refusal(entry, folder=folder)
    hub_standin.cuts, sent = 0, hub_standin.sent
    assert hub_fetch.fetch(entry, folder=folder).read_bytes() == DATA
    assert 0 <= hub_standin.sent - sent - len(DATA) * 3 // 4 <= CHUNK


@pytest.mark.parametrize("etag", [None, "0" * 40], ids=["sha256 stated", "sha256 not stated"])
def test_wrong_file_on_the_hub_leaves_nothing(entry, folder, hub_standin, tmp_path, etag):
    (name,) = hub_standin.files
    hub_standin.files[name] = DATA[:-1] + b"?"
    hub_standin.etags = {name: etag}
    line = refusal(entry, folder=folder)
    assert "wrong bytes" in line and hub_standin.endpoint in line
    assert visible(tmp_path) == [] and hub_fetch.find(entry, folder) is None
    hub_standin.files[name] = DATA
    assert hub_fetch.fetch(entry, folder=folder).read_bytes() == DATA


def test_bytes_that_differ_from_the_etag_leave_nothing(entry, folder, hub_standin, tmp_path):
    hub_standin.body = DATA[:-1] + b"?"
    assert "wrong bytes came" in refusal(entry, folder=folder)
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and path.stat().st_size > 1000]


@pytest.mark.parametrize(
    ("status", "code", "message"),
    [
        (
            404,
            "EntryNotFound",
            f"Wave.pth does not exist at revision {REVISION[:12]} of some/styles (status 404); update this package",
        ),
        (404, "RevisionNotFound", "does not exist at revision 123456789012 of some/styles (status 404)"),
        (401, "", "refuses access to some/styles (status 401); log in with `hf auth login`, or set HF_TOKEN"),
        (401, "RepoNotFound", "refuses access to some/styles (status 401)"),
        (403, "GatedRepo", "some/styles is gated (status 403); accept its conditions"),
    ],
)
def test_refusals_of_the_hub_say_what_to_do(entry, folder, hub_standin, tmp_path, status, code, message):
    hub_standin.status, hub_standin.error_code = status, code
    line = refusal(entry, folder=folder)
    assert message in line and f"{hub_standin.endpoint}/some/styles/resolve/{REVISION}/Wave.pth in a browser" in line
    assert str(place_of(entry, folder)) in line
    assert visible(tmp_path) == []


def test_slow_hub_is_waited_for(entry, folder, hub_standin):
    hub_standin.delay = 0.02
    assert hub_fetch.fetch(entry, folder=folder).read_bytes() == DATA


def test_offline_mode_uses_only_downloaded_files(entry, folder, monkeypatch, hub_standin):
    def set_offline(offline: bool) -> None:
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", offline)
        getattr(utils, "reset_sessions", lambda: None)()

    set_offline(True)
    line = refusal(entry, folder=folder)
    assert "offline mode; unset HF_HUB_OFFLINE, or download" in line
    assert hub_standin.requests == []
    set_offline(False)
    path = hub_fetch.fetch(entry, folder=folder)
    set_offline(True)
    assert hub_fetch.fetch(entry, folder=folder) == path


def test_full_disk_is_reported_before_the_download(entry, folder, monkeypatch, tmp_path):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: type("Usage", (), {"free": 1000})())
    assert "the disk is full; make room in " in refusal(entry, folder=folder)
    assert visible(tmp_path) == []


def test_exception_from_progress_stops_the_download(entry, folder, tmp_path):
    def stop(progress):
        raise Cancelled("stopped")

    with pytest.raises(Cancelled, match="stopped"):
        hub_fetch.fetch(entry, folder=folder, progress=stop)
    assert visible(tmp_path) == []


def test_file_put_in_place_by_hand_is_used(entry, folder, hub_standin):
    path = place_of(entry, folder)
    path.parent.mkdir(parents=True)
    path.write_bytes(DATA)
    assert hub_fetch.fetch(entry, folder=folder) == path
    assert hub_standin.requests == []


def test_file_with_its_name_on_the_hub_is_used(entry, tmp_path, hub_standin):
    (tmp_path / "Wave.pth").write_bytes(DATA)
    assert hub_fetch.fetch(entry, folder=[tmp_path / "first", tmp_path]) == tmp_path / "Wave.pth"
    assert hub_standin.requests == []


def test_damaged_incomplete_download_is_replaced(entry, tmp_path):
    (tmp_path / ".wave.pth.part").write_bytes(b"?" * 1000)
    assert hub_fetch.fetch(entry, folder=tmp_path).read_bytes() == DATA


def test_huggingface_hub_finds_the_file_in_its_cache(entry, hub_standin):
    path = hub_fetch.fetch(entry)
    cache = scan_cache_dir(constants.HF_HUB_CACHE)
    assert not cache.warnings and [repo.repo_id for repo in cache.repos] == ["some/styles"]
    place = {"revision": REVISION, "cache_dir": constants.HF_HUB_CACHE}
    requests = len(hub_standin.requests)
    assert hf_hub_download("some/styles", "Wave.pth", **place) == str(path) and len(hub_standin.requests) == requests


def test_download_of_huggingface_hub_is_used(entry, hub_standin):
    place = {"revision": REVISION, "cache_dir": constants.HF_HUB_CACHE}
    path = hf_hub_download("some/styles", "Wave.pth", endpoint=hub_standin.endpoint, **place)
    requests = len(hub_standin.requests)
    assert str(hub_fetch.fetch(entry)) == path and len(hub_standin.requests) == requests


def test_file_of_a_branch_is_found_again(entry, hub_standin, monkeypatch):
    hub_standin.put("some/styles", "main", "Wave.pth", DATA)
    branch = dataclasses.replace(entry, hub=HubFile("some/styles", "main", "Wave.pth"))
    path = hub_fetch.fetch(branch)
    assert path.parent.name == "0" * 40 and hub_fetch.find(branch) == path


def test_network_by_name_in_python_and_on_the_command_line(entry, hub_standin, tmp_path, monkeypatch, capsys):
    torch.save(make("rrmina"), tmp_path / "published")
    data = (tmp_path / "published").read_bytes()
    hub_standin.put("some/styles", REVISION, "Wave.pth", data)
    sha256 = hashlib.sha256(data).hexdigest()
    wave = dataclasses.replace(entry, bytes=len(data), sha256=sha256, license="MIT", pixels="bgr in=255 out=255")
    monkeypatch.setattr(manifest, "_manifest", lambda: (wave,))

    with pytest.raises(
        HubError, match="wave is not downloaded yet; run `perceptual-style download wave`, or download "
    ):
        load_style("wave")
    assert main(["list"]) == 0 and capsys.readouterr().out.startswith("wave to download ")
    assert main(["describe", "wave"]) == 0 and "state: to download" in capsys.readouterr().out
    assert hub_standin.requests == []
    assert main(["download", "wave"]) == 0
    path = capsys.readouterr().out.strip()
    assert main(["list"]) == 0 and capsys.readouterr().out.startswith("wave downloaded ")
    assert main(["describe", "wave", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert (
        facts["file"] == path and facts["state"] == "downloaded" and facts["sha256"] == sha256 and facts["width"] == 4
    )
    model = load_style("wave")
    assert model.name == "wave" and model.facts["license"] == "MIT" and str(model.pixels) == wave.pixels
    assert load_style("wave", download=True, folder=tmp_path / "other").name == "wave"


def test_users_own_file_is_never_replaced(entry, tmp_path):
    (tmp_path / "wave.pth").write_bytes(b"mine")
    assert "is not the published file; move it away" in refusal(entry, folder=tmp_path)
    assert (tmp_path / "wave.pth").read_bytes() == b"mine"


def test_changed_file_is_verified_again(entry, tmp_path):
    path = hub_fetch.fetch(entry, folder=tmp_path)
    path.write_bytes(DATA[:-1] + b"?")
    os.utime(path, (1, 1))
    assert hub_fetch.find(entry, tmp_path) is None


def test_checksum_of_a_large_file_is_cached_on_disk(entry, tmp_path, monkeypatch):
    monkeypatch.setattr(checksums, "_LARGE", 1000)
    path = hub_fetch.fetch(entry, folder=tmp_path)
    assert checksums.is_published(entry, path)
    checksums._sha256.cache_clear()
    monkeypatch.setattr(checksums, "sha256_of", None)
    notes = list((own_folder() / "checked").iterdir())
    assert checksums.is_published(entry, path) and entry.sha256 in {note.read_text() for note in notes}


FETCH = """
import json, sys
from perceptual_style.core.hub import fetch as hub_fetch
from perceptual_style.core.hub.manifest import Entry, HubFile
from perceptual_style.core.errors import HubError
fields = json.loads(sys.argv[1])
entry = Entry(**{**fields, "hub": HubFile(**fields["hub"])})
try:
    print(hub_fetch.fetch(entry, folder=sys.argv[2] or None))
except HubError as error:
    sys.exit(f"{type(error).__name__}: {error}")
"""


@pytest.fixture
def start(entry, python_environment, start_python, hub_standin, tmp_path):
    """Return a function that starts a process that fetches the entry, with the Hub's environment variables."""
    environment = {
        key: value for key, value in python_environment.items() if key not in ("HF_HUB_OFFLINE", "HF_HUB_CACHE")
    }
    environment |= {"HF_ENDPOINT": hub_standin.endpoint, "HF_HOME": str(tmp_path / "home"), "HF_TOKEN": "hf_secret"}

    def start(folder, **more: str):
        return start_python(FETCH, json.dumps(entry.as_json()), folder or "", env=environment | more)

    return start


@pytest.mark.slow
def test_two_processes_download_a_file_once(start, folder, hub_standin):
    hub_standin.delay = 0.03
    processes = [start(folder) for _ in range(2)]
    for process in processes:
        out, err = process.communicate(timeout=120)
        assert process.returncode == 0, err
        assert Path(out.strip()).read_bytes() == DATA
    assert len(hub_standin.gets()) == 1


def test_environment_variables_of_huggingface_hub_are_honored(start, hub_standin, tmp_path):
    out, err = start(None, HF_HUB_OFFLINE="1").communicate(timeout=60)
    assert "HubError: wave was not downloaded: huggingface_hub is in offline mode" in err
    assert hub_standin.requests == []
    out, _ = start(None).communicate(timeout=60)
    assert out.startswith(str(tmp_path / "home" / "hub"))
    assert "Bearer hf_secret" in hub_standin.tokens
    again, _ = start(None, HF_HUB_OFFLINE="1").communicate(timeout=60)
    assert again == out


@pytest.mark.slow
def test_killed_download_is_resumed(start, folder, hub_standin):
    hub_standin.delay = 0.1
    process = start(folder)
    deadline = time.monotonic() + 60
    while hub_standin.sent < 1_000_000 and time.monotonic() < deadline:
        time.sleep(0.02)
    process.kill()
    process.communicate()
    hub_standin.delay, hub_standin.sent = 0, 0
    process = start(folder)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0 and Path(out.strip()).read_bytes() == DATA, err
    assert hub_standin.sent < len(DATA) * 0.8
