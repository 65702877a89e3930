"""The manifest: its schema, every entry, and bundled files, intact and damaged."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from pathlib import Path

import jsonschema
import pytest
import torch
from perceptual_style.core.checkpoints.own_format import save_network
from perceptual_style.core.errors import CheckpointError, HubError
from perceptual_style.core.hub import manifest
from perceptual_style.core.hub.fetch import is_downloaded
from perceptual_style.core.hub.loss_networks import loss_weights_file
from perceptual_style.core.losses.loss_network import ARCHITECTURES, LossNetwork
from perceptual_style.core.models.predict import predict_style
from perceptual_style.core.models.style_model import list_styles, load_style
from perceptual_style.core.models.upscale_model import load_upscaler
from perceptual_style.core.network.arch import ArchSpec
from perceptual_style.core.network.pixels import PixelConvention
from perceptual_style.core.network.transform_net import build_network

ALL = json.loads((manifest.ROOT / "weights_manifest.json").read_text(encoding="utf-8"))
SCHEMA = json.loads((manifest.ROOT / "weights_manifest.schema.json").read_text(encoding="utf-8"))
ENTRIES = [entry for entry in ALL["entries"] if "file" in entry]
HUB = [entry for entry in ALL["entries"] if "hub" in entry]


def test_manifest_follows_its_schema():
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    jsonschema.Draft202012Validator(SCHEMA).validate(ALL)
    assert set(SCHEMA["$defs"]["entry"]["properties"]) == {field.name for field in dataclasses.fields(manifest.Entry)}


@pytest.mark.parametrize(
    "change",
    [
        {"id": "Two Words"},
        {"id": "a/b"},
        {"task": "colorize"},
        {"sha256": "123"},
        {"file": "../x.safetensors"},
        {"file": "weights/x.pth"},
        {"hub": {"repo": "a/b", "revision": "main", "filename": "x.pth"}},
        {"bytes": 0},
        {"credit": {}},
        {"color": "blue"},
        {"task": "upscale"},
        {"task": "upscale", "scale": 3},
        {"task": "upscale", "scale": 4, "partner": "../x"},
        {"scale": 4},
        {"partner": "tiny"},
    ],
    ids=str,
)
def test_schema_rejects_invalid_entries(change):
    right = {
        "id": "tiny",
        "title": "Tiny",
        "task": "style",
        "file": "weights/tiny.safetensors",
        "bytes": 1,
        "arch": "c3s1-3",
    }
    right |= {"sha256": "0" * 64, "license": "MIT", "credit": {"artist": "nobody"}}
    validator = jsonschema.Draft202012Validator(SCHEMA)
    for more in ({}, {"task": "upscale", "scale": 4}, {"task": "upscale", "scale": 4, "partner": "pixel_x4"}):
        assert validator.is_valid({"schema": 1, "entries": [right | more]})
    assert not validator.is_valid({"schema": 1, "entries": [right | change]})


def test_ids_are_unique_and_bundled_styles_come_first():
    ids = [entry["id"] for entry in ALL["entries"]]
    assert len(set(ids)) == len(ids)
    styles = [manifest.find_entry(name) for name in list_styles()]
    assert {entry.id for entry in styles} == {entry["id"] for entry in ALL["entries"] if entry["task"] == "style"}
    assert [entry.is_bundled for entry in styles] == sorted((entry.is_bundled for entry in styles), reverse=True)


@pytest.mark.parametrize("entry", HUB, ids=[entry["id"] for entry in HUB])
def test_hub_entry_is_complete(entry):
    found = manifest.find_entry(entry["id"])
    assert found.as_json() == entry and not found.is_bundled and not is_downloaded(found)
    if entry["task"] == "loss-network":
        assert entry["family"] in ARCHITECTURES
    else:
        assert str(PixelConvention.parse(entry["pixels"])) == entry["pixels"]
        with pytest.raises(HubError, match=f"run `perceptual-style download {entry['id']}`"):
            load_style(entry["id"])


def test_manifest_lists_every_bundled_file(root):
    assert root == manifest.ROOT
    files = {path.relative_to(root).as_posix() for path in (root / "weights").rglob("*.safetensors")}
    assert {entry["file"] for entry in ENTRIES} == files


@pytest.mark.parametrize("entry", ENTRIES, ids=[entry["id"] for entry in ENTRIES])
def test_entry_describes_its_file(entry, root):
    data = (root / entry["file"]).read_bytes()
    assert len(data) == entry["bytes"]
    assert hashlib.sha256(data).hexdigest() == entry["sha256"]
    assert entry["title"] and entry["license"] and entry["credit"]["artist"]
    assert manifest.bundled_file(entry["id"]) == root / entry["file"]


LOSS_NETWORKS = [entry for entry in ENTRIES if entry["task"] == "loss-network"]


@pytest.mark.parametrize("entry", LOSS_NETWORKS, ids=[entry["id"] for entry in LOSS_NETWORKS])
def test_bundled_loss_network_loads_by_name(entry, rng):
    network = ARCHITECTURES[entry["family"]]
    features = LossNetwork(entry["family"], loss_weights_file(entry["family"], network.layers), network.layers)(
        torch.rand(1, 3, 64, 48, generator=rng)
    )
    assert list(features) == list(network.layers)
    assert all(each.isfinite().all() and each.std() > 0 for each in features.values())


PREDICTORS = [entry for entry in ENTRIES if entry["task"] == "style-predictor"]


@pytest.mark.parametrize("entry", PREDICTORS, ids=[entry["id"] for entry in PREDICTORS])
def test_bundled_predictor_loads_by_name(entry, rng):
    one, other = (predict_style(torch.rand(1, 3, 80, 96, generator=rng) ** power) for power in (0.5, 3))
    assert str(one.spec) == entry["arch"] and one.facts["license"] == entry["license"]
    image = torch.rand(1, 3, 64, 48, generator=rng)
    assert (one.stylize(image) - other.stylize(image)).abs().mean() > 0.02
    assert entry["bytes"] <= 8 * 2**20


PICTURES = [entry for entry in ENTRIES if entry["task"] in ("style", "upscale")]


@pytest.mark.parametrize("entry", PICTURES, ids=[entry["id"] for entry in PICTURES])
def test_bundled_network_loads_by_name_and_takes_any_size(entry, rng):
    model = load_upscaler(entry["id"]) if entry["task"] == "upscale" else load_style(entry["id"])
    assert str(model.spec) == entry["arch"] == str(ArchSpec.parse(entry["arch"]))
    scale = entry.get("scale", 1)
    assert model.spec.scale == scale
    for height, width in ((1, 1), (33, 50), (64, 64)):
        image = torch.rand(1, 3, height, width, generator=rng)
        result = model.upscale(image) if entry["task"] == "upscale" else model.stylize(image)
        assert result.shape == (1, 3, scale * height, scale * width) and result.min() >= 0 and result.max() <= 1
    assert result.std() > 0.02 and (result[..., ::scale, ::scale] - image).abs().mean() > 0.02


@pytest.mark.parametrize("entry", [entry for entry in ENTRIES if "partner" in entry], ids=lambda entry: entry["id"])
def test_partner_is_bundled_and_fits(entry, rng):
    other = manifest.find_entry(entry["partner"], "upscale")
    assert other.is_bundled and other.scale == entry["scale"]
    model, image = load_upscaler(entry["id"]), torch.rand(1, 3, 9, 12, generator=rng)
    assert model.facts["partner"] == other.id
    dial = {"denoise": 0} if entry.get("dial") == "denoise" else {"fidelity": 1}
    assert torch.equal(model.upscale(image, **dial), load_upscaler(other.id).upscale(image))


@pytest.mark.parametrize("entry", [each for each in ENTRIES if "replaced_by" in each], ids=lambda entry: entry["id"])
def test_replaced_network_names_a_current_one_of_its_kind(entry):
    other = manifest.find_entry(entry["replaced_by"], entry["task"])
    assert other.replaced_by is None and other.is_bundled and other.scale == entry["scale"]


@pytest.fixture
def bundle(tmp_path, monkeypatch) -> Path:
    """Install a manifest with one style, tiny, in its own root folder. Return the style's file."""
    path = tmp_path / "weights" / "tiny.safetensors"
    network = build_network("c3s1-3")
    save_network(path, network, {"task": "style", "name": "tiny"})
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    entry = manifest.Entry(
        "tiny", "Tiny", "style", "weights/tiny.safetensors", path.stat().st_size, sha256, str(network.spec), "MIT", {}
    )
    text = json.dumps({"schema": 1, "entries": [entry.as_json()]})
    (tmp_path / "weights_manifest.json").write_text(text, encoding="utf-8")
    monkeypatch.setattr(manifest, "ROOT", tmp_path)
    manifest._manifest.cache_clear()
    yield path
    manifest._manifest.cache_clear()


def test_style_is_found_by_name(bundle):
    assert list_styles() == ["tiny"]
    assert load_style("tiny").name == "tiny"
    assert manifest.entries("upscale") == []


def test_missing_bundled_file_is_named(bundle):
    bundle.unlink()
    with pytest.raises(CheckpointError, match=r"bundled network tiny is missing .*tiny.safetensors"):
        load_style("tiny")


def test_changed_byte_in_a_bundled_file_is_detected(bundle):
    data = bytearray(bundle.read_bytes())
    data[-1] ^= 1
    bundle.write_bytes(data)
    with pytest.raises(CheckpointError, match="bundled network tiny is damaged"):
        load_style("tiny")


def test_error_for_an_unknown_name_lists_the_known_names(bundle):
    with pytest.raises(CheckpointError, match="no style named 'great_wave'; expected tiny"):
        load_style("great_wave")


def test_bundled_entry_has_no_file_on_the_hub(bundle):
    with pytest.raises(HubError, match="tiny is not on the Hugging Face Hub"):
        manifest.find_entry("tiny").remote  # noqa: B018
