"""The user's own code: one sentence with what was called and what it raised, the traceback for those who ask."""

import pytest
import torch
from torch import nn

import landscape_mpi
from landscape_mpi.data import Split
from landscape_mpi.errors import UserError
from landscape_mpi.evaluate import Names, Task
from landscape_mpi.evaluate.losses import cross_entropy
from landscape_mpi.mpi.shutdown import Interrupted, Stop
from landscape_mpi.networks import build_network
from landscape_mpi.plugin import load_plugin, own_code, reason
from support.jobs import tiny_job
from support.launch import launch

NAMES = Names("mine:net", "mine:loss")


def broken(*_):
    message = "\n  the first line.\nthe second"
    raise RuntimeError(message)


def caught(call):
    with pytest.raises(UserError) as found:
        call()
    return found.value


def task(inputs, targets, loss=cross_entropy):
    return Task({"train": Split("train", inputs, targets)}, None, loss, names=NAMES)


def evaluate(network, *data):
    return task(*data).evaluate(network, "train", slice(0, 4), 4)


def test_the_sentence_names_key_callable_first_line_and_place_and_keeps_the_traceback():
    def call():
        with own_code("data.build", "mine:data", lambda: ", called for the split 'train'"):
            broken()

    error = caught(call)
    line = broken.__code__.co_firstlineno + 2
    assert str(error) == (
        f"data.build: mine:data failed with RuntimeError: the first line (test_plugin.py, line {line}), "
        "called for the split 'train'."
    )
    assert isinstance(error.__cause__, RuntimeError)
    assert "the second" in error.details
    assert "Traceback" not in error.told(verbose=False)
    assert "Traceback" in error.told(verbose=True)


class Strange(BaseException):
    """What no `except Exception` takes."""


@pytest.mark.parametrize("error", [SystemExit(0), SystemExit("usage: train.py"), GeneratorExit(), Strange("why")])
def test_an_exit_of_theirs_is_a_failure_like_any_other(error):
    with (
        pytest.raises(UserError, match=f"loss: mine:loss failed with {type(error).__name__}"),
        own_code("loss", "mine:loss"),
    ):
        raise error


def test_ctrl_c_passes_where_nobody_listens_and_is_theirs_where_we_do():
    with pytest.raises(KeyboardInterrupt), own_code("loss", "mine:loss"):
        raise KeyboardInterrupt
    with Stop().listening(), pytest.raises(UserError, match="KeyboardInterrupt"), own_code("loss", "mine:loss"):
        raise KeyboardInterrupt


@pytest.mark.parametrize("error", [UserError("", "a sentence"), KeyError("for want of memory"), Interrupted("SIGTERM")])
def test_what_is_no_failure_of_theirs_passes(error):
    with pytest.raises(type(error)) as found, own_code("loss", "mine:loss", but=(KeyError,)):
        raise error
    assert found.value is error


def test_a_long_text_is_cut_and_an_empty_one_left_out():
    assert reason(ValueError("x" * 400)) == f"ValueError: {'x' * 300} ..."
    assert reason(StopIteration()) == "StopIteration"


def test_the_forward_pass_says_on_which_inputs():
    words = (
        r"^model.build: the forward pass of mine:net failed with RuntimeError: mat1 .* on inputs float32 \[4, 5\] of"
    )
    with pytest.raises(UserError, match=words):
        evaluate(nn.Linear(4, 3), torch.randn(4, 5), torch.zeros(4, dtype=torch.int64))


def test_uint8_inputs_name_the_key_that_scales_them():
    images = torch.zeros(4, 3, 8, 8, dtype=torch.uint8)
    with pytest.raises(UserError, match=r"uint8 \[4, 3, 8, 8\] of the train split; .* name data.normalize"):
        evaluate(nn.Conv2d(3, 4, 3), images, torch.zeros(4, dtype=torch.int64))


def test_the_loss_says_on_which_outputs_and_targets():
    words = (
        r"^loss: mine:loss failed with .*, on outputs float32 \[4, 3\] and targets int64 \[4, 2\] of the train split"
    )
    with pytest.raises(UserError, match=words):
        evaluate(nn.Linear(5, 3), torch.randn(4, 5), torch.zeros(4, 2, dtype=torch.int64))


def test_a_loss_that_is_no_tensor_is_told():
    made = task(torch.randn(4, 5), torch.zeros(4, dtype=torch.int64), lambda *_: 0.5)
    with pytest.raises(UserError, match=r"^loss: it returned a float for 4 examples; expected one loss per example"):
        made.evaluate(nn.Linear(5, 3), "train", slice(0, 4), 4)


def test_a_module_a_network_and_options_of_theirs(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "raising_module.py").write_text("import math\nmath.sqrt(-1)\n")
    (tmp_path / "raising_network.py").write_text("def net(width):\n    return len(width)\n")
    error = caught(lambda: load_plugin("loss", "raising_module:loss", tmp_path))
    assert "ValueError: math domain error (raising_module.py, line 2)" in str(error)
    error = caught(lambda: build_network("raising_network:net", {"width": 3}, tmp_path))
    assert str(error).startswith("model.build: raising_network:net failed with TypeError: object of type 'int'")
    assert str(error).endswith("(raising_network.py, line 2) with the options {'width': 3}.")
    error = caught(lambda: build_network("raising_network:net", {"depth": 3}, tmp_path))
    assert (
        str(error)
        == "model.options: raising_network:net does not take {'depth': 3}: missing a required argument: 'width'."
    )


def test_a_torchvision_for_another_build_of_torch_is_named(tmp_path):
    (tmp_path / "misfit.py").write_text("raise RuntimeError('operator torchvision::nms does not exist')\n")
    with pytest.raises(UserError) as caught:
        load_plugin("model.build", "misfit:net", tmp_path)
    assert str(caught.value) == (
        "model.build: importing the module of 'misfit:net' failed with RuntimeError: operator torchvision::nms does "
        f"not exist (misfit.py, line 1): torchvision is for another build of torch than {torch.__version__}, which is "
        "installed; install both from the same index, with CUDA or without."
    )


def test_a_call_raises_it_with_its_cause():
    data = torch.randn(20, 5), torch.zeros(20, dtype=torch.int64)
    error = caught(lambda: landscape_mpi.sweep(nn.Linear(4, 3), "cross_entropy", data, grid=3, quiet=True))
    assert str(error).startswith("model: the forward pass of torch.nn.modules.linear:Linear failed with RuntimeError")
    assert isinstance(error.__cause__, RuntimeError)


def test_so_does_one_that_fails_at_a_later_point():
    def loss(outputs, targets):
        if outputs.abs().max() > 50:
            broken()
        return cross_entropy(outputs, targets)

    data = torch.randn(20, 4), torch.zeros(20, dtype=torch.int64)
    grid = {"alpha": [-100, 100, 21]}
    error = caught(lambda: landscape_mpi.sweep(nn.Linear(4, 3), loss, data, grid=grid, engine="eager", quiet=True))
    assert " failed at alpha " in str(error)
    assert "RuntimeError: the first line" in str(error)
    assert isinstance(error.__cause__, RuntimeError)


@pytest.mark.parametrize("flags", [[], ["-v"]])
def test_a_command_prints_one_sentence_and_with_v_the_traceback(tmp_path, flags):
    run = launch("check", tiny_job(tmp_path, loss="tiny:breaks"), *flags)
    assert run.returncode == 2
    assert run.stderr.count("error: loss: tiny:breaks failed with ZeroDivisionError: the user's loss broke") == 1
    assert ("Traceback" in run.stderr) == bool(flags)
    assert ("Add -v to see its traceback." in run.stderr) == (not flags)


def test_options_that_a_loss_does_not_take_are_told_before_it_is_called():
    data = torch.randn(20, 4), torch.zeros(20, dtype=torch.int64)
    with pytest.raises(UserError, match=r"^loss_options: the loss does not take {'smoothing': 0.1}"):
        landscape_mpi.sweep(nn.Linear(4, 3), cross_entropy, data, grid=3, loss_options={"smoothing": 0.1}, quiet=True)


def test_a_call_has_no_key_that_scales_uint8_inputs():
    data = torch.zeros(20, 3, 8, 8, dtype=torch.uint8), torch.zeros(20, dtype=torch.int64)
    error = caught(lambda: landscape_mpi.sweep(nn.Conv2d(3, 4, 3), "mse", data, grid=3, quiet=True))
    assert str(error).endswith("of the train split; nothing scales these uint8 inputs: scale them first.")
