"""Sphinx: links that leave docs/ for a file or a folder of the repository lead to a page that shows it.

So they work in the site as they do in the repository, wherever either of them is served from.
"""

import html
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from docutils import nodes
from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers import TextLexer, get_lexer_for_filename
from pygments.util import ClassNotFound
from sphinx.addnodes import download_reference, pending_xref
from sphinx.application import Sphinx
from sphinx.transforms import SphinxTransform

PREFIX = "repository"
_OUTSIDE = re.compile(r"\]\((\.\./[^)#\s]+)\)")


def setup(app: Sphinx) -> dict[str, Any]:
    """Turn such links while pages are read, and write the pages they lead to at the end."""
    app.add_transform(_Links)
    app.connect("html-collect-pages", _pages)
    return {"parallel_read_safe": True}


class _Links(SphinxTransform):
    """Links to the repository's files, which Sphinx would offer for download or not know at all."""

    default_priority = 400

    def apply(self, **_: Any) -> None:
        """Replace every one of them in this page."""
        for kind in (download_reference, pending_xref):
            for node in list(self.document.findall(kind)):
                if node["reftarget"].startswith("../"):
                    node.replace_self(self._link(node))

    def _link(self, node: nodes.Element) -> nodes.reference:
        target = (Path(self.env.srcdir) / node["reftarget"]).resolve()
        page = f"{PREFIX}/{target.relative_to(Path(self.env.srcdir).parent)}"
        uri = self.app.builder.get_relative_uri(self.env.docname, page)
        return nodes.reference("", "", *node.children, refuri=uri, internal=True)


def _pages(app: Sphinx) -> Iterator[tuple[str, dict[str, Any], str]]:
    docs = Path(app.srcdir)
    for path in sorted(_shown(docs)):
        name = str(path.relative_to(docs.parent))
        yield f"{PREFIX}/{name}", {"title": name, "body": f"<h1>{html.escape(name)}</h1>{_body(path)}"}, "page.html"


def _shown(docs: Path) -> set[Path]:
    """Every file and folder that a page links to, and all that lies in such a folder."""
    linked = {(docs / name).resolve() for page in docs.glob("*.md") for name in _OUTSIDE.findall(page.read_text())}
    return {path for start in linked for path in _tree(start)}


def _tree(path: Path) -> Iterator[Path]:
    yield path
    for child in _children(path) if path.is_dir() else ():
        yield from _tree(child)


def _children(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if not path.name.startswith((".", "__pycache__")))


def _body(path: Path) -> str:
    if path.is_dir():
        links = [f'<li><a href="{path.name}/{child.name}.html">{child.name}</a></li>' for child in _children(path)]
        return f"<ul>{''.join(links)}</ul>"
    text = path.read_text(encoding="utf-8")
    try:
        lexer = get_lexer_for_filename(path.name)
    except ClassNotFound:
        lexer = TextLexer()
    return f'<div class="highlight">{highlight(text, lexer, HtmlFormatter(nowrap=False))}</div>'
