"""Options of inputs that list networks: named networks first, then files in one of the host's folders.

A file that contains several styles is listed once per style, as FILE#STYLE.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ..core.checkpoints.dialects.magenta import part_of
from ..core.checkpoints.own_format import is_readable, style_names
from ..core.errors import InputError
from ..core.hub.fetch import is_downloaded
from ..core.hub.manifest import Entry, bundled_path, find_entry, names
from ..core.hub.places import place_of
from ..core.models.predictor_file import TASK as PREDICTOR
from ..core.models.predictor_file import is_predictor
from .host import listed_path, model_files, model_folders, model_path

_TO_DOWNLOAD, _UNREADABLE = " (download)", " (unreadable)"


@dataclass(frozen=True)
class Choices:
    """The networks that can be chosen for a task.

    Attributes:
        task: The task, as in the manifest.
        folder: The host's name of the folder of files.
        what: What messages call one network.
        beside: Function that returns another file that belongs to a network's file, or None.
    """

    task: str
    folder: str
    what: str
    beside: Callable[[Path], Path | None] = lambda path: None

    def options(self) -> list[str]:
        """Return what the list shows: named networks, then files. Those to download, and unreadable files, are marked.

        Networks that were replaced are hidden. Workflows that name them still run.
        """
        entries = [entry for name in names(self.task) if (entry := find_entry(name, self.task)) is not None]
        folders = model_folders(self.folder)
        missing = {entry.id for entry in entries if not is_downloaded(entry, folders)}
        downloads = {
            place_of(entry, folders).name for entry in entries if not entry.is_bundled and entry.id not in missing
        }
        files = [name for name in model_files(self.folder) if name not in downloads and self._is_ours(name)]
        options = []
        for entry in (each for each in entries if each.replaced_by is None):
            if entry.id in missing:
                options.append(entry.id + _TO_DOWNLOAD)
            else:
                options += _with_styles(entry.id, entry)
        for name in files:
            path = listed_path(self.folder, name)
            options += _with_styles(name if path and is_readable(path) else name + _UNREADABLE, path)
        return options

    def options_here(self) -> list[str]:
        """Return the options that can be used without a download. Unreadable files are left out, too."""
        return [option for option in self.options() if not option.endswith((_TO_DOWNLOAD, _UNREADABLE))]

    def _is_ours(self, name: str) -> bool:
        """Return whether a file can be of this task: styles and predictors share a folder."""
        path = listed_path(self.folder, name)
        if path is None:
            return self.task != PREDICTOR
        if part_of(path) == "transform":  # belongs to the file that predicts
            return False
        return is_predictor(path) == (self.task == PREDICTOR)

    def chosen(self, name: str) -> Entry | Path:
        """Return the network that an option stands for: a named network, or a file.

        Workflows store options, so marks stay valid after the download, and after an unreadable file was replaced. A named
        network takes precedence over a file of the same name; files always have a suffix, so none is hidden. Options come
        from outside and are looked up again here.

        Raises:
            InputError: If the option is unknown.
        """
        return self._found(name)[0]

    def chosen_style(self, name: str) -> str | None:
        """Return the style that an option selects from the file `chosen`, or None if the file contains only one."""
        return self._found(name)[1]

    def _found(self, name: str) -> tuple[Entry | Path, str | None]:
        if isinstance(name, str):  # workflows for the API may contain anything
            base, _, style = name.rpartition("#")
            for file, part in ((name, None), (base, style)):
                entry = find_entry(file.removesuffix(_TO_DOWNLOAD), self.task)
                found = entry or model_path(self.folder, file.removesuffix(_UNREADABLE))
                if found is not None and part in (_styles_of(found) or (None,)):
                    return found, part
        known = ", ".join(self.options())
        choose = f"choose one of: {known}. Put your own files into" if known else "put your own files into"
        raise InputError(f"there is no {self.what} named {name!r}; {choose} models/{self.folder}")

    def is_to_download(self, chosen: Entry | Path) -> bool:
        """Return whether a network from `chosen` must be downloaded first."""
        return isinstance(chosen, Entry) and not is_downloaded(chosen, model_folders(self.folder))

    def validate(self, name: str | None) -> bool | str:
        """Check an option for ``validate_inputs``: return True, or a message for the user.

        The host does not compare a combo's value with its options if ``validate_inputs`` names the input. The value of a
        linked input is not known yet (None). The host repeats the message for every input that ``validate_inputs`` names,
        so name no others. Execution checks them.
        """
        try:
            return name is None or bool(self.chosen(name))
        except InputError as error:
            return str(error)

    def fingerprint(self, name: str | None) -> str:
        """Fingerprint an option for ``fingerprint_inputs``: the text changes with the network. Never raises."""
        try:
            chosen = self.chosen(name) if name else None
            if isinstance(chosen, Entry):
                if not chosen.is_bundled:
                    return f"{name} {chosen.sha256}"  # always the same bytes, before and after the download
                chosen = bundled_path(chosen.id)
            files = [chosen, self.beside(chosen)] if chosen else []
            states = [(stat.st_mtime_ns, stat.st_size) for stat in (each.stat() for each in files if each)]
            return f"{name} {states}"
        except (InputError, OSError):  # validation and execution report it
            return f"{name} "


def _with_styles(option: str, source: Entry | Path | None) -> list[str]:
    """Return the option, or one option per style if the network's file contains several."""
    return [f"{option}#{style}" for style in _styles_of(source)] or [option]


def _styles_of(source: Entry | Path | None) -> tuple[str, ...]:
    """Return the names of the styles in a network's file. Empty if it contains one style, or is not available here."""
    if isinstance(source, Entry):
        source = bundled_path(source.id) if source.is_bundled else None
    return () if source is None else style_names(source)
