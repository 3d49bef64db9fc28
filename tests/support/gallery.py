"""Runs a script of the gallery cell by cell, as sphinx-gallery does: what a cell ends with is shown where it can be.

python tests/support/gallery.py SCRIPT FOLDER     (pictures go into FOLDER, what is printed to standard output)
"""

import ast
import base64
import re
import sys
from pathlib import Path

CELL = re.compile(r"(?m)^# %%.*$")
PICTURE = re.compile(r"base64,([^\"]+)")


def run(script: Path, folder: Path) -> None:
    """Run the script, and write what it shows as FOLDER/1.png, FOLDER/2.png, ..."""
    names, count = {"__name__": "__main__"}, 0
    for number, cell in enumerate(CELL.split(script.read_text())):
        *statements, last = ast.parse(cell).body
        shows = isinstance(last, ast.Expr)
        exec(compile(ast.Module(statements if shows else [*statements, last], []), f"cell {number}", "exec"), names)  # noqa: S102 - ours
        if not shows:
            continue
        shown = eval(compile(ast.Expression(last.value), f"cell {number}", "eval"), names)
        if hasattr(shown, "_repr_html_"):
            count += 1
            (folder / f"{count}.png").write_bytes(base64.b64decode(PICTURE.search(shown._repr_html_())[1]))


if __name__ == "__main__":
    run(*map(Path, sys.argv[1:]))
