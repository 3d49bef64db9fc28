"""Reads text files as windows of tokens, by the tokenizer that lies beside a language model; it reads data only.

The tokens are a function of the text and of `tokenizer.json` alone: one thread takes piece after piece of the text.
"""

import glob
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from landscape_mpi.errors import UserError
from landscape_mpi.files.paths import FILE, FOLDER, check_input, found, natural
from landscape_mpi.job.schema import SPLIT

if TYPE_CHECKING:
    from tokenizers import Tokenizer

BETWEEN = "\n\n"
"""A blank line, which stands between two files."""
LARGEST_TEXT, LARGEST_TOKENIZER = 100_000_000, 200_000_000
"""Bytes of all files of a split, and of a tokenizer.json; those of Gemma and Llama have 10 to 35 MB."""
PIECE, CONTEXT = 100_000, 2_000
"""Characters that are tokenised at one time, some 150 bytes of memory each, and characters of text on both sides."""
Tokens = NDArray[np.int64]


@dataclass(frozen=True)
class TextOptions:
    """The `data.options` of text.

    Attributes:
        tokenizer: The folder that holds `tokenizer.json`, or that file; absolute.
        length: Tokens of a window.
        stride: From the start of one window to that of the next, in tokens of the text; None: the windows follow each
            other.
        special: Whether each window gets the special tokens that the tokenizer puts around a text, within its length.

    Raises:
        UserError: A value out of its range.
    """

    tokenizer: str
    length: int = 512
    stride: int | None = None
    special: bool = False

    def __post_init__(self) -> None:
        for name, value, least in (("length", self.length, 2), ("stride", self.stride, 1)):
            if value is not None and (type(value) is not int or value < least):
                raise _wrong_option(name, value, f"a whole number >= {least}")
        if type(self.special) is not bool:
            raise _wrong_option("special", self.special, "true or false")
        if not isinstance(self.tokenizer, str):
            raise _wrong_option("tokenizer", self.tokenizer, "the folder that holds tokenizer.json")

    @classmethod
    def from_mapping(cls, options: Mapping[str, Any]) -> "TextOptions":
        """Return the options of a job.

        Raises:
            UserError: An unknown option, no tokenizer, or a value out of its range.
        """
        known = [field.name for field in fields(cls)]
        for name in options:
            if name not in known:
                raise UserError(f"data.options.{name}", "found no such option", expected=f"one of {', '.join(known)}")
        if "tokenizer" not in options:
            raise UserError(
                "data.options.tokenizer", "the key is missing", remedy="text needs the folder that holds tokenizer.json"
            )
        return cls(**options)


def read_text(root: Path, split: str, options: TextOptions, limit: int | None = None) -> tuple[Tokens, tuple[str, ...]]:
    """Return the first windows of a split's text, int64 [n, length], and notes on what is left out.

    Args:
        root: A file, or a pattern of names (`*`, `?`, `[0-9]`, `**` for folders); `{split}` in it stands for the split.
        split: `train` or `test`.
        options: The tokenizer, and how windows are cut.
        limit: The largest number of windows; None for all of them.

    Raises:
        UserError: There is no such file or no whole window, or something is damaged, too large or not UTF-8.
    """
    tokenizer = _tokenizer(Path(options.tokenizer))
    text = _text(_files(root, split), split)
    before, after = _special_tokens(tokenizer, text[:PIECE]) if options.special else ([], [])
    own = options.length - len(before) - len(after)
    if own < 1:
        raise _wrong_option("length", options.length, f"more than the {len(before) + len(after)} special tokens")
    stride = options.stride or own
    wanted = None if limit is None else (limit - 1) * stride + own
    tokens = _tokens(tokenizer, text, wanted)
    if len(tokens) < own:
        raise UserError(
            "data.root",
            f"the text of the {split} split has {len(tokens):,} tokens",
            expected=f"at least the {own:,} of one window",
            remedy="take more text, or a smaller data.options.length",
        )
    parts = np.lib.stride_tricks.sliding_window_view(tokens, own)[::stride][:limit]
    ends = [np.broadcast_to(np.array(ids, np.int64), (len(parts), len(ids))) for ids in (before, after)]
    windows = np.concatenate([ends[0], parts, ends[1]], axis=1)
    left = len(tokens) - (len(parts) - 1) * stride - own
    if left == 0 or len(parts) == limit:
        return windows, ()
    of = f"{left:,} of {len(tokens):,} tokens"
    return windows, (f"{split}: the last {of} fill no window of {options.length:,} and are left out.",)


def _files(root: Path, split: str) -> list[Path]:
    """Return the files that a root names, in an order in which 9 comes before 10.

    Raises:
        UserError: There is none.
    """
    name, example = str(root).replace(SPLIT, split), 'a text file, or a pattern such as "texts/*.txt"'
    what = found(Path(name))
    if what == FOLDER:
        raise UserError("data.root", f"found the folder {name}", expected=example)
    paths = [Path(name)] if what == FILE else map(Path, glob.glob(name, recursive=True))  # noqa: PTH207 - absolute
    files = sorted((path for path in paths if found(path) == FILE), key=natural)
    if not files:
        raise UserError("data.root", f"no file {name} for the {split} split", expected=example)
    return files


def _text(paths: Sequence[Path], split: str) -> str:
    """Return the text of all files, a blank line between two of them.

    Raises:
        UserError: They are not UTF-8, or too large.
    """
    for path in paths:
        check_input(path, "data.root", "a text file")
    size = sum(path.stat().st_size for path in paths)
    if size > LARGEST_TEXT:
        raise UserError(
            "data.root",
            f"the files of the {split} split have {size:,} bytes",
            expected=f"at most {LARGEST_TEXT:,}",
            remedy="a landscape evaluates its text at every point, so take a part of it",
        )
    return BETWEEN.join(map(_read, paths))


def _read(path: Path) -> str:
    try:
        return path.read_bytes().decode("utf-8-sig")  # it drops the byte order mark that some editors write
    except OSError as error:
        raise UserError("data.root", f"{path} cannot be read ({error.strerror})", expected="a text file") from None
    except UnicodeDecodeError as error:
        where = f"{path} is not UTF-8 text, from byte {error.start:,} on"
        raise UserError("data.root", where, expected="UTF-8", remedy="convert it: iconv -t UTF-8") from None


def _tokenizer(place: Path) -> "Tokenizer":
    """Return the tokenizer of a folder or file, which cuts nothing off, pads nothing and draws no random numbers.

    Raises:
        UserError: There is none, it is damaged, or the package is not installed.
    """
    try:
        from tokenizers import Tokenizer
    except ImportError:
        raise UserError(
            "data.build",
            "found text, and the package tokenizers is not installed",
            remedy="install it with: pip install 'tokenizers>=0.20' (it is the extra `text` of this package)",
        ) from None
    key, expected = "data.options.tokenizer", "the tokenizer.json that a tokenizer's save_pretrained writes"
    path = place / "tokenizer.json" if found(place) == FOLDER else place
    check_input(path, key, expected)
    if path.stat().st_size > LARGEST_TOKENIZER:
        raise UserError(key, f"{path} has {path.stat().st_size:,} bytes", expected=f"at most {LARGEST_TOKENIZER:,}")
    try:
        made = Tokenizer.from_str(path.read_text(encoding="utf-8"))
        made.no_truncation()
        made.no_padding()
        if getattr(made.model, "dropout", None) is not None:
            made.model.dropout = None  # it leaves out merges at random, for training
    except BaseException as error:
        raise _told(error, f"{path} is no tokenizer", expected) from None
    return made


def _special_tokens(tokenizer: "Tokenizer", text: str) -> tuple[list[int], list[int]]:
    """Return the tokens that the tokenizer puts before and after a text.

    Raises:
        UserError: It cannot tokenise the text.
    """
    plain, whole = (_encode(tokenizer, text, special=special)[0].tolist() for special in (False, True))
    more = len(whole) - len(plain)
    first = next((i for i in range(more + 1) if whole[i : i + len(plain)] == plain), more)
    return whole[:first], whole[first + len(plain) :]


def _tokens(tokenizer: "Tokenizer", text: str, wanted: int | None) -> Tokens:
    """Return the tokens of a text, int64, or somewhat more than the first `wanted` of them.

    The text is taken in pieces, each with the text on both sides of it. The tokens of the text on both sides are
    dropped. The other tokens are those of the whole text wherever no token depends on characters further away.

    Raises:
        UserError: The tokenizer does not know a piece of the text.
    """

    def pieces() -> Iterator[Tokens]:
        count = 0
        for start in range(0, len(text), PIECE):
            first, stop = max(0, start - CONTEXT), start + PIECE
            ids, places = _encode(tokenizer, text[first : stop + CONTEXT])
            mine = ids[(places >= start - first) & (places < stop - first)]
            yield mine
            count += len(mine)
            if wanted is not None and count >= wanted:
                return

    return np.concatenate([np.zeros(0, np.int64), *pieces()])


def _encode(tokenizer: "Tokenizer", text: str, *, special: bool = False) -> tuple[Tokens, Tokens]:
    """Return the tokens of a text, and at which of its characters each begins.

    Raises:
        UserError: The tokenizer does not know a piece of the text.
    """
    try:
        encoding = tokenizer.encode(text, add_special_tokens=special)
    except BaseException as error:
        raise _told(error, "it cannot split the text into tokens", "the tokenizer of the network") from None
    return np.array(encoding.ids, np.int64), np.array([start for start, _ in encoding.offsets], np.int64)


def _told(error: BaseException, what: str, expected: str) -> UserError:
    """Return the error that a user sees for a failure of the tokenizers library.

    Raises:
        BaseException: It is another error, such as that of a signal; the library's own panics are no Exceptions.
    """
    if isinstance(error, MemoryError) or not (isinstance(error, Exception) or type(error).__name__ == "PanicException"):
        raise error
    words = " ".join(str(error).split())
    return UserError("data.options.tokenizer", f"{what} ({words[:200]})", expected)


def _wrong_option(name: str, value: object, expected: str) -> UserError:
    return UserError(f"data.options.{name}", f"found {value!r} for text", expected=expected)
