"""Weights of the loss network that a recipe names: downloaded by name, or a file in models/loss_networks."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from ..core.errors import CheckpointError, InputError
from ..core.hub.loss_networks import deepest_of, fetch_tensors, find_tensors
from ..core.hub.manifest import Entry, entries
from ..core.losses.loss_network import LossNetwork
from ..core.training.style_recipes import StyleRecipe
from .choices import Choices
from .host import LOSS_FOLDER, folders, io, model_files, model_path, progress_callback

LOSS_NETWORKS = Choices("loss-network", LOSS_FOLDER, "loss network")
AUTO = "auto"


def loss_network_options() -> list[str]:
    return [AUTO, *LOSS_NETWORKS.options()]


def loss_network_input(**options: object) -> io.Combo.Input:
    return io.Combo.Input(
        "loss_network",
        options=loss_network_options(),
        default=AUTO,
        tooltip="Weights of the loss network that the recipe is made for: one marked (download) is fetched once, verified, "
        "into models/loss_networks; or a file there. auto takes what fits of what is here and downloads nothing.",
        **options,
    )


def validate(name: str | None) -> bool | str:
    """For validate_inputs."""
    return True if name == AUTO else LOSS_NETWORKS.validate(name)


def fingerprint(name: str | None) -> str:
    """For fingerprint_inputs: whichever file auto finds, it holds the same network."""
    return AUTO if name == AUTO else LOSS_NETWORKS.fingerprint(name)


def loss_weights(name: str, recipe: StyleRecipe) -> Path:
    """The file of the recipe's loss network that a name of the list stands for.

    Raises InputError for an unknown name or one of another network, CheckpointError when auto finds nothing.
    """
    if name == AUTO:
        return fitting(recipe)
    chosen = LOSS_NETWORKS.chosen(name)
    if isinstance(chosen, Path):
        return chosen  # whether it holds the network is seen when it is opened
    if chosen.family != recipe.loss_network:
        raise InputError(
            f"the recipe {recipe.name} is made for the loss network {recipe.loss_network}, not {chosen.family}; choose a file "
            f"of it in models/{LOSS_FOLDER}, or another recipe"
        )
    progress = progress_callback(1) if LOSS_NETWORKS.is_to_download(chosen) else None
    return fetch_tensors(chosen, _deepest(chosen, recipe), folder=folders(LOSS_FOLDER), progress=progress)


def fitting(recipe: StyleRecipe, others: bool = False) -> Path:
    """What was downloaded, else the first file that holds the recipe's loss network as deep as it is needed.

    others: whether other networks could be chosen as well. Raises CheckpointError when there is no such file, saying what to
    do.
    """
    name = recipe.loss_network
    named = [entry for entry in entries("loss-network") if entry.family == name]
    found = [find_tensors(entry, _deepest(entry, recipe), folder=folders(LOSS_FOLDER)) for entry in named]
    # Those that are called so come first: others may be large, and are read for nothing.
    files = sorted(model_files(LOSS_FOLDER), key=lambda file: not Path(file).name.startswith(name))
    for path in filter(None, [*found, *(model_path(LOSS_FOLDER, file) for file in files)]):
        with suppress(CheckpointError):
            LossNetwork(name, path, recipe.weights.layers)
            return path
    options = {option: LOSS_NETWORKS.chosen(option) for option in LOSS_NETWORKS.options()}
    networks = {option: entry for option, entry in options.items() if isinstance(entry, Entry)}
    instead = ", ".join(option for option, entry in networks.items() if others or entry.family == name)
    instead = f", or choose {instead}" if instead else ""
    raise CheckpointError(
        f"no file in models/{LOSS_FOLDER} holds the loss network {name}, which the recipe {recipe.name} is made for; put its "
        f"weights there as {name}.safetensors (or .pth){instead}"
    )


def _deepest(entry: Entry, recipe: StyleRecipe) -> str:
    return deepest_of(entry, recipe.weights.layers)
