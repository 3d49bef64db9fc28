"""One split of a data set as two tensors; knows nothing of files, MPI or jobs."""

import hashlib
from dataclasses import dataclass

import torch
from torch import Tensor

from landscape_mpi.errors import UserError


@dataclass(frozen=True, eq=False)
class Split:
    """Examples that one mean loss is taken over, in a fixed order.

    Attributes:
        name: `train` or `test`.
        inputs: One example a row: uint8 [n, 3, 32, 32] for the built-in images, any dtype for a user's data.
        targets: Class indices, int64 [n], or whatever the user's loss takes, [n, ...].
        notes: Sentences that a user should see, such as that a set is partial.

    Raises:
        UserError: If the lengths differ, or there is no example at all.
    """

    name: str
    inputs: Tensor
    targets: Tensor
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for what, tensor in (("inputs", self.inputs), ("targets", self.targets)):
            if tensor.ndim == 0 or len(tensor) == 0:
                raise UserError(
                    f"data: split '{self.name}' has {what} of shape {list(tensor.shape)}; "
                    "expected at least one example along the first dimension."
                )
        if len(self.inputs) != len(self.targets):
            raise UserError(
                f"data: split '{self.name}' has {len(self.inputs)} inputs and {len(self.targets)} targets, "
                "expected one target for each input."
            )

    def __len__(self) -> int:
        return len(self.inputs)

    def fingerprint(self) -> str:
        """Return the sha256 (hexadecimal) over dtype, shape and bytes of the inputs and the targets."""
        digest = hashlib.sha256()
        for tensor in (self.inputs, self.targets):
            digest.update(f"{tensor.dtype} {list(tensor.shape)}\n".encode())
            digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
        return digest.hexdigest()
