"""The host's folders: models, input and temporary files."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import folder_paths

from ...core.checkpoints.tensor_files import NETWORK_SUFFIXES
from ...core.training.state import CHECKPOINT_SUFFIX

STYLE_FOLDER, UPSCALE_FOLDER, LOSS_FOLDER = "fast_style", "perceptual_upscale", "loss_networks"
_SUFFIXES = {
    STYLE_FOLDER: set(NETWORK_SUFFIXES),
    UPSCALE_FOLDER: set(NETWORK_SUFFIXES),
    LOSS_FOLDER: {".safetensors", ".pth", ".pt"},
}


def register_folders() -> None:
    """Add this pack's folders to the host's model folders. Folders mapped in extra_model_paths.yaml stay."""
    for name, ours in _SUFFIXES.items():
        folder = os.path.join(folder_paths.models_dir, name)
        folder_paths.add_model_folder_path(name, folder)
        with contextlib.suppress(OSError):  # a read-only installation works as well
            os.makedirs(folder, exist_ok=True)
        # The host registers a folder without suffixes, which would list every file in it.
        paths, suffixes = folder_paths.folder_names_and_paths[name]
        folder_paths.folder_names_and_paths[name] = (paths, set(suffixes) | ours)


def model_folders(name: str) -> list[Path]:
    """Return the host's folders for a kind of model. New files are written to the first."""
    return [Path(path) for path in folder_paths.folder_names_and_paths[name][0]]


def model_files(folder: str) -> list[str]:
    """Return the names of the files in one of this pack's folders, relative to it.

    Checkpoints of unfinished training runs are skipped. So are hidden files: those being written, and macOS's ``._*``.
    """
    paths = map(Path, folder_paths.get_filename_list(folder))
    return [
        str(path)
        for path in paths
        if path.suffix.lower() in _SUFFIXES[folder]
        and is_network_file(path.name)
        and not any(part.startswith(".") for part in path.parts)
        and not path.name.endswith(CHECKPOINT_SUFFIX)
    ]


def is_network_file(name: str) -> bool:
    """Return whether a name ends as files of networks do. Archives in general are not listed, only .pth.tar."""
    name = name.lower()
    return Path(name).suffix in NETWORK_SUFFIXES and (
        not name.endswith(".tar") or name.endswith((".pth.tar", ".pt.tar"))
    )


def model_path(folder: str, name: str) -> Path | None:
    """Return the file for a name from `model_files`, or None for any other name: names come from outside."""
    return listed_path(folder, name) if name in model_files(folder) else None


def listed_path(folder: str, name: str) -> Path | None:
    """Return the file for a name that `model_files` has just listed."""
    path = folder_paths.get_full_path(folder, name)
    return None if path is None else Path(path)


def input_folders() -> list[str]:
    """Return the names of the folders in the host's input folder, at any depth."""
    return sorted(folder_paths.get_input_subfolders())


def input_folder(name: str) -> Path | None:
    """Return the folder for a name from `input_folders`, or None for any other name."""
    return Path(folder_paths.get_input_directory()) / name if name in input_folders() else None


def temporary_folder() -> Path:
    """Return the host's folder for files that may be deleted when it restarts."""
    folder = Path(folder_paths.get_temp_directory())
    folder.mkdir(parents=True, exist_ok=True)
    return folder
