"""Test training of upscalers: it learns, resumes exactly, and returns the average of the weights."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from helpers import same_tensors
from perceptual_style.core.checkpoints.own_format import load_network
from perceptual_style.core.errors import Cancelled, InputError, TrainingError
from perceptual_style.core.images.resample import bicubic_resize
from perceptual_style.core.losses.functional import grid_loss, mesh_loss
from perceptual_style.core.losses.objective import Objective, ObjectiveWeights
from perceptual_style.core.models.upscale_model import load_upscaler
from perceptual_style.core.network.transform_net import build_network
from perceptual_style.core.training import gradients
from perceptual_style.core.training.photo_pairs import REAL, PairFolder
from perceptual_style.core.training.teachers import Teachers, in_way
from perceptual_style.core.training.train_upscaler import initialize, train_upscaler
from perceptual_style.core.training.upscale_recipes import SCALES, UPSCALE_RECIPES, UpscaleRecipe, upscale_recipe
from PIL import Image
from safetensors.torch import load_file

RECIPE = UpscaleRecipe(
    name="tiny",
    arch="c3s1-8,R8,p2-3 norm=none padding=zero output=linear base=bicubic",
    weights=ObjectiveWeights(pixel=1.0, pixel_form="charbonnier"),
    steps=8,
    batch_size=2,
    size=16,
    learning_rate=1e-3,
    schedule="cosine",
    warmup=2,
    clip=1.0,
    average=0.9,
)


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    folder, random = tmp_path_factory.mktemp("sharp"), np.random.default_rng(3)
    for n in range(3):
        pixels = random.integers(0, 2, (24, 20, 3), np.uint8).repeat(3, axis=0).repeat(3, axis=1) * 200
        Image.fromarray(pixels).save(folder / f"{n}.png")
    return folder


@pytest.fixture
def train(photos, tmp_path):
    def run(name: str = "x2", recipe: UpscaleRecipe = RECIPE, **settings):
        settings = {"device": "cpu", "precision": "fp32", "checkpoint_seconds": 1e9, **settings}
        return train_upscaler(photos, tmp_path / f"{name}.safetensors", recipe=recipe, **settings)

    return run


@pytest.fixture
def targets_seen(monkeypatch):
    """Targets that the objective sees, one item for each step."""
    seen, objective = [], Objective.__call__

    def spy(self, output, targets):
        seen.append(targets.clone())
        return objective(self, output, targets)

    monkeypatch.setattr(Objective, "__call__", spy)
    return seen


def stop_at(step: int):
    def progress(state) -> None:
        if state.done == step:
            raise Cancelled("enough")

    return progress


def test_training_improves_on_bicubic(train):
    losses = []
    train(
        recipe=dataclasses.replace(RECIPE, steps=150, learning_rate=1e-2),
        progress=lambda p: losses.append(p.losses["pixel"]),
    )
    assert sum(losses[-20:]) < 0.95 * sum(losses[:20])


@pytest.mark.parametrize("step", [1, 5])
def test_resumed_run_gives_same_weights(train, step):
    whole = load_file(train("whole"))
    with pytest.raises(Cancelled):
        train("parts", progress=stop_at(step))
    parts = load_file(train("parts"))
    assert whole.keys() == parts.keys() and all(torch.equal(whole[key], parts[key]) for key in whole)


def test_recorded_steps_give_the_same_weights(train, replays, monkeypatch):
    recipe = dataclasses.replace(RECIPE, grid=0.1, mesh=0.1, low_pass=0.1, adversarial=0.1)
    recorded = load_file(train("recorded", recipe))
    assert replays == [5]
    monkeypatch.setattr(gradients, "can_record", lambda device: False)
    expected = load_file(train("plain", recipe))
    assert all(torch.equal(recorded[key], expected[key]) for key in expected)


def test_result_is_average_of_weights(train):
    last = load_file(train("last", dataclasses.replace(RECIPE, average=0.0)))
    average = load_file(train("average"))
    assert any(not torch.equal(last[key], average[key]) for key in last)
    start = build_network(RECIPE.arch)  # not the run's own start, but as large
    assert max((average[key] - last[key]).abs().max() for key in last) < start.stages[0].conv.weight.abs().max()


def test_perceptual_run_starts_from_pixel_network(train, loss_weights):
    pixel = train("pixel", dataclasses.replace(RECIPE, average=0.0))
    recipe = dataclasses.replace(
        RECIPE, weights=ObjectiveWeights({"relu2_2": 1.0}), steps=1, learning_rate=1e-9, average=0.0
    )
    seen = []
    path = train("perceptual", recipe, init_from=pixel, loss_weights=loss_weights, progress=seen.append)
    assert list(seen[-1].losses) == ["content relu2_2"]
    network, facts = load_network(path)
    assert (facts["task"], facts["scale"], facts["partner"]) == ("upscale", 2, "pixel")
    for key, tensor in load_network(pixel)[0].state_dict().items():
        torch.testing.assert_close(network.state_dict()[key], tensor, rtol=0, atol=1e-6)


def test_terms_against_patterns_are_weighted(tmp_path):
    pixels = np.random.default_rng(5).integers(0, 256, (96, 80, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "sharp.png")
    recipe = dataclasses.replace(RECIPE, size=16, mesh=3.0, grid=5.0, steps=1, learning_rate=1e-9)
    out, seen = tmp_path / "x.safetensors", []
    train_upscaler(tmp_path, out, recipe=recipe, device="cpu", precision="fp32", progress=seen.append)
    low, high = PairFolder(tmp_path, 2, 16, 2).batch(0)
    with torch.no_grad():
        output = load_network(out)[0](low)
    assert seen[-1].losses["grid"] == pytest.approx(5 * float(grid_loss(output, high, 2)), rel=1e-4)
    assert seen[-1].losses["mesh"] == pytest.approx(3 * float(mesh_loss(output, high)), rel=1e-4, abs=1e-9)


def test_objective_sees_another_part_of_the_crops_at_each_step(train, photos, targets_seen):
    recipe = dataclasses.replace(RECIPE, shift=3)
    weights = [load_network(train(name, recipe))[0].state_dict() for name in ("one", "same")]
    assert same_tensors(*weights), "the step decides, so that a run resumes as it was"
    side = 2 * recipe.size - 3
    whole = [high for _, high in PairFolder(photos, 2, recipe.size, recipe.batch_size).batches(0, recipe.steps)]
    places = [
        [(y, x) for y in range(4) for x in range(4) if torch.equal(part, high[..., y : y + side, x : x + side])]
        for part, high in zip(targets_seen, whole, strict=False)
    ]
    assert all(places) and len({found[0] for found in places}) > 2


def test_targets_are_sharpened_by_an_unsharp_mask(train, photos, targets_seen):
    train(recipe=dataclasses.replace(RECIPE, sharpen=0.5, steps=1))
    high = PairFolder(photos, 2, RECIPE.size, RECIPE.batch_size).batch(0)[1].double()
    sigma, side = 0.6 * 2, high.shape[-1]
    distances = np.arange(-4, 5)
    taps = np.exp(-0.5 * (distances / sigma) ** 2) / np.exp(-0.5 * (distances / sigma) ** 2).sum()
    places = np.clip(np.arange(side)[:, None] + distances, 0, side - 1)  # edges are replicated
    blur = torch.from_numpy((np.eye(side)[places] * taps[:, None]).sum(1))
    expected = (1.5 * high - 0.5 * (blur @ high @ blur.T)).clamp(0, 1)
    torch.testing.assert_close(targets_seen[0].double(), expected, atol=1e-5, rtol=0)
    assert (expected - high).abs().mean() > 0.01


@pytest.mark.slow
def test_network_learns_mean_of_teacher_over_flips_and_rotations(train):
    teacher = train("teacher", dataclasses.replace(RECIPE, steps=30, learning_rate=1e-2))
    recipe = dataclasses.replace(RECIPE, steps=150, learning_rate=3e-3)
    learner = train("learner", recipe, init_from=teacher, teachers=[teacher])
    low = torch.rand(1, 3, 24, 20, generator=torch.Generator().manual_seed(1))
    networks = [load_network(path)[0] for path in (teacher, learner)]
    with torch.no_grad():
        mean = sum(in_way(networks[0], low, way) for way in range(8)) / 8
        before, after = ((network(low) - mean).abs().mean() for network in networks)
    assert after < 0.8 * before


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_teachers_replace_a_share_of_the_photos(train, share):
    network, _ = load_network(file := train("teacher"))
    teachers = Teachers([file], share, network, 0, torch.device("cpu"))
    low, high, taught = torch.rand(50, 3, 8, 8), torch.rand(50, 3, 16, 16), 0
    for step in range(4):
        targets = teachers.targets(low, high, step)
        changed = (targets != high).flatten(1).any(dim=1)
        with torch.no_grad():
            results = [in_way(network, low[changed], way).clamp(0, 1) for way in range(8)]
        assert any(torch.allclose(targets[changed], result, rtol=0, atol=1e-6) for result in results)
        taught += int(changed.sum())
    assert taught / 200 == pytest.approx(share, abs=0.1)


def test_targets_without_teachers_are_the_photos(train):
    network, _ = load_network(train("learner"))
    high = torch.rand(2, 3, 16, 16)
    assert Teachers([], 1.0, network, 0, torch.device("cpu")).targets(torch.rand(2, 3, 8, 8), high, 0) is high


def test_steps_with_teachers_are_not_recorded(train, replays):
    train("student", teachers=[train("teacher", dataclasses.replace(RECIPE, steps=1))], teachers_share=0.5)
    assert replays == []


def test_run_with_teacher_resumes_exactly_and_is_another_run_than_without(train):
    pixel = train("teacher")
    whole = load_file(train("whole", teachers=[pixel]))
    with pytest.raises(Cancelled):
        train("parts", teachers=[pixel], progress=stop_at(3))
    with pytest.raises(TrainingError, match="another teachers"):
        train("parts")
    with pytest.raises(TrainingError, match="another teachers"):
        train("parts", teachers=[pixel], teachers_share=0.5)
    parts = load_file(train("parts", teachers=pixel))  # a single teacher without a list
    assert all(torch.equal(whole[key], parts[key]) for key in whole)


@pytest.mark.slow
def test_several_teachers_take_turns(train):
    one, two = train("one"), train("two", seed=1)
    network = load_network(one)[0]
    teachers = Teachers([one, two], 1.0, network, 0, torch.device("cpu"))
    low, high = torch.rand(1, 3, 16, 16), torch.rand(1, 3, 32, 32)
    with torch.no_grad():
        expected = [[in_way(load_network(file)[0], low, way).clamp(0, 1) for way in range(8)] for file in (one, two)]
    seen = set()
    for step in range(100):
        result = teachers.targets(low, high, step)
        seen |= {
            (i, way)
            for i in range(2)
            for way in range(8)
            if torch.allclose(result, expected[i][way], rtol=0, atol=1e-6)
        }
    assert len(seen) == 16


def test_teachers_of_another_factor_and_bad_shares_are_rejected(train):
    x3 = dataclasses.replace(RECIPE, arch=RECIPE.arch.replace("p2-3", "p3-3"))
    with pytest.raises(InputError, match="upscales x3; expected a teacher for x2"):
        train("learner", teachers=[train("x3", x3)])
    with pytest.raises(InputError, match="share is 2"):
        train("learner", teachers_share=2.0)


@pytest.mark.parametrize("way", range(8))
def test_in_way_undoes_flip_and_rotation(way):
    """Bicubic enlargement commutes with flips and rotations, so applying and undoing them must change nothing."""
    low = torch.rand(2, 3, 9, 7)
    torch.testing.assert_close(
        in_way(lambda x: bicubic_resize(x, 2), low, way), bicubic_resize(low, 2), rtol=0, atol=1e-6
    )


def test_network_of_another_factor_starts_from_same_body(train, tmp_path):
    start = train("start")
    other = dataclasses.replace(
        RECIPE, arch=RECIPE.arch.replace("p2-3", "p4-3"), size=12, steps=1, learning_rate=1e-9, average=0.0
    )
    network, _ = load_network(train("other", other, init_from=start))
    body = load_file(start)
    for key, tensor in network.state_dict().items():
        if not key.startswith("stages.2"):
            torch.testing.assert_close(tensor, body[key], rtol=0, atol=1e-6)
    strange = dataclasses.replace(other, arch="c5s1-8,p2-3 norm=none")
    with pytest.raises(InputError, match="nothing in common"):
        train("strange", strange, init_from=start)


def test_deeper_network_starts_as_the_shallower_one(train):
    start = train("start")
    deeper = dataclasses.replace(
        RECIPE, arch=RECIPE.arch.replace("R8", "R8x3"), steps=1, learning_rate=1e-9, average=0.0
    )
    network, _ = load_network(train("deeper", deeper, init_from=start))
    image = torch.rand(1, 3, 13, 11)
    with torch.no_grad():
        torch.testing.assert_close(network(image), load_network(start)[0](image), rtol=0, atol=1e-5)


def test_validation_is_reported_and_another_seed_is_another_run(train, photos):
    notes = []
    train(validation=photos, validation_steps=4, progress=lambda p: notes.extend(p.notes))
    assert [note.split(":")[0] for note in notes] == ["step 4", "step 8"]
    assert all(10 < float(note.split()[2]) < 60 for note in notes)
    with pytest.raises(Cancelled):
        train("other", progress=stop_at(2))
    with pytest.raises(TrainingError, match="another seed"):
        train("other", seed=9)


def test_networks_that_do_not_enlarge_are_rejected(train):
    with pytest.raises(InputError, match="no upscaler"):
        train(recipe=dataclasses.replace(RECIPE, arch="c3s1-8,c3s1-3 norm=none"))


RESTORE = dataclasses.replace(RECIPE, degradation=REAL, steps=4)


def test_restorer_states_its_dial_and_keeps_the_clean_partner(train):
    pixel = train("pixel")
    first = train("first", RESTORE, init_from=pixel)
    second = train("second", dataclasses.replace(RESTORE, steps=2), init_from=first)
    alone = train("alone", RESTORE)
    facts = {path.stem: load_network(path)[1] for path in (pixel, first, second, alone)}
    stated = {name: (each.get("dial"), each.get("partner")) for name, each in facts.items()}
    assert stated == {
        "pixel": (None, None), "first": ("denoise", "pixel"), "second": ("denoise", "pixel"), "alone": ("denoise", None),
    }  # fmt: skip


def test_run_on_damaged_photos_resumes_exactly(train):
    whole = load_file(train("whole", RESTORE))
    with pytest.raises(Cancelled):
        train("parts", RESTORE, progress=stop_at(2))
    parts = load_file(train("parts", RESTORE))
    assert all(torch.equal(whole[key], parts[key]) for key in whole)


@pytest.mark.slow
def test_restorer_of_factor_one_learns_to_clean(train, photos):
    arch = "c3s1-8,R8,c3s1-3 norm=none padding=zero output=linear base=bicubic"
    recipe = dataclasses.replace(RESTORE, arch=arch, size=24, steps=60, learning_rate=5e-3)
    network, facts = load_network(train("x1", recipe))
    low, high = PairFolder(photos, 1, 24, 16, REAL, seed=9).batch(0)
    with torch.no_grad():
        before, after = ((image - high).square().mean() for image in (low, network(low)))
    assert facts["scale"] == 1 and after < before
    with pytest.raises(InputError, match="no upscaler"):
        train("clean", dataclasses.replace(recipe, degradation="bicubic"))


def test_validation_of_a_restorer_uses_damaged_photos(train, photos):
    notes = {}
    for name, recipe in (("clean", RECIPE), ("damaged", RESTORE)):
        recipe = dataclasses.replace(recipe, steps=1, learning_rate=1e-9)
        train(
            name, recipe, validation=photos, validation_steps=1, progress=lambda p, n=name: notes.update({n: p.notes})
        )
    clean, damaged = (float(notes[name][0].split()[2]) for name in ("clean", "damaged"))
    assert damaged < clean - 1


@pytest.mark.parametrize("name", ["perceptual", "restore-perceptual"])
def test_perceptual_recipes_compare_before_activation(name, train, deep_loss_weights):
    recipe = upscale_recipe(name, 2)
    assert recipe.weights.content == {"conv2_2": 0.25, "conv3_3": 1.0, "conv4_3": 1.0}
    assert (recipe.weights.content_form, recipe.weights.pixel) == ("absolute", 0.3)
    assert (recipe.grid, recipe.mesh, recipe.shift) == (5_000, 5, 7)
    seen = []
    recipe = dataclasses.replace(recipe, arch=RECIPE.arch, size=12, batch_size=1, steps=1, adversarial=0.02)
    train("one", recipe, loss_weights=deep_loss_weights, progress=seen.append)
    parts = [
        "content conv2_2",
        "content conv3_3",
        "content conv4_3",
        "pixel",
        "grid",
        "mesh",
        "low-pass",
        "adversarial",
        "discriminator",
    ]
    assert list(seen[0].losses) == parts


@pytest.mark.parametrize("factor", SCALES)
@pytest.mark.parametrize("name", UPSCALE_RECIPES)
def test_every_recipe_describes_an_upscaler_of_its_factor(name, factor):
    recipe = upscale_recipe(name, factor)
    network = build_network(recipe.arch)
    assert (network.spec.scale, network.spec.out_channels) == (factor, 3)
    assert network.eval()(torch.rand(1, 3, 9, 7)).shape == (1, 3, 9 * factor, 7 * factor)


def test_networks_of_the_paper_have_their_parameter_counts():
    counts = {f: sum(p.numel() for p in build_network(upscale_recipe("paper", f).arch).parameters()) for f in (4, 8)}
    assert counts == {4: 401_859, 8: 438_915}


def test_unknown_recipes_and_factors_are_rejected():
    with pytest.raises(InputError, match="'best'.*pixel, perceptual"):
        upscale_recipe("best", 4)
    with pytest.raises(InputError, match="factor is 3"):
        upscale_recipe("pixel", 3)
    with pytest.raises(InputError, match="factor is 1; expected one of 2, 4, 8"):
        upscale_recipe("perceptual", 1)
    assert build_network(upscale_recipe("restore", 1).arch).spec.scale == 1


@pytest.mark.parametrize("factor", [2, 4])
def test_restorers_have_the_shape_of_the_bundled_clean_networks(factor):
    clean = str(load_upscaler(f"pixel_x{factor}").spec)
    assert clean == upscale_recipe("restore", factor).arch == upscale_recipe("perceptual", factor).arch


def test_initialize_starts_near_base_and_keeps_signal():
    network = build_network(upscale_recipe("pixel", 4).arch)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        initialize(network)
        image = torch.rand(1, 3, 24, 24)
    x, levels = image, []
    with torch.no_grad():
        for stage in network.stages[:-1]:
            x = stage(x)
            levels.append(float(x.std()))
        residual = network(image, raw=True)
    assert all(0.5 < later / earlier < 2 for earlier, later in zip(levels, levels[1:], strict=False))
    assert residual.std() < 0.3
