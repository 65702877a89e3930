"""What a list of networks offers: those with a name, then files in one of the host's folders."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ..core.errors import InputError
from ..core.hub import place_of
from ..core.manifest import Entry, bundled_path, find_entry, names
from .host import folders, model_files, model_path

_TO_DOWNLOAD = " (download)"


@dataclass(frozen=True)
class Choices:
    """The networks for a task.

    folder: the host's name of the folder of files
    what: as messages call one network
    beside: another file that belongs to the one of a network, or None
    """

    task: str
    folder: str
    what: str
    beside: Callable[[Path], Path | None] = lambda path: None

    def options(self) -> list[str]:
        """What the list shows: networks by name, those of the Hub marked while they are not here, then files."""
        named = [find_entry(name, self.task) for name in names(self.task)]
        here = folders(self.folder)
        absent = {each.id for each in named if not each.is_downloaded(here)}
        shown = [each.id + _TO_DOWNLOAD * (each.id in absent) for each in named]
        theirs = {place_of(each, here).name for each in named if not each.is_bundled and each.id not in absent}
        return shown + [name for name in model_files(self.folder) if name not in theirs]

    def chosen(self, name: str) -> Entry | Path:
        """What a name stands for. Workflows keep names: the mark of a download is valid before and after it.

        A network by name comes before a file of the same name; files always have a suffix, so none is hidden. Names come
        from outside and are looked up again here. Raises InputError for an unknown one.
        """
        found = find_entry(name.removesuffix(_TO_DOWNLOAD), self.task) or model_path(self.folder, name)
        if found is None:
            known = ", ".join(self.options())
            expected = f"expected one of: {known}. Own files go into" if known else "own files go into"
            raise InputError(f"there is no {self.what} named {name!r}; {expected} models/{self.folder}")
        return found

    def is_to_download(self, chosen: Entry | Path) -> bool:
        return isinstance(chosen, Entry) and not chosen.is_downloaded(folders(self.folder))

    def validate(self, name: str | None) -> bool | str:
        """For validate_inputs, of that input alone.

        Hosts differ in whether they compare a combo's value with its options; a linked one is not known yet (None).
        Whatever else a node validated would have the host repeat the message for it; execution refuses the rest.
        """
        try:
            return name is None or bool(self.chosen(name))
        except InputError as error:
            return str(error)

    def fingerprint(self, name: str | None) -> str:
        """For fingerprint_inputs: another text once another network is behind the name. Raises nothing."""
        try:
            chosen = self.chosen(name) if name else None
            if isinstance(chosen, Entry):
                if not chosen.is_bundled:
                    return f"{name} {chosen.sha256}"  # always the same bytes, before and after the download
                chosen = bundled_path(chosen.id)
            files = [chosen, self.beside(chosen)] if chosen else []
            states = [(stat.st_mtime_ns, stat.st_size) for stat in (each.stat() for each in files if each)]
            return f"{name} {states}"
        except (InputError, OSError):  # validation and execution are the ones to say so
            return f"{name} "
