"""The command line: its output, its exit statuses, and its one-line errors."""

from __future__ import annotations

import dataclasses
import json
import os
import sys

import pytest
import torch
from helpers import save_noise as photo
from helpers import save_style
from perceptual_style.core.checkpoints.own_format import load_network, save_network, save_tensors
from perceptual_style.core.hub.manifest import entries
from perceptual_style.core.images.reading import read_image
from perceptual_style.core.images.writing import save_image
from perceptual_style.core.losses.objective import ObjectiveWeights
from perceptual_style.core.models.predict import predict_style
from perceptual_style.core.models.style_model import load_style
from perceptual_style.core.models.upscale_model import load_upscaler
from perceptual_style.core.network.transform_net import build_network
from perceptual_style.core.training.lattice import without_lattice
from perceptual_style.core.training.state import file_digest
from perceptual_style.core.training.style_recipes import RECIPES
from PIL import Image
from safetensors.torch import save_file

ARCH = "c3s1-4,d4,R4,n2,c3s1-3 norm=instance padding=reflect output=tanh"
MAIN = "import sys; from perceptual_style.core.cli import main; sys.exit(main(sys.argv[1:]))"


@pytest.fixture
def style(tmp_path):
    """A style file, tiny and untrained, in a folder of its own."""
    facts = {"title": "Tiny", "loss curve": [[1, 2.0]], "credit": {"artist": "nobody"}}
    return save_style(tmp_path / "styles" / "tiny.safetensors", ARCH, **facts)


def test_list_shows_all_networks_and_their_state(run):
    status, out, lines = run("list")
    assert (status, lines) == (0, [])
    assert [line.split()[0] for line in out.splitlines()] == [entry.id for entry in entries()]
    for line, entry in zip(out.splitlines(), entries(), strict=True):
        assert line.split()[1] == "bundled" if entry.is_bundled else line.split()[1:3] == ["to", "download"]


def test_list_as_json_equals_the_manifest(run, root):
    status, out, _ = run("list", "--json")
    manifest = json.loads((root / "weights_manifest.json").read_text(encoding="utf-8"))
    answer = json.loads(out)
    assert {entry.pop("state") for entry in answer} <= {"bundled", "to download"}
    assert status == 0 and answer == manifest["entries"]


def test_describe_accepts_every_name(run):
    for entry in entries():
        status, out, lines = run("describe", entry.id, "--json")
        assert (status, lines) == (0, []) and json.loads(out)["license"] == entry.license


def test_training_without_loss_weights_says_how_to_get_them(refused, tmp_path):
    arguments = ["train-style", photo(tmp_path / "p.png"), "--content", tmp_path, "-o", tmp_path / "x.safetensors"]
    assert "run `perceptual-style download vgg16`" in refused(*arguments, "--recipe", "authors")
    assert "vgg19 down to relu4_3 are not downloaded yet" in refused(*arguments, "--loss-network", "vgg19")


def test_download_errors_are_one_line(refused):
    assert "no network named 'nothing' to download; expected maze_starry_night, " in refused("download", "nothing")
    assert "offline mode" in refused("download", "maze_mosaic")
    assert "--layer is for loss networks" in refused("download", "maze_mosaic", "--layer", "relu1_1")


def test_describe_prints_facts_of_a_file(run, style):
    status, out, lines = run("describe", style)
    assert (status, lines) == (0, [])
    parameters = sum(p.numel() for p in build_network(ARCH).parameters())
    assert f"arch: {ARCH}" in out and f"parameters: {parameters}" in out and "title: Tiny" in out
    assert "loss curve" not in out
    status, out, _ = run("describe", style, "--json")
    facts = json.loads(out)
    assert status == 0 and facts["arch"] == ARCH and facts["width"] == 4 and facts["loss curve"] == [[1, 2.0]]


def test_stylize_writes_the_result_of_the_model(run, style, tmp_path):
    source = photo(tmp_path / "photo.png")
    assert run("stylize", source, "-o", tmp_path / "out.png", "--style", style) == (0, "", [])
    expected = load_style(style).stylize(read_image(source).pixels)
    assert (read_image(tmp_path / "out.png").pixels - expected).abs().max() <= 0.5 / 255 + 1e-6


@pytest.mark.parametrize(("width", "height"), [(1, 1), (1, 9), (7, 2), (33, 50), (64, 64)])
@pytest.mark.parametrize("suffix", [".png", ".jpg"])
def test_result_has_the_size_of_the_photo(width, height, suffix, run, style, tmp_path):
    source = photo(tmp_path / f"photo{suffix}", width, height)
    assert run("stylize", source, "-o", tmp_path / f"out{suffix}", "--style", style)[0] == 0
    with Image.open(tmp_path / f"out{suffix}") as image:
        assert image.size == (width, height)


def test_stylize_keeps_alpha_or_warns(run, style, tmp_path):
    source = photo(tmp_path / "photo.png", mode="RGBA")
    alpha = read_image(source).alpha
    assert run("stylize", source, "-o", tmp_path / "out.png", "--style", style) == (0, "", [])
    assert torch.equal(read_image(tmp_path / "out.png").alpha, alpha)
    status, _, lines = run("stylize", source, "-o", tmp_path / "out.jpg", "--style", style)
    assert status == 0 and len(lines) == 1 and "transparency" in lines[0]


def test_gray_photos_become_colored(run, style, tmp_path):
    assert run("stylize", photo(tmp_path / "grey.png", mode="L"), "-o", tmp_path / "out.png", "--style", style)[0] == 0
    pixels = read_image(tmp_path / "out.png").pixels
    assert not torch.equal(pixels[:, 0], pixels[:, 1])


def test_photo_keeps_its_name_in_the_output_folder(run, style, tmp_path):
    assert run("stylize", photo(tmp_path / "a.png"), "-o", tmp_path / "new" / "folder", "--style", style)[0] == 0
    assert (tmp_path / "new" / "folder" / "a.png").is_file()
    (tmp_path / "dotted.folder").mkdir()
    assert run("stylize", tmp_path / "a.png", "-o", tmp_path / "dotted.folder", "--style", style)[0] == 0
    assert (tmp_path / "dotted.folder" / "a.png").is_file()


def test_output_folder_keeps_subfolders(run, style, tmp_path):
    for name in ("a.png", "sub/b.jpg", "sub/deeper/a.png", "sub/.hidden.png"):
        photo(tmp_path / "in" / name)
    (tmp_path / "in" / "notes.txt").write_text("no photo")
    extra = photo(tmp_path / "extra.png")
    assert run("stylize", tmp_path / "in", extra, "-o", tmp_path / "out", "--style", style)[0] == 0
    written = {
        path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob("*") if path.is_file()
    }
    assert written == {"a.png", "sub/b.jpg", "sub/deeper/a.png", "extra.png"}


def test_two_photos_for_one_output_are_rejected_before_writing(refused, style, tmp_path):
    one, two = photo(tmp_path / "1" / "a.png"), photo(tmp_path / "2" / "a.png", 9, 9)
    line = refused("stylize", one, two, "-o", tmp_path / "out", "--style", style)
    assert str(one) in line and str(two) in line and not (tmp_path / "out").exists()
    line = refused("stylize", tmp_path / "1", tmp_path / "2", "-o", tmp_path / "out", "--style", style)
    assert "would both go to" in line and not (tmp_path / "out").exists()


@pytest.mark.parametrize("how", ["itself", "its folder", "folder to itself", "another path", "link", "another photo"])
def test_input_photo_is_never_replaced(how, refused, style, tmp_path):
    source = photo(tmp_path / "in" / "a.png")
    before = source.read_bytes()
    arguments = {
        "itself": (source, source),
        "its folder": (source, source.parent),
        "folder to itself": (source.parent, source.parent),
        "another path": (source, tmp_path / "in" / ".." / "in" / "a.png"),
        "link": (source, tmp_path / "link.png"),
        "another photo": (tmp_path, source.parent),
    }
    if how == "link":
        try:
            (tmp_path / "link.png").symlink_to(source)
        except OSError:
            pytest.skip("needs symbolic links")
    if how == "another photo":
        photo(tmp_path / "a.png", 8, 8)  # its result would be in/a.png
    photos, output = arguments[how]
    assert "replaced" in refused("stylize", photos, "-o", output, "--style", style)
    assert source.read_bytes() == before


def test_several_photos_need_an_output_folder(refused, style, tmp_path):
    one, two, out = photo(tmp_path / "a.png"), photo(tmp_path / "b.png"), photo(tmp_path / "out.png")
    before = out.read_bytes()
    assert "the output must be a folder" in refused("stylize", one, two, "-o", out, "--style", style)
    assert out.read_bytes() == before


def test_bad_photo_does_not_stop_the_others(run, style, tmp_path):
    for name in ("a.png", "c.png"):
        photo(tmp_path / "in" / name)
    (tmp_path / "in" / "b.png").write_text("this is not a picture")
    status, out, lines = run("stylize", tmp_path / "in", "-o", tmp_path / "out", "--style", style)
    assert (status, out, len(lines)) == (2, "", 1) and "b.png" in lines[0]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a.png", "c.png"]


def test_errors_for_bad_photos_are_one_line(refused, style, tmp_path):
    (tmp_path / "text.png").write_text("this is not a picture")
    (tmp_path / "zero.png").write_bytes(b"")
    (tmp_path / "empty").mkdir()
    whys = {"missing.png": "no such file", "text.png": "expected an image", "zero.png": "empty", "empty": "no images"}
    for name, why in whys.items():
        line = refused("stylize", tmp_path / name, "-o", tmp_path / "out.png", "--style", style)
        assert why in line and name in line
        assert not (tmp_path / "out.png").exists()
    line = refused("stylize", tmp_path / "missing.png", tmp_path / "text.png", "-o", tmp_path / "out", "--style", style)
    assert "missing.png does not exist" in line


def test_errors_for_unwritable_outputs_are_one_line(refused, style, tmp_path):
    source = photo(tmp_path / "a.png")
    (tmp_path / "file").write_text("not a folder")
    assert "suffix" in refused("stylize", source, "-o", tmp_path / "out.xyz", "--style", style)
    assert "cannot write" in refused("stylize", source, "-o", tmp_path / "file", "--style", style)
    assert "cannot write" in refused("stylize", source, "-o", tmp_path / "file" / "out.png", "--style", style)


@pytest.mark.parametrize("command", ["stylize", "describe"])
def test_errors_for_files_that_are_not_styles_are_one_line(command, refused, tmp_path):
    source, files = photo(tmp_path / "a.png"), {name: tmp_path / f"{name}.safetensors" for name in "abcdef"}
    files["a"].write_bytes(b"")
    files["b"].write_text("this is not a file of weights")
    save_file({"unet.weight": torch.zeros(1)}, files["c"])
    save_network(files["d"], build_network("u3 padding=zero"), {"task": "upscale"})
    save_tensors(files["e"], {"a": torch.zeros(1)}, {"format": 1, "task": "training"})
    whys = {
        "a": "empty",
        "b": "not a readable",
        "c": "unknown architecture",
        "d": "not a style",
        "e": "unfinished",
    }
    if command == "describe":
        del whys["d"]  # which can be described
    for name, why in {**whys, "f": "does not exist"}.items():
        rest = [source, "-o", tmp_path / "out.png", "--style", files[name]] if command == "stylize" else [files[name]]
        line = refused(command, *rest)
        assert why in line and files[name].name in line
    rest = (
        [source, "-o", tmp_path / "out.png", "--style", "no_such_style"] if command == "stylize" else ["no_such_style"]
    )
    what = "style" if command == "stylize" else "network"
    assert f"no {what} named 'no_such_style'" in refused(command, *rest)
    assert not (tmp_path / "out.png").exists()


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ([], "COMMAND"),
        (["paint"], "paint"),
        (["stylize"], "PHOTO"),
        (["stylize", "a.png"], "--output"),
        (["stylize", "a.png", "-o", "b.png", "--precision", "int8"], "int8"),
        (["describe"], "FILE"),
        (["list", "--yaml"], "--yaml"),
        (["train-style", "a.png", "--steps", "many"], "many"),
    ],
)
def test_wrong_arguments_give_one_line_and_status_2(arguments, named, refused):
    line = refused(*arguments)
    assert named in line and "--help" in line


def test_unknown_device_is_rejected(refused, style, tmp_path):
    source = photo(tmp_path / "a.png")
    command = ["stylize", source, "-o", tmp_path / "b.png", "--style", style, "--device"]
    assert "cuda:99" in refused(*command, "cuda:99")
    assert "there is no device 'quantum'; use auto, cpu or cuda" in refused(*command, "quantum")


@pytest.mark.parametrize(
    "command",
    [
        "list",
        "download",
        "stylize",
        "upscale",
        "describe",
        "train-style",
        "optimize",
        "evaluate upscale",
        "evaluate style",
        "",
    ],
)
def test_every_command_has_help(command, run):
    status, out, lines = run(*command.split(), "--help")
    assert (status, lines) == (0, []) and "usage: perceptual-style" in out


def test_interrupt_gives_status_130(run, style, tmp_path, monkeypatch):
    def interrupt(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("perceptual_style.core.models.style_model.StyleModel.stylize", interrupt)
    status, out, lines = run("stylize", photo(tmp_path / "a.png"), "-o", tmp_path / "b.png", "--style", style)
    assert (status, out, lines) == (130, "", ["cancelled"]) and not (tmp_path / "b.png").exists()


@pytest.mark.parametrize(
    "error", [MemoryError(), torch.cuda.OutOfMemoryError("CUDA out of memory.\nTried to allocate")]
)
def test_out_of_memory_is_one_line(error, refused, style, tmp_path, monkeypatch):
    def too_large(*_, **__):
        raise error

    monkeypatch.setattr("perceptual_style.core.models.style_model.StyleModel.stylize", too_large)
    assert "memory" in refused("stylize", photo(tmp_path / "a.png"), "-o", tmp_path / "b.png", "--style", style)


@pytest.fixture
def training(tmp_path, loss_weights) -> list:
    """Arguments of a training run of four steps on a tiny network."""
    for n in range(3):
        photo(tmp_path / "photos" / f"{n}.png", 40, 45 + n)
    painting = tmp_path / "painting.png"
    save_image(painting, torch.rand(3, 70, 80, generator=torch.Generator().manual_seed(2)))
    return [
        "train-style", painting, "--content", tmp_path / "photos", "-o", tmp_path / "mine.safetensors",
        "--loss-weights", loss_weights, "--recipe", "paper", "--loss-network", "vgg16", "--arch", ARCH.split()[0],
        "--steps", "4", "--batch-size", "2", "--size", "32", "--style-size", "48",
    ]  # fmt: skip


@pytest.fixture
def shallow_recipe(monkeypatch) -> None:
    """Limit the paper's recipe to the layers of the tests' loss network."""
    weights = ObjectiveWeights({"relu2_1": 1.0}, {"relu1_2": 1.0}, "relative", tv=1.0, tv_form="mean")
    monkeypatch.setitem(RECIPES, "paper", dataclasses.replace(RECIPES["paper"], weights=weights))


@pytest.mark.usefixtures("shallow_recipe")
def test_train_style_writes_a_style_and_prints_its_path(run, training, tmp_path):
    status, out, _ = run(
        *training, "--title", "Noise", "--content-weight", "0.5", "--preview", tmp_path / "photos" / "0.png"
    )
    assert status == 0 and out.strip() == str(tmp_path / "mine.safetensors")
    facts = load_style(tmp_path / "mine.safetensors").facts
    assert facts["title"] == "Noise" and facts["recipe"]["steps"] == 4
    assert facts["recipe"]["weights"]["content"] == {"relu2_1": 0.5}
    assert read_image(tmp_path / "mine.preview.png").pixels.shape[-2:] == (45, 40)


@pytest.mark.usefixtures("shallow_recipe")
def test_train_style_takes_any_width_unless_it_starts_from_a_style(run, refused, training, style, tmp_path):
    assert run(*training, "--width", "8")[0] == 0
    assert load_style(tmp_path / "mine.safetensors").spec.width == 8
    assert "is 4 channels wide, not 8" in refused(*training, "--init-from", style, "--width", "8")
    assert "cannot be 0 channels wide" in refused(*training, "--width", "0")


def test_recipe_quick_is_the_default_and_starts_from_what_is_predicted(
    run, refused, training, deep_loss_weights, tmp_path
):
    arguments = [*training[:6], "--loss-network", "vgg16", "--loss-weights", deep_loss_weights]
    arguments += ["--steps", "1", "--size", "32", "--batch-size", "1", "--learning-rate", "1e-9"]
    assert "predicted is 16 channels wide, not 32" in refused(*arguments, "--width", "32")
    assert run(*arguments)[0] == 0
    mine = load_style(tmp_path / "mine.safetensors")
    assert mine.facts["recipe"]["name"] == "quick"
    predicted = predict_style(read_image(training[1]).filled)
    trained, start = (model.network.state_dict() for model in (mine, predicted))
    kernel = f"stages.{len(mine.network.stages) - 1}.conv.weight"
    start[kernel] = without_lattice(start[kernel])
    assert all(torch.allclose(trained[key], tensor, atol=1e-7) for key, tensor in start.items())


def test_error_for_a_shallow_loss_network_is_one_line(refused, training, tmp_path):
    assert "lacks relu3_1" in refused(*training)
    assert not list(tmp_path.glob("mine*"))


@pytest.mark.usefixtures("shallow_recipe")
def test_errors_for_bad_style_training_options_are_one_line(refused, training, tmp_path):
    def changed(option: str, value) -> list:
        place = training.index(option) + 1
        return [*training[:place], value, *training[place + 1 :]]

    assert "no such file" in refused("train-style", tmp_path / "nothing.png", *training[2:])
    assert "nothing does not exist" in refused(*changed("--content", tmp_path / "nothing"))
    assert "does not exist" in refused(*changed("--loss-weights", tmp_path / "nothing"))
    assert "mine.safetensors" in refused(*changed("-o", tmp_path / "mine.pth"))
    assert "unknown recipe" in refused(*changed("--recipe", "fast"))
    assert "unknown token" in refused(*changed("--arch", "x9"))
    assert "steps is 0" in refused(*changed("--steps", "0"))
    assert "multiple of 2" in refused(*changed("--size", "33"))
    assert "seed" in refused(*training, "--seed", "-1")
    assert "does not exist" in refused(*training, "--init-from", "no_such_style")
    assert "not negative" in refused(*training, "--style-weight", "-1")
    assert not list(tmp_path.glob("mine*"))


@pytest.mark.slow
def test_train_predictor_writes_a_predictor_that_training_a_style_starts_from(run, refused, training, tmp_path):
    painting, photos, out = training[1], training[3], tmp_path / "any.safetensors"
    (tmp_path / "paintings").mkdir()
    (tmp_path / "paintings" / "p.png").write_bytes(painting.read_bytes())
    small = ["--arch", ARCH.split()[0], "--size", "32", "--style-size", "32", "--batch-size", "1", "--steps", "2"]
    arguments = ["train-predictor", tmp_path / "paintings", "--content", photos, "-o", out, "--half", *small]
    assert "multiple of 2" in refused(*arguments, "--size", "33")
    assert "average is 1.0; expected a decay" in refused(*arguments, "--average", "1")
    assert "nothing does not exist" in refused("train-predictor", tmp_path / "nothing", *arguments[2:])
    status, printed, _ = run(*arguments, "--license", "MIT")
    assert status == 0 and printed.strip() == str(out)
    assert run(*arguments)[0] == 0  # finished already
    facts = json.loads(run("describe", out, "--json")[1])
    assert facts["task"] == "style-predictor" and facts["license"] == "MIT" and facts["encoder"]["vector"] == 100
    assert "is a predictor of styles, not a network" in refused("convert", out, "-o", tmp_path / "x.safetensors")
    better = [*small, "--init-from", out, "-o", tmp_path / "better.safetensors"]
    assert run("train-style", painting, "--content", photos, *better)[0] == 0


@pytest.fixture
def upscaler_training(tmp_path) -> list:
    """Arguments of a training run of three steps on a tiny network."""
    for n in range(2):
        photo(tmp_path / "sharp" / f"{n}.png", 40, 45 + n)
    return [
        "train-upscaler", tmp_path / "sharp", "-o", tmp_path / "x2.safetensors", "--factor", "2", "--arch",
        "c3s1-4,p2-3 norm=none output=linear base=bicubic padding=zero", "--steps", "3", "--batch-size", "2", "--size", "16",
    ]  # fmt: skip


def test_train_upscaler_writes_an_upscaler_and_prints_its_path(run, upscaler_training, tmp_path):
    status, out, _ = run(
        *upscaler_training, "--title", "Mine", "--degradation", "blur", "--validation", tmp_path / "sharp"
    )
    assert status == 0 and out.strip() == str(tmp_path / "x2.safetensors")
    model = load_upscaler(tmp_path / "x2.safetensors")
    assert model.scale == 2 and model.facts["title"] == "Mine" and model.facts["recipe"]["degradation"] == "blur"
    assert run(*upscaler_training)[0] == 2  # the same file, different settings


def test_train_upscaler_learns_from_teachers(run, upscaler_training, tmp_path):
    first, second = tmp_path / "x2.safetensors", tmp_path / "second.safetensors"
    assert run(*upscaler_training)[0] == 0
    rest = [second if argument == first else argument for argument in upscaler_training]
    assert run(*rest, "--teachers", first, first, "--teachers-share", "0.5")[0] == 0
    _, facts = load_network(second)
    assert facts["run"]["teachers"] == [file_digest(first), file_digest(first), 0.5]


def test_errors_for_bad_upscaler_training_options_are_one_line(refused, upscaler_training, tmp_path):
    command, _, *rest = upscaler_training
    assert "does not exist" in refused(command, tmp_path / "nothing", *rest)
    assert "factor is 3" in refused(*upscaler_training, "--factor", "3")
    assert "unknown recipe 'fast'" in refused(*upscaler_training, "--recipe", "fast")
    assert "bicubic, blur, mix or real" in refused(*upscaler_training, "--degradation", "jpeg")
    assert "smaller than a crop" in refused(*upscaler_training, "--size", "64")
    assert "does not exist" in refused(*upscaler_training, "--init-from", "no_such_upscaler")
    assert "does not exist" in refused(*upscaler_training, "--teachers", "no_such_upscaler")
    assert "share is 2.0" in refused(*upscaler_training, "--teachers-share", "2")
    assert "expected a teacher for x2" in refused(*upscaler_training, "--teachers", "pixel_x4")
    assert not list(tmp_path.glob("x2*"))


def test_command_runs_as_a_process(run_python, style, tmp_path):
    source = photo(tmp_path / "päinting.png")
    process = run_python(MAIN, "stylize", source, "-o", tmp_path / "out.png", "--style", style)
    assert (process.returncode, process.stdout, process.stderr) == (0, "", "")
    assert (tmp_path / "out.png").is_file()
    process = run_python(MAIN, "stylize", source, tmp_path / "none.png", "-o", tmp_path / "out", "--style", style)
    assert process.returncode == 2 and process.stdout == ""
    assert len(process.stderr.splitlines()) == 1 and "none.png" in process.stderr


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="needs POSIX pipes")
def test_closed_pipe_ends_quietly(start_python, style):
    reading, writing = os.pipe()
    os.close(reading)
    with start_python(MAIN, "describe", style, stdout=writing) as process:
        os.close(writing)
        _, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (0, "")


def test_memory_option_is_reported_and_checked(run, refused, style, tmp_path):
    source, out = photo(tmp_path / "a.png", 64, 48), tmp_path / "out.png"
    status, _, lines = run("stylize", source, "-o", out, "--style", style, "--memory", "64M", "-v")
    assert status == 0 and len(lines) == 1 and "64x48 px, working in" in lines[0]
    line = refused("stylize", source, "-o", tmp_path / "no.png", "--style", style, "--memory", "1K")
    assert f"{source}: an image of 64x48 px" in line and "budget is 0.0 MiB; allow more (--memory)" in line
    for size in ("lots", "infG", "nan", "0", "2GX", "1e999"):
        line = refused("stylize", source, "-o", tmp_path / "no.png", "--memory", size)
        assert f"'{size}' is not a size; expected something like 800M or 2G" in line
    assert not (tmp_path / "no.png").exists()


def test_skip_existing_resumes_an_interrupted_run(run, style, tmp_path):
    for name in ("a.png", "b.png", "sub/c.png"):
        photo(tmp_path / "in" / name)
    there = photo(tmp_path / "out" / "b.png", 3, 3)
    before = there.read_bytes()
    command = ["stylize", tmp_path / "in", "-o", tmp_path / "out", "--style", style]
    status, _, lines = run(*command, "--skip-existing")
    assert (status, len(lines)) == (0, 1) and "skipped 1 of 3 photos whose results already exist" in lines[0]
    assert there.read_bytes() == before and (tmp_path / "out" / "sub" / "c.png").is_file()
    status, _, lines = run(*command, "--skip-existing")
    assert (status, len(lines)) == (0, 1) and "skipped 3 of 3 photos" in lines[0]
    assert run(*command) == (0, "", [])
    assert there.read_bytes() != before


def test_workers_and_ray_options(run, refused, style, tmp_path, monkeypatch):
    for name in ("a.png", "b.png"):
        photo(tmp_path / "in" / name)
    command = ["stylize", tmp_path / "in", "-o", tmp_path / "out", "--style", style]
    assert "number of workers is 0" in refused(*command, "--workers", "0")
    monkeypatch.setitem(sys.modules, "ray", None)
    assert 'needs the package ray: pip install "perceptual-style[ray]"' in refused(*command, "--ray", "local")
    assert not (tmp_path / "out").exists()
    assert run(*command, "--workers", "2") == (0, "", [])
