"""Every fenced block of README.md and of the pages in docs/ is run, or checked, or listed here with the reason.

`pytest tests/docs/test_snippets.py -rP` shows them: *run*, *read as a job*, *output*.
"""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from page_folders import PRELUDES, folder_of, make_ready, small
from page_snippets import snippets

from landscape_mpi.arguments import build_parser
from landscape_mpi.job import SweepJob, TrainJob, read_job
from landscape_mpi.plot.__main__ import build_parser as build_plot_parser
from support import forks
from support.launch import environment, is_open_mpi, mpirun, server

HERE = Path(__file__).parent
CHECKOUT = HERE.parents[1]
PAGES = [CHECKOUT / "README.md", *sorted(CHECKOUT.glob("docs/*.md"))]
WITH_SNIPPETS = [page for page in PAGES if snippets(page)]
NOT_RUN = {
    ("api.md", "from torch.utils.tensorboard import SummaryWriter"): "the tests have no tensorboard",
    ("api.md", "import wandb"): "the tests have no wandb",
    ("barriers.md", "python prepare.py"): "takes minutes; the same network is trained on language.md",
    ("index.md", "landscape-mpi demo"): "tests/test_demo.py runs it",
    ("language.md", "mpirun -n 2 python -m landscape_mpi sweep plane.yaml"): "needs SmolLM2, and hours",
    ("page.md", "landscape-mpi watch surfaces/resnet56.h5"): "it runs until Ctrl-C; tests/plot/test_watch.py does that",
    (
        "install.md",
        'conda create -n landscape -c conda-forge python=3.12 pytorch mpi4py openmpi "h5py=*=mpi_openmpi*"',
    ): ("needs conda"),
    ("install.md", "docker build -t landscape_mpi -f packaging/Dockerfile ."): "needs Docker",
    ("install.md", "apptainer build landscape_mpi.sif packaging/landscape_mpi.def"): "needs Apptainer",
    ("install.md", 'spack develop --path "$PWD" py-landscape-mpi@develop'): "needs Spack",
}
"""(page, first line of a block): why it is neither run nor checked."""
LANGUAGES = ("sh", "python", "yaml", "text")
COMMANDS = ("python ", "mpirun", "landscape-plot", "make ", "sbatch", "pip ")
TWO_RANKS = {"README.md", "train.md"}
"""Pages whose mpirun starts real ranks, two of them; elsewhere it runs its command alone: the same to the bit."""
COMPLETE = {
    "model": {"build": "resnet20", "checkpoint": "net.pt"},
    "data": {"build": "shapes10"},
    "plane": {"kind": "random"},
    "grid": {"alpha": [-1, 1, 5], "beta": [-1, 1, 5]},
    "output": {"file": "surface.h5"},
}


@pytest.fixture(scope="module")
def ready(tmp_path_factory):
    """A folder with a tiny network, its training and its surfaces."""
    folder = tmp_path_factory.mktemp("pages") / "ready"
    make_ready(folder)
    return folder


@pytest.fixture(scope="module")
def variables():
    """The environment of the pages' commands: the wrappers first, then this Python's own programs; and the server."""
    launcher = mpirun()
    path = [HERE / "bin", Path(sys.executable).parent, os.environ["PATH"]]
    found = {
        "PATH": os.pathsep.join(map(str, path)),
        "MPLBACKEND": "Agg",
        "SNIPPETS_PYTHON": sys.executable,
        "SNIPPETS_HERE": str(HERE),
        "SNIPPETS_CHECKOUT": str(CHECKOUT),
        "SNIPPETS_FORKS": forks.__file__,
        "SNIPPETS_SOCKET": server().place,
        "SNIPPETS_MPIRUN": launcher or "",
        "SNIPPETS_BINDING": "--bind-to none" if launcher and is_open_mpi(launcher) else "",
    }
    return environment(found)


class Folder:
    """The folder of a page, and how its blocks are dealt with there."""

    def __init__(self, path, page, variables):
        self.path = path
        self.variables = variables | {"SNIPPETS_RANKS": str(1 + (page in TWO_RANKS))}

    def run(self, *line):
        """Run a command, and fail with all that it said where it fails."""
        pipes = {"capture_output": True, "text": True, "timeout": 300}
        done = subprocess.run(line, cwd=self.path, env=self.variables, check=False, **pipes)
        assert done.returncode == 0, f"exit code {done.returncode}\n{line[-1]}\n{done.stdout}{done.stderr}"
        return "run"

    def sh(self, snippet):
        return self.run("bash", "-euo", "pipefail", "-c", snippet.text)

    def python(self, snippet):
        name = snippet.file or "snippet.py"
        (self.path / name).write_text(PRELUDES.get(snippet.page, "") + snippet.text)
        return self.run(sys.executable, "-IS", forks.__file__, server().place, Path(name).stem)

    def yaml(self, snippet):
        """Read a job, or a part of one within an otherwise complete job; the page's commands find it as it says."""
        written = yaml.safe_load(snippet.text)
        whole = {"model", "data"} <= set(written)
        complete = written if whole else COMPLETE | written
        text = snippet.text if whole else yaml.safe_dump(complete)
        read_job(text, Path(f"{snippet.page}:{snippet.line}"), SweepJob if "plane" in complete else TrainJob)
        if whole and not snippet.file:
            return "read as a job"
        self._put(self.path / (snippet.file or "job.yaml"), written, snippet.text if whole else None)
        return "read as a job, and used" if whole else "read as a part of a job, and used"

    def _put(self, path, written, text):
        made = small(written)
        if text is None:
            made = yaml.safe_load(path.read_text()) | made
        path.write_text(text if text and made == written else yaml.safe_dump(made, sort_keys=False))

    def text(self, snippet):
        """A block that shows what is printed does not begin with a command."""
        assert not snippet.text.startswith(COMMANDS), "a command, so not `text`"
        return "output"

    def fate(self, snippet):
        """Do with a block what is to be done with blocks of its language, and return the word for it."""
        reason = NOT_RUN.get((snippet.page, snippet.text.partition("\n")[0]))
        if reason:
            return f"not run: {reason}"
        assert snippet.language in LANGUAGES, f"{snippet}: expected one of {', '.join(LANGUAGES)} behind the fence"
        return getattr(self, snippet.language)(snippet)


@pytest.fixture
def page_folder(ready, variables, tmp_path):
    """A function that makes the folder of a page."""
    return lambda page: Folder(folder_of(page, ready, CHECKOUT, tmp_path / "page"), page, variables)


@pytest.mark.slow(10)
@pytest.mark.mpi
@pytest.mark.parametrize("page", WITH_SNIPPETS, ids=lambda page: page.name)
def test_every_snippet_of_the_page_works(page, page_folder):
    folder = page_folder(page.name)
    for snippet in snippets(page):
        word = folder.fate(snippet)
        shown = snippet.text if word.endswith(("run", "used")) else snippet.text.partition("\n")[0] + "\n"
        print(f"--- {snippet}: {word}\n{shown}", end="")  # noqa: T201 - for -rP


def test_every_page_is_looked_at():
    assert {"README.md", "start.md", "plot.md", "paper.md"} <= {page.name for page in WITH_SNIPPETS}
    assert {key[0] for key in NOT_RUN} <= {page.name for page in PAGES}


INLINE = re.compile(r"(?<!`)`((?:python -m landscape_mpi|landscape-plot) [^`]+)`(?!`)")


def test_commands_within_sentences_have_arguments_that_there_are():
    programs = {"python": build_parser(), "landscape-plot": build_plot_parser()}
    found = [(page.name, line) for page in PAGES for line in INLINE.findall(page.read_text())]
    assert len(found) > 15
    for page, line in found:
        program, *arguments = shlex.split(line.removesuffix(" ..."))
        if arguments[-1].isupper() or arguments[-1].startswith("--") or "..." in line or page == "commands.md":
            continue  # a pattern or a name, not a command
        programs[program].parse_args(arguments[2:] if program == "python" else arguments)
