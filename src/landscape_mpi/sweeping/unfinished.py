"""Keeps the products with the Hessian of points that are not done yet, so that a kill costs one product of each.

The folder `surface.h5.products` holds the files of such points. They are removed as soon as their point is in the
surface. A search that goes on is the same search: the products that it asks for first are read instead of computed, and
have the same bits.
"""

import hashlib
import logging
import re
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from landscape_mpi.curvature import Product
from landscape_mpi.errors import UserError
from landscape_mpi.evaluate import Point
from landscape_mpi.log import say
from landscape_mpi.surface.journal import Format, RecordFile, read_records

WORTH = 30.0
"""The products of a search are kept if its first product forecasts at least this many seconds for it."""
LARGEST = 1 << 32
"""A record has fewer bytes than this."""
PRODUCTS = Format(b"landscape_mpi products 1\n", lambda payload: len(payload) % 8 == 0)
NAME = re.compile(r"point-\d+\.[0-9a-f]{8}\.[a-z0-9-]+\.products")


@dataclass(frozen=True)
class Unfinished:
    """Where the products of the points of a surface are kept until the points are done.

    Attributes:
        folder: `surface.h5.products`.
        identity: 32 bytes that fix every product beside its point: what others have left is not read.
    """

    folder: Path
    identity: bytes

    def of(self, number: int, point: Point) -> "PointWork":
        """Return what is kept of a point, by its number in the grid, row by row."""
        mark = hashlib.sha256(self.identity + np.asarray(point, "<f8").tobytes()).digest()
        return PointWork(self.folder / f"point-{number}", mark)

    def forget(self, number: int | None = None) -> None:
        """Remove what is kept of a point, or of all, and the folder where nothing is left."""
        with suppress(OSError):
            for path in list(self.folder.glob("point-*" if number is None else f"point-{number}.*")):
                if NAME.fullmatch(path.name):
                    path.unlink(missing_ok=True)
            self.folder.rmdir()


@dataclass(frozen=True)
class PointWork:
    """The products of one point, in files of its own.

    Attributes:
        place: The beginning of the files' names.
        mark: 32 bytes that they begin with.
    """

    place: Path
    mark: bytes

    @contextmanager
    def kept(self, part: str, product: Product, most: int) -> Iterator[Product]:
        """Give a product that reads what an earlier run has found, in the order in which it is asked for.

        Args:
            part: Which search, in small letters.
            product: What to compute anew; it is kept where the search takes long, or was begun before.
            most: How many to keep; what a search asks for after them is lost with the process.
        """
        path, count = self._file(part), 0
        known = read_records(path, PRODUCTS, self.mark)
        with ExitStack() as stack:
            files = list[RecordFile]()

            def ours(vector: Tensor) -> Tensor:
                nonlocal count
                count += 1
                if (payload := next(known, None)) is not None:
                    return _tensor(payload).to(vector.device)
                began = time.monotonic()
                found = product(vector)
                long = (time.monotonic() - began) * most >= WORTH and 8 * len(found) < LARGEST
                with _forgone(path):
                    if not files and (path.exists() or (count == 1 and long)):
                        files.append(stack.enter_context(RecordFile(path, PRODUCTS, self.mark)))
                    if files and count <= most:
                        files[0].append(_bytes(found))
                return found

            yield ours

    def result(self, part: str) -> Tensor | None:
        """Return the numbers that a part has come to, float64 [n], on the CPU; None where it has not."""
        payload = next(read_records(self._file(f"{part}-done"), PRODUCTS, self.mark), None)
        return None if payload is None else _tensor(payload)

    def finish(self, part: str, numbers: Tensor) -> None:
        """Keep the numbers that a part has come to, float64 [n], in place of its products, where these were kept."""
        path, products = self._file(f"{part}-done"), self._file(part)
        if not products.exists():
            return
        with _forgone(path):
            with RecordFile(path, PRODUCTS, self.mark) as file:
                file.append(_bytes(numbers))
            products.unlink(missing_ok=True)

    def _file(self, part: str) -> Path:
        return self.place.with_name(f"{self.place.name}.{self.mark[:4].hex()}.{part}.products")


@contextmanager
def _forgone(path: Path) -> Iterator[None]:
    """Go on without a file that cannot be written, and say so: only a killed process would need it."""
    try:
        yield
    except UserError as error:
        say(f"note: products are not kept until their point is done: {error}", logging.WARNING)
        with suppress(OSError):
            path.unlink(missing_ok=True)


def _tensor(payload: bytes) -> Tensor:
    return torch.from_numpy(np.frombuffer(payload, "<f8").astype(np.float64))


def _bytes(numbers: Tensor) -> bytes:
    return numbers.cpu().numpy().astype("<f8").tobytes()
