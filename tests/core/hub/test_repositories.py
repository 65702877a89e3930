"""Styles in repositories: uploaded, downloaded by USER/NAME, found, and what can go wrong."""

from __future__ import annotations

import json

import pytest
import torch
from helpers import save_style, style_model
from huggingface_hub import constants
from perceptual_style.core import errors, load_style
from perceptual_style.core.exporting.model_card import model_card, package
from perceptual_style.core.hub.repositories import (
    WEIGHTS,
    fetch_repository,
    find_repository,
    is_repository,
    upload,
)
from perceptual_style.core.network.pixels import PixelConvention

NAME = "ada/storm"


@pytest.fixture
def pushed(hub_standin, use_hub, tmp_path) -> bytes:
    """The content of a style that the stand-in has."""
    data = save_style(tmp_path / "storm.safetensors", license="CC0-1.0").read_bytes()
    hub_standin.put(NAME, "main", WEIGHTS, data)
    return data


@pytest.mark.parametrize(
    "name, is_one",
    [
        ("ada/storm", True), ("Ada-1/storm_v1.2", True), ("storm", False), ("ada/storm/x", False), ("/storm", False),
        ("ada/", False), ("../storm", False), ("styles/mine.pth", False), ("ada\\storm", False), (3, False),
        ("ada/storm.safetensors", False), ("ada/st rm", False),
    ],
)  # fmt: skip
def test_names_of_repositories(name, is_one, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert is_repository(name) == is_one


def test_existing_path_is_no_repository(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "ada" / "storm").mkdir(parents=True)
    assert not is_repository(NAME)


def test_upload_then_download_gives_the_same_style(hub_standin, use_hub):
    model = style_model(name="storm", facts={"license": "MIT"}, pixels=PixelConvention.parse("bgr in=255 out=255"))
    address = upload(NAME, package(model, NAME), message="Upload storm", private=True)
    assert address == f"{hub_standin.endpoint}/{NAME}"
    assert (hub_standin.repositories, hub_standin.commits) == ({NAME: True}, ["Upload storm"])
    loaded, photo = load_style(NAME, download=True), torch.rand(1, 3, 18, 21)
    assert torch.equal(loaded.stylize(photo), model.stylize(photo))
    assert loaded.facts["license"] == "MIT" and loaded.name == "storm"


def test_download_is_verified_cached_and_found_offline(hub_standin, pushed, monkeypatch):
    assert find_repository(NAME) is None
    path = fetch_repository(NAME)
    assert path.read_bytes() == pushed and path.name == WEIGHTS
    gets = len(hub_standin.gets())
    assert fetch_repository(NAME) == path and len(hub_standin.gets()) == gets
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert find_repository(NAME) == path
    assert load_style(NAME).name == "storm"


def test_new_version_replaces_the_cached_one(hub_standin, pushed, tmp_path):
    fetch_repository(NAME)
    other = save_style(tmp_path / "other.safetensors").read_bytes()
    hub_standin.put(NAME, "main", WEIGHTS, other)
    assert fetch_repository(NAME).read_bytes() == other


def test_folder_gets_the_style_under_its_name(pushed, tmp_path):
    folder = tmp_path / "fast_style"
    path = fetch_repository(NAME, folder=folder)
    assert path == folder / "ada" / "storm.safetensors" and path.read_bytes() == pushed
    assert find_repository(NAME, folder) == path == fetch_repository(NAME, folder=folder)


def test_wrong_bytes_are_removed(hub_standin, pushed):
    hub_standin.body = b"x" * len(pushed)
    with pytest.raises(errors.HubError, match="wrong bytes"):
        fetch_repository(NAME)
    assert find_repository(NAME) is None


def test_missing_repositories_are_explained(hub_standin, use_hub):
    with pytest.raises(errors.HubError, match=r"only styles that `perceptual-style push` uploaded"):
        fetch_repository("ada/nothing")
    with pytest.raises(errors.HubError, match="perceptual-style download ada/nothing"):
        load_style("ada/nothing")
    hub_standin.put(NAME, "main", WEIGHTS, b"small")
    hub_standin.etags[f"{NAME}/resolve/main/{WEIGHTS}"] = "0" * 40
    with pytest.raises(errors.HubError, match="does not state the SHA-256"):
        fetch_repository(NAME)


def test_upload_never_replaces_without_being_asked(hub_standin, use_hub):
    upload(NAME, {"README.md": b"one"}, message="one")
    with pytest.raises(errors.HubError, match="add --update"):
        upload(NAME, {"README.md": b"two"}, message="two")
    assert hub_standin.files[f"{NAME}/resolve/main/README.md"] == b"one"
    upload(NAME, {"README.md": b"two"}, message="two", update=True)
    assert hub_standin.files[f"{NAME}/resolve/main/README.md"] == b"two"
    with pytest.raises(errors.HubError, match="no such repository"):
        upload("ada/other", {"README.md": b"two"}, message="two", update=True)


@pytest.mark.parametrize("status, message", [(401, "log in with"), (403, "log in with"), (500, "status 500")])
def test_refused_uploads_are_one_line(hub_standin, use_hub, status, message):
    hub_standin.status = status
    with pytest.raises(errors.HubError, match=message) as raised:
        upload(NAME, {"README.md": b"one"}, message="one")
    assert "\n" not in str(raised.value)


def test_name_without_user_is_reported(use_hub):
    with pytest.raises(errors.InputError, match="expected USER/NAME"):
        upload("storm", {}, message="none")


RECIPE = {"name": "quick", "steps": 300, "optimizer": "adam", "tv": 0.0, "weights": {"style": {"relu1_2": 4.0}}}


def test_card_says_where_the_style_comes_from():
    facts = {
        "title": "The Storm", "license": "CC0-1.0", "credit": {"artist": "Ada", "painting": "Storm", "year": 1900},
        "recipe": RECIPE, "figures": {"final losses (mean)": {"style relu1_2": 0.25}},
    }  # fmt: skip
    measures = {
        "style": "test", "style distance": 0.123, "style distance of the photos": 0.9, "content distance": 0.5,
        "steadiness": 3.0, "photos": [{}, {}],
    }  # fmt: skip
    card = model_card(style_model(facts=facts), NAME, ["painting.jpg", "picture_1.jpg"], measures)
    front, _, text = card.removeprefix("---\n").partition("---\n")
    assert "license: cc0-1.0\n" in front and "\n- style-transfer\n" in front
    for part in ("# The Storm", "Ada, Storm, 1900", "steps | 300", "relu1\\_2 4", "0.25", "0.123", "(painting.jpg)",
                 "(picture_1.jpg)", f"perceptual-style download {NAME}"):  # fmt: skip
        assert part in text, part
    assert "tv" not in text.split("## Recipe")[1].split("architecture")[0], "what is off is left out"


def test_facts_from_files_cannot_write_markup():
    facts = {"title": "x](http://evil)\n# <script>", "license": "my own\nlicense: mit", "credit": {"artist": "a|b"}}
    card = model_card(style_model(facts=facts), NAME)
    assert "<script>" not in card and "\n# \\<" not in card
    assert json.loads(card.split("license_name: ")[1].splitlines()[0]) == "my own license: mit"
    assert card.count("\nlicense:") == 1 and "a\\|b" in card


def test_package_has_pictures_and_keeps_half_precision():
    model, photo = style_model(facts={"license": "MIT"}), torch.rand(1, 3, 30, 40)
    whole = package(model, NAME, photos=[photo], painting=photo)
    assert set(whole) == {"README.md", WEIGHTS, "painting.jpg", "picture_1.jpg"}
    model.network.load_state_dict({key: each.half().float() for key, each in model.network.state_dict().items()})
    assert len(package(model, NAME)[WEIGHTS]) < 0.7 * len(whole[WEIGHTS])
    with pytest.raises(errors.InputError, match="--license"):
        package(style_model(), NAME)
