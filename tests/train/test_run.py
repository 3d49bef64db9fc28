"""The `train` command in processes of its own: stopped by signals, limits and kills; several jobs, on many ranks."""

import random
import signal
import time

import pytest
import yaml
from training import bits

from landscape_mpi.mpi.world import Solo
from landscape_mpi.train import Options, train_jobs
from support.jobs import tiny_job
from support.launch import finish, kill_session, launch, start
from support.waiting import wait_for

pytestmark = pytest.mark.usefixtures("lines_on_stderr")

TRAIN = {"epochs": 4, "batch": 8, "lr": 0.05, "augment": False, "drops": [2]}
SLOW = {"TINY_SLEEP": "0.2", "TINY_CALLS": "16"}
"""Five batches an epoch: the first takes a second, and from the second on a batch takes two."""


def train_job(folder, name="job", **changes):
    """Write a job that trains the tiny network into nets/NAME."""
    return tiny_job(folder, f"{name}.yaml", train={"output": f"nets/{name}", **TRAIN, **changes}, plane=None, grid=None)


def begun(folder, epoch, *args, **options):
    """Start a training and wait for a checkpoint of it."""
    process = start("train", *args, **options)
    wait_for(lambda: (folder / f"epoch-{epoch:04d}.safetensors").exists() or process.poll() is not None)
    assert process.poll() is None
    return process


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """The checkpoints of the tiny training."""
    folder = tmp_path_factory.mktemp("undisturbed")
    run = launch("train", train_job(folder))
    assert run.returncode == 0, run.stderr
    assert run.stdout == f"{folder}/nets/job/epoch-0004.safetensors\n"
    return bits(folder / "nets" / "job")


@pytest.mark.slow
def test_stopped_by_a_signal_and_by_a_limit_it_goes_on_with_the_same_bits(tmp_path, undisturbed):
    job, folder = train_job(tmp_path), tmp_path / "nets" / "job"
    process = begun(folder, 1, job, env=SLOW)
    process.send_signal(signal.SIGTERM)
    process.send_signal(signal.SIGTERM)
    stopped = finish(process, 60), launch("train", job, "--time-limit", "1", env=SLOW)
    for run, reason in zip(stopped, ("SIGTERM", "the time limit"), strict=True):
        assert run.returncode == 75, run.stderr
        assert f"stopped by {reason}; all complete epochs are kept: run the same command again" in run.stderr
        assert "Traceback" not in run.stderr
    assert len(bits(folder)) < 5
    again, nothing = launch("train", job), launch("train", job)
    assert again.returncode == nothing.returncode == 0
    assert "goes on after epoch" in again.stderr
    assert "all 4 epochs are there; nothing to do" in nothing.stderr
    assert bits(folder) == undisturbed


@pytest.mark.slow
def test_two_jobs_of_one_process_killed_at_random_end_with_the_same_bits(tmp_path):
    """A convolutional network on augmented images, by SGD and by Adam."""
    model = {"build": "resnet20", "options": {"width": 2}}
    data = {"build": "shapes10", "options": {"images": 96}}
    trained = {"epochs": 4, "batch": 16, "lr": 0.01, "augment": True}
    folders = {}
    for place in ("killed", "whole"):
        (tmp_path / place).mkdir()
        folders[place] = [train_job(tmp_path / place, kind, optimizer=kind, **trained) for kind in ("sgd", "adam")]
        for path in folders[place]:
            job = yaml.safe_load(path.read_text())
            path.write_text(yaml.safe_dump({**job, "model": model, "data": data, "loss": "cross_entropy"}))
    nets = {place: [tmp_path / place / "nets" / kind for kind in ("sgd", "adam")] for place in folders}
    for which, epoch in ((0, 1), (0, 3), (1, 2)):
        process = begun(nets["killed"][which], epoch, *folders["killed"])
        time.sleep(random.uniform(0, 0.5))
        kill_session(process)
    for place in folders:
        run = launch("train", *folders[place])
        assert run.returncode == 0, run.stderr
        assert [line.split("/")[-2] for line in run.stdout.splitlines()] == ["sgd", "adam"]
    for killed, whole in zip(nets["killed"], nets["whole"], strict=True):
        assert len(bits(whole)) == 5
        assert bits(killed) == bits(whole)


@pytest.mark.mpi
def test_ranks_train_a_job_each_and_one_that_fails_keeps_none_from_ending(tmp_path, undisturbed):
    jobs = [train_job(tmp_path, "diverging", lr=1e30), train_job(tmp_path), train_job(tmp_path, "third", seed=1)]
    run = launch("train", *jobs, "--quiet", ranks=2)
    assert run.returncode == 2
    assert f"{jobs[0]}: error: train.lr: with 1e+30 the loss became" in run.stderr
    assert "Traceback" not in run.stderr
    assert sorted(run.stdout.split()) == [f"{tmp_path}/nets/{name}/epoch-0004.safetensors" for name in ("job", "third")]
    assert bits(tmp_path / "nets" / "job") == undisturbed
    assert len(bits(tmp_path / "nets" / "third")) == 5


@pytest.mark.mpi
def test_a_signal_to_the_launcher_stops_all_ranks_and_one_process_ends_it(tmp_path, undisturbed):
    jobs = [train_job(tmp_path), train_job(tmp_path, "second", seed=1)]
    process = begun(tmp_path / "nets" / "second", 1, *jobs, ranks=2, env=SLOW, fresh=True)
    process.send_signal(signal.SIGUSR1)
    stopped = finish(process, 60)
    assert stopped.returncode == 75, stopped.stderr
    assert all(f"{job}: stopped by SIGUSR1" in stopped.stderr for job in jobs)
    assert launch("train", *jobs).returncode == 0
    assert bits(tmp_path / "nets" / "job") == undisturbed


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ("same.yaml", "job.yaml and {place}/same.yaml both write into {place}/nets/job"),
        ("other/job.yaml", "other/job.yaml: the module tiny beside it is another one than in {place}"),
        ("missing.yaml", "missing.yaml; expected a job file"),
    ],
)
def test_jobs_in_the_way_of_each_other_are_refused_before_anything_is_written(tmp_path, capsys, other, message):
    (tmp_path / "other").mkdir()
    one = train_job(tmp_path)
    train_job(tmp_path, "same", output="nets/job")
    train_job(tmp_path / "other")
    assert train_jobs([one, tmp_path / other], Options(), Solo()) == 2
    assert message.format(place=tmp_path.resolve()) in capsys.readouterr().err
    assert not (tmp_path / "nets").exists()
