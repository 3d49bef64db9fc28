"""A job's `model.build` and `model.options` -> a network; knows no checkpoint and no data."""

import difflib
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from torch import nn

from landscape_mpi.errors import UserError
from landscape_mpi.networks.densenet import densenet121
from landscape_mpi.networks.resnet import resnet, wide_resnet
from landscape_mpi.networks.vgg import vgg9
from landscape_mpi.plugin import check_options, is_plugin, load_plugin, own_code, with_options

ZOO: Mapping[str, Callable[..., nn.Module]] = {
    **{f"resnet{depth}": partial(resnet, depth) for depth in (20, 32, 44, 56, 110)},
    **{f"wrn56_{k}": partial(wide_resnet, 56, k) for k in (1, 2, 4, 8)},
    "vgg9": vgg9,
    "densenet121": densenet121,
}


def build_network(build: str, options: Mapping[str, Any], folder: Path) -> nn.Module:
    """Return the network that the job names, in the mode and with whatever weights its callable gives it.

    Args:
        build: a name of the zoo, or `package.module:callable`.
        options: keyword arguments of that callable.
        folder: where the job file lies; modules are looked for there too.

    Raises:
        UserError: the name is unknown, an option is refused, or the callable returns no `nn.Module`.
    """
    network = _call(_builder(build, folder), build, options)
    if not isinstance(network, nn.Module):
        raise UserError("model.build", f"{build!r} returned {type(network).__name__}", expected="a torch.nn.Module")
    return network


def _builder(build: str, folder: Path) -> Callable[..., Any]:
    if is_plugin(build):
        return load_plugin("model.build", build, folder)
    if build in ZOO:
        return ZOO[build]
    near = difflib.get_close_matches(build, ZOO, n=1)
    hint = f" (did you mean `{near[0]}`?)" if near else ""
    raise UserError("model.build", f"found {build!r}{hint}", expected=f"{', '.join(ZOO)} or `package.module:callable`")


def _call(builder: Callable[..., Any], build: str, options: Mapping[str, Any]) -> object:
    check_options("model.options", build, builder, options)
    with own_code("model.build", build, lambda: with_options(options)):
        return builder(**options)
