"""Fixtures and rules of all tests: a missing part skips its tests, or fails them where the part is required."""

import gc
import signal
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import hypothesis
import pytest

from landscape_mpi.files import isolated
from landscape_mpi.log import console
from support import launch
from support.parts import PARTS, required_here

CHECKOUT = Path(__file__).resolve().parents[1]
FORKS = "server of forks"
TOGETHER = {
    "tests/slurm/": "one SLURM",
    "tests/networks/test_huggingface.py": "one import of transformers",
    "tests/sweeping/test_choices.py": "one import of transformers",
    "tests/sweeping/test_first_job.py": "one import of transformers",
    "tests/sweeping/test_huggingface_job.py": "one import of transformers",
}
"""What one process is given, by the start of its name and what it shares; transformers takes seconds to import."""


def pytest_configure(config: pytest.Config) -> None:
    """Refuse a LANDSCAPE_REQUIRE that names something unknown, let hypothesis mind no clock, and hear interruptions.

    Commands of all processes of a run are forks of one server.
    """
    if given := getattr(config, "workerinput", {}).get(FORKS):
        launch.servers.append(launch.Server(*given))
    hypothesis.settings.register_profile("no clock", deadline=None)
    hypothesis.settings.load_profile("no clock")
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # so shells start what runs in the background
        signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        required_here()
    except ValueError as error:
        raise pytest.UsageError(str(error)) from error


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Tell a process of pytest-xdist where the server of forks is; its start takes two seconds of a core."""
    own = launch.server()
    node.workerinput[FORKS] = own.place, dict(own.env)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Give the tests of a module to one process, and those of `TOGETHER` all to the same one."""
    if config.getoption("dist") != "loadfile":
        return None
    from xdist.scheduler import LoadFileScheduling

    class Scheduling(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            module = super()._split_scope(nodeid)
            return next((shared for start, shared in TOGETHER.items() if module.startswith(start)), module)

    return Scheduling(config, log)


def pytest_collection() -> None:
    """Nothing that a collection of tests makes is garbage: looking for it takes a second of each process."""
    gc.disable()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with what takes long: SLURM, and the modules by the seconds of their slow tests."""
    seconds: dict[Path, float] = defaultdict(float)
    for item in items:
        if slow := item.get_closest_marker("slow"):
            seconds[item.path] += slow.args[0] if slow.args else 0.5
    items.sort(key=lambda item: ("slurm" not in item.keywords, -seconds[item.path]))


def pytest_collection_finish() -> None:
    """What the tests' modules hold is looked at by no collection of garbage again, and others are rarer than usual."""
    gc.freeze()
    gc.set_threshold(20_000, 20, 50)
    gc.enable()


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Look for the parts that a test is marked with."""
    for part, why_not in PARTS.items():
        if item.get_closest_marker(part) is None or (reason := why_not()) is None:
            continue
        if part in required_here():
            pytest.fail(f"{part} is required here, but {reason}", pytrace=False)
        pytest.skip(reason)


@pytest.fixture(scope="session", autouse=True)
def small_readers() -> None:
    """Surfaces are read by forks of a small process, as where MPI runs: those of this one take three times as long.

    `files/test_isolated.py` has both ways, and commands have theirs.
    """
    isolated._forked = isolated._served


@pytest.fixture
def lines_on_stderr() -> Iterator[None]:
    """What is logged goes to standard error, as in a command."""
    with console():
        yield


@pytest.fixture(scope="session")
def checkout() -> Path:
    """The folder that holds Makefile, src and tests."""
    return CHECKOUT


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real images and published networks, beside the checkout."""
    folder = CHECKOUT.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"the real data is not here: {folder}")
    return folder


@pytest.fixture(scope="session")
def cifar10(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data root with the first 4,000 training images, laid out as a user's download."""
    root = tmp_path_factory.mktemp("cifar10")
    command = [sys.executable, str(shared_data / "unpack_cifar10.py"), str(root)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return root


@pytest.fixture(scope="session")
def transformers():
    """The package, for `pytest.mark.usefixtures`: its import takes seconds, which no module's collection is to pay."""
    from support import transformers_models

    return transformers_models.transformers()


@pytest.fixture(scope="session")
def torchvision_models():
    """torchvision.models; its C++ operators, which no network here uses, do not load beside a CPU build of torch."""
    try:
        from torchvision import models
    except RuntimeError:
        import torch

        for name in ("nms", "qnms"):
            torch.library.define(f"torchvision::{name}", "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        from torchvision import models
    return models
