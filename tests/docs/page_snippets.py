"""The fenced blocks of a page of Markdown; knows how they are written, not what becomes of them."""

import re
from dataclasses import dataclass
from pathlib import Path

_BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
_NAME = re.compile(r"# ([\w./-]+\.(?:yaml|py))\b")


@dataclass(frozen=True)
class Snippet:
    """A fenced block: its page and line, the language behind the fence, and its text."""

    page: str
    line: int
    language: str
    text: str

    @property
    def file(self) -> str | None:
        """The file that the first line says it is, `# job.yaml`, if it says so."""
        name = _NAME.match(self.text)
        return name[1] if name else None

    def __str__(self) -> str:
        return f"{self.page}:{self.line} ({self.language or 'no language'})"


def snippets(path: Path) -> list[Snippet]:
    """Return the fenced blocks of a page in their order."""
    text = path.read_text(encoding="utf-8")
    return [
        Snippet(path.name, text.count("\n", 0, block.start()) + 1, block[1], block[2])
        for block in _BLOCK.finditer(text)
    ]
