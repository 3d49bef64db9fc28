"""Looks through a pickle before it is read: what would take memory or the stack of the process. Runs nothing of it."""

import pickletools
from typing import IO

DEPTH = 1000
"""Tuples within tuples: Python hashes them by a recursion in C, which ends in a crash some 100,000 deep."""
_TUPLES = {"EMPTY_TUPLE": 0, "TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}


class HostileError(ValueError):
    """A pickle that no writer of data makes."""


def refuse_hostile_pickle(data: bytes | IO[bytes], length: int | None = None) -> None:
    """Look through one pickle, to its end.

    Args:
        data: The pickle, or a stream that stands at its beginning.
        length: Of the stream.

    Raises:
        HostileError: a memo index beyond the pickle, up to which a reader would allocate memory, or tuples too deep
            within each other.
        Exception: it is no pickle.
    """
    length = len(data) if isinstance(data, bytes) else length or 0
    depths = _Depths()
    for opcode, argument, _ in pickletools.genops(data):
        if "PUT" in opcode.name and isinstance(argument, int) and argument > length:
            raise HostileError(f"memo index {argument} in a stream of {length} bytes")
        if depths.after(opcode, argument) > DEPTH:
            raise HostileError(f"tuples more than {DEPTH} deep within each other")


class _Depths:
    """How deep tuples lie within each other on a reader's stack and in its memo; other objects count 0."""

    def __init__(self) -> None:
        self._stack: list[int] = []
        self._marks: list[int] = []
        self._memo: dict[int, int] = {}

    def after(self, opcode: pickletools.OpcodeInfo, argument: object) -> int:
        """Follow one instruction; return the depth of what lies on top of the stack."""
        name = opcode.name
        if name == "MARK" or (name == "POP" and self._marks and self._marks[-1] == len(self._stack)):
            self._marks.append(len(self._stack)) if name == "MARK" else self._marks.pop()
        elif name == "MEMOIZE" or "PUT" in name:
            self._memo[len(self._memo) if argument is None else int(str(argument))] = self._stack[-1]
        elif name == "DUP":
            self._stack.append(self._stack[-1])
        elif "GET" in name:
            self._stack.append(self._memo.get(int(str(argument)), 0))
        elif name == "TUPLE" or name in _TUPLES:
            inner = self._pop(None if name == "TUPLE" else _TUPLES[name])
            self._stack.append(1 + max(inner, default=0))
        else:
            self._follow(opcode)
        return self._stack[-1] if self._stack else 0

    def _follow(self, opcode: pickletools.OpcodeInfo) -> None:
        """Follow an instruction that makes no tuple."""
        taken = opcode.stack_before
        if pickletools.markobject in taken:
            self._pop(None)
            taken = taken[: taken.index(pickletools.markobject)]
        self._pop(len(taken))
        self._stack.extend(0 for _ in opcode.stack_after)

    def _pop(self, count: int | None) -> list[int]:
        """Take so many objects off the stack; None: all down to the last mark."""
        if count is None and not self._marks:
            raise ValueError("an instruction without its mark")
        place = self._marks.pop() if count is None else len(self._stack) - (count or 0)
        if place < 0:
            raise ValueError("an instruction without its objects")
        taken, self._stack[place:] = self._stack[place:], []
        return taken
