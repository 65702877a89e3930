"""Compare the trainer with a straightforward training loop: how much faster it is, and whether it learns the same.

    python benchmarks/training.py --style painting.jpg --content photos --loss-weights FILE --json training.json

The straightforward loop is literal. It uses float32 and torch's default memory layouts, computes the style image's
features again for every batch, and runs the whole loss network for photo and result. Both use the recipe's networks,
losses, photos and seed. They take turns, a few steps at a time, so that changes of the machine's speed affect both.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import torch
from perceptual_style.core import LossNetwork, build_network, train_style
from perceptual_style.core.images.reading import read_image
from perceptual_style.core.losses import functional as losses
from perceptual_style.core.training.photos import PhotoFolder, fit_style_image
from perceptual_style.core.training.style_recipes import StyleRecipe, get_recipe
from perceptual_style.core.training.trainer import learning_rate


def straightforward(
    recipe: StyleRecipe, style: torch.Tensor, photos: str, weights: str, device: str = "cpu"
) -> Iterator[float]:
    """Run the loop, and yield the objective after each step."""
    loss_network = LossNetwork(recipe.loss_network, weights, recipe.weights.layers).to(device)
    style = fit_style_image(style, recipe.style_size)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = build_network(recipe.arch).train().to(device)
    optimizer = torch.optim.Adam(network.parameters())
    folder = PhotoFolder(photos, recipe.size, recipe.batch_size)
    for step in range(recipe.steps):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(recipe, step)
        content = folder.batch(step).to(device)
        output = network(content)
        features, wanted, painted = (loss_network(image) for image in (output, content, style))
        objective = sum(
            weight * losses.feature_loss(features[layer], wanted[layer].detach())
            for layer, weight in recipe.weights.content.items()
        ) + sum(
            weight * losses.style_loss(
                losses.gram_matrix(features[layer]), losses.gram_matrix(painted[layer]), recipe.weights.style_form
            )
            for layer, weight in recipe.weights.style.items()
        )  # fmt: skip
        objective = objective + recipe.weights.tv * losses.total_variation(output, recipe.weights.tv_form)
        optimizer.zero_grad()
        objective.backward()
        if recipe.clip:
            torch.nn.utils.clip_grad_norm_(network.parameters(), recipe.clip)
        optimizer.step()
        yield float(objective.detach())


def ours(recipe: StyleRecipe, style: torch.Tensor, photos: str, weights: str) -> Iterator[float]:
    """Run the trainer in a thread that waits for its turn, and yield the objective after each step."""
    import queue
    import threading

    done: queue.Queue[float | None] = queue.Queue()
    turn = threading.Semaphore(0)

    def show(progress) -> None:
        done.put(sum(progress.losses.values()))
        turn.acquire()

    def work(folder: str) -> None:
        turn.acquire()
        train_style(
            style, photos, Path(folder) / "style.safetensors", loss_weights=weights, recipe=recipe, progress=show
        )
        done.put(None)

    with tempfile.TemporaryDirectory() as folder:
        thread = threading.Thread(target=work, args=(folder,))
        thread.start()
        turn.release()
        while (objective := done.get()) is not None:
            yield objective
            turn.release()
        thread.join()


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--style", required=True)
    parser.add_argument("--content", required=True, help="folder of photos")
    parser.add_argument("--loss-weights", required=True, help="weights of the recipe's loss network")
    parser.add_argument("--recipe", default="standard")
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--turn", type=int, default=5, help="steps per turn (default: %(default)s)")
    parser.add_argument("--json")
    return parser.parse_args()


def main() -> None:
    arguments = parse()
    # Without the features that only the trainer has: the start from the photo, and the losses beside the objective.
    recipe = replace(
        get_recipe(arguments.recipe), steps=arguments.steps, identity_steps=0, saturation=0.0, peaks=0.0, shadows=0.0,
        schedule="constant", optimizer="adam",
    )  # fmt: skip
    style = read_image(arguments.style).pixels[:, :3]
    given = (recipe, style, arguments.content, arguments.loss_weights)
    ways = {"straightforward": straightforward(*given), "ours": ours(*given)}
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    objectives: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(0, arguments.steps, arguments.turn):
        for name, loop in ways.items():
            for _ in range(arguments.turn):
                start = time.perf_counter()
                objectives[name].append(next(loop))
                seconds[name].append(time.perf_counter() - start)
    for loop in ways.values():
        next(loop, None)  # to its end

    results = {}
    for name in ways:
        median = statistics.median(seconds[name][arguments.turn :])
        results[name] = {
            "seconds per step": median,
            "images per second": recipe.batch_size / median,
            "objective, last quarter": statistics.mean(objectives[name][-arguments.steps // 4 :]),
            "objective": objectives[name],
        }
        print(
            f"{name:16} {median:7.3f} s a step of {recipe.batch_size}, {recipe.batch_size / median:6.2f} images/s, "
            f"objective of the last quarter {results[name]['objective, last quarter']:.4f}"
        )
    ratio = results["straightforward"]["seconds per step"] / results["ours"]["seconds per step"]
    print(f"ours is {ratio:.2f} times as fast")
    if arguments.json:
        Path(arguments.json).write_text(json.dumps(results, indent=2))


if __name__ == "__main__":
    main()
