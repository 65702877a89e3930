"""Measure upscalers: the protocol, tables, pictures, the command, and rejected input."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch
from perceptual_style.core import cli
from perceptual_style.core.cli import evaluate_upscale
from perceptual_style.core.errors import ImageError, InputError
from perceptual_style.core.evaluation.mesh import MeshMeter
from perceptual_style.core.evaluation.upscaler_figures import figure
from perceptual_style.core.evaluation.upscaler_report import as_json, markdown
from perceptual_style.core.evaluation.upscalers import Row, evaluate_upscalers, find_test_sets
from perceptual_style.core.images.reading import read_image
from perceptual_style.core.images.resample import bicubic_resize, degrade
from perceptual_style.core.images.tensors import quantize
from perceptual_style.core.losses.loss_network import LossNetwork
from perceptual_style.core.losses.metrics import perceptual_distance, psnr, ssim
from PIL import Image


class Nearest:
    """An upscaler that repeats pixels."""

    name = "nearest"

    def __init__(self, scale: int = 4) -> None:
        self.scale = scale

    def upscale(self, image: torch.Tensor) -> torch.Tensor:
        return image.repeat_interleave(self.scale, dim=2).repeat_interleave(self.scale, dim=3)


def save(path, width: int, height: int):
    """Write an image of soft patches with some noise and return its path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(width * height)
    patches = Image.fromarray(random.integers(0, 256, (6, 6, 3), np.uint8)).resize((width, height), 3)
    noise = random.normal(0, 6, (height, width, 3))
    Image.fromarray((np.asarray(patches) + noise).clip(0, 255).astype(np.uint8)).save(path)
    return path


@pytest.fixture
def data(tmp_path):
    """Write two test sets, one with a published name; their sizes are not multiples of the factors."""
    save(tmp_path / "data" / "Set5" / "a.png", 61, 50)
    save(tmp_path / "data" / "Set5" / "b.png", 48, 66)
    save(tmp_path / "data" / "mine" / "c.png", 49, 49)
    return tmp_path / "data"


def test_find_test_sets_uses_subfolders_or_the_folder_itself(data):
    assert {name: [path.name for path in files] for name, files in find_test_sets(data).items()} == {
        "Set5": ["a.png", "b.png"],
        "mine": ["c.png"],
    }
    assert list(find_test_sets(data / "Set5")) == ["Set5"]


def test_measures_equal_a_step_by_step_computation(data, loss_weights):
    network = LossNetwork("vgg16", loss_weights, ["relu2_2"])
    rows, _ = evaluate_upscalers(find_test_sets(data), {"nearest": Nearest()}, [4, 8], loss_network=network)
    assert [(row.factor, row.test_set, row.method) for row in rows] == [
        (4, "Set5", "bicubic"), (4, "Set5", "nearest"), (4, "mine", "bicubic"), (4, "mine", "nearest"),
        (8, "Set5", "bicubic"), (8, "mine", "bicubic"),
    ]  # fmt: skip
    hr = read_image(data / "Set5" / "a.png").pixels[..., :48, :60]
    lr = degrade(hr, 4)
    for row, result in zip(rows, (bicubic_resize(lr, 4), Nearest().upscale(lr)), strict=False):
        result = quantize(result)
        expected = {"psnr": psnr(result, hr, 4), "ssim": ssim(result, hr, 4)}
        expected["perceptual distance"] = perceptual_distance(result, hr, network)
        assert row.images["a.png"] == {key: pytest.approx(float(value)) for key, value in expected.items()}
    for row in rows:
        assert row.measures.keys() - row.images[next(iter(row.images))].keys() == {"mesh peak"}
        for key in row.measures.keys() - {"mesh peak"}:
            mean = row.measures[key]
            assert mean == pytest.approx(np.mean([values[key] for values in row.images.values()]))


def test_mesh_peak_is_measured_on_all_images_of_a_set(tmp_path):
    for n, width in enumerate((160, 260)):
        save(tmp_path / f"{n}.png", width, 144)
    save(tmp_path / "small.png", 48, 48)
    rows, _ = evaluate_upscalers(find_test_sets(tmp_path), {"nearest": Nearest()}, [4])
    for row in rows:
        meter = MeshMeter()
        for path in sorted(tmp_path.iterdir()):
            hr = read_image(path).pixels[..., :144, :]
            lr = degrade(hr, 4)
            meter.add(quantize(Nearest().upscale(lr) if row.method == "nearest" else bicubic_resize(lr, 4)), hr)
        assert meter.crops == 3 and row.measures["mesh peak"] == pytest.approx(meter.peak().ratio)
    assert rows[0].measures["mesh peak"] < rows[1].measures["mesh peak"], "squares have edges, bicubic has none"


def test_grey_files_are_measured_on_their_values(tmp_path):
    photo = Image.open(save(tmp_path / "a.png", 48, 48)).convert("L")
    photo.save(tmp_path / "a.png")
    photo.convert("RGB").save(tmp_path / "b.png")
    ((row,), _) = evaluate_upscalers(find_test_sets(tmp_path), {}, [4])
    gain = 20 * math.log10(255 / 219)  # published scripts convert three-channel files to 16 to 235
    assert row.images["b.png"]["psnr"] - row.images["a.png"]["psnr"] == pytest.approx(gain, abs=0.1)


def test_progress_counts_images_and_stops_work(data, stop_at):
    seen = []
    evaluate_upscalers(find_test_sets(data), {"nearest": Nearest()}, [4, 8], progress=seen.append)
    assert [(each.done, each.total) for each in seen] == [(n, 9) for n in range(1, 10)]
    with pytest.raises(RuntimeError, match="enough"):
        evaluate_upscalers(find_test_sets(data), {}, [4], progress=stop_at(2, RuntimeError("enough")))


def test_examples_are_spread_and_show_largest_bicubic_errors(tmp_path):
    for n in range(5):
        grey = np.full((144, 160, 3), 128, np.uint8)
        grey[40:130, 60:150] += np.random.default_rng(n).integers(0, 100, (90, 90, 3), np.uint8)
        (tmp_path / "s").mkdir(exist_ok=True)
        Image.fromarray(grey).save(tmp_path / "s" / f"{n}.png")
    _, examples = evaluate_upscalers(find_test_sets(tmp_path), {"n": Nearest()}, [4], examples=3)
    assert [example.image for example in examples] == ["0.png", "2.png", "4.png"]
    for example in examples:
        left, top, side = example.box
        assert side == 96 and abs(left + 48 - 105) <= 6 and abs(top + 48 - 85) <= 6
        assert {name: tuple(crop.shape) for name, crop in example.crops.items()} == {
            "bicubic": (3, 96, 96), "n": (3, 96, 96)
        }  # fmt: skip


def test_figure_shows_enlarged_crops_beside_whole_image(data):
    rows, examples = evaluate_upscalers(find_test_sets(data / "mine"), {"n": Nearest()}, [4], examples=1)
    (example,) = examples
    picture = np.asarray(figure(example, rows))
    crop = (example.whole * 255).round().byte().permute(1, 2, 0).numpy()  # 48 px: the crop is the whole image
    enlarged = crop.repeat(6, axis=0).repeat(6, axis=1)
    assert (picture[16 : 16 + 288, 16 + 300 : 16 + 300 + 288] == enlarged).all()
    assert picture.shape[1] == 2 * 16 + 4 * 288 + 3 * 12
    assert (picture[-90:] < 128).any(), "no text"


def rows_of(factor: int, test_set: str) -> list[Row]:
    measures = {"psnr": 28.4189, "ssim": 0.81024, "perceptual distance": 67825.8}
    return [Row(factor, method, test_set, measures, {"a.png": measures}) for method in ("bicubic", "perceptual")]


def test_table_has_paper_rows_only_for_paper_sets():
    text = markdown(rows_of(4, "Set5"))
    assert "| method | Set5 PSNR | Set5 SSIM | Set5 perceptual distance |" in text
    assert "| bicubic | 28.42 | 0.8102 | 67826 |" in text and "| perceptual | 28.42 |" in text
    assert "| bicubic (paper) | 28.43 | 0.8114 |  |" in text and "| feature loss (paper) | 27.09 | 0.7680 |  |" in text
    assert "not measured here" in text and "protocol for x8" not in text
    assert "different protocol for x8" in markdown(rows_of(8, "Set14"))
    assert "(paper)" not in markdown(rows_of(4, "mine")) + markdown(rows_of(3, "Set5"))


def test_json_has_no_infinity():
    exact = Row(4, "exact", "mine", {"psnr": math.inf, "mesh peak": math.nan}, {"a.png": {"psnr": math.inf}})
    (row,) = as_json([exact])["rows"]
    assert row["psnr"] is row["mesh peak"] is None and row["images"]["a.png"]["psnr"] is None
    assert "| exact | inf |  |" in markdown([exact]), "images were too small for a mesh peak"


def test_wrong_models_and_images_are_rejected_before_any_work(data):
    sets, seen = find_test_sets(data), []
    with pytest.raises(InputError, match="nearest upscales x3, but the factors to measure are x4, x8"):
        evaluate_upscalers(sets, {"nearest": Nearest(3)}, [4, 8], progress=seen.append)
    save(data / "mine" / "small.png", 40, 19)
    with pytest.raises(ImageError, match="small.png is 40x19 px; measuring x4 needs 20 px on each side"):
        evaluate_upscalers(find_test_sets(data), {}, [4], progress=seen.append)
    assert not seen
    wrong = Nearest()
    wrong.upscale = lambda image: image
    with pytest.raises(
        InputError, match=r"nearest returned \(1, 3, 12, 15\) for \(1, 3, 12, 15\); expected \(1, 3, 48, 60\)"
    ):
        evaluate_upscalers(sets, {"nearest": wrong}, [4])


@pytest.fixture
def evaluate(capsys, monkeypatch):
    """Run ``evaluate upscale`` with models "nearest3", ...; return exit status, stdout and the lines of stderr."""
    monkeypatch.setattr(evaluate_upscale, "load_upscaler", lambda name: Nearest(int(name[-1])))

    def run(*arguments) -> tuple[int, str, list[str]]:
        try:
            status = cli.main(["evaluate", "upscale", *map(str, arguments)])
        except SystemExit as exit_:
            status = exit_.code
        out, err = capsys.readouterr()
        assert "Traceback" not in err
        lines, bar = err.replace("\r", "\n").splitlines(), ("image [", "image/s", "s/image")
        return status, out, [line for line in lines if line.strip() and not any(part in line for part in bar)]

    return run


def test_command_writes_tables_and_pictures(evaluate, data, tmp_path, loss_weights, deep_loss_weights):
    arguments = ("--data", data, "-o", tmp_path / "out", "--examples", 1)
    status, out, lines = evaluate(*arguments, "--models", "nearest4", "nearest8")
    assert (status, lines) == (0, [])
    folder = tmp_path / "out"
    assert {path.name for path in folder.iterdir()} == {
        "table.md", "table.json", "x4_Set5_b.png", "x4_mine_c.png", "x8_Set5_b.png", "x8_mine_c.png",
    }  # fmt: skip
    assert (folder / "table.md").read_text(encoding="utf-8") == out
    assert len(json.loads((folder / "table.json").read_text(encoding="utf-8"))["rows"]) == 8
    arguments = (
        "--data",
        data / "mine",
        "-o",
        tmp_path / "out",
        "--loss-weights",
        loss_weights,
        "--structure-texture",
        deep_loss_weights,
        "--factors",
        8,
        "--json",
    )
    status, out, _ = evaluate(*arguments)
    (row,) = json.loads(out)["rows"]
    assert status == 0 and row["factor"] == 8 and row["perceptual distance"] > 0
    assert 0 < row["structure and texture (vgg16)"] < 1


def test_command_errors_are_one_line(evaluate, data, tmp_path):
    def refused(*arguments) -> str:
        status, out, lines = evaluate("-o", tmp_path / "out", *arguments)
        assert (status, out, len(lines)) == (2, "", 1) and not (tmp_path / "out").exists()
        return lines[0]

    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("")
    assert "nowhere is not a folder; expected one with" in refused("--data", tmp_path / "nowhere")
    assert "has no " in refused("--data", tmp_path / "empty", "--factors", 4)
    assert "nearest upscales x3, but the factors to measure are x4" in refused(
        "--data", data, "--models", "n3", "--factors", 4
    )
    assert "needs 24 px" in refused("--data", save(data / "s.png", 20, 30).parent, "--factors", 6, "--examples", 0)
    assert "expected 2 or more" in refused("--data", data / "Set5", "--factors", 1)
    assert "--examples is -1" in refused("--data", data / "Set5", "--examples", -1)
    assert "give them with --lpips" in refused("--data", data / "Set5", "--lpips-network", "x")
    assert "file is a file; expected a folder" in evaluate("--data", data, "-o", tmp_path / "file")[2][0]


@pytest.mark.shared
@pytest.mark.parametrize(("name", "four_db", "eight_db"), [("Set5", 28.42, 24.39), ("Set14", 26.00, 23.09)])
def test_bicubic_equals_published_values(evaluate, shared_data, tmp_path, name, four_db, eight_db):
    arguments = ("--data", shared_data / "sr_test" / name, "-o", tmp_path, "--examples", 0, "--json")
    status, out, _ = evaluate(*arguments)
    four, eight = json.loads(out)["rows"]
    assert status == 0
    assert four["psnr"] == pytest.approx(four_db, abs=0.02) and eight["psnr"] == pytest.approx(eight_db, abs=0.02)
    if name == "Set5":
        assert four["ssim"] == pytest.approx(0.8104, abs=0.0005)
