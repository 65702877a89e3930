"""Write evaluation reports: text files and Markdown tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from ..errors import ImageError
from ..files import atomic_write


def write_texts(texts: Mapping[str, str], folder: str | Path) -> list[Path]:
    """Write files, given by name, into ``folder`` and return their paths. Raises ImageError if that is impossible."""
    paths = []
    for name, text in texts.items():
        path = Path(folder) / name
        try:
            with atomic_write(path) as temporary:
                temporary.write_text(text, encoding="utf-8")
        except OSError as error:
            raise ImageError(f"cannot write {path}: {error.strerror}") from None
        paths.append(path)
    return paths


def table(head: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table. All columns except the first are right-aligned."""
    rows = [head, ["---", *["---:"] * (len(head) - 1)], *lines]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)
