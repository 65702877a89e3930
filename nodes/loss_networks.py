"""Weights of the loss network that a recipe needs: downloaded by name, or a file in models/loss_networks."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..core.errors import CheckpointError
from ..core.hub.loss_networks import deepest_of, find_tensors, loss_weights_file
from ..core.hub.manifest import Entry, entries
from ..core.losses.loss_network import LossNetwork, recognize
from ..core.training.style_recipes import StyleRecipe
from .choices import Choices
from .host import LOSS_FOLDER, io, model_files, model_folders, model_path, progress_callback

LOSS_NETWORKS = Choices("loss-network", LOSS_FOLDER, "loss network")
AUTO = "auto"


def loss_network_input(settings: str, **options: Any) -> io.Combo.Input:
    """Return the input for a loss network. ``settings`` is what its tooltip calls a recipe."""
    return io.Combo.Input(
        "loss_network",
        options=[AUTO, *LOSS_NETWORKS.options()],
        default=AUTO,
        tooltip=f"The network that compares images. auto: the one of the {settings}; quick and standard need no download. "
        "vgg16: better pictures, but slower. A network marked (download) is downloaded once, verified, and saved in "
        "models/loss_networks. Files in that folder work, too.",
        **options,
    )


def validate(name: str | None) -> bool | str:
    """Check an option for ``validate_inputs``: return True, or a message for the user."""
    return True if name == AUTO else LOSS_NETWORKS.validate(name)


def fingerprint(name: str | None) -> str:
    """Fingerprint an option for ``fingerprint_inputs``. Any file that auto finds contains the same network."""
    return AUTO if name == AUTO else LOSS_NETWORKS.fingerprint(name)


def with_loss_network(recipe: StyleRecipe, choice: str) -> tuple[StyleRecipe, Path]:
    """Return the recipe for the chosen loss network, and the file with its weights.

    A named network is downloaded if needed: the user asked for it by name.

    Raises:
        InputError: If the option is unknown.
        CheckpointError: If no file contains the recipe's layers. The message says what to do.
    """
    layers = recipe.weights.layers
    if choice == AUTO:
        return recipe, _matching_weights(recipe)
    chosen = LOSS_NETWORKS.chosen(choice)
    if isinstance(chosen, Path):
        return replace(recipe, loss_network=recognize(chosen, layers, recipe.loss_network)), chosen
    name = str(chosen.family)
    file = loss_weights_file(name, layers, model_folders(LOSS_FOLDER), download=True, progress=progress_callback(1))
    return replace(recipe, loss_network=name), file


def _matching_weights(recipe: StyleRecipe) -> Path:
    """Return the bundled or downloaded weights, or the first file that contains every layer the recipe needs.

    Raises:
        CheckpointError: If there is no such file. The message says what to do.
    """
    for path in _candidates(recipe):
        with suppress(CheckpointError):
            LossNetwork(recipe.loss_network, path, recipe.weights.layers)
            return path
    name = recipe.loss_network
    instead = ", ".join(option for option in LOSS_NETWORKS.options() if isinstance(LOSS_NETWORKS.chosen(option), Entry))
    instead = f", or choose {instead}" if instead else ""
    raise CheckpointError(
        f"no file in models/{LOSS_FOLDER} contains the loss network {name}, which the recipe {recipe.name} needs; put its "
        f"weights there as {name}.safetensors (or .pth){instead}"
    )


def _candidates(recipe: StyleRecipe) -> Iterator[Path]:
    """Yield files that may contain the recipe's loss network: bundled and downloaded ones, then files by name."""
    name = recipe.loss_network
    for entry in entries("loss-network"):
        if entry.family == name:
            found = find_tensors(entry, _deepest(entry, recipe), folder=model_folders(LOSS_FOLDER))
            if found is not None:
                yield found
    # Files named after the network come first: others may be large, and would be read in vain.
    for file in sorted(model_files(LOSS_FOLDER), key=lambda file: not Path(file).name.startswith(name)):
        path = model_path(LOSS_FOLDER, file)
        if path is not None:
            yield path


def _deepest(entry: Entry, recipe: StyleRecipe) -> str:
    return deepest_of(entry, recipe.weights.layers)
