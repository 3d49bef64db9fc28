"""Writes the tables of docs/job.md and docs/commands.md from the code; with --check, says whether they are current.

A table stands between `<!-- generated: NAME -->` and `<!-- generated: end -->`; the words around it are by hand.
"""

import argparse
import re
import sys
from pathlib import Path

import reference_commands
import reference_keys
import reference_refused

DOCS = Path(__file__).resolve().parents[1] / "docs"
_PLACE = re.compile(r"(<!-- generated: (?!end)(.+?) -->\n\n)(.*?)(<!-- generated: end -->)", re.DOTALL)


def pages(folder: Path) -> dict[Path, str]:
    """Return both pages as they should be, by their place.

    Raises:
        KeyError: a page has a place for a table that there is not.
        ValueError: there is a table that has no place.
    """
    tables = {
        "job.md": reference_keys.tables() | {"refused": reference_refused.table()},
        "commands.md": reference_commands.sections(),
    }
    return {
        folder / name: _filled((folder / name).read_text(encoding="utf-8"), parts) for name, parts in tables.items()
    }


def _filled(text: str, parts: dict[str, str]) -> str:
    missing = set(parts) - {name for _, name, _, _ in _PLACE.findall(text)}
    if missing:
        message = f"no place for {', '.join(sorted(missing))}"
        raise ValueError(message)
    return _PLACE.sub(lambda place: f"{place[1]}{parts[place[2]]}\n\n{place[4]}", text)


def main() -> int:
    """Write what is not current, or with --check name it and return 1."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; exit code 1 if a page is not current")
    parser.add_argument("--docs", type=Path, default=DOCS, metavar="FOLDER", help="where the pages lie")
    options = parser.parse_args()
    stale = [path for path, text in pages(options.docs).items() if path.read_text(encoding="utf-8") != text]
    for path in stale:
        sys.stdout.write(f"{path}: {'not current: run make reference' if options.check else 'written'}\n")
        if not options.check:
            path.write_text(pages(options.docs)[path], encoding="utf-8")
    return int(options.check and bool(stale))


if __name__ == "__main__":
    sys.exit(main())
