"""Builds the transformers model that a Hugging Face folder describes: from its config.json alone, as data."""

import json
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_parameter_registration_hook

from landscape_mpi.errors import Key, UserError
from landscape_mpi.files import paths
from landscape_mpi.networks.meta import build_empty
from landscape_mpi.plugin import own_code, reason, with_options

NAME = "huggingface"
"""The value of `model.build` for it."""
LARGEST = 1 << 24
"""The most bytes of a config.json; a file with the labels of 21,000 classes takes one million."""
MOST = 200_000
"""The most parameters that a model may register; the largest known models have a quarter of this number."""
ATTENTION = ("eager", "sdpa", "flex_attention", "flash_attention_2", "flash_attention_3")
"""Ways of attention that come with transformers; other names are of kernels to be downloaded."""
DOWNLOADED = {"use_pretrained_backbone": False}
"""Keys of a config.json that would fetch weights, and the values that they are set to."""
EXECUTED = ("auto_map", "attn_implementation", "experts_implementation", "use_kernels", "custom_pipelines")
"""Keys of a config.json that name code, or ways to compute that the file must not choose; they are left out."""


def build_huggingface(checkpoint: Path, options: Mapping[str, Any], *, empty: bool = False) -> nn.Module:
    """Return the model of the class that config.json names, in eval mode, with weights that are still to come.

    Nothing is downloaded, and no code but that of transformers runs. Caches of keys and values are off.

    Args:
        checkpoint: The folder, or a file in it.
        options: Values that replace those of config.json; `attn_implementation` as well.
        empty: Whether its parameters are left on the meta device.

    Raises:
        UserError: transformers is not installed, there is no config.json, or it names no class of transformers.
    """
    if find_spec("transformers") is None:
        raise UserError(
            "model.build",
            f"found {NAME}, and transformers is not installed",
            remedy="install it with: pip install 'transformers>=5' (it is the extra `huggingface` of this package)",
        )
    file = (checkpoint if paths.found(checkpoint) == paths.FOLDER else checkpoint.parent) / "config.json"
    found = read_config(file)
    theirs = own_code("model.build", f"transformers with {file}", lambda: with_options(options))
    with theirs, without_broken_torchvision(), _alone():
        kind = _class_of(found, file)
        config = _configured(kind, found, options, file)
        build: Callable[[], nn.Module] = partial(kind, config)
        network: nn.Module = build_empty(build) if empty else build()
    return network.eval()


def read_config(file: Path) -> dict[str, Any]:
    """Return what stands in a config.json.

    Raises:
        UserError: there is none, or it is no mapping in JSON of at most 16 MB.
    """
    key = "model.checkpoint"
    paths.check_input(file, key, "a Hugging Face folder, with its config.json")
    if file.stat().st_size > LARGEST:
        raise UserError(key, f"{file} is larger than {LARGEST:,} bytes", expected="the description of a model")
    try:
        found = json.loads(file.read_bytes())
    except (ValueError, RecursionError) as error:
        raise UserError(key, f"{file} is not JSON ({type(error).__name__} while reading it)") from None
    if not isinstance(found, dict):
        raise UserError(key, f"{file} holds a {type(found).__name__}", expected="a mapping that describes a model")
    if found.get("quantization_config"):
        raise UserError(
            key, f"{file} describes quantised weights", expected="weights in float32, float16, bfloat16 or float64"
        )
    return found


def _class_of(found: Mapping[str, Any], file: Path) -> Any:
    """Return the class of transformers that a config.json names.

    Raises:
        UserError: it names none that transformers has.
    """
    import transformers

    names = found.get("architectures")
    name = names[0] if isinstance(names, list) and names else None
    if not isinstance(name, str):
        raise UserError("model.checkpoint", f'{file} names no class under "architectures"', expected="one name there")
    known = name in transformers.__all__  # its dir() takes a fifth of a second
    try:
        kind: Any = getattr(transformers, name) if known else None
    except Exception as error:  # what transformers itself needs for it is missing or does not load
        cause = error
        while cause.__cause__ is not None:
            cause = cause.__cause__  # type: ignore[assignment]
        raise UserError("model.build", f"transformers cannot import {name} ({reason(cause)})") from error
    is_model = isinstance(kind, type) and issubclass(kind, transformers.PreTrainedModel)
    if is_model and kind.config_class is not None:
        return kind
    remote = ", and code that comes with a checkpoint is not executed" if found.get("auto_map") else ""
    raise UserError(
        "model.checkpoint",
        f"{file} names {name[:80]!r}, which is no model of transformers {transformers.__version__}{remote}",
        remedy=("import that code in a callable of your own for ", Key("model.build")),
    )


@contextmanager
def without_broken_torchvision() -> Iterator[None]:
    """Hide a torchvision that does not load, such as one for another build of torch, while the block runs.

    transformers imports it for language models too where it is installed, and they need nothing of it.
    """
    try:
        import_module("torchvision")
    except ImportError:  # there is none
        yield
    except Exception:
        sys.modules["torchvision"] = None  # type: ignore[assignment]  # how Python says that there is none
        try:
            yield
        finally:
            del sys.modules["torchvision"]
    else:
        yield


def _configured(kind: Any, found: Mapping[str, Any], options: Mapping[str, Any], file: Path) -> Any:
    """Return the configuration of a model: that of the file, with the options of the job.

    Raises:
        UserError: the file is of another kind of model, or this kind has no such option.
    """
    model_type, own = found.get("model_type"), kind.config_class.model_type
    if model_type not in (None, own):
        raise UserError(
            "model.checkpoint", f"{file} describes a {str(model_type)[:80]!r} and names {kind.__name__}, a {own!r}"
        )
    chosen = dict(options)
    attention = chosen.pop("attn_implementation", None)
    if attention is not None and attention not in ATTENTION:
        raise UserError(
            "model.options.attn_implementation", f"found {attention!r}", expected=f"one of {', '.join(ATTENTION)}"
        )
    plain = kind.config_class.from_dict(_inert(found))
    if unknown := [key for key in chosen if key.startswith("_") or key in EXECUTED or not hasattr(plain, key)]:
        raise UserError(f"model.options.{unknown[0]}", f"found no such key in the config of a {kind.__name__}")
    config = kind.config_class.from_dict(_inert({**found, **chosen}))
    config.return_dict = True
    for one in _parts(config):
        if hasattr(one, "use_cache"):
            one.use_cache = False
    if attention is not None:
        config._attn_implementation = attention
    return config


def _parts(config: Any) -> Iterator[Any]:
    """Yield a configuration and those within it, at any depth: models of several modalities nest them."""
    yield config
    for name in config.sub_configs:
        inner = getattr(config, name, None)
        if inner is not None:
            yield from _parts(inner)


def _inert(value: Any) -> Any:
    """Return a copy of what config.json holds, at any depth, that names no code and fetches nothing."""
    if isinstance(value, list):
        return [_inert(part) for part in value]
    if not isinstance(value, dict):
        return value
    kept = {key: part for key, part in value.items() if not key.startswith("_") and key not in EXECUTED}
    return {key: DOWNLOADED.get(key, _inert(part)) for key, part in kept.items()}


def converted(network: nn.Module, state: Mapping[str, Tensor]) -> dict[str, Tensor] | None:
    """Return the state dict that transformers makes of names and layouts of older versions of its own model.

    Only transformers knows how layers were renamed, and which experts a file holds one by one and the model as one
    tensor. The tensors are copies. Return None where the network is not of transformers, or does not take all of them.
    """
    if "transformers" not in sys.modules:
        return None
    from transformers import PreTrainedModel

    if not isinstance(network, PreTrainedModel):
        return None
    widest = torch.float16 if all(t.dtype == torch.float16 for t in state.values() if t.is_floating_point()) else None
    for tensor in state.values():
        if tensor.is_floating_point():
            widest = tensor.dtype if widest is None else torch.promote_types(widest, tensor.dtype)
    try:
        with _alone():
            made, report = type(network).from_pretrained(
                None,
                config=network.config,
                state_dict=dict(state),
                dtype=widest or torch.float32,
                output_loading_info=True,
                local_files_only=True,
            )
    except Exception:  # then it does not fit
        return None
    if any(report.get(key) for key in ("missing_keys", "unexpected_keys", "mismatched_keys", "error_msgs")):
        return None
    return {name: tensor for name, tensor in made.state_dict().items() if isinstance(tensor, Tensor)}


@contextmanager
def _alone() -> Iterator[None]:
    """Let transformers work offline, print only errors, and build no model of endless size."""
    from huggingface_hub import constants
    from transformers.utils import logging

    offline, level = constants.HF_HUB_OFFLINE, logging.get_verbosity()
    bars = logging.is_progress_bar_enabled()
    registered = 0

    def count(*_: object) -> None:
        nonlocal registered
        registered += 1
        if registered > MOST:
            raise UserError("model.checkpoint", f"its config.json describes a model of more than {MOST:,} parameters")

    hook = register_module_parameter_registration_hook(count)
    constants.HF_HUB_OFFLINE = True
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        hook.remove()
        constants.HF_HUB_OFFLINE = offline
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()
