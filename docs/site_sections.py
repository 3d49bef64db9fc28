"""Sphinx: the sections and links of index.md become the site's navigation; knows no theme.

index.md stays a page that reads well in a repository: no directive is written there.
"""

import re
from pathlib import Path
from typing import Any

from sphinx.application import Sphinx

UNLISTED = {"Use": ("examples/index",)}
"""Pages that the build makes: listed where they are, under these sections."""


def setup(app: Sphinx) -> dict[str, Any]:
    """Let the root page be read with its navigation."""
    app.connect("source-read", _append)
    return {"parallel_read_safe": True}


def _append(app: Sphinx, docname: str, source: list[str]) -> None:
    if docname == app.config.root_doc:
        source[0] += navigation(source[0], Path(app.srcdir))


def navigation(text: str, folder: Path) -> str:
    """Return a hidden toctree for each section of the root page's text, of the pages that it links to."""
    linked = set(re.findall(r"\]\(([\w/-]+)\.md\)", text))
    trees = []
    for heading, body in re.findall(r"^## (.+)\n((?:(?!## ).*\n?)*)", text, re.MULTILINE):
        pages = [*dict.fromkeys(re.findall(r"\]\(([\w/-]+)\.md\)", body))]
        pages += [page for page in UNLISTED.get(heading, ()) if page not in linked and _is_there(folder / page)]
        if pages:
            trees.append("\n".join(["", "```{toctree}", ":hidden:", f":caption: {heading}", "", *pages, "```", ""]))
    return "".join(trees)


def _is_there(page: Path) -> bool:
    return any(page.with_name(page.name + ending).exists() for ending in (".md", ".rst"))
