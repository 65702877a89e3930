"""LoadStyleModel: styles from the Hub, foreign files, and facts that files do not record."""

from __future__ import annotations

import hashlib

import pytest
import torch
from foreign_files import make

REVISION = "5" * 40


@pytest.fixture
def wave(pack, hub_standin, use_hub, tmp_path, monkeypatch):
    """A style on the Hub, the only named style."""
    torch.save(make("rrmina"), tmp_path / "published.pth")
    data = (tmp_path / "published.pth").read_bytes()
    hub_standin.put("some/styles", REVISION, "Wave_512.pth", data)
    manifest = pack.module("core.hub.manifest")
    entry = manifest.Entry(
        "wave", "Wave", "style", bytes=len(data), sha256=hashlib.sha256(data).hexdigest(), family="rrmina", license="MIT",
        hub=manifest.HubFile("some/styles", REVISION, "Wave_512.pth"),
    )  # fmt: skip
    monkeypatch.setattr(manifest, "_manifest", lambda: (entry,))
    return entry


def _options(pack):
    return pack.schema("LoadStyleModel").inputs[0].options


def _call(pack, method, *arguments, **more):
    return getattr(pack.nodes["LoadStyleModel"], method)(*arguments, **more)


def test_hub_style_is_downloaded_once(pack, host, wave, hub_standin):
    assert _options(pack) == ["wave (download)"]
    before = _call(pack, "fingerprint_inputs", "wave (download)")
    hosted = pack.run("LoadStyleModel", style="wave (download)")
    assert hosted.model.name == "wave" and hosted.model.facts["license"] == "MIT"
    assert [path.name for path in host.styles.iterdir()] == ["wave.pth"]
    assert host.bars[0][-1] == (1000, 1000) and host.checks > 0

    assert _options(pack) == ["wave"]
    for name in ("wave", "wave (download)", "wave.pth"):
        assert _call(pack, "validate_inputs", name) is True
    assert _call(pack, "fingerprint_inputs", "wave (download)") == before
    requests = len(hub_standin.requests)
    pack.run("LoadStyleModel", style="wave (download)", download=False)
    assert len(hub_standin.requests) == requests and len(host.bars) == 1


def test_download_can_be_disabled(pack, host, wave, hub_standin):
    with pytest.raises(pack.module("core.errors").HubError, match="wave is not downloaded yet; .*put it at ") as raised:
        pack.run("LoadStyleModel", style="wave (download)", download=False)
    assert str(host.models / "fast_style" / "wave.pth") in str(raised.value) and hub_standin.requests == []


def test_download_can_be_interrupted(pack, host, wave):
    host.interrupt_at = 1
    with pytest.raises(Exception) as raised:  # noqa: B017 - compared by identity
        pack.run("LoadStyleModel", style="wave (download)")
    assert raised.value is host.interruption
    assert _options(pack) == ["wave (download)"]
    host.interrupt_at = None
    assert pack.run("LoadStyleModel", style="wave (download)").model.name == "wave"


def test_users_file_with_hub_name_stays_listed(pack, host, wave):
    (host.styles / "wave.pth").write_bytes(b"mine")
    assert _options(pack) == ["wave (download)", "wave.pth (unreadable)"]


def test_foreign_files_and_overrides(pack, host):
    torch.save(make("rrmina"), host.styles / "mine.pth")
    plain = pack.run("LoadStyleModel", style="mine.pth").model
    changed = pack.run("LoadStyleModel", style="mine.pth", channel_order="rgb", output="tanh150").model
    assert str(plain.pixels).startswith("bgr") and str(plain.spec).endswith("output=linear")
    assert str(changed.pixels).startswith("rgb") and str(changed.spec).endswith("output=tanh150")


def test_fingerprint_includes_overrides(pack, host):
    pack.style(host.styles / "a.safetensors")
    values = [{}, {"channel_order": "bgr"}, {"output": "tanh150"}, {"channel_order": "rgb", "output": "sigmoid"}]
    fingerprints = [_call(pack, "fingerprint_inputs", "a.safetensors", **value) for value in values]
    assert len(set(fingerprints)) == len(values)
    same = _call(pack, "fingerprint_inputs", "a.safetensors", channel_order="auto", output="auto", download=False)
    assert same == fingerprints[0]


@pytest.mark.parametrize("value", [{"channel_order": "gbr"}, {"output": "relu"}])
def test_unknown_overrides_raise(pack, host, value):
    pack.style(host.styles / "a.safetensors")
    with pytest.raises(pack.module("core.errors").InputError, match=next(iter(value.values()))):
        pack.run("LoadStyleModel", style="a.safetensors", **value)


@pytest.mark.parametrize("value", ["auto", "tanh", "tanh150", "sigmoid", "linear"])
def test_outputs_can_be_chosen(pack, host, value):
    torch.save(make("pytorch/examples"), host.styles / "mine.pth")
    assert pack.run("LoadStyleModel", style="mine.pth", output=value).model.spec is not None


def test_other_inputs_are_optional_for_older_graphs(pack):
    style, *others = pack.schema("LoadStyleModel").inputs
    assert not style.optional and all(each.optional for each in others)
    assert [each.default for each in others] == [True, "auto", "auto"]
