"""Loss networks from a stand-in for the Hub: only the needed tensors, in byte ranges."""

from __future__ import annotations

import dataclasses
import hashlib

import helpers
import pytest
import torch
from huggingface_hub import constants
from perceptual_style.core.checkpoints.own_format import load_tensors
from perceptual_style.core.cli import main
from perceptual_style.core.errors import CheckpointError, HubError, InputError
from perceptual_style.core.hub import manifest
from perceptual_style.core.hub.fetch import fetch, find
from perceptual_style.core.hub.loss_networks import digest_of, fetch_tensors, loss_weights_file
from perceptual_style.core.hub.manifest import Entry, HubFile
from perceptual_style.core.hub.places import place_of
from perceptual_style.core.losses.loss_network import LossNetwork
from safetensors.torch import load_file, save
from small_networks import vgg16

REVISION = "ab" * 20


@pytest.fixture
def publish(hub_standin, use_hub, monkeypatch):
    """Return a function that puts tensors on the Hub and into the manifest as vgg16."""

    def publish(tensors=None, data: bytes | None = None, **changes) -> Entry:
        data = save(vgg16() if tensors is None else tensors) if data is None else data
        hub_standin.put("some/vgg", REVISION, "model.safetensors", data)
        fields = {"sha256": hashlib.sha256(data).hexdigest(), "family": "vgg16", **changes}
        place = HubFile("some/vgg", REVISION, "model.safetensors")
        entry = Entry("vgg16", "VGG-16", "loss-network", hub=place, **fields)
        monkeypatch.setattr(manifest, "_manifest", lambda: (entry,))
        return entry

    return publish


def downloaded(layers) -> LossNetwork:
    """Return VGG-16 with the downloaded weights."""
    return LossNetwork("vgg16", loss_weights_file("vgg16", layers), layers)


def refusal(entry, **options) -> str:
    """Return the one-line error of a download."""
    return helpers.refusal(HubError, fetch, entry, **options)


@pytest.mark.parametrize("place", ["cache", "folder"])
def test_only_needed_tensors_are_downloaded(publish, hub_standin, tmp_path, place):
    entry, folder = publish(), tmp_path / "loss_networks" if place == "folder" else None
    seen = []
    path = fetch(entry, folder=folder, progress=lambda p: seen.append((p.done, p.total)))
    size = len(next(iter(hub_standin.files.values())))
    assert hub_standin.sent < 0.12 * size, f"{hub_standin.sent} of {size} bytes"
    tensors, facts = load_tensors(path)
    expected = {key: value for key, value in vgg16(21).items() if key.startswith("features")}
    assert tensors.keys() == expected.keys() and all(torch.equal(tensors[k], expected[k]) for k in expected)
    assert facts["task"] == "loss-network" and facts["layer"] == "relu4_3" and facts["source"]["revision"] == REVISION
    assert facts["checked"] == ["names and shapes", "sha256 of the whole file as the Hub states it"]
    assert facts["digest"] == digest_of(expected)
    assert seen == sorted(seen) and seen[-1][0] == seen[-1][1]
    assert find(entry, folder) == path and (folder is None or path.parent == folder)
    requests = len(hub_standin.requests)
    assert fetch(entry, folder=folder) == path and len(hub_standin.requests) == requests


def test_downloaded_network_equals_the_network_of_the_whole_file(publish):
    fetch(publish())
    layers = ["relu1_2", "relu4_3"]
    partial, whole = downloaded(layers), LossNetwork("vgg16", vgg16(), layers)
    image = torch.rand(1, 3, 32, 32)
    assert all(torch.equal(a, b) for a, b in zip(partial(image).values(), whole(image).values(), strict=True))


def test_loss_network_without_weights_still_works_and_warns(publish):
    fetch(publish())
    with pytest.warns(DeprecationWarning, match="give a file of weights"):
        deprecated = LossNetwork("vgg16", None, ["relu1_2"])
    image = torch.rand(1, 3, 32, 32)
    assert torch.equal(deprecated(image)["relu1_2"], downloaded(["relu1_2"])(image)["relu1_2"])


def test_error_for_missing_weights_names_the_download_command(publish):
    publish()
    with pytest.raises(
        CheckpointError, match=r"vgg16 down to relu2_1 are not downloaded yet; run `perceptual-style download vgg16`"
    ):
        loss_weights_file("vgg16", ["relu2_1"])
    with pytest.raises(CheckpointError, match="download vgg16 --layer relu5_1`"):
        loss_weights_file("vgg16", ["relu2_1", "relu5_1"])
    with pytest.raises(CheckpointError, match=r"vgg19_distilled cannot be downloaded by name; .*--loss-weights FILE"):
        loss_weights_file("vgg19_distilled", ["relu2_1"])


def test_download_option_downloads_the_deepest_needed_layer(publish, tmp_path):
    publish()
    path = loss_weights_file("vgg16", ["relu1_1", "relu4_1"], tmp_path, download=True)
    assert path == tmp_path / "vgg16.relu4_1.safetensors" and "features.19.weight" not in load_file(path)
    assert loss_weights_file("vgg16", ["relu2_1"], tmp_path) == path
    assert loss_weights_file("vgg16", ["conv2_2", "conv4_1"], tmp_path) == path, "before activation needs no more"


def test_deeper_layers_need_another_download(publish):
    entry = publish()
    fetch(entry)
    with pytest.raises(HubError, match="--layer relu5_2"):
        loss_weights_file("vgg16", ["relu5_2"])
    path = fetch_tensors(entry, "relu5_2")
    assert "features.26.weight" in load_file(path) and "features.28.weight" not in load_file(path)
    assert downloaded(["relu5_2"]).layers == ("relu5_2",)
    with pytest.raises(InputError, match="no layer 'relu6_1'; it has relu1_1"):
        fetch_tensors(entry, "relu6_1")


def test_server_without_ranges_sends_the_whole_file(publish, hub_standin):
    hub_standin.ranges = False
    entry = publish()
    path = fetch(entry)
    assert hashlib.sha256(path.read_bytes()).hexdigest() == entry.sha256
    assert downloaded(["relu5_3"]).layers == ("relu5_3",)


def test_broken_connection_is_resumed(publish, hub_standin):
    tensors = vgg16()
    tensors["pre_logits.fc1.weight"] = torch.zeros(1)
    entry = publish(tensors)
    hub_standin.cuts, hub_standin.cut_at = 1, 0.5
    path = fetch(entry)
    assert torch.equal(load_file(path)["features.21.weight"], tensors["features.21.weight"])
    assert hub_standin.cuts < 1


def test_digest_in_the_manifest_is_checked(publish):
    expected = {key: value for key, value in vgg16(21).items() if key.startswith("features")}
    entry = publish(digests={"relu4_3": "0" * 64})
    assert "wrong tensors came" in refusal(entry) and find(entry) is None
    right = dataclasses.replace(entry, digests={"relu4_3": digest_of(expected)})
    assert "digest of the tensors" in load_tensors(fetch(right))[1]["checked"]


def test_different_file_on_the_hub_is_rejected(publish):
    assert "the Hub has a different file, with wrong bytes" in refusal(publish(sha256="0" * 64))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"<html>" * 100, "is not a safetensors file"),
        ((100).to_bytes(8, "little") + b"{" * 100, "unreadable safetensors header"),
        (save(vgg16(14)), "has no tensor features.17.weight"),
        (save({**vgg16(), "features.2.weight": torch.zeros(8, 7, 3, 3)}), "is not a vgg16: features.2.weight is"),
        (save(vgg16()) + b"more", "its header describes"),
    ],
)
def test_wrong_content_is_rejected(publish, tmp_path, data, message):
    assert message in refusal(publish(data=data))
    assert list(tmp_path.rglob("*.safetensors")) == []


def test_offline_mode_names_the_place_for_a_manual_download(publish, monkeypatch, hub_standin):
    entry = publish()
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    line = refusal(entry)
    assert "offline mode" in line and str(place_of(entry)) in line and hub_standin.requests == []
    place_of(entry).write_bytes(next(iter(hub_standin.files.values())))  # as the message says
    assert fetch(entry) == place_of(entry)


def test_download_and_describe_commands(publish, capsys):
    publish()
    assert main(["download", "vgg16", "--layer", "relu1_2"]) == 0
    path = capsys.readouterr().out.strip()
    assert path.endswith("vgg16.relu1_2.safetensors") and len(load_file(path)) == 4
    assert main(["describe", "vgg16"]) == 0
    assert "state: downloaded" in capsys.readouterr().out
    assert main(["download", "vgg16", "--layer", "relu9"]) == 2
    assert "no layer 'relu9'" in capsys.readouterr().err
