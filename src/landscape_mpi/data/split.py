"""One split of a data set as rows of inputs and of targets; knows nothing of files, MPI or jobs."""

import hashlib
from dataclasses import dataclass

import torch

from landscape_mpi.data.rows import Rows, count, tensors
from landscape_mpi.errors import UserError


@dataclass(frozen=True, eq=False)
class Split:
    """Examples that one mean loss is taken over, in a fixed order.

    Attributes:
        name: `train` or `test`.
        inputs: One example a row: uint8 [n, 3, 32, 32] for the built-in images, any dtype for a user's data, or
            several tensors by name, which reach the network as keyword arguments.
        targets: Class indices, int64 [n], or whatever the user's loss takes, [n, ...], also several by name.
        notes: Sentences that a user should see, such as that a set is partial.

    Raises:
        UserError: If the lengths differ, or there is no example at all.
    """

    name: str
    inputs: Rows
    targets: Rows
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for what, rows in (("inputs", self.inputs), ("targets", self.targets)):
            self._check(what, rows)
        if count(self.inputs) != count(self.targets):
            raise UserError(
                "data",
                (
                    f"split '{self.name}' has {count(self.inputs)} inputs and {count(self.targets)} targets, expected "
                    "one target for each input"
                ),
            )

    def __len__(self) -> int:
        return count(self.targets)

    def _check(self, what: str, rows: Rows) -> None:
        """Refuse rows without an example, or of different lengths."""
        for name, tensor in tensors(rows).items():
            called = f"{what} {name!r}" if name else what
            if tensor.ndim == 0 or len(tensor) == 0:
                raise UserError(
                    "data",
                    f"split '{self.name}' has {called} of shape {list(tensor.shape)}",
                    expected="at least one example along the first dimension",
                )
            if len(tensor) != count(rows):
                raise UserError(
                    "data",
                    f"split '{self.name}' has {len(tensor)} {called}, but {count(rows)} of the first",
                    expected="one row of each for every example",
                )
        if not tensors(rows):
            raise UserError("data", f"split '{self.name}' has no {what} at all", expected="at least one tensor")

    def fingerprint(self) -> str:
        """Return the sha256 (hexadecimal) over name, dtype, shape and bytes of the inputs and the targets."""
        digest = hashlib.sha256()
        named = [pair for rows in (self.inputs, self.targets) for pair in tensors(rows).items()]
        for name, tensor in named:
            digest.update(f"{name}{tensor.dtype} {list(tensor.shape)}\n".encode())
            digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
        return digest.hexdigest()
