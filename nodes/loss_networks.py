"""Weights of the loss network that a recipe needs: downloaded by name, or a file in models/loss_networks."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from ..core.errors import CheckpointError, InputError
from ..core.hub.loss_networks import deepest_of, fetch_tensors, find_tensors
from ..core.hub.manifest import Entry, entries
from ..core.losses.loss_network import LossNetwork
from ..core.training.style_recipes import StyleRecipe
from .choices import Choices
from .host import LOSS_FOLDER, model_files, model_folders, model_path, progress_callback

LOSS_NETWORKS = Choices("loss-network", LOSS_FOLDER, "loss network")
AUTO = "auto"


def loss_network_options() -> list[str]:
    """Return the options of an input for a loss network."""
    return [AUTO, *LOSS_NETWORKS.options()]


def validate(name: str | None) -> bool | str:
    """Check an option for ``validate_inputs``: return True, or a message for the user."""
    return True if name == AUTO else LOSS_NETWORKS.validate(name)


def fingerprint(name: str | None) -> str:
    """Fingerprint an option for ``fingerprint_inputs``. Any file that auto finds contains the same network."""
    return AUTO if name == AUTO else LOSS_NETWORKS.fingerprint(name)


def loss_weights(name: str, recipe: StyleRecipe) -> Path:
    """Return the weights of the recipe's loss network that an option stands for. Download them if needed.

    Raises:
        InputError: If the option is unknown, or a network that the recipe does not use.
        CheckpointError: If auto finds no weights.
    """
    if name == AUTO:
        return matching_weights(recipe)
    chosen = LOSS_NETWORKS.chosen(name)
    if isinstance(chosen, Path):
        return chosen  # opening the file shows whether it contains the network
    if chosen.family != recipe.loss_network:
        raise InputError(
            f"the recipe {recipe.name} needs the loss network {recipe.loss_network}, not {chosen.family}; choose a file "
            f"with its weights in models/{LOSS_FOLDER}, or choose another recipe"
        )
    progress = progress_callback(1) if LOSS_NETWORKS.is_to_download(chosen) else None
    return fetch_tensors(chosen, _deepest(chosen, recipe), folder=model_folders(LOSS_FOLDER), progress=progress)


def matching_weights(recipe: StyleRecipe, any_network: bool = False) -> Path:
    """Return the downloaded weights, or the first file that contains every layer the recipe needs.

    Args:
        recipe: The recipe.
        any_network: Whether the user could choose other networks as well. The error lists them.

    Raises:
        CheckpointError: If there is no such file. The message says what to do.
    """
    for path in _candidates(recipe):
        with suppress(CheckpointError):
            LossNetwork(recipe.loss_network, path, recipe.weights.layers)
            return path
    name = recipe.loss_network
    chosen = {option: LOSS_NETWORKS.chosen(option) for option in LOSS_NETWORKS.options()}
    networks = {option: entry for option, entry in chosen.items() if isinstance(entry, Entry)}
    instead = ", ".join(option for option, entry in networks.items() if any_network or entry.family == name)
    instead = f", or choose {instead}" if instead else ""
    raise CheckpointError(
        f"no file in models/{LOSS_FOLDER} contains the loss network {name}, which the recipe {recipe.name} needs; put its "
        f"weights there as {name}.safetensors (or .pth){instead}"
    )


def _candidates(recipe: StyleRecipe) -> Iterator[Path]:
    """Yield files that may contain the recipe's loss network: downloaded ones, then files by name."""
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
