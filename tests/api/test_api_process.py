"""What a sweep leaves behind in the process that called it: nothing; how it is stopped and gone on with; ranks."""

import io
import json
import logging
import os
import signal
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import landscape_mpi
from landscape_mpi import UserError
from landscape_mpi.mpi.shutdown import SIGNALS
from support import tiny
from support.jobs import done, results
from support.launch import launch

HERE = Path(landscape_mpi.__file__).parent


@pytest.fixture
def network():
    torch.manual_seed(0)
    return tiny.network()


def sweep(network, loss="cross_entropy", grid=5, **options):
    return landscape_mpi.sweep(network, loss, tiny.data(None, "train"), grid=grid, **options)


def settings():
    """What a sweep sets, or might."""
    cudnn = torch.backends.cudnn
    return {
        "threads": torch.get_num_threads(),
        "flags": [cudnn.benchmark, cudnn.deterministic, torch.are_deterministic_algorithms_enabled()],
        "modes": [torch.is_grad_enabled(), torch.is_inference_mode_enabled(), torch.get_default_dtype()],
        "random": torch.get_rng_state().tolist(),
        "handlers": [signal.getsignal(number) for number in SIGNALS],
        "path": list(sys.path),
        "environment": dict(os.environ),
        "folder": Path.cwd(),
        "running": [thread.name for thread in threading.enumerate()],
    }


@pytest.fixture
def two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.mark.slow
def test_a_sweep_leaves_the_process_as_it_was(network, two_threads, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    sweep(network, quiet=True)  # MPI starts once
    network.train()
    network[0].weight.grad = torch.ones(8, 4)
    state, before = {name: tensor.clone() for name, tensor in network.state_dict().items()}, settings()
    seen = []

    def loss(outputs, targets):
        seen.append((torch.get_num_threads(), signal.getsignal(signal.SIGTERM)))
        torch.rand(1)
        return nn.functional.cross_entropy(outputs, targets, reduction="none")

    with torch.no_grad():
        sweep(network, loss, quiet=True)
    assert settings() == before
    assert {threads for threads, _ in seen} == {1}
    assert before["handlers"][0] not in {handler for _, handler in seen}
    assert network.training
    assert torch.equal(network[0].weight.grad, torch.ones(8, 4))
    assert all(torch.equal(tensor, state[name]) for name, tensor in network.state_dict().items())
    assert list(tmp_path.iterdir()) == []
    assert capsys.readouterr() == ("", "")


def test_a_mistake_leaves_it_as_it_was_too(network, two_threads):
    before = settings()

    def broken(outputs, targets):
        return outputs.sum()

    with pytest.raises(UserError, match="one loss per example"):
        sweep(network, broken, quiet=True)
    assert settings() == before


@pytest.mark.slow
def test_a_few_lines_on_standard_error_and_none_of_a_file_that_is_not_kept(network, capsys, tmp_path):
    sweep(network)
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines()[0] == "engine eager: the network's own forward pass."
    assert err.splitlines()[1].startswith("f(0, 0): train loss ")
    assert err.splitlines()[2].startswith("25 of 25 points (100%)")
    assert err.count("\n") == 3
    sweep(network, output=tmp_path / "s.h5")
    assert f"{tmp_path / 's.h5'}: complete." in capsys.readouterr().err


def test_a_handler_and_a_level_of_the_users_own_have_the_lines(network, capsys, tmp_path):
    logger, lines = logging.getLogger("landscape_mpi"), io.StringIO()
    handler = logging.StreamHandler(lines)
    logger.addHandler(handler)
    try:
        sweep(network)
        logger.setLevel(logging.WARNING)
        sweep(network)
    finally:
        logger.removeHandler(handler)
        logger.setLevel(logging.NOTSET)
    assert [line.partition(" ")[0] for line in lines.getvalue().splitlines()] == ["engine", "f(0,", "25"]
    assert capsys.readouterr() == ("", "")


@pytest.mark.slow
def test_threads_other_than_the_main_one_may_sweep(network):
    found = []
    thread = threading.Thread(target=lambda: found.append(sweep(network, quiet=True)))
    thread.start()
    thread.join()
    assert found[0].loss().tolist() == sweep(network, quiet=True).loss().tolist()


def test_a_handler_that_python_cannot_put_back_stays(network, monkeypatch):
    """As of a program that has Python within it: there `getsignal` knows none."""
    before = signal.getsignal(signal.SIGUSR1)
    monkeypatch.setattr(signal, "getsignal", lambda number: None if number == signal.SIGUSR1 else signal.SIG_DFL)
    seen = []

    def loss(outputs, targets):
        monkeypatch.undo()
        seen.append(signal.getsignal(signal.SIGUSR1))
        return nn.functional.cross_entropy(outputs, targets, reduction="none")

    sweep(network, loss, quiet=True)
    assert set(seen) == {before}


class Stopping:
    """Cross entropy that sends a signal to its own process at a point, once the surface is there; counts its calls."""

    def __init__(self, number=0, surface=None, points=3):
        self.number, self.surface, self.points, self.calls = number, surface, points, 0

    def __call__(self, outputs, targets):
        self.calls += 1
        if self.surface and self.surface.exists():
            self.points -= 1
            if self.points == 0:
                os.kill(os.getpid(), self.number)
        return nn.functional.cross_entropy(outputs, targets, reduction="none")


@pytest.mark.slow
def test_interrupted_and_called_again_it_goes_on_with_the_output(network, tmp_path):
    path = tmp_path / "s.h5"
    with pytest.raises(KeyboardInterrupt, match=f"stopped by SIGINT; what is done is kept in {path}"):
        sweep(network, Stopping(signal.SIGINT, path), output=path, quiet=True)
    begun = landscape_mpi.open(path)
    assert 0 < begun.found.done < 25
    assert not begun.complete
    with pytest.raises(UserError, match=r"output: .* holds another sweep: plane\.seed.*overwrite=True"):
        landscape_mpi.sweep(
            network, Stopping(), tiny.data(None, "train"), {"kind": "random", "seed": 1}, 5, output=path
        )
    whole = sweep(network, again := Stopping(), output=path, quiet=True)
    assert whole.complete
    undisturbed = sweep(network, all_of_them := Stopping(), output=tmp_path / "t.h5", quiet=True)
    assert again.calls < all_of_them.calls
    assert results(path) == results(tmp_path / "t.h5")
    assert whole.loss().tolist() == undisturbed.loss().tolist()


def test_other_signals_end_the_program_as_they_end_the_command(network, tmp_path, capsys):
    with pytest.raises(SystemExit) as ended:
        sweep(network, Stopping(signal.SIGTERM, tmp_path / "s.h5"), output=tmp_path / "s.h5")
    assert ended.value.code == 75
    assert "stopped by SIGTERM; what is done is kept in" in capsys.readouterr().err
    assert 0 < done(tmp_path / "s.h5") < 25


@pytest.mark.slow
def test_another_network_is_not_gone_on_with(network, tmp_path):
    path = tmp_path / "s.h5"
    sweep(network, output=path, quiet=True)
    tanh = nn.Sequential(network[0], nn.Tanh(), network[2])  # the same weights
    with pytest.raises(UserError, match=r"output: .* holds another sweep: model: it was made from another checkpoint"):
        sweep(tanh, output=path, quiet=True)
    fresh = sweep(tanh, output=path, quiet=True, overwrite=True)
    assert not np.array_equal(fresh.loss(), sweep(network, quiet=True).loss())


@pytest.mark.slow
def test_importing_the_package_brings_neither_torch_nor_mpi_nor_matplotlib():
    program = (
        "import sys, landscape_mpi, landscape_mpi.plot;"
        "light = {'torch', 'mpi4py', 'matplotlib', 'h5py'} & set(sys.modules);"
        "names = set(landscape_mpi.__all__) <= set(dir(landscape_mpi));"
        "import landscape_mpi.sweeping; from landscape_mpi import sweep;"
        "print(sorted(light), names, landscape_mpi.sweep is sweep, sweep.__module__, 'torch' in sys.modules)"
    )
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=True)
    assert run.stdout.strip() == "[] True True landscape_mpi.api.run True"


@pytest.mark.slow
def test_a_sweep_alone_starts_no_mpi(tmp_path):
    program = (
        "import sys, landscape_mpi; from support import tiny; network, data = tiny.network(), tiny.data(None, 'train');"
        "landscape_mpi.sweep(network, 'cross_entropy', data, grid=3, output='s.h5', quiet=True);"
        "print('mpi4py.MPI' in sys.modules)"
    )
    run = launch(program, program=(sys.executable, "-c"), cwd=tmp_path, env=_path())
    assert run.stdout.strip() == "False", run.stderr
    assert json.loads(landscape_mpi.open(tmp_path / "s.h5").attributes["versions"])["mpi"] == "not started"


def test_a_name_that_is_not_there_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'sweeep'"):
        landscape_mpi.sweeep  # noqa: B018


def test_what_type_checkers_see_is_what_there_is():
    lines = (HERE / "__init__.pyi").read_text().splitlines()
    assert f"__all__ = {json.dumps(landscape_mpi.__all__)}" in lines
    for name in landscape_mpi.__all__:
        assert getattr(landscape_mpi, name)


SCRIPT = """
import sys
import torch
from mpi4py import MPI
import landscape_mpi
from support import tiny

rank = MPI.COMM_WORLD.rank
torch.manual_seed(rank)  # rank 0's weights count
network = tiny.network(8 + (rank if "differ" in sys.argv else 0))
data = tiny.data(None, "train")
try:
    for _ in range(2):
        surface = landscape_mpi.sweep(network, "cross_entropy", data, grid=5)
except BaseException as error:
    with open(f"{rank}.txt", "w") as file:  # what ranks print at one time may come out mixed
        file.write(f"{type(error).__name__}: {error}")
    raise
saved = surface.save("s.h5")
with open(f"{rank}.txt", "w") as file:
    file.write(f"{saved.path} {surface.loss().tobytes().hex()}")
"""


@pytest.mark.mpi
def test_ranks_share_the_points_and_each_gets_the_surface(tmp_path, network):
    run = launch(SCRIPT, ranks=2, program=(sys.executable, "-c"), cwd=tmp_path, env=_path())
    assert run.returncode == 0, run.stderr
    expected = sweep(network, quiet=True)
    values = expected.loss().tobytes().hex()
    assert [(tmp_path / f"{rank}.txt").read_text() for rank in range(2)] == [f"s.h5 {values}"] * 2
    assert run.stderr.count("engine eager") == 2
    assert results(expected.save(tmp_path / "alone.h5").path) == results(tmp_path / "s.h5")


@pytest.mark.mpi
def test_ranks_with_other_networks_all_say_so(tmp_path):
    run = launch(SCRIPT, "differ", ranks=2, program=(sys.executable, "-c"), cwd=tmp_path, env=_path())
    assert run.returncode != 0
    said = [path.read_text() for path in tmp_path.glob("?.txt")]  # mpirun may kill the other before it writes
    assert any(said)
    assert all("UserError: model: rank 1 holds other tensors than rank 0" in text for text in said if text)


def _path():
    places = [str(HERE.parent), str(Path(tiny.__file__).parents[1])]
    return {"PYTHONPATH": os.pathsep.join([*places, os.environ.get("PYTHONPATH", "")])}
