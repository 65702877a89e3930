"""Test training of several styles in one network, and adding a style to a trained network."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
import torch
from helpers import same_tensors as equal
from perceptual_style.core.checkpoints.own_format import load_network, load_tensors, save_network, style_names
from perceptual_style.core.errors import Cancelled, CheckpointError, InputError, TrainingError
from perceptual_style.core.images.writing import save_image
from perceptual_style.core.losses.loss_network import LossNetwork
from perceptual_style.core.losses.objective import Objective, ObjectiveWeights
from perceptual_style.core.models.style_model import load_style
from perceptual_style.core.network.styles import rows_of, select, with_rows
from perceptual_style.core.network.transform_net import build_network
from perceptual_style.core.training.photos import PhotoFolder, StyledPhotos, fit_style_image
from perceptual_style.core.training.style_recipes import RECIPES
from perceptual_style.core.training.style_start import added_start, begin, new_start
from perceptual_style.core.training.train_style import run_training
from safetensors.torch import load_file


def painting(seed: int) -> torch.Tensor:
    return torch.rand(1, 3, 64, 70 + seed, generator=torch.Generator().manual_seed(seed)) ** (seed + 1)


PAINTINGS = {"wave": painting(1), "candy": painting(2), "night": painting(3)}
TWO = {name: PAINTINGS[name] for name in ("wave", "candy")}
ARCH = "c3s1-4,d4,R4,n2,c3s1-3 padding=reflect"


@pytest.fixture
def many(new_run):
    """Function that makes a run of several styles, by default wave and candy."""

    def make(name: str = "many", style_image=TWO, **changes):
        return dataclasses.replace(new_run(name, **changes), style_image=style_image)

    return make


@pytest.fixture
def single(tmp_path):
    """File of one style with random norms."""
    torch.manual_seed(7)
    network = build_network(ARCH).requires_grad_(False)
    for value in rows_of(network)[0].values():
        value.normal_()
    path = tmp_path / "base.safetensors"
    facts = {"title": "The base", "license": "CC0-1.0", "recipe": {"steps": 1}}
    save_network(path, network, {"task": "style", "name": "base", **facts})
    return path


@pytest.fixture
def three(single, tmp_path):
    """File of three styles."""
    network, _ = load_network(single)
    (row,) = rows_of(network)
    several = with_rows(network, [{key: factor * value for key, value in row.items()} for factor in (1, 2, 3)])
    path = tmp_path / "three.safetensors"
    save_network(path, several, {"task": "style", "styles": [{"name": name} for name in ("a", "b", "c")]})
    return path


def test_crops_are_shared_equally_among_styles(training_photos):
    photos = StyledPhotos(PhotoFolder(training_photos, 32, 2, 5), 3)
    batches = [photos.batch(index) for index in range(60)]
    plain = PhotoFolder(training_photos, 32, 2, 5)
    assert all(torch.equal(images, plain.batch(index)) for index, (images, _) in enumerate(batches[:3]))
    drawn = torch.cat([chosen for _, chosen in batches])
    assert drawn.bincount().tolist() == [40, 40, 40]
    turns = drawn.view(-1, 3).tolist()
    assert all(sorted(turn) == [0, 1, 2] for turn in turns) and len({tuple(turn) for turn in turns}) == 6
    again = StyledPhotos(PhotoFolder(training_photos, 32, 2, 5), 3).batch(41)[1]
    assert torch.equal(again, batches[41][1])
    other = torch.cat([StyledPhotos(PhotoFolder(training_photos, 32, 2, 6), 3).batch(index)[1] for index in range(60)])
    assert not torch.equal(other, drawn)


def test_photos_meet_different_styles_if_there_are_as_many(training_photos):
    photos = StyledPhotos(PhotoFolder(training_photos, 32, 9, 0), 9)
    order = [photos._row(position) for position in range(90)]
    assert len({tuple(order[turn : turn + 9]) for turn in range(0, 90, 9)}) == 10


def test_objective_compares_each_output_with_style_image_of_its_row(loss_weights, rng):
    weights = ObjectiveWeights({"relu2_1": 1.0}, {"relu1_2": 4.0, "relu2_2": 2.0}, "relative", tv=0.1, tv_form="mean")
    network = LossNetwork("vgg16", loss_weights, weights.layers)
    output, content = torch.rand(2, 2, 3, 24, 24, generator=rng)
    together = Objective(network, weights, [*PAINTINGS.values()])(output, content, rows=torch.tensor([2, 0]))
    alone = [
        Objective(network, weights, PAINTINGS[name])(output[i : i + 1], content[i : i + 1])
        for i, name in enumerate(("night", "wave"))
    ]
    for part, value in together.items():
        torch.testing.assert_close(value, (alone[0][part] + alone[1][part]) / 2, msg=part)


def test_several_style_images_train_one_network_with_named_styles(many, rng):
    seen = []
    path = run_training(many(steps=30, facts={"license": "CC0-1.0"}), seen.append)
    totals = [sum(progress.losses.values()) for progress in seen]
    assert np.mean(totals[-5:]) < 0.8 * np.mean(totals[:5])
    network, facts = load_network(path)
    assert network.spec.styles == 2 and style_names(path) == ("wave", "candy")
    assert facts["name"] == "many" and facts["license"] == "CC0-1.0"
    image = torch.rand(1, 3, 32, 32, generator=rng)
    wave, candy = (load_style(path, style=name) for name in ("wave", "candy"))
    assert (wave.stylize(image) - candy.stylize(image)).abs().max() > 0.01
    assert wave.facts["license"] == "CC0-1.0" and wave.facts["recipe"]["steps"] == 30


def test_each_row_learns_its_own_style_image(many, loss_weights, training_photos):
    run = many(steps=60, schedule="constant")
    path = run_training(run)
    weights = ObjectiveWeights({}, run.recipe.weights.style, "relative")
    network = LossNetwork("vgg16", loss_weights, weights.layers)
    photos = PhotoFolder(training_photos, 32, 4, 99).batch(0)
    styled = {name: load_style(path, style=name).network(photos) for name in TWO}
    for name, image in TWO.items():
        objective = Objective(network, weights, fit_style_image(image, run.recipe.style_size))
        values = {other: float(sum(objective(output, photos).values())) for other, output in styled.items()}
        assert min(values, key=values.get) == name, values


@pytest.mark.parametrize("steps", [(3,), (2, 7)])
@pytest.mark.parametrize("identity_steps", [0, 4])
def test_resumed_run_of_several_styles_gives_same_weights(steps, identity_steps, many, same, stop_at):
    expected = load_file(run_training(many("whole", identity_steps=identity_steps)))
    run = many(identity_steps=identity_steps)
    for step in steps:
        with pytest.raises(Cancelled):
            run_training(run, stop_at(step))
        assert load_tensors(run.checkpoint)[1]["step"] == step
    assert same(run_training(run), expected)
    seen = []
    run_training(run, seen.append)
    assert seen == []


def test_other_style_images_or_another_order_are_another_run(many, stop_at):
    with pytest.raises(Cancelled):
        run_training(many(), stop_at(1))
    for style_image in (dict(reversed(TWO.items())), PAINTINGS, {**TWO, "candy": painting(5)}):
        with pytest.raises(TrainingError, match="another style images;"):
            run_training(many(style_image=style_image))


def test_one_style_of_several_paintings_learns_their_mean(many, loss_weights, training_photos, same):
    run = many(style_image=[*TWO.values()], steps=6)
    expected = run_training(run)
    assert load_network(expected)[0].spec.styles == 1
    alone = many("alone", style_image=[PAINTINGS["wave"]], steps=6)
    assert same(run_training(alone), load_file(run_training(many("plain", style_image=PAINTINGS["wave"], steps=6))))
    assert not same(expected, load_file(alone.out))
    with pytest.raises(InputError, match="no style image"):
        run_training(many("none", style_image=[]))


def test_resumed_run_of_several_paintings_gives_same_weights(many, same, stop_at):
    paintings = [*TWO.values()]
    expected = load_file(run_training(many("whole", style_image=paintings)))
    run = many(style_image=paintings)
    with pytest.raises(Cancelled):
        run_training(run, stop_at(3))
    with pytest.raises(TrainingError, match="another style image;"):
        run_training(dataclasses.replace(run, style_image=paintings[:1]))
    assert same(run_training(run), expected)


def test_rows_start_equal_after_identity_pretraining(many, stop_at):
    run = many(steps=3, identity_steps=5, learning_rate=1e-9)
    with pytest.raises(Cancelled):
        run_training(run, stop_at(1))
    tensors = load_tensors(run.checkpoint)[0]
    table = tensors["network.stages.0.norm.weight"]
    assert table.shape == (2, 4)
    torch.testing.assert_close(table[0], table[1], atol=1e-7, rtol=0)
    assert (table[0] - 1).abs().max() > 1e-4, "nothing was learned"


def test_preview_shows_styles_side_by_side(many):
    seen = []
    image = torch.rand(1, 3, 17, 23)
    path = run_training(many(preview_steps=8, preview_image=image), lambda progress: seen.append(progress.preview))
    for i, name in enumerate(TWO):
        expected = load_style(path, style=name).stylize(image, precision="fp32")
        torch.testing.assert_close(seen[-1][..., i * 23 : (i + 1) * 23], expected, atol=1e-5, rtol=0)
    assert seen[-1].shape == (1, 3, 17, 46)


@pytest.mark.parametrize("recipe", [{"precision": "bf16"}, {"half": True}, {"saturation": 1.0, "clip": 0.0}])
def test_several_styles_train_with_other_settings(recipe, many):
    assert all(tensor.isfinite().all() for tensor in load_file(run_training(many(steps=2, **recipe))).values())


def test_several_styles_start_from_one(many, single):
    run = many(steps=1, learning_rate=1e-9, schedule="constant", init_from=single, identity_steps=5)
    trained, _ = load_network(run_training(run))
    base, _ = load_network(single)
    for row in rows_of(trained):
        for key, value in rows_of(base)[0].items():
            torch.testing.assert_close(row[key], value, atol=2e-9, rtol=1e-6)


def test_run_starts_from_one_style_of_several_or_from_all(new_run, many, three):
    run = new_run(steps=1, learning_rate=1e-9, schedule="constant", init_from=f"{three}#b")
    trained, facts = load_network(run_training(run))
    assert trained.spec.styles == 1 and "styles" not in facts
    network, facts = load_network(three)
    torch.testing.assert_close(trained.stages[0].norm.weight, network.stages[0].norm.weight[1], atol=2e-9, rtol=1e-6)
    with pytest.raises(InputError, match="holds 3 styles: a, b, c; start from one, as .*three.safetensors#NAME"):
        run_training(new_run("other", init_from=three))
    with pytest.raises(TrainingError, match="another style of the start;"):
        with pytest.raises(Cancelled):
            run_training(new_run("again", init_from=f"{three}#b"), lambda _: (_ for _ in ()).throw(Cancelled("stop")))
        run_training(new_run("again", init_from=f"{three}#a"))
    assert begin(ARCH, ["x", "y", "z"], 0, init_from=three, add_to=None).network.spec.styles == 3


def test_added_style_leaves_other_styles_unchanged_bit_for_bit(many, three, rng):
    before, _ = load_network(three)
    path = run_training(many("four", {"night": PAINTINGS["night"]}, add_to=three, facts={"title": "The Night"}))
    after, facts = load_network(path)
    assert style_names(path) == ("a", "b", "c", "night") and after.spec.styles == 4
    assert all(
        torch.equal(value[:3] if ".norm." in key else value, before.state_dict()[key])
        for key, value in after.state_dict().items()
    )
    mean = {key: sum(row[key] for row in rows_of(before)) / 3 for key in rows_of(before)[0]}
    moved = [float((rows_of(after)[3][key] - mean[key]).abs().max()) for key in mean]
    assert all(1e-4 < distance < 0.5 for distance in moved), moved
    image = torch.rand(1, 3, 20, 24, generator=rng)
    for name in ("a", "b", "c"):
        ours, theirs = (load_style(file, style=name) for file in (path, three))
        assert torch.equal(ours.network(image), theirs.network(image))
    assert load_style(path, style="night").facts["title"] == "The Night"
    assert "title" not in load_style(path, style="a").facts and "recipe" not in load_style(path, style="a").facts


def test_added_style_learns(many, single):
    seen = []
    run_training(many("added", {"candy": PAINTINGS["candy"]}, add_to=single, steps=40), seen.append)
    totals = [sum(progress.losses.values()) for progress in seen]
    assert np.mean(totals[-5:]) < 0.95 * np.mean(totals[:5])


def test_adding_a_style_trains_only_its_rows(many, single, monkeypatch):
    run = many("added", TWO, add_to=single)
    start = added_start(single, ["x"])
    assert {name.split(".")[-2] for name, p in start.network.named_parameters() if p.requires_grad} == {"norm"}
    with pytest.raises(Cancelled):
        run_training(run, lambda progress: (_ for _ in ()).throw(Cancelled("stop")))
    tensors = load_tensors(run.checkpoint)[0]
    assert {key.split(".")[-3] for key in tensors if key.startswith("optimizer.")} == {"norm"}


@pytest.mark.parametrize("style_image", [TWO, {"night": PAINTINGS["night"]}], ids=["two", "one"])
def test_resumed_run_of_added_style_gives_same_weights(style_image, many, single, same, stop_at):
    expected = load_file(run_training(many("whole", style_image, add_to=single)))
    run = many("added", style_image, add_to=single)
    with pytest.raises(Cancelled):
        run_training(run, stop_at(5))
    with pytest.raises(TrainingError, match="another kind of training"):
        run_training(dataclasses.replace(run, add_to=None, init_from=single))
    assert same(run_training(run), expected)


def test_single_style_becomes_first_of_several_and_keeps_its_facts(new_run, single, rng):
    path = run_training(dataclasses.replace(new_run("both"), add_to=single, facts={"license": "MIT"}))
    assert style_names(path) == ("base", "both")
    base, both = (load_style(path, style=name) for name in ("base", "both"))
    assert (base.facts["title"], base.facts["license"], base.facts["recipe"]) == ("The base", "CC0-1.0", {"steps": 1})
    assert both.facts["license"] == "MIT" and "title" not in both.facts and both.facts["recipe"]["steps"] == 8
    image = torch.rand(1, 3, 20, 24, generator=rng)
    assert torch.equal(base.network(image), load_style(single).network(image))

    third = run_training(dataclasses.replace(new_run("third", steps=2), add_to=path))
    assert style_names(third) == ("base", "both", "third")
    facts = load_network(third)[1]
    assert [select(load_network(third)[0], facts, name)[1]["recipe"]["steps"] for name in style_names(third)] == [
        1,
        8,
        2,
    ]


def test_added_style_starts_as_named_style_or_mean(three):
    network, _ = load_network(three)
    (row,) = rows_of(added_start(f"{three}#b", ["new"]).network)
    assert equal(row, rows_of(network)[1])
    (row,) = rows_of(added_start(three, ["new"]).network)
    torch.testing.assert_close(row["stages.0.norm.bias"], network.stages[0].norm.bias.mean(dim=0))


def test_invalid_starts_are_rejected_in_one_line(many, single, three, tmp_path):
    save_network(
        tmp_path / "batch.safetensors", build_network("c3s1-4,c3s1-3 norm=batch padding=zero"), {"task": "style"}
    )
    for changes, error, named in (
        ({"add_to": tmp_path / "batch.safetensors"}, InputError, "norm=instance"),
        ({"add_to": single, "init_from": single}, InputError, "not both"),
        ({"add_to": tmp_path / "gone.safetensors"}, CheckpointError, "gone.safetensors does not exist"),
        ({"add_to": f"{single}#base"}, InputError, "has one style only"),
        ({"add_to": f"{three}#x"}, InputError, "no style named 'x'"),
        ({"add_to": three, "style_image": {"b": painting(0)}}, InputError, "has a style named b already"),
        ({"init_from": three}, InputError, "holds 3 styles"),
        ({"style_image": {}}, InputError, "there is no style image"),
        ({"style_image": {"a#b": painting(0), "c": painting(1)}}, InputError, "cannot be named 'a#b'"),
        ({"arch": "c3s1-4,R4,c3s1-3 padding=zero norm=batch"}, InputError, "norm=instance"),
        ({"arch": f"{ARCH} styles=3"}, InputError, "for 3 styles, and there are 2"),
    ):
        with pytest.raises(error, match=named) as caught:
            run_training(many(**changes))
        assert "\n" not in str(caught.value), changes
    assert {path.name for path in tmp_path.iterdir()} <= {"base.safetensors", "three.safetensors", "batch.safetensors"}


def test_new_network_of_several_styles_has_equal_rows():
    several, one = new_start(ARCH, ["a", "b"], 4).network, new_start(ARCH, ["a"], 4).network
    assert all(equal(row, rows_of(one)[0]) for row in rows_of(several))
    assert torch.equal(several.stages[1].conv.weight, one.stages[1].conv.weight)
    assert new_start(f"{ARCH} styles=2", ["a", "b"], 4).network.spec == several.spec


@pytest.fixture
def training(tmp_path, loss_weights, training_photos, monkeypatch) -> list:
    """Arguments of a run of two steps, except for the style images."""
    weights = ObjectiveWeights({"relu2_1": 1.0}, {"relu1_2": 1.0}, "relative", tv=1.0, tv_form="mean")
    monkeypatch.setitem(RECIPES, "paper", dataclasses.replace(RECIPES["paper"], weights=weights))
    for name, image in PAINTINGS.items():
        save_image(tmp_path / f"{name}.png", image)
    return [
        "--content", training_photos, "--loss-weights", loss_weights, "--recipe", "paper", "--arch", ARCH,
        "--steps", "2", "--batch-size", "2", "--size", "32", "--style-size", "48",
    ]  # fmt: skip


def test_command_trains_several_styles_and_adds_more(run, refused, training, tmp_path):
    wave, candy, night = (tmp_path / f"{name}.png" for name in ("wave", "candy", "night"))
    two = tmp_path / "two.safetensors"
    status, out, _ = run("train-style", wave, candy, "-o", two, *training)
    assert status == 0 and out.strip() == str(two) and style_names(two) == ("wave", "candy")

    more = tmp_path / "more.safetensors"
    added = ["train-style", night, "-o", more, "--add-to", f"{two}#candy", *training]
    assert run(*added, "--title", "Night")[0] == 0
    assert style_names(more) == ("wave", "candy", "night")
    _, out, _ = run("describe", f"{more}#night", "--json")
    assert json.loads(out)["title"] == "Night"

    assert "has a style named night already" in refused(*["train-style", night, "-o", tmp_path / "x.safetensors"],
                                                        "--add-to", more, *training)  # fmt: skip
    named = ["train-style", night, "-o", tmp_path / "named.safetensors", "--add-to", more, *training]
    assert run(*named, "--names", "second night")[0] == 0
    assert style_names(tmp_path / "named.safetensors")[-1] == "second night"
    assert "expected 2 different ones" in refused(
        "train-style", wave, wave, "-o", tmp_path / "y.safetensors", *training
    )
    assert "expected 2" in refused(
        "train-style", wave, candy, "--names", "a", "-o", tmp_path / "y.safetensors", *training
    )
    assert "--names is for" in refused("train-style", wave, "--names", "a", "-o", tmp_path / "y.safetensors", *training)
    assert "not allowed with" in refused(*named, "--init-from", two)


def test_command_trains_one_style_from_several_paintings(run, refused, training, tmp_path):
    paths = [tmp_path / f"{name}.png" for name in ("wave", "candy", "night")]
    out = tmp_path / "artist.safetensors"
    status, said, _ = run("train-style", *paths, "--as-one", "-o", out, *training)
    assert status == 0 and said.strip() == str(out)
    network, facts = load_network(out)
    assert network.spec.styles == 1 and facts["name"] == "artist" and len(facts["run"]["style image"]) == 3
    base, more = tmp_path / "two.safetensors", tmp_path / "more.safetensors"
    assert run("train-style", *paths[:2], "-o", base, *training)[0] == 0
    assert run("train-style", *paths, "--as-one", "-o", more, "--add-to", base, *training)[0] == 0
    assert style_names(more) == ("wave", "candy", "more")
    line = refused("train-style", *paths, "--as-one", "--names", "a", "-o", tmp_path / "x.safetensors", *training)
    assert "--names is for" in line


def test_command_finds_networks_by_name(run, refused, training, tmp_path):
    out = tmp_path / "more.safetensors"
    assert run("train-style", tmp_path / "wave.png", "-o", out, "--add-to", "starry_night", *training)[0] == 0
    assert style_names(out) == ("starry_night", "wave")
    image = torch.rand(1, 3, 24, 24)
    assert torch.equal(load_style(out, style="starry_night").network(image), load_style("starry_night").network(image))
    line = refused("train-style", tmp_path / "wave.png", "-o", tmp_path / "x.safetensors", "--init-from", "starry_night#x",
                   *training)  # fmt: skip
    assert "has one style only" in line
