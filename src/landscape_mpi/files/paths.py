"""Checks the names of files and folders that a job or a command line gives."""

import os
import re
import stat
from pathlib import Path

from landscape_mpi.errors import Text, UserError

FILE, FOLDER, NOTHING = "a file", "a folder", "no such file"
KINDS = {
    stat.S_IFDIR: FOLDER,
    stat.S_IFREG: FILE,
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


def mistake(name: str) -> str:
    """Return what keeps a name from being a path here, such as `a NUL character`; empty for a sound name."""
    if "\0" in name:
        return "a NUL character"
    try:
        os.fsencode(name)
    except UnicodeEncodeError:
        return "half a character"
    if name.startswith("~"):
        try:
            Path(name).expanduser()
        except RuntimeError:
            return f"the home of {name.partition('/')[0]}, whom this machine does not know"
    return ""


def absolute(name: str | Path, folder: Path) -> Path:
    """Return an absolute path, from `folder` on, with links and `..` resolved.

    Raises:
        UserError: there is no such path, or no working directory.
    """
    try:
        return Path(os.path.realpath(folder / Path(name).expanduser()))
    except (OSError, ValueError, RuntimeError) as error:
        raise UserError(name, f"is not a valid path ({_words(error)})", expected="one that can be reached") from None


def found(path: Path) -> str:
    """Return what lies at a path: `FILE`, `FOLDER`, `NOTHING`, `a pipe`, ..., or why that cannot be found out."""
    try:
        return KINDS.get(stat.S_IFMT(path.stat().st_mode), "something that is neither file nor folder")
    except (FileNotFoundError, NotADirectoryError):
        return NOTHING
    except (OSError, ValueError) as error:
        return f"a path that leads nowhere ({_words(error)})"


def is_there(path: Path, key: Text = "") -> bool:
    """Return whether anything lies at a path.

    Raises:
        UserError: that cannot be found out; `key`, a job's key or a flag, is where the path is given.
    """
    what = found(path)
    if what in (NOTHING, *KINDS.values()):
        return what != NOTHING
    raise _wrong(key, path, f"found {what}", expected="one that can be reached")


def names_in(folder: Path, key: Text = "") -> list[str]:
    """Return the names of what lies in a folder.

    Raises:
        UserError: this user may not look into it.
    """
    try:
        return [path.name for path in folder.iterdir()]
    except OSError as error:
        raise _wrong(key, folder, f"cannot be looked into ({_words(error)})") from None


def natural(path: Path) -> list[str | int]:
    """Return what to sort paths by, so that 9 comes before 10 in a name.

    >>> sorted([Path("part-10"), Path("part-9")], key=natural)[0].name
    'part-9'
    """
    return [int(part) if part.isdecimal() else part for part in re.split(r"(\d+)", str(path))]


def check_input(path: Path, key: Text, expected: str) -> None:
    """Refuse to read anything but a file that this user may read.

    Raises:
        UserError: it is missing, a folder, a pipe, a device, or unreadable.
    """
    what = found(path)
    if what == NOTHING:
        raise UserError(key, f"no file {path}", expected=expected)
    if what == FILE and not os.access(path, os.R_OK):
        what = "a file that this user may not read"
    if what != FILE:
        raise _wrong(key, path, f"found {what}", expected=expected)


def check_place(path: Path, key: Text = "") -> None:
    """Refuse to write where something other than a file is: a folder, a device, a pipe.

    Raises:
        UserError: it is so.
    """
    what = found(path)
    if what not in (FILE, NOTHING):
        raise _wrong(key, path, f"found {what}", expected="the name of a file")


def check_target(path: Path, key: Text = "") -> None:
    """Refuse to write where no file can be: as `check_place`, and where there is no folder to put it into.

    Raises:
        UserError: it is so.
    """
    check_place(path, key)
    folder = found(path.parent)
    if folder == NOTHING:
        raise _wrong(key, path, f"there is no folder {path.parent}", remedy="create it or choose another")
    if folder != FOLDER:
        raise _wrong(key, path, f"found {folder} for the folder {path.parent}", remedy="choose another")


def check_folder(path: Path, key: Text) -> None:
    """Refuse to write into something other than a folder that this user may look into.

    Raises:
        UserError: it is so.
    """
    what = found(path)
    if what not in (FOLDER, NOTHING):
        raise _wrong(key, path, f"found {what}", expected="the name of a folder")
    if what == FOLDER:
        names_in(path, key)


def _wrong(key: Text, path: Path, found: str, expected: str = "", remedy: str = "") -> UserError:
    return UserError(key, f"{path}: {found}", expected, remedy) if key else UserError(path, found, expected, remedy)


def _words(error: Exception) -> str:
    return error.strerror if isinstance(error, OSError) and error.strerror else " ".join(str(error).split())
