"""Skip these tests where there is no CUDA device; a tiny training run there."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from perceptual_style.core.errors import Cancelled
from perceptual_style.core.losses.objective import ObjectiveWeights
from perceptual_style.core.training.style_recipes import StyleRecipe
from perceptual_style.core.training.train_style import StyleTraining, run_training
from PIL import Image
from safetensors.torch import load_file


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if not torch.cuda.is_available():
        for item in items:
            if item.get_closest_marker("gpu"):
                item.add_marker(pytest.mark.skip(reason="needs a CUDA device"))


@pytest.fixture
def training_run_on_gpu(tmp_path, loss_weights):
    """Function that trains 20 steps, stopped and resumed if wanted, and returns the weights."""
    random = np.random.default_rng(1)
    for n in range(4):
        pixels = random.integers(0, 256, (5, 6, 3), np.uint8).repeat(9, axis=0).repeat(8, axis=1)
        Image.fromarray(pixels).save(tmp_path / f"{n}.png")
    style = torch.rand(1, 3, 64, 80, generator=torch.Generator().manual_seed(5)).square()
    weights = ObjectiveWeights({"relu2_1": 1.0}, {"relu1_2": 4.0}, "relative", tv=0.1, tv_form="mean")
    recipe = StyleRecipe(
        name="tiny", arch="c3s1-4,d4,R4,n2,c3s1-3 padding=reflect", loss_network="vgg16", weights=weights, steps=20,
        batch_size=2, size=32, style_size=48, learning_rate=1e-3, schedule="cosine", warmup=2, clip=10.0,
    )  # fmt: skip

    def train(folder: Path, stop_at: int | None = None):
        run = StyleTraining(
            style, tmp_path, folder / "style.safetensors", recipe, loss_weights, precision="fp32", device="cuda"
        )

        def stop(progress):
            if progress.done == stop_at:
                raise Cancelled("stopped")

        if stop_at is not None:
            with pytest.raises(Cancelled):
                run_training(run, stop)
        return load_file(run_training(run))

    return train
