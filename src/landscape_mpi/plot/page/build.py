"""Writes a page as HTML, with its data, its scripts and plotly inside.

The page loads nothing and sends nothing: its policy allows only the scripts written here, by their hashes. What comes
from files is one block of JSON, which the scripts put on the page as text.
"""

import base64
import hashlib
import json
from collections.abc import Mapping
from importlib.resources import files
from string import Template
from typing import Any

from landscape_mpi.errors import Flag, UserError

PAGE_ENDINGS = (".html", ".htm")
_SCRIPTS = ("surfaces.js", "scale.js", "figures.js", "curves.js", "page.js", "build.js")
_POLICY = (
    "default-src 'none'; script-src {scripts}; style-src 'unsafe-inline'; img-src data: blob:; "
    "base-uri 'none'; form-action 'none'"
)


def html(content: Mapping[str, Any]) -> str:
    """Return the page: one text, the same for the same content and version of plotly.

    Raises:
        UserError: plotly is not installed.
    """
    try:
        from plotly.offline import get_plotlyjs
    except ImportError:
        raise UserError(
            Flag("html"),
            "the package plotly is not installed",
            remedy="install it with: pip install 'plotly>=5' (it is the extra `html` of this package)",
        ) from None
    plotly, script = _closed(str(get_plotlyjs())), _closed("".join(map(_part, _SCRIPTS)))
    return Template(_part("page.html")).substitute(
        policy=_POLICY.format(scripts=f"{_hash(plotly)} {_hash(script)}"),
        style=_part("page.css"),
        # ASCII without any `<`: nothing in it can end its element or begin another
        data=json.dumps(content, allow_nan=False, separators=(",", ":")).replace("<", r"\u003c"),
        plotly=plotly,
        script=script,
    )


def _part(name: str) -> str:
    return files(__package__).joinpath(name).read_text(encoding="utf-8")


def _closed(script: str) -> str:
    """Return a script that cannot end its element early, with the line ends that browsers read."""
    return script.replace("\r\n", "\n").replace("\r", "\n").replace("</script", r"<\/script").replace("<!--", r"<\!--")


def _hash(script: str) -> str:
    digest = hashlib.sha256(script.encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"
