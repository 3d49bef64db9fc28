"""Planes whose values differ in their last digits alone, shown above the least of them; knows nothing of figures."""

from collections.abc import Sequence
from dataclasses import replace

from landscape_mpi.plot.field import Field
from landscape_mpi.plot.options import Options

TINY = 1e-5
"""A range, relative to the values, in which labels of four digits are all the same."""


def above_least(fields: Sequence[Field], options: Options) -> tuple[list[Field], Options]:
    """Return the fields with the least value of all taken off where their range is tiny, and what is asked of them.

    Nothing is taken off where a logarithm, levels or ends are asked for; what is left is drawn on a linear scale.
    """
    low = min(float(field.finite.min()) for field in fields)
    high = max(float(field.finite.max()) for field in fields)
    asked = options.log or options.levels or options.low is not None or options.high is not None
    if asked or not 0 < high - low < TINY * max(abs(low), abs(high)):
        return list(fields), options
    return [
        replace(
            field,
            values=field.values - low,
            quantity=replace(field.quantity, words=f"{field.quantity.words}\nabove {low:.15g}"),
        )
        for field in fields
    ], replace(options, log=False)
