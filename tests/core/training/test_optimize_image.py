"""Test image optimization: its objective, its convergence, its start, bad input, and the command."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
import torch
from perceptual_style.core import optimize_image
from perceptual_style.core.errors import CheckpointError, ImageError, InputError, TrainingError
from perceptual_style.core.images.reading import read_image
from perceptual_style.core.images.writing import save_image
from perceptual_style.core.losses.objective import ObjectiveWeights
from perceptual_style.core.training.optimize_image import build_objective, descend, inversion, noise, reconstruction
from perceptual_style.core.training.style_recipes import get_recipe
from scipy.optimize import minimize
from small_networks import small_vgg16

STANDARD = get_recipe("standard")
LAYERS = tuple(STANDARD.weights.style)


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    return small_vgg16(tmp_path_factory.mktemp("network") / "narrow.safetensors")


def picture(*shape: int, seed: int = 0) -> torch.Tensor:
    """Return smooth random colors."""
    small = torch.rand(shape[0], 3, 6, 6, generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.interpolate(small, size=shape[1:], mode="bicubic").clamp(0, 1)


@pytest.fixture
def photo():
    return picture(1, 40, 48)


@pytest.fixture
def painting():
    return picture(1, 64, 80, seed=1).square()


@pytest.fixture
def optimize(network):
    """Function that runs optimize_image with the small network, and returns the image and the reported progress."""

    def run(*images, **settings):
        seen = []
        settings = {"loss_weights": network, "style_size": 64, "iterations": 5, "progress": seen.append, **settings}
        return optimize_image(*images, **settings), seen

    return run


def test_bounded_quadratic_reaches_its_minimum():
    """The minimum of a separable function over a box is the unbounded one, clamped."""
    goal = torch.linspace(-1, 2, 3 * 7 * 8).view(1, 3, 7, 8)
    scale = torch.logspace(0, 1, goal.numel()).view_as(goal)
    *_, (image, parts) = descend(
        lambda x: {"far": (scale * (x - goal).square()).mean()}, torch.full_like(goal, 0.5), 60
    )
    torch.testing.assert_close(image, goal.clamp(0, 1), atol=5e-3, rtol=0)
    assert parts["far"] == pytest.approx(float((scale * (goal.clamp(0, 1) - goal).square()).mean()), rel=1e-4)


@pytest.mark.slow
def test_result_is_as_good_as_scipys_bounded_lbfgs(network, photo, painting):
    """Compare with scipy's L-BFGS-B on the same objective, with as many iterations and a line search."""
    objective = build_objective(STANDARD, STANDARD.weights, network, painting, "cpu")
    targets = objective.content_targets(photo)

    def function(values: np.ndarray):
        image = torch.from_numpy(values).float().view_as(photo).requires_grad_(True)
        value = sum(objective(image, photo, targets).values())
        value.backward()
        return float(value.detach()), image.grad.double().flatten().numpy()

    best = minimize(
        function, photo.double().flatten().numpy(), jac=True, method="L-BFGS-B", bounds=[(0, 1)] * photo.numel(),
        options={"maxiter": 40, "maxcor": 20},
    ).fun  # fmt: skip
    values = [sum(parts.values()) for _, parts in descend(lambda x: objective(x, photo, targets), photo, 40)]
    assert values[0] > 2 * best, "nothing to optimize"
    assert min(values) < 1.1 * best


def test_large_image_with_small_objective_does_not_stall():
    """torch's L-BFGS skips steps whose curvature is below 1e-10."""
    goal, start = torch.rand(1, 3, 32, 32), torch.full((1, 3, 32, 32), 0.5)
    curve = [parts["far"] for _, parts in descend(lambda x: {"far": 1e-7 * (x - goal).square().mean()}, start, 4)]
    assert curve[-1] < 1e-3 * curve[0]


def test_start_at_the_minimum_stays():
    start = torch.rand(1, 3, 8, 8)
    for image, _ in descend(lambda x: {"far": (x - start).square().mean()}, start, 3):
        assert torch.equal(image, start)


def test_result_has_size_of_content_and_lower_objective(optimize, photo, painting):
    original = photo.clone(), painting.clone()
    image, seen = optimize(photo, painting)
    assert image.shape == photo.shape and image.dtype == torch.float32
    assert image.min() >= 0 and image.max() <= 1
    assert [(each.done, each.total) for each in seen] == [(n, 5) for n in range(1, 6)]
    assert torch.equal(seen[-1].preview, image) and not torch.equal(seen[0].preview, image)
    assert seen[-1].seconds_left == 0 < seen[0].seconds_left
    assert sum(seen[-1].losses.values()) < 0.9 * sum(seen[0].losses.values())
    assert torch.equal(photo, original[0]) and torch.equal(painting, original[1])


def test_objective_is_the_one_of_training(optimize, network, photo, painting):
    from perceptual_style.core.training.photos import fit_style_image

    image, seen = optimize(photo, painting)
    objective = build_objective(STANDARD, STANDARD.weights, network, fit_style_image(painting, 64), "cpu")
    expected = {name: float(part) for name, part in objective(image, photo).items()}
    assert seen[-1].losses == pytest.approx(expected, rel=1e-5)
    contents, styles = (
        (f"content {layer}" for layer in STANDARD.weights.content),
        (f"style {layer}" for layer in LAYERS),
    )
    assert set(expected) == {*contents, *styles, "tv"}


def test_inference_mode_gives_same_result(optimize, photo, painting):
    expected, _ = optimize(photo, painting)
    with torch.inference_mode():
        inside, _ = optimize(photo + 0, painting + 0)  # autograd refuses these tensors
    with torch.no_grad():
        quiet, _ = optimize(photo, painting)
    assert torch.equal(inside, expected) and torch.equal(quiet, expected)


def test_noise_depends_only_on_seed(optimize, photo, painting):
    images = [optimize(photo, painting, start="noise", seed=seed, iterations=2)[0] for seed in (3, 3, 4)]
    assert torch.equal(images[0], images[1]) and (images[0] - images[2]).abs().mean() > 0.1
    state = torch.random.get_rng_state()
    assert noise(photo, 3).shape == photo.shape and torch.equal(torch.random.get_rng_state(), state)


def test_images_of_a_batch_are_optimized_separately(optimize, painting):
    photos = picture(2, 36, 40)
    together, seen = optimize(photos, painting, iterations=3)
    assert [(each.done, each.total) for each in seen] == [(n, 6) for n in range(1, 7)]
    for index in range(2):
        alone, _ = optimize(photos[index : index + 1], painting, iterations=3)
        assert torch.equal(together[index : index + 1], alone)


def test_inversion_recovers_photo_from_features(optimize, photo, loss_weights):
    recipe = dataclasses.replace(STANDARD, loss_network="vgg16")
    weights = inversion(ObjectiveWeights(content={"relu2_1": 3.0}, style={"relu1_1": 1.0}), ["relu1_1"])
    assert weights == ObjectiveWeights(content={"relu1_1": 1.0})
    image, seen = optimize(photo, recipe=recipe, weights=weights, loss_weights=loss_weights, iterations=30)
    assert set(seen[0].losses) == {"content relu1_1"}
    assert (image - photo).abs().mean() < 0.1 * (noise(photo, 0) - photo).abs().mean()


def test_reconstruction_has_style_and_size_of_style_image(optimize, painting):
    weights = reconstruction(STANDARD.weights, ["relu1_2", "relu2_2"])
    assert weights.style == {layer: STANDARD.weights.style[layer] for layer in ("relu1_2", "relu2_2")}
    assert not weights.content and weights.tv == STANDARD.weights.tv
    image, seen = optimize(None, painting, weights=weights, iterations=40, style_size=48)
    assert image.shape == (1, 3, 38, 48)
    style = [each.losses["style relu1_2"] + each.losses["style relu2_2"] for each in seen]
    assert style[-1] < 0.05 * style[0]


def test_progress_callback_can_stop(optimize, photo, painting, stop_at):
    with pytest.raises(RuntimeError, match="enough"):
        optimize(photo, painting, progress=stop_at(2, RuntimeError("enough")))


def test_result_keeps_half_precision(optimize, photo, painting):
    image, _ = optimize(photo.half(), painting.half(), iterations=1)
    assert image.dtype == torch.float16


@pytest.mark.parametrize(
    ("images", "settings", "message"),
    [
        (("photo", None), {}, "ask for a style, and there is no style image"),
        ((None, "painting"), {}, "without a content image there is nothing to compare"),
        (("photo", "painting"), {"iterations": 0}, "iterations is 0; expected at least 1"),
        (("photo", "painting"), {"start": "photo"}, "start is 'photo'; expected one of noise, content"),
        (("photo", "painting"), {"seed": -1}, "seed is -1; expected at least 0"),
        (("photo", "painting"), {"style_size": 9}, "style_size is 9; expected at least 32"),
        (("photo", "painting"), {"recipe": "fast"}, "unknown recipe 'fast'"),
        (("photo", "painting"), {"weights": ObjectiveWeights(tv=1.0)}, "there is no weight on content or style"),
        (("photo", "paintings"), {}, "there are 2 style images; expected one"),
        (("tiny", "painting"), {}, "8x8 px is too small for vgg16_small"),
        (("photo", "small"), {}, "expected at least 64 px"),
        (("photo", "painting"), {"weights": inversion(STANDARD.weights, ["relu9_9"])}, "no layer 'relu9_9'"),
    ],
)  # fmt: skip
def test_bad_input_is_rejected(optimize, photo, painting, images, settings, message):
    known = {None: None, "photo": photo, "painting": painting, "paintings": painting.repeat(2, 1, 1, 1)}
    known |= {"tiny": picture(1, 8, 8), "small": picture(1, 20, 90)}
    with pytest.raises(InputError, match=message):
        optimize(*(known[name] for name in images), **settings)


def test_images_out_of_range_and_missing_weights_are_rejected(optimize, photo, painting, tmp_path):
    with pytest.raises(ImageError, match="style_image: .* divide by 255"):
        optimize(photo, 255 * painting)
    with pytest.raises(CheckpointError, match="does not exist"):
        optimize(photo, painting, loss_weights=tmp_path / "nothing.safetensors")
    with pytest.raises(CheckpointError, match="run `perceptual-style download vgg16`"):
        optimize(photo, painting, loss_weights=None, recipe="paper")


def test_objective_that_is_not_finite_is_an_error():
    with pytest.raises(TrainingError, match="not finite after 0 iterations"):
        list(descend(lambda x: {"bad": math.inf * (x - 0.5).square().sum()}, torch.full((1, 3, 4, 4), 0.5), 3))


@pytest.fixture
def files(tmp_path, photo, painting):
    save_image(tmp_path / "photo.png", photo, alpha=torch.rand(1, 1, 40, 48))
    save_image(tmp_path / "painting.png", painting)
    return tmp_path


@pytest.fixture
def command(files, network):
    """Arguments of a short run that writes out.png."""
    settings = ["-o", files / "out.png", "--iterations", 2, "--loss-weights", network, "--style-size", 64]
    return ["optimize", files / "photo.png", files / "painting.png", *settings]


def test_command_writes_result_of_function(run, optimize, command, files):
    status, out, lines = run(*command, "--style-weight", 2, "--tv-weight", 0, "--preview")
    assert (status, out.strip()) == (0, str(files / "out.png"))
    assert all("iteration" in line or "optimiz" in line for line in lines), lines
    photo, painting = (read_image(files / name) for name in ("photo.png", "painting.png"))
    weights = STANDARD.weights.scaled(style=2, tv=0)
    expected, _ = optimize(photo.filled, painting.pixels, weights=weights, iterations=2)
    written = read_image(files / "out.png")
    assert (written.pixels - expected).abs().max() <= 0.5 / 255 + 1e-6
    assert torch.equal(written.alpha, photo.alpha)
    assert read_image(files / "out.preview.png").pixels.shape == expected.shape


def test_command_reduces_large_photos_and_keeps_small_ones(run, command, files):
    for size, expected in ((42, (35, 42)), (512, (40, 48))):
        assert run(*command, "--size", size)[0] == 0
        assert read_image(files / "out.png").pixels.shape[-2:] == expected


def test_command_inverts_features_and_reconstructs_styles(run, command, files):
    photo, painting, rest = command[1], command[2], command[3:-2]
    assert run("optimize", photo, *rest, "--inversion", "relu2_2")[0] == 0
    assert read_image(files / "out.png").pixels.shape[-2:] == (40, 48)
    assert run("optimize", painting, *rest, "--reconstruction", "relu1_2", "relu2_2", "--size", 50)[0] == 0
    assert read_image(files / "out.png").pixels.shape[-2:] == (40, 50)


def test_command_rejects_bad_arguments_in_one_line(refused, command, files):
    options = command[3:]
    photo = files / "photo.png"
    assert "expected a painting; give one after the photo" in refused("optimize", photo, *options)
    assert "--inversion takes one image; got" in refused(*command, "--inversion", "relu1_1")
    assert "not allowed with" in refused(*command, "--inversion", "relu1_1", "--reconstruction", "relu1_1")
    assert "no layer 'relu9_9'" in refused("optimize", photo, *options, "--inversion", "relu9_9")
    assert "expected a suffix such as .png" in refused(*command, "-o", files / "out.safetensors")
    assert "Is a directory" in refused(*command, "-o", files)
    assert "Not a directory" in refused(*command, "-o", photo / "out.png")
    assert "iterations is 0" in refused(*command, "--iterations", 0)
    assert "--size is 0" in refused(*command, "--size", 0)
    assert "unknown recipe" in refused(*command, "--recipe", "fast")
    assert "unknown loss network" in refused(*command, "--loss-network", "vgg99")
    assert "not negative" in refused(*command, "--style-weight", -1)
    assert "no such file" in refused("optimize", files / "nothing.png", *command[2:])
    assert not list(files.glob("out*"))


def test_interrupted_command_leaves_no_image(run, command, files, monkeypatch):
    def interrupt(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("perceptual_style.core.training.optimize_image._projected_step", interrupt)
    status, out, lines = run(*command)
    assert (status, out, lines[-1]) == (130, "", "cancelled") and not (files / "out.png").exists()


def test_out_of_memory_is_a_one_line_error(run, command, files, monkeypatch):
    def too_large(*_, **__):
        raise RuntimeError("[enforce fail at alloc_cpu.cpp:117] DefaultCPUAllocator: not enough memory")

    monkeypatch.setattr("perceptual_style.core.training.optimize_image._projected_step", too_large)
    status, _, lines = run(*command)
    assert status == 2 and "out of memory: " in lines[-1] and not (files / "out.png").exists()
