"""`--set KEY=VALUE` in place of what a job file says: read as in the file, refused as in the file, recorded."""

import re
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from landscape_mpi.errors import UserError
from landscape_mpi.job import TEMPLATE, SweepJob, TrainJob, load_job, read_job
from landscape_mpi.job.settings import with_settings
from landscape_mpi.job.text import plain_yaml
from support.jobs import TINY, changed, tiny_job

HERE = Path("job.yaml")


@pytest.fixture
def path(tmp_path):
    return tiny_job(tmp_path)


@pytest.mark.parametrize(
    ("setting", "key", "value"),
    [
        ("grid.alpha=[-1, 1, 5]", "grid.alpha", [-1, 1, 5]),
        ("plane.seed=4", "plane.seed", 4),
        ("output.file=x=y.h5", "output.file", "x=y.h5"),
        ("grid.beta=null", "grid.beta", None),
        ("grid.beta=", "grid.beta", None),
        ("sampling.error=0.05", "sampling.error", 0.05),
        ("data.options.images=8", "data.options.images", 8),
        ("data.options.deep.er='é: 1'", "data.options.deep", {"er": "é: 1"}),
        ("plane={kind: random, seed: 9}", "plane", {"kind": "random", "seed": 9}),
    ],
)
def test_a_setting_is_what_the_file_would_say(path, setting, key, value):
    job = load_job(path, SweepJob, [setting])
    text = yaml.safe_dump(changed(TINY, {key: value} if value is not None else {key: None}))
    assert job.values == read_job(text, path, SweepJob).values
    assert job.path == path
    assert job.settings == (setting,)


def test_the_recorded_text_is_the_job_with_the_settings_applied(path):
    settings = ["plane.seed=4", "grid.alpha=[0, 1, 3]", "plane.seed=5"]
    job = load_job(path, SweepJob, settings)
    assert job.values.plane.seed == 5  # the last one counts
    assert (
        job.text.splitlines()[0] == "# job.yaml with --set plane.seed=4 --set grid.alpha=[0, 1, 3] --set plane.seed=5"
    )
    assert read_job(job.text, path, SweepJob).values == job.values
    assert load_job(path, SweepJob).text == path.read_text()


def test_settings_change_a_job_of_train(tmp_path):
    text = "model: {build: resnet20}\ndata: {build: shapes10}\ntrain: {output: nets, epochs: 3}\n"
    (tmp_path / "job.yaml").write_text(text)
    assert load_job(tmp_path / "job.yaml", TrainJob, ["train.lr=0.5"]).values.train.lr == 0.5


@pytest.mark.parametrize(
    ("key", "value"),
    [("plane.sed", "3"), ("plan.seed", "3"), ("grid.alpha", "[1, 2]"), ("grid.alpha", "[0, 1, x]"), ("loss", "[1]"),
     ("sampling.error", "1e-2"), ("metrics", "[los, loss]")],
)  # fmt: skip
def test_a_mistake_is_the_sentence_of_the_file_and_says_that_it_came_from_set(path, key, value):
    with pytest.raises(UserError) as of_the_setting:
        load_job(path, SweepJob, ["plane.normalize=layer", f"{key}={value}"])
    path.write_text(yaml.safe_dump(changed(TINY, {key: yaml.safe_load(value)})))
    with pytest.raises(UserError) as of_the_file:
        load_job(path, SweepJob)
    assert str(of_the_setting.value).partition(": ") == ("--set", ": ", str(of_the_file.value).partition(": ")[2])


def test_a_mistake_that_no_setting_names_says_which_settings_there_were(path):
    with pytest.raises(UserError, match=r"job.yaml with --set plane.kind=pca: plane.seed: unknown key"):
        load_job(path, SweepJob, ["plane.kind=pca"])
    path.write_text("model: [")
    with pytest.raises(UserError, match=r"job.yaml, line 1: not readable as plain YAML"):
        load_job(path, SweepJob, ["plane.seed=1"])


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("plane.seed", "expected KEY=VALUE with a key of the job, such as plane.seed=3"),
        ("=3", "expected KEY=VALUE"),
        ("plane..seed=3", "expected KEY=VALUE"),
        ("x" * 1000, "expected KEY=VALUE"),
        ("loss.name=mse", "loss.name: loss has no keys in .*job.yaml, where it is 'tiny:cross_entropy'"),
        ("grid.alpha.points=5", r"set all of it, as in --set 'grid.alpha=\{points: ...\}'"),
        ("plane.seed=[1", "--set plane.seed, line 1: not readable as plain YAML"),
        ("plane.seed=!!python/name:os.system x", "a tag .* is not read here"),
        ("plane=&a [*a]", "an alias"),
        ("plane={seed: 1, seed: 2}", "appears twice"),
        ("plane.seed=" + "9" * 101, "expected at most 100"),
        ("plane.\udcff=1", "not read|unknown key|not readable"),
        ("plane.seed=\udcff", "not readable as plain YAML"),
        (".".join("a" * 3000) + "=1", "nested too deeply"),
        ("a=[" + "1," * 20_000 + "]", "more than 20,000 values"),
    ],
)
def test_what_is_no_setting_is_one_sentence(path, setting, words):
    with pytest.raises(UserError) as mistake:
        load_job(path, SweepJob, [setting])
    assert re.search(words, str(mistake.value)), str(mistake.value)
    assert len(str(mistake.value)) < 1000
    str(mistake.value).encode()


PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**20), 10**20) | st.floats() | st.text(max_size=8) | st.dates(),
    lambda part: st.lists(part, max_size=3) | st.dictionaries(st.text(max_size=8), part, max_size=3),
    max_leaves=6,
)


@pytest.mark.slow
@given(PLAIN, st.text("abc=<!~", min_size=1, max_size=4))
def test_any_value_is_recorded_as_it_was_read(value, key):
    text = yaml.safe_dump(value, allow_unicode=True)
    read = plain_yaml(text, "here")
    again = plain_yaml(with_settings(TEMPLATE, HERE, [f"data.options.{key.replace('=', 'e')}={text}"]), "here")
    assert repr(again["data"]["options"][key.replace("=", "e")]) == repr(read)
