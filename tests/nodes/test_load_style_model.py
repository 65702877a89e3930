"""LoadStyleModel: which styles it lists, which names it rejects, and when it loads again."""

from __future__ import annotations

import os

import pytest
import torch
from hostile_files import many_styles, nested_metadata, safetensors


def _options(pack) -> list[str]:
    style, *_ = pack.schema("LoadStyleModel").inputs
    return style.options


def _validate(pack, style, **more):
    return pack.nodes["LoadStyleModel"].validate_inputs(style=style, **more)


def _fingerprint(pack, style, **more):
    return pack.nodes["LoadStyleModel"].fingerprint_inputs(style=style, **more)


def _named(pack) -> list[str]:
    """Return the options for named styles before any download."""
    entries = pack.module("core.hub.manifest").entries("style")
    bundled = [entry.id for entry in entries if entry.is_bundled]
    return bundled + [f"{entry.id} (download)" for entry in entries if not entry.is_bundled]


def test_lists_named_styles_without_folder(pack):
    assert _options(pack) == _named(pack)


def test_lists_only_style_files_and_subfolders(pack, host):
    (host.styles / "mine").mkdir()
    styles = {"wave.safetensors", os.path.join("mine", "b.safetensors"), "a.pth", "b.PT", "c.model", "d.t7", "e.onnx"}
    styles |= {"f.h5", "g.pth.tar", "h.ckpt"}
    for name in (*styles, "photos.tar", "wave.training.safetensors", "readme.txt", "photo.png"):
        (host.styles / name).write_bytes(safetensors({}))
    assert set(_options(pack)) - set(_named(pack)) == styles


def test_predictors_are_not_listed_as_styles(pack, host):
    pack.style(host.styles / "good.safetensors")
    save = pack.module("core.checkpoints.own_format").save_tensors
    save(host.styles / "any.safetensors", {"head.weight": torch.zeros(1)}, {"task": "style-predictor", "format": 1})
    save(host.styles / "odd.safetensors", {"head.weight": torch.zeros(1)}, {"task": 3, "format": 1})
    assert set(_options(pack)) - set(_named(pack)) == {"good.safetensors", "odd.safetensors"}
    with pytest.raises(ValueError, match="is a predictor of styles, not a network; it needs a painting"):
        pack.run("LoadStyleModel", style="any.safetensors")


def test_unreadable_files_are_marked_and_hide_no_others(pack, host):
    pack.style(host.styles / "good.safetensors")
    contents = {"nested": nested_metadata(), "deep": nested_metadata(900), "many": many_styles(), "text": b"any"}
    for name, content in contents.items():
        (host.styles / f"{name}.safetensors").write_bytes(content)
    assert set(_options(pack)) - set(_named(pack)) == {
        "good.safetensors", *(f"{name}.safetensors (unreadable)" for name in contents)
    }  # fmt: skip
    for option in ("nested.safetensors", "nested.safetensors (unreadable)"):
        assert _validate(pack, option) is True
        with pytest.raises(ValueError, match="nested more than 50 times"):
            pack.run("LoadStyleModel", style=option)
    pack.style(host.styles / "nested.safetensors")
    assert "nested.safetensors" in _options(pack) and _validate(pack, "nested.safetensors (unreadable)") is True


def test_hidden_files_are_not_listed(pack, host):
    """Files being written and the companion files of macOS start with a dot."""
    (host.styles / ".hidden").mkdir()
    for name in (
        ".hidden/wave.pth",
        ".perceptual-style-0-1-2.wave.safetensors",
        "._wave.safetensors",
        "wave.safetensors",
    ):
        (host.styles / name).write_bytes(safetensors({}))
    assert [name for name in _options(pack) if "wave." in name] == ["wave.safetensors"]


def test_new_file_is_listed_without_restart(pack, host):
    assert "late.safetensors" not in _options(pack)
    pack.style(host.styles / "late.safetensors")
    assert "late.safetensors" in _options(pack)
    assert _validate(pack, "late.safetensors") is True


def test_all_options_are_valid(pack, host):
    pack.style(host.styles / "a.safetensors")
    assert [_validate(pack, style) for style in _options(pack)] == [True] * len(_options(pack))


@pytest.mark.parametrize(
    "style",
    ["../x", "../../etc/passwd", "../tiny.safetensors", "no_such_style", "", "readme.txt", "a.training.safetensors"],
)
def test_unknown_names_raise(pack, host, style):
    pack.style(host.models / "tiny.safetensors")
    for name in ("readme.txt", "a.training.safetensors"):
        pack.style(host.styles / name)
    answer = _validate(pack, style)
    assert isinstance(answer, str)
    assert repr(style) in answer
    assert all(known in answer for known in _options(pack))
    with pytest.raises((ValueError, FileNotFoundError), match=f"{style!r}"):
        pack.run("LoadStyleModel", style=style)


def test_absolute_paths_raise(pack, host, tmp_path):
    for file in (pack.style(tmp_path / "outside.safetensors"), pack.style(host.styles / "inside.safetensors")):
        assert str(file) in _validate(pack, str(file))
        with pytest.raises(ValueError, match="there is no style named .*(outside|inside)"):
            pack.run("LoadStyleModel", style=str(file))


def test_linked_name_is_valid_until_known(pack):
    """The host passes None for an input that comes from another node."""
    assert _validate(pack, None) is True
    assert _fingerprint(pack, None) == _fingerprint(pack, None)


def test_fingerprint_changes_only_with_file(pack, host):
    path = pack.style(host.styles / "a.safetensors", seed=0)
    first = _fingerprint(pack, "a.safetensors")
    pack.style(host.styles / "b.safetensors")
    assert _fingerprint(pack, "a.safetensors") == first

    modified = path.stat().st_mtime_ns
    pack.style(path, seed=1)  # other weights, same size
    os.utime(path, ns=(modified + 1_000_000, modified + 1_000_000))
    second = _fingerprint(pack, "a.safetensors")
    assert second != first
    assert _fingerprint(pack, "a.safetensors") == second


def test_fingerprints_of_two_files_differ(pack, host):
    for name in ("a.safetensors", "b.safetensors"):
        os.utime(pack.style(host.styles / name), (1, 1))
    assert _fingerprint(pack, "a.safetensors") != _fingerprint(pack, "b.safetensors")


def test_fingerprint_of_missing_file_does_not_raise(pack):
    assert _fingerprint(pack, "gone.safetensors") == _fingerprint(pack, "gone.safetensors")


def test_loads_bundled_styles_and_files(pack, host):
    pack.style(host.styles / "tiny.safetensors")
    for style in [style for style in _options(pack) if not style.endswith("(download)")]:
        hosted = pack.run("LoadStyleModel", style=style)
        assert hosted.model.name == style.removesuffix(".safetensors")
        assert hosted.patchers[0].model is hosted.model.network
        assert hosted.patchers[0].load_device == host.device


def test_damaged_file_error_names_it_in_one_line(pack, host):
    (host.styles / "damaged.safetensors").write_bytes(b"not a style" * 100)
    errors = pack.module("core.errors")
    with pytest.raises(errors.CheckpointError, match="damaged.safetensors") as raised:
        pack.run("LoadStyleModel", style="damaged.safetensors")
    assert "\n" not in str(raised.value)


def test_network_for_another_task_raises(pack, host):
    pack.style(host.styles / "other.safetensors", task="upscale")
    errors = pack.module("core.errors")
    with pytest.raises(errors.CheckpointError, match="upscale"):
        pack.run("LoadStyleModel", style="other.safetensors")


def test_user_mapped_folder_is_kept(load_pack, host, tmp_path):
    """extra_model_paths.yaml is read before packs are loaded, and registers folders without suffixes."""
    shared = tmp_path / "shared"
    shared.mkdir()
    (shared / "readme.txt").write_text("any")
    host.folders["fast_style"] = ([str(shared)], set())
    pack = load_pack()
    pack.style(shared / "theirs.safetensors")
    pack.style(host.styles / "ours.safetensors")

    assert host.folders["fast_style"][0] == [str(shared), str(host.styles)]
    assert {"theirs.safetensors", "ours.safetensors"} <= set(_options(pack))
    assert "readme.txt" not in _options(pack)
    assert pack.run("LoadStyleModel", style="theirs.safetensors").model.name == "theirs"


def test_loading_pack_twice_registers_folders_once(load_pack, host):
    load_pack()
    load_pack()
    suffixes = {".safetensors", ".pth", ".pt", ".model", ".t7", ".onnx", ".h5", ".ckpt", ".tar"}
    assert host.folders["fast_style"] == ([str(host.models / "fast_style")], suffixes)
    assert host.folders["loss_networks"][0] == [str(host.models / "loss_networks")]


def _several(pack, path, *names: str, **more):
    arch = f"c9s1-4,d8,R8,n2,c3s1-4,c9s1-3 norm=instance padding=reflect output=tanh styles={len(names)}"
    return pack.style(path, arch=arch, styles=[{"name": name} for name in names], **more)


def test_each_style_of_a_file_is_listed_and_loads(pack, host):
    (host.styles / "mine").mkdir()
    _several(pack, host.styles / "mine" / "two.safetensors", "wave", "candy")
    pack.style(host.styles / "one.safetensors")
    two = os.path.join("mine", "two.safetensors")
    assert [name for name in _options(pack) if ".safetensors" in name] == [
        f"{two}#wave",
        f"{two}#candy",
        "one.safetensors",
    ]
    for name in ("wave", "candy"):
        assert _validate(pack, f"{two}#{name}") is True
        hosted = pack.run("LoadStyleModel", style=f"{two}#{name}")
        assert (hosted.model.name, hosted.model.spec.styles) == (name, 1)
        assert hosted.patchers[0].model is hosted.model.network
    assert _fingerprint(pack, f"{two}#wave") != _fingerprint(pack, f"{two}#candy")


@pytest.mark.parametrize(
    "style", ["two.safetensors", "two.safetensors#", "two.safetensors#night", "one.safetensors#wave"]
)
def test_missing_style_of_file_raises_and_names_the_others(pack, host, style):
    _several(pack, host.styles / "two.safetensors", "wave", "candy")
    pack.style(host.styles / "one.safetensors")
    answer = _validate(pack, style)
    assert repr(style) in answer and "two.safetensors#wave, two.safetensors#candy" in answer and "\n" not in answer
    with pytest.raises(ValueError, match="there is no style named"):
        pack.run("LoadStyleModel", style=style)
    assert _fingerprint(pack, style) == _fingerprint(pack, style)


def test_added_style_is_listed_and_file_reloaded(pack, host):
    path = _several(pack, host.styles / "some.safetensors", "wave", "candy")
    before, first = _options(pack), _fingerprint(pack, "some.safetensors#wave")
    _several(pack, path, "wave", "candy", "the night")
    assert set(_options(pack)) - set(before) == {"some.safetensors#the night"}
    assert _fingerprint(pack, "some.safetensors#wave") != first
    pack.style(path)
    assert "some.safetensors" in _options(pack) and isinstance(_validate(pack, "some.safetensors#wave"), str)


def test_listing_reads_no_weights_and_each_header_once(pack, host, monkeypatch):
    for name in ("a", "b"):
        _several(pack, host.styles / f"{name}.safetensors", "wave", "candy")
    checkpoint, reads = pack.module("core.checkpoints.own_format"), []
    original = checkpoint.metadata_of
    monkeypatch.setattr(checkpoint, "metadata_of", lambda path: reads.append(path) or original(path))
    monkeypatch.setattr(checkpoint, "read_safetensors", lambda path: pytest.fail("the weights were read"))
    listed = [_options(pack) for _ in range(3)]
    assert listed[0] == listed[2] and "b.safetensors#candy" in listed[0]
    ours = [path for path in reads if str(host.styles) in str(path)]
    assert len(ours) == 2


def test_file_name_may_contain_hash(pack, host):
    pack.style(host.styles / "no#1.safetensors")
    assert "no#1.safetensors" in _options(pack)
    assert pack.run("LoadStyleModel", style="no#1.safetensors").model.name == "no#1"


def test_damaged_file_of_several_styles_is_listed_as_unreadable(pack, host):
    path = _several(pack, host.styles / "two.safetensors", "wave", "candy")
    path.write_bytes(path.read_bytes()[:200])
    assert "two.safetensors (unreadable)" in _options(pack)


@pytest.mark.parametrize("style", [5, None, ["starry_night"]])
def test_values_that_are_not_names_raise_one_line(pack, style):
    answer = _validate(pack, style)
    assert style is None or answer.startswith(f"there is no style named {style!r}; choose one of: ")
    assert isinstance(_fingerprint(pack, style), str)
    with pytest.raises(pack.module("core.errors").InputError, match="there is no style named"):
        pack.run("LoadStyleModel", style=style)
