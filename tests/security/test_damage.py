"""Damaged files of every kind give what was in them, or one sentence: nothing else comes out of a reader.

The same inputs at every run; `benchmarks/fuzz.py` has others, by the thousand.
"""

import sys
import warnings

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
    *("journal", "journal, checksum mended", "plan", "plan, checksum mended"),
)
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


@pytest.mark.parametrize("name", EXAMPLES)
def test_damage_gives_one_sentence_or_nothing(mutants, valid, name):
    folder, data = valid[name]
    subject = mutants.SUBJECTS[name]
    path, refused = folder / subject.file, []

    @settings(max_examples=EXAMPLES[name], derandomize=True, database=None)
    @given(EDITS)
    def damage(edits):
        path.write_bytes(subject.damaged(data, edits))
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                subject.read(folder)
        except UserError as error:
            refused.append(str(error))

    damage()
    path.write_bytes(data)
    assert refused or name.startswith(("journal, c", "plan, c"))
    assert all(sentence.isprintable() for sentence in refused)
