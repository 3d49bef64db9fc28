"""Checks the objects that a call gives (network, data, loss, directions), and copies them for the sweep."""

import hashlib
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from landscape_mpi.data import Split, load_split
from landscape_mpi.errors import UserError
from landscape_mpi.evaluate import OURS, Loss, as_classes, is_classes, with_loss_options
from landscape_mpi.evaluate.streamable import has_own_modes
from landscape_mpi.files.paths import absolute
from landscape_mpi.job import JobFile, SweepJob
from landscape_mpi.metrics.base import Metric
from landscape_mpi.metrics.own import load as load_metrics
from landscape_mpi.mpi.world import World, together
from landscape_mpi.networks import load_checkpoint, load_state
from landscape_mpi.networks.checkpoint import fit_state
from landscape_mpi.networks.state import duplicate
from landscape_mpi.plane import Parameters, Plane, feed, fit_direction
from landscape_mpi.plane.parameters import real, single, standing
from landscape_mpi.sweeping.large import Opened, take_large
from landscape_mpi.sweeping.once import share_parameters, share_tensors
from landscape_mpi.sweeping.theta import Theta, end_of, load_end, plain_arrays

DIRECTIONS, SPLITS = ("delta", "eta", "zeta"), ("train", "test")
_ADDRESS = re.compile(r" at 0x[0-9a-f]+")
States = Mapping[str, Parameters]


@dataclass(frozen=True)
class Given:
    """A network, data, a loss and, where they are given, directions; a `Source` of a sweep.

    Attributes:
        model: the caller's network, which stays as it is.
        data: the data by the names of the splits, as `data.build` of a job may return them.
        losses: the loss.
        ends: state dicts that `plane.to` and `plane.via` stand for, by key.
        networks: the networks that these state dicts belong to, by key, where networks were given.
        directions: delta, eta, ..., one for each axis; parameters that they do not name stay.
        functions: callables among the metrics, by their names in the job.
        weights: rank 0's tensors, which count instead of those of the network's state dict; None for its own.
    """

    model: nn.Module
    data: Mapping[str, Any]
    losses: Loss
    ends: States = field(default_factory=dict)
    networks: Mapping[str, nn.Module] = field(default_factory=dict)
    directions: tuple[Parameters, ...] = ()
    functions: Mapping[str, Callable[..., Any]] = field(default_factory=dict)
    weights: Parameters | None = None
    _splits: dict[str, Split] = field(default_factory=dict)

    def shared(self, world: World) -> "Given":
        """Return the same with rank 0's weights, ends and directions on every rank; collective.

        Raises:
            UserError: on every rank, where a rank has another network or other directions.
        """
        if world.size == 1:
            return self
        weights = _of_root(world, self.tensors, "model")
        ends = {key: _of_root(world, state, key) for key, state in self.ends.items()}
        directions = tuple(_of_root(world, direction, "plane") for direction in self.directions)
        return replace(self, weights=weights, ends=ends, directions=directions)

    @property
    def tensors(self) -> Parameters:
        """The tensors that count, by their names in the network's state dict: its own, or rank 0's."""
        return _tensors(self.model.state_dict()) if self.weights is None else self.weights

    def fingerprint(self) -> str:
        """Return the SHA-256 of the network's modules and tensors."""
        digest = hashlib.sha256(_ADDRESS.sub("", repr(self.model)).encode())
        feed(digest, self.tensors)
        return digest.hexdigest()

    def network(self) -> tuple[nn.Module, str]:
        """Return a copy of the network on the CPU, in the mode that it is in, and its fingerprint."""
        network = duplicate(self.model).cpu()
        if self.weights is not None:
            network.load_state_dict(self.weights, strict=False)
        return network, self.fingerprint()

    def large(self, job: SweepJob, world: World, group: int | None = None) -> Opened | None:  # noqa: ARG002 - of commands
        """Return the network without memory and its tensors as theta*, where copies would take much; collective."""
        return take_large(self.model, self.tensors, self.fingerprint, job, world)

    def end(self, theta: Theta, key: str, name: str) -> nn.Module:
        """Return a copy of the network at an end, or of the network with the end's state dict loaded."""
        network = duplicate(self.networks[key]).cpu().train() if key in self.networks else duplicate(theta.origin)
        if key in self.ends:
            load_state(network, self.ends[key], key)
        else:
            load_checkpoint(network, absolute(name, Path()), key)
        return network

    def end_state(self, theta: Theta, key: str, name: str) -> Parameters:
        """Return the tensors of a state dict that was given, or of a checkpoint."""
        if key not in self.ends:
            return load_end(theta, absolute(name, Path()), key)
        if theta.is_large:
            found = fit_state(theta.origin, self.ends[key], key)
            for text in found.notes:
                theta.note(text)
            return found.state

        def load(network: nn.Module) -> None:
            for text in load_state(network, self.ends[key], key):
                theta.note(text)

        return end_of(theta, load)

    def split(self, name: str) -> Split:
        """Return a split of the data.

        Raises:
            UserError: there is no such split, or the data are not what they should be.
        """
        if name not in self.data:
            raise UserError(
                "data", f"there is no {name} split, which this needs", remedy=f"found {', '.join(self.data)}"
            )
        if name not in self._splits:
            found = self.data[name]
            self._splits[name] = load_split("what was given", None, name, {}, None, lambda _root, _name: found)
        return self._splits[name]

    def loss(self) -> Loss:
        """Return the loss."""
        return self.losses

    def metrics(self, job: JobFile[SweepJob]) -> tuple[Metric, ...]:
        """Return the metrics that were given as callables, and import those that were named."""
        return load_metrics(job.values.metrics, job.path.parent, self.functions)

    @property
    def classified(self) -> bool:
        """Whether the targets of every split are classes."""
        targets = (self.split(name).targets for name in self.data)
        return all(isinstance(one, Tensor) and is_classes(as_classes(one)) for one in targets)

    def plane(self, theta: Theta, job: SweepJob) -> Plane | None:
        """Return the plane along the directions; None where there are none.

        Raises:
            UserError: they do not fit the network.
        """
        if self.directions and job.evaluate.batchnorm == "move":
            raise UserError(
                "evaluate.batchnorm", "found move, and the directions given have none for running statistics"
            )
        if self.directions:
            if job.axes > len(self.directions):
                few = f"{len(self.directions)} direction{'' if len(self.directions) == 1 else 's'}"
                raise UserError("grid", f"found {job.axes} axes for {few}", expected="a direction for each axis")
            named = zip(DIRECTIONS, self.directions[: job.axes], strict=False)
            return Plane.along(theta.parameters, [_fitted(name, direction, theta) for name, direction in named])
        return None


def network_of(model: object) -> nn.Module:
    """Return a network.

    Raises:
        UserError: `model` is no network, or one of its tensors is no plain array.
    """
    if not isinstance(model, nn.Module):
        raise UserError("model", f"found a {type(model).__name__}", expected="a torch.nn.Module")
    return plain_arrays(model)


def splits_of(data: object) -> dict[str, Any]:
    """Return a call's data by the names of the splits; a pair or a Dataset alone is the train split.

    Raises:
        UserError: there is no split, or a split has another name.
    """
    splits = dict(data) if isinstance(data, Mapping) else {"train": data}
    if not splits or not set(splits) <= set(SPLITS):
        raise UserError(
            "data",
            f"found a mapping of {', '.join(map(repr, splits)) or 'nothing'}",
            expected='(inputs, targets), a Dataset, or a mapping of "train" and "test" to these',
        )
    for name, found in splits.items():
        if isinstance(found, DataLoader):
            raise UserError("data", f"found a DataLoader for the {name} split", expected="its data set: loader.dataset")
    return splits


def loss_of(loss: object, options: Mapping[str, Any]) -> Loss:
    """Return a built-in loss by its name, or the loss that was given, with keyword arguments.

    Raises:
        UserError: it is no name of a built-in loss, cannot be called, or takes no such options.
    """
    if isinstance(loss, str) and loss in OURS:
        return with_loss_options(loss, OURS[loss], options)
    if isinstance(loss, str) or not callable(loss):
        raise UserError(
            "loss",
            f"found {loss!r}",
            expected=f"{', '.join(OURS)}, or a callable (outputs, targets) -> one loss per example",
        )
    return with_loss_options("the loss", loss, options)


def functions_of(metrics: object) -> dict[str, Callable[..., Any]]:
    """Return the callables among a call's metrics by their names in the job: `module:name`.

    Raises:
        UserError: two of them have the same name.
    """
    if metrics is not None and (isinstance(metrics, str | Mapping) or not isinstance(metrics, Iterable)):
        raise UserError("metrics", f"found {metrics!r}", expected="a list of names and callables")
    found: dict[str, Callable[..., Any]] = {}
    for metric in metrics or ():
        if callable(metric) and not isinstance(metric, str):
            name = metric_name(metric)
            if name in found:
                raise UserError("metrics", f"found two callables {name}", expected="names of their own")
            found[name] = metric
    return found


def metric_name(metric: object) -> str:
    """Return the name of a metric in a job: a name stays, a callable is `module:name` without what it is nested in."""
    if isinstance(metric, str) or not callable(metric):
        return metric  # type: ignore[return-value]  # the job refuses what is no name
    module, _, name = name_of(metric).partition(":")
    return f"{module}:{name.rpartition('.')[2]}"


def directions_of(plane: object) -> tuple[Parameters, ...]:
    """Return delta, eta, ... where a call gives tensors for its plane; else nothing.

    Raises:
        UserError: it is no plane at all.
    """
    if plane is None or isinstance(plane, Mapping):
        return ()
    parts = plane if isinstance(plane, tuple | list) else ()
    named = all(isinstance(part, Mapping) and all(isinstance(v, Tensor) for v in part.values()) for part in parts)
    if not (1 <= len(parts) <= len(DIRECTIONS) and named):
        raise UserError(
            "plane",
            f"found a {type(plane).__name__}",
            expected=(
                'a mapping such as {"kind": "random", "seed": 0}, or directions as mappings of names to tensors, '
                "(delta, eta) or (delta,), or three for a volume"
            ),
        )
    return tuple(_on_cpu(part) for part in parts)


def ends_of(plane: Mapping[str, Any]) -> States:
    """Return the state dicts that `to` and `via` of a plane hold as networks or mappings, by their keys in a job."""
    found = {}
    for key in ("to", "via"):
        end = plane.get(key)
        if isinstance(end, nn.Module):  # in train mode: some networks save merged weights in eval mode
            end = (end if end.training or not has_own_modes(end) else duplicate(end).train()).state_dict()
        if isinstance(end, Mapping):
            found[f"plane.{key}"] = _on_cpu(dict(_flat(end)))
    return found


def _flat(state: Mapping[Any, Any], prefix: str = "", levels: int = 6) -> Iterator[tuple[str, Any]]:
    """Yield what a mapping of mappings holds, such as a whole checkpoint, by names with the keys in front."""
    for name, value in state.items():
        if isinstance(value, Mapping) and levels:
            yield from _flat(value, f"{prefix}{name}.", levels - 1)
        else:
            yield f"{prefix}{name}", value


def networks_of(plane: Mapping[str, Any]) -> dict[str, nn.Module]:
    """Return the networks that `to` and `via` of a plane hold, by their keys in a job."""
    named = ((f"plane.{key}", plane.get(key)) for key in ("to", "via"))
    return {key: end for key, end in named if isinstance(end, nn.Module)}


def name_of(thing: object) -> str:
    """Return what to call a class or a callable: `module:name`."""
    kind = thing if hasattr(thing, "__qualname__") else type(thing)
    return f"{kind.__module__}:{kind.__qualname__}"


def _tensors(state: Mapping[str, Any]) -> Parameters:
    return {name: value for name, value in state.items() if isinstance(value, Tensor)}


def _on_cpu(state: Mapping[str, Any]) -> Parameters:
    """Return the tensors among some values on the CPU; those that lie there are not copied, as nothing changes them."""
    return {name: tensor.detach().cpu() for name, tensor in _tensors(state).items()}


def _of_root(world: World, mine: Parameters, key: str) -> Parameters:
    """Return rank 0's tensors: a rank's own where all ranks have the same, else held once per node; collective.

    Raises:
        UserError: on every rank, where the names or shapes on one rank differ from those on rank 0.
    """
    forms = {name: tuple(tensor.shape) for name, tensor in mine.items()}
    wanted = world.bcast(forms)
    digest = hashlib.sha256()

    def check() -> None:
        if forms != wanted:
            raise UserError(key, f"rank {world.rank} holds other tensors than rank 0", expected="the same everywhere")
        feed(digest, mine)

    together(world, check)
    if len(set(world.allgather(digest.digest()))) == 1:
        return mine
    sent = share_parameters(mine if world.rank == 0 else None, list(wanted), world, here=world.local_rank == 0)
    return share_tensors(world, sent)


def _fitted(axis: str, direction: Parameters, theta: Theta) -> Parameters:
    """Return a direction for every parameter, float32; parameters that it does not name stay."""
    for name in direction:
        if name not in theta.parameters:
            raise UserError("plane", f"{axis} names `{name}`, which is no parameter of the network")
    for name, tensor in direction.items():
        if tensor.is_complex() and not theta.parameters[name].is_complex():
            raise UserError("plane", f"{axis} holds `{name}` as {tensor.dtype}, which is real in the network")
    there = {name: parameter for name, parameter in theta.parameters.items() if name in direction}
    stored = []
    for name, parameter in there.items():
        # a real direction of a complex parameter has no imaginary part
        whole = direction[name].to(torch.complex64) if parameter.is_complex() else direction[name]
        stored.append((name, real(single(whole)).numpy()))
    fitted = fit_direction(stored, there, {}, axis)
    return {name: fitted.get(name, standing(parameter)) for name, parameter in theta.parameters.items()}
