"""Measures how the source is cut into files and functions, and how far one unit of work is followed.

    python tools/yardstick.py [FOLDER] [--each]

A private helper is a function or method that begins with one underscore; it is used once where its own module names it
in one place besides its definition. The three walks are the lists of files in CONTRIBUTING.md. With --each, one line a
package.
"""

import ast
import re
import sys
from collections import Counter
from pathlib import Path
from statistics import median, quantiles

CHECKOUT = Path(__file__).resolve().parents[1]
Function = ast.FunctionDef | ast.AsyncFunctionDef
COLUMNS = ("files", "lines", "median file", "longest file", "functions: median", "p90", "max", "used once / 100 lines")


def functions(tree: ast.AST) -> list[Function]:
    """Return all functions and methods of a module."""
    return [node for node in ast.walk(tree) if isinstance(node, Function)]


def length(function: Function) -> int:
    """Return the lines of a function without its docstring and signature."""
    body = function.body[1:] if ast.get_docstring(function) is not None else function.body
    return (body[-1].end_lineno or 0) - body[0].lineno + 1 if body else 0


def names(tree: ast.AST) -> Counter[str]:
    """Count how often each name is read, as a variable, an attribute or an import."""
    found: Counter[str] = Counter()
    for node in ast.walk(tree):
        if isinstance(node, ast.Name):
            found[node.id] += 1
        elif isinstance(node, ast.Attribute):
            found[node.attr] += 1
    return found


def used_once(tree: ast.AST) -> int:
    """Return how many private helpers of a module it names in one place besides their definitions."""
    used = names(tree)
    private = (f.name for f in functions(tree) if f.name.startswith("_") and not f.name.startswith("__"))
    return sum(used[name] == 1 for name in private)


def measured(paths: list[Path]) -> tuple[object, ...]:
    """Return the columns for some files."""
    trees = {path: ast.parse(path.read_text()) for path in paths}
    lines = [len(path.read_text().splitlines()) for path in paths]
    found = [function for tree in trees.values() for function in functions(tree)]
    sizes = sorted(length(function) for function in found) or [0]
    p90 = quantiles(sizes, n=10)[-1] if len(sizes) > 1 else sizes[0]
    rate = f"{100 * sum(used_once(tree) for tree in trees.values()) / sum(lines):.2f}"
    return len(paths), sum(lines), int(median(lines)), max(lines), int(median(sizes)), int(p90), max(sizes), rate


def walks(page: Path) -> list[tuple[str, int]]:
    """Return the walks that a page lists, `Follow WHAT: file -> file`, with their numbers of files."""
    text = " ".join(page.read_text().split())
    found = re.findall(r"\*\*Follow ([^*:]+):?\*\*:?((?: (?:->)? ?`[\w./]+\.py`)+)", text)
    return [(what, len(set(re.findall(r"`([\w./]+\.py)`", files)))) for what, files in found]


def main() -> int:
    """Print the table; return 0."""
    given = [argument for argument in sys.argv[1:] if not argument.startswith("-")]
    package = Path(given[0] if given else CHECKOUT / "src" / "landscape_mpi")
    paths = sorted(package.rglob("*.py"))
    groups: dict[str, list[Path]] = {}
    for path in paths:
        groups.setdefault(path.relative_to(package).parts[0], []).append(path)
    rows = [("all", measured(paths))]
    if "--each" in sys.argv:
        rows += [(name, measured(group)) for name, group in groups.items()]
    lines = [f"{'':18}" + "  ".join(COLUMNS)]
    for name, row in rows:
        cells = (f"{value!s:>{len(column)}}" for value, column in zip(row, COLUMNS, strict=True))
        lines.append(f"{name:18}" + "  ".join(cells))
    lines += [f"to follow {what}: {count} files" for what, count in walks(CHECKOUT / "CONTRIBUTING.md")]
    sys.stdout.write("\n".join(lines) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
