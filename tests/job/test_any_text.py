"""Whatever a job file holds: values, or one sentence; and a job is the same experiment as itself."""

import random
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from landscape_mpi.errors import UserError, render
from landscape_mpi.files.untrusted import MAX_VALUES
from landscape_mpi.job import TEMPLATE, SweepJob, TrainJob, difference, read_job
from landscape_mpi.job.checks import MOST_POINTS
from landscape_mpi.job.compare import experiment
from landscape_mpi.job.text import MOST, parse
from support.jobs import TINY, changed

HERE = Path("job.yaml")
PIECES = [
    *("\\UFFFFFFFF", "\\ud800", "\\x0", "\\0", '"', "'", "<<: {a: 1}", "<<", "!!binary x", "!!set {a, b}", "!t 1"),
    *("0x", "0b1", "0o7", "1:1:1", "1:1.5", "9" * 99, "9" * 4400, "0x" + "f" * 5000, "1e400", ".nan", "-.inf", "-0.0"),
    *("2001-99-99", "0001-01-01 00:00:00 +23:59", "2001-01-01T00:00:00+99:99", "? [a]\n: b", "? {a: b}\n: c", "- "),
    *(
        "]",
        "}",
        ": ",
        ", ",
        "|\n",
        ">\n",
        "%YAML 9.9\n",
        "%TAG ! a\n",
        "---\n",
        "...\n",
        "\t",
        "#",
        "=",
        "\x85",
        "\u2028",
    ),
    *("1: 2", "true: 1", ".nan: 1", "~: 1", "1.5: a", "kind: pca", "alpha: [1, 1, 3]", "options: {1: 2}", "`", "@"),
    *("&a", "*a", "~", "[", "{", "\ufeff", "plane:", "[" * 500, "- " * 500),
]
"""What PyYAML, Python or msgspec stumble over, to be put anywhere into a job."""


def damaged(seed):
    """A job with up to five pieces put in, or put in place of what was there, or parts of it cut out."""
    chance, text = random.Random(seed), yaml.safe_dump(TINY, sort_keys=False)
    for _ in range(chance.randint(1, 5)):
        start = chance.randrange(len(text) + 1)
        stop = start + chance.choice([0, 0, 1, 3, 20])
        text = text[:start] + chance.choice([*PIECES, ""]) + text[stop:]
    return text


def read(text, kind):
    """What a job's text says; None where it is refused in one sentence of a bearable length."""
    try:
        return read_job(text, HERE, kind).values
    except UserError as error:
        sentence = str(error)
    assert sentence.startswith("job.yaml")
    assert len(sentence) < 1500
    return None


@pytest.mark.slow
@pytest.mark.parametrize("kind", [SweepJob, TrainJob])
def test_a_damaged_job_is_values_or_a_sentence(kind):
    for seed in range(1500):
        read(damaged(seed), kind)


@pytest.mark.slow
@given(st.text(max_size=80))
def test_any_text_is_a_job_or_a_sentence(text):
    read(text, SweepJob)


KEYS = st.text(max_size=5) | st.integers() | st.floats() | st.booleans() | st.none()
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.dates(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3),
    max_leaves=8,
)


@pytest.mark.slow
@given(st.dictionaries(st.text(max_size=5), VALUES, max_size=4))
def test_a_job_with_any_options_is_the_same_experiment_as_itself(options):
    text = yaml.safe_dump(changed(TINY, {"model.options": options}), sort_keys=False)
    one, other = read(text, SweepJob), read(text, SweepJob)
    if one is not None and other is not None:
        assert difference(one, other) is None
        assert all(isinstance(key, str) for key in experiment(one))


@pytest.mark.parametrize(
    ("one", "other", "key"),
    [
        ({"a": float("nan")}, {"a": 0.0}, "model.options.a"),
        ({"a": 1}, {"a": True}, "model.options.a"),
        ({"a": 1}, {"a": 1.0}, "model.options.a"),
        ({"a": {}}, {}, "model.options.a"),
        ({"a": {1: 2}}, {"a": {1: 3}}, "model.options.a.1"),
        ({"a": [{1: 2, "b": 3}]}, {"a": [{1: 2, "b": 4}]}, "model.options.a"),
    ],
)
def test_other_options_are_another_experiment(one, other, key):
    jobs = [read(yaml.safe_dump(changed(TINY, {"model.options": each})), SweepJob) for each in (one, other)]
    assert render(difference(*jobs)).startswith(f"{key}: the file has ")


@pytest.mark.slow
@pytest.mark.parametrize(
    "text",
    [
        "a: 1" + ":1" * 499_000,
        pytest.param("a: 0x" + "f" * 999_000, marks=pytest.mark.slow),
        pytest.param("a: 0b" + "1" * 999_000, marks=pytest.mark.slow),
        pytest.param("a: 0" + "7" * 999_000, marks=pytest.mark.slow),
        "a: -" + "9" * 999_000,
        pytest.param("a: 1." + "9" * 999_000, marks=pytest.mark.slow),
        "? " + "9" * 999_000 + "\n: 1",
    ],
    ids=["sexagesimal", "hexadecimal", "binary", "octal", "decimal", "float", "key"],
)
def test_a_number_of_a_megabyte_is_never_read_as_one(text):
    with pytest.raises(UserError, match=r"a number of [\d,]+ characters; expected at most 100"):
        parse(text, HERE)


@pytest.mark.slow
def test_a_file_of_more_values_than_a_page_holds_is_refused():
    assert len(parse("a: [" + "1, " * (MOST - 4) + "1]", HERE)["a"]) == MOST - 3
    with pytest.raises(UserError, match="there are more than 20,000 values"):
        parse("a: [" + "1, " * MOST + "1]", HERE)


def test_no_reader_takes_fewer_points_than_a_job_may_have():
    assert MOST_POINTS == MAX_VALUES


def test_the_template_reads_as_before():
    assert parse(TEMPLATE, HERE) == yaml.safe_load(TEMPLATE)
