"""StyleSheet: all styles that are here, their names, and the same sheet as core's."""

from __future__ import annotations

import pytest
import torch
from fake_host import InterruptProcessingException

IMAGES = torch.rand(2, 66, 70, 3, generator=torch.Generator().manual_seed(2))


@pytest.fixture
def files(pack, host):
    """Two styles in the host's folder."""
    folder = host.models / "fast_style"
    folder.mkdir(parents=True, exist_ok=True)
    return [pack.style(folder / f"{name}.safetensors", seed=seed) for seed, name in enumerate(("one", "two"))]


def test_sheet_is_cores_sheet_of_each_photo(pack, files):
    sheet, names = pack.run(
        "StyleSheet", image=IMAGES, styles="two.safetensors\n one.safetensors \n", size=64, columns=2
    )
    assert names == ["two.safetensors", "one.safetensors"]
    load = pack.module("core.models.style_model").load_style
    named = [(path.name, load(path)) for path in reversed(files)]
    for image, own in zip(IMAGES, sheet, strict=True):
        photo = image.movedim(-1, 0)[None]
        expected = pack.module("core.evaluation.sheet").style_sheet(photo, named, side=64, columns=2)
        assert torch.equal(own, expected[0].movedim(0, -1))


def test_empty_list_shows_all_styles_that_are_here(pack, host, files, monkeypatch):
    pack.upscaler(host.models / "fast_style" / "upscaler.safetensors")
    (host.models / "fast_style" / "broken.safetensors").write_bytes(b"broken")
    node = pack.module("nodes.style_sheet")
    style, hosted = pack.module("core.models.style_model").load_style(files[0]), pack.module("nodes.host").HostedModel
    load = node.load_option
    # bundled networks are the same for any test, and slow for this one
    monkeypatch.setattr(node, "load_option", lambda name: load(name) if "." in name else style)
    assert hosted is node.HostedModel
    _, names = pack.run("StyleSheet", image=IMAGES[:1], size=64)
    assert {"starry_night", "wave", "one.safetensors", "two.safetensors"} < set(names)
    assert not {"broken.safetensors", "upscaler.safetensors"} & set(names)
    assert not [name for name in names if "(" in name]


def test_alpha_and_grey_are_accepted(pack, files):
    for channels in (1, 4):
        image = torch.rand(1, 64, 64, channels)
        sheet, _ = pack.run("StyleSheet", image=image, styles="one.safetensors", size=64)
        assert sheet.shape[-1] == 3


def test_unknown_names_and_bad_values_are_reported(pack, files):
    for inputs, message in (
        ({"styles": "three"}, "no style named 'three'"),
        ({"styles": "one.safetensors", "size": 9}, "expected 64 to 2048"),
        ({"styles": "one.safetensors", "columns": -1}, "columns is -1"),
        ({"styles": 3}, "expected names of styles"),
    ):
        with pytest.raises(ValueError, match=message):
            pack.run("StyleSheet", image=IMAGES, **inputs)
    with pytest.raises(ValueError, match="expected an IMAGE"):
        pack.run("StyleSheet", image=IMAGES[0], styles="one.safetensors")


def test_progress_reaches_the_end_and_interrupting_stops(pack, host, files):
    names = "one.safetensors\ntwo.safetensors"
    pack.run("StyleSheet", image=IMAGES, styles=names, size=64)
    (steps,) = host.bars
    done = [value for value, _ in steps]
    assert done == sorted(done) and steps[-1] == (2000, 2000)
    host.interrupt_at = host.checks + 2
    with pytest.raises(InterruptProcessingException):
        pack.run("StyleSheet", image=IMAGES, styles=names, size=64)


def test_new_file_changes_the_fingerprint(pack, host, files):
    node = pack.nodes["StyleSheet"]
    before = node.fingerprint_inputs(image=None, styles="", size=64, columns=0)
    assert node.fingerprint_inputs(image=None, styles="", size=64, columns=0) == before
    pack.style(host.models / "fast_style" / "three.safetensors")
    assert node.fingerprint_inputs(image=None, styles="", size=64, columns=0) != before
    assert isinstance(node.fingerprint_inputs(styles=None), str)
