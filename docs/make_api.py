"""Write the API reference of ``perceptual_style.core`` into docs/api/, from the docstrings of its public names.

The build fails if a public name has no docstring, or if a name in single backticks does not exist in the package.
"""

from __future__ import annotations

import pkgutil
import re
import sys
from importlib import import_module
from pathlib import Path

import pdoc
from pdoc import doc
from perceptual_style import core

FOLDER = Path(__file__).parent / "api"
PACKAGE = "perceptual_style"
PAGES = [core.__name__, f"{core.__name__}.errors"]


def prepare(page: doc.Module) -> list[doc.Doc]:
    """Add what pdoc leaves out, and return all that the page shows.

    pdoc leaves out the docstrings of imported constants, and members inherited from classes that have no page.
    """
    shown: list[doc.Doc] = [page]
    for entry in page.flattened_own_members:
        if isinstance(entry, doc.Class):
            ours = [member for member in entry.members.values() if member.taken_from[0].startswith(PACKAGE)]
            for constructor in [member for member in ours if member.name == "__init__"]:
                constructor.docstring = "@public"  # the class's docstring describes the arguments
            entry.own_members = [member for member in ours if member.name == "__init__" or member.name[0] != "_"]
            shown += entry.own_members
        elif isinstance(entry, doc.Variable):
            source = doc.Module(import_module(f"{core.__name__}.{core._MODULES[entry.name]}"))
            entry.docstring = source.members[entry.name].docstring
        shown.append(entry)
    return shown


def is_documented(entry: doc.Doc) -> bool:
    """Whether a name has a docstring, or is an attribute in the ``Attributes:`` section of its class or a base."""
    if entry.docstring or not isinstance(entry, doc.Variable) or "." not in entry.qualname:
        return bool(entry.docstring)
    owner = getattr(import_module(entry.modulename), entry.qualname.partition(".")[0])
    sections = [(base.__doc__ or "").partition("Attributes:\n")[2] for base in owner.__mro__]
    return any(re.search(rf"^\s+{entry.name}( \(.*\))?:", section, re.MULTILINE) for section in sections)


def exists(name: str, entry: doc.Doc) -> bool:
    """Whether a name is in the module that defines an entry, in its class, or is a path inside of core."""
    home = import_module(entry.taken_from[0] or entry.modulename)
    owner = getattr(home, entry.taken_from[1].partition(".")[0], None)
    for start in (home, owner, *(module for key, module in sys.modules.items() if key.startswith(core.__name__))):
        found = start
        for part in name.split("."):
            found = getattr(found, part, None)
        if found is not None:
            return True
    return False


def broken_links(shown: list[doc.Doc], html: str) -> list[str]:
    """List names in single backticks that do not exist, and links to nowhere on the page."""
    problems = []
    for entry in shown:
        for name in re.findall(r"(?<!`)`([A-Za-z_.][\w.]*)(?:\(\))?`(?!`)", entry.docstring):
            if not re.search(rf">{re.escape(name)}(\(\))?</a>", html) and not exists(name, entry):
                problems.append(f"{entry.fullname}: there is no `{name}`")
    anchors = set(re.findall(r' id="([^"]+)"', html))
    return problems + [f"no target for #{name}" for name in re.findall(r'href="#([^"]+)"', html) if name not in anchors]


def main() -> int:
    for module in pkgutil.walk_packages(core.__path__, core.__name__ + "."):
        if not module.name.endswith("__main__"):
            import_module(module.name)  # rooms are imported on first use, and docstrings name any of them
    for name in core.__all__:
        getattr(core, name)  # public names are imported on first use, too, and pdoc lists only those it finds
    pages = {name: doc.Module(import_module(name)) for name in PAGES}
    shown = {name: prepare(page) for name, page in pages.items()}
    # Attributes are in the text of their class.
    pdoc.render.configure(docformat="google", include_undocumented=False, search=False, footer_text="Perceptual Style")
    problems = []
    for name, page in pages.items():
        html = pdoc.render.html_module(page, all_modules=pages)
        file = FOLDER.joinpath(*name.split(".")).with_suffix(".html")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(html, encoding="utf-8")
        problems += [f"{entry.fullname}: no docstring" for entry in shown[name] if not is_documented(entry)]
        problems += broken_links(shown[name], html)
    (FOLDER / "index.html").write_text(pdoc.render.html_index(pages), encoding="utf-8")
    print(*problems, FOLDER / "index.html", sep="\n")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
