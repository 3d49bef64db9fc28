"""Damaged files of every kind give what was in them, or one sentence: nothing else comes out of a reader.

The same inputs at every run; `benchmarks/fuzz.py` has others, by the thousand.
"""

import multiprocessing
import pickle
import sys
import warnings
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from landscape_mpi.errors import UserError
from landscape_mpi.files import isolated

NUMBER = st.integers(0, 2**32 - 1)
EDITS = st.lists(st.tuples(NUMBER, NUMBER, NUMBER), min_size=1, max_size=8)
IN_A_TRIAL = (
    "surface",
    "surface of another tool",
    "plane of losscape",
    "plane of landscaper",
    "path of another tool",
    "directions",
    "training history",
)
SYNCED = ("shard, merged first", "shard, merged second")
AT_ONCE = (
    *("job", "CIFAR-10, pickled", "CIFAR-10, binary"),
    *("checkpoint .pt", "checkpoint of old torch", "checkpoint .safetensors", "state of a training"),
    *("checkpoint .pt with arguments", "checkpoint of old torch with arguments", "index of shards"),
    "config of a model",
    *("journal", "journal, checksum mended", "plan", "plan, checksum mended"),
)
SECONDS = 60
EXAMPLES = dict.fromkeys(AT_ONCE, 300) | dict.fromkeys(IN_A_TRIAL, 150) | dict.fromkeys(SYNCED, 60)


@pytest.fixture(autouse=True)
def one_server(monkeypatch):
    """Files are read by forks of the server, as on ranks: forks of this process, with torch in it, take twice as long.

    What never ends takes 2 s of processor time; a sound file takes a hundredth of one.
    """
    monkeypatch.setitem(sys.modules, "mpi4py.MPI", sys)
    monkeypatch.setattr(isolated, "SECONDS", 2)


@pytest.fixture(scope="module")
def valid(mutants, tmp_path_factory):
    """A folder with a valid file of each kind, and its bytes."""
    made = {}
    for name, subject in mutants.SUBJECTS.items():
        folder = tmp_path_factory.mktemp("valid")
        subject.make(folder)
        made[name] = folder, (folder / subject.file).read_bytes()
    return made


def test_every_subject_is_damaged_here(mutants):
    assert set(EXAMPLES) == set(mutants.SUBJECTS)


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_file_itself_is_read(mutants, valid, name):
    folder, data = valid[name]
    subject = mutants.SUBJECTS[name]
    assert subject.damaged(data, []) == data
    subject.read(folder)


def edits_of(name):
    """The same lists of edits at every run."""
    made = []

    @settings(max_examples=EXAMPLES[name], derandomize=True, database=None)
    @given(EDITS)
    def collect(edits):
        made.append(edits)

    collect()
    return made


def said(name, folder, edits, data):
    """What the reader says of a damaged file, "" where it reads it; anything but a UserError comes out of here."""
    subject = sys.modules["mutants"].SUBJECTS[name]
    (folder / subject.file).write_bytes(subject.damaged(data, edits))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            subject.read(folder)
    except UserError as error:
        return str(error)
    except BaseException as error:
        error.add_note(f"{name}, damaged by {edits}")
        raise
    return ""


def read_here():
    """Have this process itself read what is otherwise read by a fork of it."""

    def answer(_, read, arguments):
        try:
            return 0, pickle.dumps((read(*arguments), None))
        except Exception as error:
            return 0, pickle.dumps((None, error))

    isolated._forked = isolated._served = answer


def said_by_one_process(name, folder, many, data):
    """What `said` returns for each of many damaged files, read by one process that is replaced where a file ends it.

    Such a file is then read as users read it, by a process of its own.
    """
    left, fork = list(many), multiprocessing.get_context("fork")
    while left:
        with ProcessPoolExecutor(1, fork, read_here) as pool:
            try:
                while left:
                    yield pool.submit(said, name, folder, left[0], data).result(timeout=SECONDS)
                    left.pop(0)
            except (BrokenProcessPool, TimeoutError):
                for process in list(pool._processes.values()):
                    process.kill()
                yield said(name, folder, left.pop(0), data)


@pytest.mark.slow
@pytest.mark.parametrize("name", EXAMPLES)
def test_damage_gives_one_sentence_or_nothing(mutants, valid, name):
    folder, data = valid[name]
    if name in AT_ONCE:
        found = [said(name, folder, edits, data) for edits in edits_of(name)]
    else:
        found = list(said_by_one_process(name, folder, edits_of(name), data))
    (folder / mutants.SUBJECTS[name].file).write_bytes(data)
    assert len(found) >= EXAMPLES[name] / 2
    refused = [sentence for sentence in found if sentence]
    assert refused or name.startswith(("journal, c", "plan, c"))
    assert all(sentence.isprintable() for sentence in refused)
