"""Says for each operation of torch how the axes of its outputs follow from those of its inputs.

The operations are those of ATen, of which every forward pass consists: https://pytorch.org/docs/stable/torch.compiler_ir.html.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

from landscape_mpi.align.axes import Axis, Equations, fixed, size

Axes = tuple[Axis, ...]
"""The axes of a tensor, one for each dimension."""


class Values(Protocol):
    """What is known of the tensors of a forward pass."""

    equations: Equations

    def of(self, tensor: Tensor) -> Axes:
        """Return the axes of a tensor."""


Rule = Callable[[Values, Sequence[Any], Mapping[str, Any], Any], list[Axes]]
"""What is known, arguments, keyword arguments and result of an operation -> axes of each tensor of the result."""


def pointwise(values: Values, args: Sequence[Any], kwargs: Mapping[str, Any], out: Any) -> list[Axes]:
    """Relate tensors that are broadcast against each other."""
    tensors = [one for one in (*args, *kwargs.values()) if isinstance(one, Tensor)]
    shape = tuple(out.shape)
    found: list[Axis | None] = [None] * len(shape)
    for tensor in tensors:
        axes = values.of(tensor)
        for place, axis in enumerate(axes, len(shape) - len(axes)):
            if size(axis) == shape[place] and axis:
                before = found[place]
                found[place] = axis if before is None else values.equations.unify(before, axis)
    return [tuple(fixed(n) if axis is None else axis for axis, n in zip(found, shape, strict=True))]


def same(values: Values, args: Sequence[Any], _: Mapping[str, Any], __: Any) -> list[Axes]:
    """Return the axes of a tensor that is only copied or scaled along an axis."""
    return [values.of(args[0])]


def batch_norm(values: Values, args: Sequence[Any], _: Mapping[str, Any], __: Any) -> list[Axes]:
    """Relate channels to scales, shifts and running statistics."""
    axes = values.of(args[0])
    for tensor in args[1:5]:
        if isinstance(tensor, Tensor) and tensor.dim() == 1:
            values.equations.unify(axes[1], values.of(tensor)[0])
    return [axes]


def layer_norm(values: Values, args: Sequence[Any], _: Mapping[str, Any], __: Any) -> list[Axes]:
    """Relate the last axes to scales and shifts."""
    axes = values.of(args[0])
    for tensor in args[2:4]:
        if isinstance(tensor, Tensor):
            for axis, own in zip(axes[len(axes) - tensor.dim() :], values.of(tensor), strict=True):
                values.equations.unify(axis, own)
    return [axes]


def group_norm(values: Values, args: Sequence[Any], _: Mapping[str, Any], __: Any) -> list[Axes]:
    """Relate channels, cut into their groups, to scales and shifts."""
    axes, parts = values.of(args[0]), args[6]
    values.equations.split(axes[1], (parts, size(axes[1]) // parts))
    for tensor in args[1:3]:
        if isinstance(tensor, Tensor):
            values.equations.unify(axes[1], values.of(tensor)[0])
    return [axes]


def convolution(values: Values, args: Sequence[Any], _: Mapping[str, Any], out: Tensor) -> list[Axes]:
    """Relate channels to the kernels' axes; in grouped convolutions whole groups are permuted."""
    known, (inputs, weight, bias) = values.equations, args[:3]
    transposed, parts = bool(args[6]), int(args[8])
    batch, channels, *_places = values.of(inputs)
    kernel = list(values.of(weight))
    for axis in kernel[2:]:
        known.freeze(axis)
    if transposed:
        kernel[0], kernel[1] = kernel[1], kernel[0]
    for axis in values.of(inputs)[2:]:
        known.freeze(axis)
    if parts == 1:
        known.unify(channels, kernel[1])
        made = kernel[0]
    else:  # whole groups of channels are permuted
        outer, inner = known.split(channels, (parts, size(channels) // parts))
        known.freeze(inner)
        known.freeze(kernel[0] if transposed else kernel[1])
        if transposed:
            known.unify(channels, kernel[1])
            made = (*outer, *fixed(out.shape[1] // parts))
        else:
            first, second = known.split(kernel[0], (parts, size(kernel[0]) // parts))
            known.freeze(second)
            known.unify(outer, first)
            made = kernel[0]
    if isinstance(bias, Tensor):
        known.unify(made, values.of(bias)[0])
    return [(batch, made, *(fixed(n) for n in out.shape[2:]))]


def matrix_product(values: Values, args: Sequence[Any], _: Mapping[str, Any], __: Any) -> list[Axes]:
    """Relate two factors of a matrix product, the batches of `bmm` first, and what is added to it."""
    *added, one, other = (values.of(tensor) for tensor in args if isinstance(tensor, Tensor))
    known = values.equations
    batch = tuple(known.unify(a, b) for a, b in zip(one[:-2], other[:-2], strict=True))
    known.unify(one[-1], other[-2] if len(other) > 1 else other[-1])
    result = (*batch, *one[len(batch) : -1], *other[len(batch) + 1 :])
    for axes in added:
        for axis, own in zip(result[len(result) - len(axes) :], axes, strict=True):
            if size(axis) == size(own):
                known.unify(axis, own)
    return [result]


def embedding(values: Values, args: Sequence[Any], _: Mapping[str, Any], __: Any) -> list[Axes]:
    """Let the rows stay: there is one row for each token."""
    rows, columns = values.of(args[0])
    values.equations.freeze(rows)
    return [(*values.of(args[1]), columns)]


def viewed(values: Values, args: Sequence[Any], _: Mapping[str, Any], out: Tensor) -> list[Axes]:
    """Cut and join axes as the shape says."""
    whole = tuple(atom for axis in values.of(args[0]) for atom in axis)
    return [tuple(values.equations.split(whole, out.shape))]


def permute(values: Values, args: Sequence[Any], _: Mapping[str, Any], __: Any) -> list[Axes]:
    """Put the axes in their new order."""
    axes = values.of(args[0])
    return [tuple(axes[place] for place in args[1])]


def transpose(values: Values, args: Sequence[Any], _: Mapping[str, Any], __: Any) -> list[Axes]:
    """Exchange two axes."""
    axes = list(values.of(args[0]))
    if axes[1:]:
        a, b = args[1:3] if len(args) > 1 else (0, 1)
        axes[a], axes[b] = axes[b], axes[a]
    return [tuple(axes)]


def unsqueeze(values: Values, args: Sequence[Any], _: Mapping[str, Any], out: Tensor) -> list[Axes]:
    """Insert an axis of one place."""
    axes = list(values.of(args[0]))
    axes.insert(args[1] % out.dim(), ())
    return [tuple(axes)]


def squeeze(values: Values, args: Sequence[Any], _: Mapping[str, Any], __: Any) -> list[Axes]:
    """Drop axes of one place."""
    axes = values.of(args[0])
    places = args[1] if len(args) > 1 else range(len(axes))
    chosen = {place % len(axes) for place in ([places] if isinstance(places, int) else places)}
    return [tuple(axis for place, axis in enumerate(axes) if place not in chosen or args[0].shape[place] != 1)]


def expand(values: Values, args: Sequence[Any], _: Mapping[str, Any], out: Tensor) -> list[Axes]:
    """Repeat what lies along axes of one place."""
    axes = values.of(args[0])
    new = out.dim() - len(axes)
    # all places along an expanded axis hold the same
    inner = (
        axis if size(axis) == n else values.equations.fresh(n) for axis, n in zip(axes, out.shape[new:], strict=True)
    )
    return [(*(values.equations.fresh(n) for n in out.shape[:new]), *inner)]


def repeated(values: Values, args: Sequence[Any], _: Mapping[str, Any], __: Any) -> list[Axes]:
    """Repeat what lies along every axis."""
    axes, times = values.of(args[0]), args[1]
    padded = ((),) * (len(times) - len(axes)) + axes
    return [tuple((*values.equations.fresh(n), *axis) for n, axis in zip(times, padded, strict=True))]


def reduced(values: Values, args: Sequence[Any], kwargs: Mapping[str, Any], out: Any) -> list[Axes]:
    """Drop the axes over which a symmetric function is taken."""
    axes = values.of(args[0])
    results = [one for one in (out if isinstance(out, tuple | list) else (out,)) if isinstance(one, Tensor)]
    dims = next((one for one in args[1:] if isinstance(one, list | tuple)), kwargs.get("dim"))
    if dims is None and len(args) > 1 and isinstance(args[1], int) and not isinstance(args[1], bool):
        dims = [args[1]]
    gone = {place % max(len(axes), 1) for place in dims} if dims else set(range(len(axes)))
    kept = tuple(() if place in gone else axis for place, axis in enumerate(axes))
    if results[0].dim() < len(axes):
        kept = tuple(axis for place, axis in enumerate(axes) if place not in gone)
    return [kept] * len(results)


def slice_of(values: Values, args: Sequence[Any], kwargs: Mapping[str, Any], out: Tensor) -> list[Axes]:
    """Cut a range out of an axis; an axis that is cut with steps stays."""
    axes = list(values.of(args[0]))
    place = int(args[1]) if len(args) > 1 else 0
    length = args[0].shape[place]
    start, end, step = (*args[2:5], *(None,) * (5 - len(args)))[:3] if len(args) > 2 else (None, None, None)
    step = kwargs.get("step", step) or 1
    first, last, _ = slice(start, end).indices(length)
    if out.shape[place] == length:
        return [tuple(axes)]
    if step == 1 and first < last:
        axes[place] = values.equations.cut(axes[place], (first, last - first, length - last))[1]
    else:
        values.equations.freeze(axes[place])
        axes[place] = fixed(out.shape[place])
    return [tuple(axes)]


def selected(values: Values, args: Sequence[Any], _: Mapping[str, Any], __: Any) -> list[Axes]:
    """Freeze the axis from which one place is taken."""
    axes = list(values.of(args[0]))
    values.equations.freeze(axes.pop(args[1]))
    return [tuple(axes)]


def unbind(values: Values, args: Sequence[Any], _: Mapping[str, Any], out: Sequence[Tensor]) -> list[Axes]:
    """Freeze the axis whose places become separate tensors."""
    return selected(values, (args[0], args[1] if len(args) > 1 else 0), _, out) * len(out)


def pieces(values: Values, args: Sequence[Any], _: Mapping[str, Any], out: Sequence[Tensor]) -> list[Axes]:
    """Cut an axis into consecutive ranges."""
    axes = values.of(args[0])
    place = (args[2] if len(args) > 2 else 0) % len(axes)
    lengths = [one.shape[place] for one in out]
    return [(*axes[:place], one, *axes[place + 1 :]) for one in values.equations.cut(axes[place], lengths)]


def glu(values: Values, args: Sequence[Any], _: Mapping[str, Any], out: Tensor) -> list[Axes]:
    """Relate the two halves of an axis, of which one gates the other."""
    axes = list(values.of(args[0]))
    place = args[1] if len(args) > 1 else -1
    halves = values.equations.cut(axes[place], (out.shape[place],) * 2)
    axes[place] = values.equations.unify(*halves)
    return [tuple(axes)]


def joined(values: Values, args: Sequence[Any], _: Mapping[str, Any], out: Tensor) -> list[Axes]:
    """Put axes one after the other."""
    parts = [values.of(one) for one in args[0] if one.dim() == out.dim()]
    place = (args[1] if len(args) > 1 else 0) % out.dim()
    found = list(parts[0])
    for axes in parts[1:]:
        for other in range(out.dim()):
            if other != place:
                found[other] = values.equations.unify(found[other], axes[other])
    found[place] = values.equations.chain([axes[place] for axes in parts])
    return [tuple(found)]


def stack(values: Values, args: Sequence[Any], _: Mapping[str, Any], out: Tensor) -> list[Axes]:
    """Relate tensors along all their axes."""
    first, *others = (values.of(one) for one in args[0])
    found = list(first)
    for axes in others:
        found = [values.equations.unify(a, b) for a, b in zip(found, axes, strict=True)]
    found.insert((args[1] if len(args) > 1 else 0) % out.dim(), fixed(len(args[0])))
    return [tuple(found)]


def padded(values: Values, args: Sequence[Any], _: Mapping[str, Any], out: Tensor) -> list[Axes]:
    """Put places that hold a constant around an axis."""
    axes, widths, known = list(values.of(args[0])), args[1], values.equations
    for number in range(len(widths) // 2):
        before, after = widths[2 * number : 2 * number + 2]
        place = len(axes) - 1 - number
        if before < 0 or after < 0:
            known.freeze(axes[place])
            axes[place] = fixed(out.shape[place])
        elif before or after:  # the padding holds the same everywhere
            axes[place] = known.chain([known.fresh(before), axes[place], known.fresh(after)])
    return [tuple(axes)]


def of_channels(spatial: int) -> Rule:
    """Return the rule of operations that treat every channel by itself, along the last dimensions."""

    def rule(values: Values, args: Sequence[Any], _: Mapping[str, Any], out: Any) -> list[Axes]:
        results = out if isinstance(out, tuple | list) else (out,)
        axes = values.of(args[0])
        for axis in axes[len(axes) - spatial :]:
            values.equations.freeze(axis)
        kept = axes[: len(axes) - spatial]
        return [(*kept, *(fixed(n) for n in one.shape[len(kept) :])) for one in results]

    return rule


def in_order(values: Values, args: Sequence[Any], _: Mapping[str, Any], __: Any) -> list[Axes]:
    """Freeze the axes along which the order of places matters."""
    axes = values.of(args[0])
    places = args[1] if len(args) > 1 and isinstance(args[1], list | tuple) else args[1:2]
    for place in places:
        values.equations.freeze(axes[place])
    return [values.of(args[0])]


def triangle(values: Values, args: Sequence[Any], kwargs: Mapping[str, Any], out: Tensor) -> list[Axes]:
    """Freeze the last two axes: the places on one side of their diagonal are kept."""
    return in_order(values, (args[0], (-2, -1)), kwargs, out)


def indexed(values: Values, args: Sequence[Any], _: Mapping[str, Any], out: Tensor) -> list[Axes]:
    """Relate x[:, i]: the indexed axis stays; if several axes are indexed, all axes stay."""
    axes, chosen = values.of(args[0]), [place for place, one in enumerate(args[1]) if one is not None]
    if len(chosen) != 1:
        for axis in axes:
            values.equations.freeze(axis)
        return [tuple(map(fixed, out.shape))]
    (place,) = chosen
    values.equations.freeze(axes[place])
    return [(*axes[:place], *values.of(args[1][place]), *axes[place + 1 :])]


def constant(values: Values, _: Sequence[Any], __: Mapping[str, Any], out: Tensor) -> list[Axes]:
    """Begin a group along every axis of a tensor that is the same everywhere."""
    return [tuple(map(values.equations.fresh, out.shape))]


CONSTANTS = frozenset(
    f"{prefix}{name}{suffix}"
    for name in ("zeros", "ones", "full", "empty")
    for prefix, suffix in (("", ""), ("new_", ""), ("", "_like"))
)
"""Operations whose result holds the same number everywhere, or nothing yet, whatever is permuted."""
BEGINNINGS = CONSTANTS | {"expand", "repeat"}
"""Operations that return axes along which every place holds the same, even for tensors all of whose places stay."""
RULES: dict[str, Rule] = {
    **dict.fromkeys(("alias", "detach", "_to_copy", "lift_fresh", "contiguous"), same),
    **dict.fromkeys(("_softmax", "_safe_softmax", "_log_softmax", "softmax", "log_softmax"), same),
    **dict.fromkeys(("native_batch_norm", "_native_batch_norm_legit_no_training"), batch_norm),
    **dict.fromkeys(("native_layer_norm", "_fused_rms_norm"), layer_norm),
    "native_group_norm": group_norm,
    "convolution": convolution,
    **dict.fromkeys(("mm", "addmm", "bmm", "baddbmm", "mv", "addmv", "dot"), matrix_product),
    "embedding": embedding,
    **dict.fromkeys(("view", "_unsafe_view", "reshape", "_reshape_alias"), viewed),
    "permute": permute,
    **dict.fromkeys(("transpose", "t"), transpose),
    "unsqueeze": unsqueeze,
    "squeeze": squeeze,
    "expand": expand,
    "repeat": repeated,
    **dict.fromkeys(("mean", "sum", "amax", "amin", "var", "std", "linalg_vector_norm"), reduced),
    **dict.fromkeys(("var_mean", "logsumexp", "any", "all"), reduced),
    "slice": slice_of,
    "select": selected,
    "unbind": unbind,
    **dict.fromkeys(("split", "split_with_sizes"), pieces),
    "glu": glu,
    "cat": joined,
    "stack": stack,
    "constant_pad_nd": padded,
    **dict.fromkeys(("avg_pool1d", "adaptive_avg_pool1d"), of_channels(1)),
    **dict.fromkeys(("max_pool2d_with_indices", "avg_pool2d", "_adaptive_avg_pool2d"), of_channels(2)),
    **dict.fromkeys(("adaptive_max_pool2d", "upsample_nearest2d", "upsample_bilinear2d"), of_channels(2)),
    **dict.fromkeys(("max_pool3d_with_indices", "avg_pool3d", "_adaptive_avg_pool3d"), of_channels(3)),
    **dict.fromkeys(("reflection_pad1d", "replication_pad1d"), of_channels(1)),
    **dict.fromkeys(("reflection_pad2d", "replication_pad2d"), of_channels(2)),
    **dict.fromkeys(("reflection_pad3d", "replication_pad3d"), of_channels(3)),
    **dict.fromkeys(("flip", "cumsum"), in_order),
    **dict.fromkeys(("tril", "triu"), triangle),
    "index": indexed,
    "_weight_norm_interface": lambda values, args, _, out: [
        *pointwise(values, args[:2], {}, out[0]),
        values.of(args[1]),
    ],
    **dict.fromkeys(("copy_", "fill_", "zero_", "hardswish_", "hardsigmoid_"), pointwise),
    **dict.fromkeys(CONSTANTS, constant),
}
"""Rules by the name of an operation in ATen; operations that torch marks as pointwise have the rule `pointwise`."""


def rule_of(operation: Any) -> Rule | None:
    """Return the rule of an operation; None where there is none."""
    name = str(operation.overloadpacket.__name__)
    in_place = name.endswith("_") and name[:-1] not in RULES
    if torch.Tag.pointwise in operation.tags and (in_place or not operation._schema.is_mutable) and name not in RULES:
        return pointwise
    return RULES.get(name) if operation.namespace == "aten" else None
