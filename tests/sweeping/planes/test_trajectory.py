"""The path of a training run, by the real command: components, projections, the grid, and what makes it the same."""

import math
import shutil

import h5py
import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from landscape_mpi.errors import UserError
from landscape_mpi.job import SweepJob, load_job
from landscape_mpi.mpi.world import Solo
from landscape_mpi.surface.training import EpochRecord, write_history
from landscape_mpi.sweeping.check import check
from landscape_mpi.sweeping.load import JobSource, load_experiment
from landscape_mpi.sweeping.planes.build import build_plane
from landscape_mpi.sweeping.planes.trajectory import in_order
from support import tiny
from support.jobs import done, results, tiny_job
from support.launch import launch

POINTS = 7
PCA = {"kind": "pca", "trajectory": "run/epoch-*.safetensors"}
SMALL = {"alpha": [-1, 1, 3], "beta": [-1, 1, 3]}


def state(seed, size=1.0):
    generator = torch.Generator().manual_seed(seed)
    return {name: size * torch.randn(t.shape, generator=generator) for name, t in tiny.network().state_dict().items()}


def write_run(folder, points=POINTS, ending="safetensors", seed=0):
    """Checkpoints on a curve that ends in net.pt; biases wander on their own."""
    theta = torch.load(folder / "net.pt", weights_only=True)
    u, w = state(11), state(12)
    (folder / "run").mkdir(exist_ok=True)
    for epoch in range(points):
        t = 1 - epoch / (points - 1) if points > 1 else 1.0
        noise = state(100 * seed + epoch, 0.05 * t)
        there = {n: x + 3 * t * u[n] + math.sin(3 * t) * w[n] + noise[n] for n, x in theta.items()}
        path = folder / "run" / f"epoch-{epoch:04d}.{ending}"
        if ending == "safetensors":
            save_file(there, path)
        else:
            torch.save({"state_dict": {f"module.{name}": tensor for name, tensor in there.items()}}, path)


def job_in(folder, plane=PCA, **changes):
    job = tiny_job(folder, plane=plane, **changes)
    if not (folder / "run").exists():
        write_run(folder)
    return job


def stored(path, group="trajectory"):
    with h5py.File(path, "r", locking=False) as file:
        return {name: item[()] for name, item in file[group].items()}


def directions(path):
    with h5py.File(path, "r", locking=False) as file:
        return [
            np.concatenate([g[str(i)][()].ravel() for i in range(len(g))])
            for g in (file["xdirection"], file["ydirection"])
        ]


def flat(direction):
    return np.concatenate([tensor.double().numpy().ravel() for tensor in direction.values()])


def rows(folder):
    """theta_i - theta over all parameters, zero in biases."""
    theta = torch.load(folder / "net.pt", weights_only=True)
    found = []
    for path in sorted((folder / "run").glob("*.safetensors")):
        there = load_file(path)
        parts = [(there[n].double() - theta[n].double()) * (theta[n].dim() > 1) for n in theta]
        found.append(np.concatenate([part.numpy().ravel() for part in parts]))
    return np.array(found)


def built(job):
    """The plane of a job and its identity with the path on it, as one process finds them, without a sweep."""
    loaded = load_job(job, SweepJob)
    experiment = load_experiment(loaded, JobSource(loaded), "cpu", Solo())
    return build_plane(Solo(), experiment, 0, None)[1:]


def sweep_share(folder, ranks=None):
    """Sweep 14 points of the job whose grid is left out, and merge them."""
    job, surface = job_in(folder, grid=None, data__splits=["train"]), folder / "surface.h5"
    run = launch("sweep", job, "--shard", "0/200", ranks=ranks)
    assert run.returncode == 0, run.stderr
    assert launch("merge", surface, folder / "surface.shard-0-of-200.h5").returncode == 75
    return surface


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """A folder with a job whose grid is left out, begun by one process."""
    folder = tmp_path_factory.mktemp("pca")
    sweep_share(folder)
    return folder


@pytest.mark.slow
def test_the_path_is_the_projection_on_the_components_of_the_full_matrix(alone):
    path, (delta, eta), matrix = stored(alone / "surface.h5"), directions(alone / "surface.h5"), rows(alone)
    centred = matrix[:-1] - matrix[:-1].mean(axis=0)  # the last one is theta itself
    _, lengths, axes = np.linalg.svd(centred, full_matrices=False)
    assert abs(axes[0] @ delta) == pytest.approx(1, abs=1e-6)
    assert abs(axes[1] @ eta) == pytest.approx(1, abs=1e-6)
    np.testing.assert_allclose(path["alpha"], matrix @ delta, atol=1e-5)
    np.testing.assert_allclose(path["beta"], matrix @ eta, atol=1e-5)
    off = matrix - np.outer(path["alpha"], delta) - np.outer(path["beta"], eta)
    np.testing.assert_allclose(path["residual"], np.linalg.norm(off, axis=1), atol=1e-6)
    assert [path[name][-1] for name in ("alpha", "beta", "residual")] == [0, 0, 0]
    assert path["epoch"].tolist() == list(range(POINTS))
    with h5py.File(alone / "surface.h5") as file:
        shares = file["trajectory"].attrs["explained_variance_ratio"]
    np.testing.assert_allclose(shares, (lengths**2 / (lengths**2).sum())[:2], rtol=1e-10)


def test_the_grid_that_is_left_out_holds_the_path_with_room(alone):
    path = stored(alone / "surface.h5")
    with h5py.File(alone / "surface.h5") as file:
        axes = {"alpha": file["xcoordinates"][()], "beta": file["ycoordinates"][()]}
    for name, axis in axes.items():
        assert len(axis) == 51
        extent = np.ptp(path[name])
        for room in (path[name].min() - axis[0], axis[-1] - path[name].max()):
            assert 0.15 * extent <= room < 0.26 * extent


@pytest.mark.slow
def test_its_number_of_points_may_be_set(alone):
    """The same ranges with other points; a sweep that goes on finds them again."""
    job = alone / "coarse.yaml"
    job.write_text((alone / "job.yaml").read_text().replace("surface.h5", "coarse.h5") + "grid: {points: 3}\n")
    for _ in range(2):
        run = launch("sweep", job)
        assert run.returncode == 0, run.stderr
    with h5py.File(alone / "coarse.h5") as coarse, h5py.File(alone / "surface.h5") as file:
        for name in ("xcoordinates", "ycoordinates"):
            assert len(coarse[name]) == 3
            np.testing.assert_array_equal(coarse[name][()], file[name][()][[0, 25, 50]])
    assert "all 9 points are there" in run.stderr


@pytest.mark.slow
def test_check_and_info_show_what_was_chosen(alone):
    said = check(alone / "job.yaml", "cpu")
    assert f"{POINTS} checkpoints, epochs 0 to {POINTS - 1}" in said
    assert "14 of 2601 points are there" in said
    with h5py.File(alone / "surface.h5") as file:
        first, last = file["xcoordinates"][0], file["xcoordinates"][-1]
    assert f"alpha {first:g} to {last:g} in 51 points" in said
    told = launch("info", alone / "surface.h5").stdout
    assert f"{POINTS} checkpoints, epochs 0 to {POINTS - 1}" in told
    assert "% by component" in told


@pytest.mark.mpi
def test_three_ranks_have_the_same_bits(tmp_path, alone):
    ours, theirs = sweep_share(tmp_path, ranks=3), alone / "surface.h5"
    assert results(ours) == results(theirs)
    for group in ("trajectory", "xdirection", "ydirection"):
        one, other = stored(ours, group), stored(theirs, group)
        assert {name: values.tobytes() for name, values in one.items()} == {n: v.tobytes() for n, v in other.items()}


@pytest.mark.slow
def test_a_sweep_that_goes_on_finds_the_same_grid_and_plane(tmp_path, alone):
    """A share of its points is merged with one of an earlier run."""
    shutil.copytree(alone, tmp_path, dirs_exist_ok=True)
    assert launch("sweep", tmp_path / "job.yaml", "--shard", "100/200").returncode == 0
    shards = [tmp_path / f"surface.shard-{index}-of-200.h5" for index in (0, 100)]
    assert launch("merge", tmp_path / "surface.h5", *shards).returncode == 75
    assert "27 of 2601 points are there" in check(tmp_path / "job.yaml", "cpu")


@pytest.mark.slow
def test_the_grid_may_be_written_out_and_the_checkpoints_may_move(tmp_path, alone):
    for name in ("run", "surface.h5", "net.pt"):
        copy = shutil.copytree if (alone / name).is_dir() else shutil.copy
        copy(alone / name, tmp_path / ("elsewhere" if name == "run" else name))
    with h5py.File(tmp_path / "surface.h5") as file:
        x, y = file["xcoordinates"][()], file["ycoordinates"][()]
    grid = {"alpha": [float(x[0]), float(x[-1]), 51], "beta": [float(y[0]), float(y[-1]), 51]}
    plane = {**PCA, "trajectory": "else*/*[0-9].safetensors"}
    assert "14 of 2601" in check(tiny_job(tmp_path, plane=plane, grid=grid, data__splits=["train"]), "cpu")
    grid["beta"][2] = 41
    with pytest.raises(UserError, match=r"grid\.beta: .* \(a coarser grid over the same plane\)"):
        check(tiny_job(tmp_path, plane=plane, grid=grid, data__splits=["train"]), "cpu")


@pytest.mark.slow
def test_other_checkpoints_are_another_experiment(tmp_path, alone):
    shutil.copytree(alone, tmp_path, dirs_exist_ok=True)
    write_run(tmp_path, seed=1)
    with pytest.raises(UserError, match=r"holds another sweep: (grid\.\w+|plane): "):
        check(tmp_path / "job.yaml", "cpu")


@pytest.mark.slow
def test_a_path_is_part_of_the_experiment_where_it_decides_no_direction(tmp_path):
    job = job_in(tmp_path, plane={"kind": "random", "trajectory": PCA["trajectory"]}, grid=SMALL)
    assert launch("sweep", job).returncode == 0
    without = tiny_job(tmp_path, name="without.yaml", plane={"kind": "random"}, grid=SMALL)
    write_run(tmp_path, seed=1)
    for other in (job, without):
        with pytest.raises(UserError, match=r"plane\.trajectory: it was made from other checkpoints, or none"):
            check(other, "cpu")


def test_random_planes_take_a_path_as_well(tmp_path):
    """As in Figure 8 of the paper: nearly all of it lies off the plane."""
    random = {"kind": "random", "seed": 3}
    plane, identity = built(job_in(tmp_path, plane={**random, "trajectory": PCA["trajectory"]}, grid=SMALL))
    same, plain = built(tiny_job(tmp_path, plane=random, grid=SMALL))
    assert plain.trajectory is None
    assert same.fingerprint() == plane.fingerprint()
    axes = np.array([*map(flat, plane.directions)])
    path, matrix = identity.trajectory, rows(tmp_path)
    expected = np.linalg.lstsq(axes.T, matrix.T)[0]
    np.testing.assert_allclose([path.alpha, path.beta], expected, atol=1e-9)
    np.testing.assert_allclose(path.residual, np.linalg.norm(matrix - expected.T @ axes, axis=1), atol=1e-9)
    assert path.explained == ()


def test_planes_of_files_take_a_path_as_well(tmp_path, alone):
    shutil.copytree(alone, tmp_path, dirs_exist_ok=True)
    plane = {"kind": "file", "path": "surface.h5", "trajectory": PCA["trajectory"]}
    path = built(tiny_job(tmp_path, plane=plane, grid=SMALL, output__file="f.h5"))[1].trajectory
    np.testing.assert_allclose(path.alpha, stored(tmp_path / "surface.h5")["alpha"], atol=1e-12)


@pytest.mark.slow
def test_a_line_takes_one_component(tmp_path):
    (found, line), (_, plane) = (built(job_in(tmp_path, grid=grid)) for grid in ({"alpha": [-1, 1, 3]}, SMALL))
    assert len(found.directions) == 1
    assert line.trajectory.beta is None
    assert line.trajectory.explained == plane.trajectory.explained[:1]
    np.testing.assert_allclose(line.trajectory.alpha, plane.trajectory.alpha, rtol=1e-7)


@pytest.mark.slow
def test_torch_files_give_the_same_plane(tmp_path):
    job_in(tmp_path)
    write_run(tmp_path, ending="pt")
    patterns = [f"run/epoch-*.{ending}" for ending in ("safetensors", "pt")]
    (plane, one), (same, other) = (
        built(tiny_job(tmp_path, plane={**PCA, "trajectory": pattern})) for pattern in patterns
    )
    assert plane.fingerprint() == same.fingerprint()
    assert one.fingerprints == other.fingerprints
    assert one.trajectory.residual.tobytes() == other.trajectory.residual.tobytes()


@pytest.mark.slow
def test_the_history_beside_the_checkpoints_gives_loss_and_learning_rate(tmp_path):
    job = job_in(tmp_path, grid=SMALL)
    rates = [math.nan, 0.1, 0.1, 0.1, 0.01, 0.01]
    nothing = (math.nan,) * 3
    records = [EpochRecord(epoch, 2.0 - epoch / 10, *nothing, lr, 1.0) for epoch, lr in enumerate(rates)]
    write_history(tmp_path / "run" / "history.h5", records)
    path = built(job)[1].trajectory
    np.testing.assert_array_equal(path.lr, [*rates, math.nan])
    np.testing.assert_allclose(path.train_loss, [*(2.0 - np.arange(6) / 10), math.nan])
    assert path.epoch[path.drops].tolist() == [3]


def test_epochs_order_checkpoints_whatever_their_names(tmp_path):
    def order(*names):
        return [(epoch, path.name) for epoch, path in in_order([tmp_path / name for name in names])]

    assert order("model_10.t7", "model_9.t7") == [(9, "model_9.t7"), (10, "model_10.t7")]
    assert order("net_epoch-2_lr0.1.pt", "net_epoch-1_lr0.01.pt") == [
        (1, "net_epoch-1_lr0.01.pt"),
        (2, "net_epoch-2_lr0.1.pt"),
    ]
    assert order("last.pt", "first.pt") == [(0, "first.pt"), (1, "last.pt")]
    same = [tmp_path / folder / "epoch-1.pt" for folder in ("b", "a")]
    assert [path for _, path in in_order(same)] == same[::-1]


@pytest.mark.parametrize(
    "names",
    [
        ["epoch-3-acc-0.91.pt", "epoch-20-acc-0.42.pt"],
        ["ckpt_e2_loss0.5.pt", "ckpt_e10_loss0.25.pt"],
        ["resnet50-ep2-val_acc=0.71.ckpt", "resnet50-ep11-val_acc=0.08.ckpt"],
        ["step_900_loss_2.10.pt", "step_1000_loss_1.05.pt"],
        ["model_9_acc0.912.pt", "model_10_acc0.071.pt"],
        ["3-0.91.pt", "12-0.05.pt"],
    ],
)
def test_a_metric_in_a_name_is_no_epoch(tmp_path, names):
    assert [path.name for _, path in in_order([tmp_path / name for name in reversed(names)])] == names


@pytest.mark.slow
def test_several_runs_on_one_plane(tmp_path):
    job = job_in(tmp_path, {"kind": "pca", "trajectory": ["run/epoch-*.safetensors", "other/epoch-*.safetensors"]})
    (tmp_path / "run").rename(tmp_path / "other")
    write_run(tmp_path, points=4, seed=1)
    path = built(job)[1].trajectory
    first, second = path.runs
    assert (path.names, first.names, second.names) == (("run", "other"), ("run",), ("other",))
    assert (first.epoch.tolist(), second.epoch.tolist()) == ([*range(4)], [*range(POINTS)])
    alone = job_in(tmp_path, {"kind": "random", "trajectory": "other/epoch-*.safetensors"}, grid=SMALL)
    both = job_in(
        tmp_path, {"kind": "random", "trajectory": ["run/epoch-*", "other/epoch-*"]}, grid=SMALL, name="b.yaml"
    )
    one, two = (built(job)[1] for job in (alone, both))
    np.testing.assert_array_equal(one.trajectory.alpha, two.trajectory.runs[1].alpha)
    assert one.fingerprints != two.fingerprints


def no_file(folder):
    shutil.rmtree(folder / "run")


def other_network(folder):
    save_file({"0.weight": torch.zeros(9, 4)}, folder / "run" / "epoch-0003.safetensors")


def diverged(folder):
    there = state(1)
    there["2.weight"][0, 0] = math.nan
    save_file(there, folder / "run" / "epoch-0003.safetensors")


def keep(count):
    def cut(folder):
        for path in sorted((folder / "run").iterdir())[count:]:
            path.unlink()

    return cut


def only_theta(folder):
    keep(0)(folder)
    save_file(torch.load(folder / "net.pt", weights_only=True), folder / "run" / "epoch-0000.safetensors")


def text(folder):
    (folder / "run" / "epoch-0002.safetensors").write_text("hello")


def no_history(folder):
    (folder / "run" / "history.h5").write_text("hello")


BAD = {
    "no file": (no_file, r"plane\.trajectory: no file matches 'run/epoch-\*\.safetensors' in "),
    "another network": (other_network, r"plane\.trajectory: \S*epoch-0003\.safetensors is of another network than"),
    "diverged": (diverged, r"plane\.trajectory: \S*epoch-0003\.safetensors holds NaN or inf in `2\.weight`"),
    "no checkpoint": (text, r"plane\.trajectory: \S*epoch-0002\.safetensors is not a safetensors file"),
    "one checkpoint": (keep(1), r"plane\.trajectory: found 1 checkpoint other than model\.checkpoint"),
    "two for a plane": (keep(2), r"found 2 checkpoints .* a plane needs three checkpoints that do not lie on a line"),
    "theta alone": (only_theta, r"plane\.trajectory: found 0 checkpoints other than model\.checkpoint"),
    "no history": (no_history, r"history\.h5: cannot be read as a training history"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_is_wrong_with_a_trajectory_is_one_sentence(tmp_path, name):
    spoil, message = BAD[name]
    job = job_in(tmp_path, grid=None)
    spoil(tmp_path)
    before = {path for path in tmp_path.rglob("*") if "__pycache__" not in path.parts}
    with pytest.raises(UserError, match=message) as caught:
        check(job, "cpu")
    assert "\n" not in str(caught.value)
    assert {path for path in tmp_path.rglob("*") if "__pycache__" not in path.parts} == before


@pytest.mark.mpi
def test_a_mistake_that_rank_0_alone_sees_ends_all_ranks(tmp_path):
    job = job_in(tmp_path, grid=None)
    no_file(tmp_path)
    run = launch("sweep", job, ranks=2)
    assert run.returncode == 2
    assert run.stderr.count("plane.trajectory: no file matches") == 1
    assert done(tmp_path / "surface.h5") == 0


@pytest.mark.slow
def test_a_random_plane_cannot_choose_its_grid(tmp_path):
    job = job_in(tmp_path, plane={"kind": "random", "trajectory": PCA["trajectory"]}, grid=None)
    with pytest.raises(UserError, match="grid: the key is missing; it is required"):
        check(job, "cpu")
