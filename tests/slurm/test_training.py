"""train.sbatch: networks side by side, which a warning stops and SLURM takes up again."""

import pytest

from support.jobs import TINY, write_job
from support.launch import launch
from support.waiting import wait_for

pytestmark = [pytest.mark.slurm, pytest.mark.mpi, pytest.mark.slow]
SEEDS = (0, 1)


def training(folder, seed):
    """A job that trains the tiny network into a folder named after its seed; returns that folder."""
    output = f"seed{seed}"
    train = {"output": output, "epochs": 6, "batch": 8, "augment": False, "seed": seed}
    write_job(folder / f"{output}.yaml", {**{key: TINY[key] for key in ("model", "data", "loss")}, "train": train})
    return folder / output


def checkpoints(folder):
    return {path.name: path.read_bytes() for path in folder.glob("epoch-*.safetensors")}


def test_a_warned_training_queues_itself_again_and_ends_with_the_same_bits(slurm, folder, submit):
    nets = [training(folder, seed) for seed in SEEDS]
    undisturbed = []
    for net in nets:
        assert launch("train", f"{net}.yaml").returncode == 0
        undisturbed.append(checkpoints(net))
        net.rename(f"{net}-undisturbed")
    arguments = [f"{net.name}.yaml" for net in nets]
    job = submit("train", *arguments, options=["--ntasks=2"], env={"TINY_SLEEP": "0.2"})
    wait_for(lambda: all(len(checkpoints(net)) > 1 for net in nets))
    slurm.command("scancel", "--batch", "--signal=USR1", job)
    module = folder / "tiny.py"
    module.write_text(module.read_text().replace("TINY_SLEEP", "NO_SLEEP"))  # a requeued job keeps its environment
    slurm.wait(job, "PENDING")
    assert all(len(checkpoints(net)) < len(made) for net, made in zip(nets, undisturbed, strict=True))
    slurm.start_requeued(job)
    (ended,) = slurm.wait(job)
    log = (folder / f"landscape-train-{job}.log").read_text()
    assert (ended["JobState"], ended["Restarts"]) == ("COMPLETED", "1"), log
    assert f"stopped in time: {job} queues itself again" in log
    assert [checkpoints(net) for net in nets] == undisturbed


def test_without_a_job_it_says_how_it_is_called(slurm, folder, submit):
    job = submit("train")
    (ended,) = slurm.wait(job)
    assert (ended["JobState"], ended["ExitCode"]) == ("FAILED", "2:0")
    assert (
        "expected: sbatch --ntasks=4 slurm/train.sbatch JOB.YAML..."
        in (folder / f"landscape-train-{job}.log").read_text()
    )
