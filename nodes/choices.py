"""What a list of networks offers: those with a name, then files in one of the host's folders.

A file of several styles is listed once for each, as FILE#STYLE.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ..core.checkpoints.own_format import style_names
from ..core.errors import InputError
from ..core.hub.fetch import is_downloaded
from ..core.hub.manifest import Entry, bundled_path, find_entry, names
from ..core.hub.places import place_of
from .host import folders, listed_path, model_files, model_path

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
        absent = {each.id for each in named if not is_downloaded(each, here)}
        shown = [each.id + _TO_DOWNLOAD * (each.id in absent) for each in named]
        theirs = {place_of(each, here).name for each in named if not each.is_bundled and each.id not in absent}
        files = [name for name in model_files(self.folder) if name not in theirs]
        sources = {each.id: each for each in named} | {name: listed_path(self.folder, name) for name in files}
        styles = {name: _styles_of(sources.get(name)) for name in shown + files}
        return [option for name, each in styles.items() for option in [f"{name}#{style}" for style in each] or [name]]

    def chosen(self, name: str) -> Entry | Path:
        """What a name stands for: a network by name, or a file. Workflows keep names: the mark of a download is valid before
        and after it.

        A network by name comes before a file of the same name; files always have a suffix, so none is hidden. Names come
        from outside and are looked up again here. Raises InputError for an unknown one.
        """
        return self._found(name)[0]

    def chosen_style(self, name: str) -> str | None:
        """Which style of the file `chosen` a name stands for; None where there is only one."""
        return self._found(name)[1]

    def _found(self, name: str) -> tuple[Entry | Path, str | None]:
        base, _, style = name.rpartition("#")
        for file, part in ((name, None), (base, style)):
            found = find_entry(file.removesuffix(_TO_DOWNLOAD), self.task) or model_path(self.folder, file)
            if found is not None and part in (_styles_of(found) or (None,)):
                return found, part
        known = ", ".join(self.options())
        expected = f"expected one of: {known}. Own files go into" if known else "own files go into"
        raise InputError(f"there is no {self.what} named {name!r}; {expected} models/{self.folder}")

    def is_to_download(self, chosen: Entry | Path) -> bool:
        return isinstance(chosen, Entry) and not is_downloaded(chosen, folders(self.folder))

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


def _styles_of(source: Entry | Path | None) -> tuple[str, ...]:
    """Names of the styles in the file of a network; empty where it holds one, or is not here."""
    if isinstance(source, Entry):
        source = bundled_path(source.id) if source.is_bundled else None
    return () if source is None else style_names(source)
