"""How many examples at a time: chosen from the memory of a device, and fewer where it runs out."""

import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from landscape_mpi.sweeping.batch_size import IN_FLIGHT, LARGEST, SHARE, SMALLEST, largest_batch
from support.jobs import tiny_job
from support.launch import launch

GB, MB, KB = 10**9, 10**6, 10**3
memories = st.fixed_dictionaries(
    {
        "free": st.integers(0, 200 * GB),
        "ranks": st.integers(1, 16),
        "weights": st.integers(0, 4 * GB),
        "example": st.floats(0, GB) | st.just(float("inf")),
    }
)


@given(memories)
def test_the_batch_is_a_power_of_two_that_fits_with_headroom(memory):
    batch = largest_batch(**memory)
    assert SMALLEST <= batch <= LARGEST
    assert batch.bit_count() == 1
    if batch > SMALLEST:
        needed = IN_FLIGHT * batch * memory["example"] + memory["weights"]
        assert needed * memory["ranks"] <= SHARE * memory["free"] * (1 + 1e-9)


@given(memories, st.integers(2, 8))
def test_more_ranks_or_larger_examples_take_no_larger_batch(memory, factor):
    for name in ("ranks", "example"):
        assert largest_batch(**memory | {name: memory[name] * factor}) <= largest_batch(**memory)


@pytest.mark.parametrize(
    ("memory", "batch"),
    [
        ({"free": 80 * GB, "ranks": 1, "weights": 16 * MB, "example": 300 * KB}, 4096),
        ({"free": 8 * GB, "ranks": 1, "weights": 1600 * MB, "example": MB}, 512),
        ({"free": 8 * GB, "ranks": 4, "weights": 16 * MB, "example": MB}, 256),
        ({"free": 8 * GB, "ranks": 1, "weights": 16 * GB, "example": MB}, 64),
        ({"free": GB, "ranks": 1, "weights": 0, "example": float("inf")}, 64),
    ],
)
def test_what_it_is_on_some_devices(memory, batch):
    assert largest_batch(**memory) == batch


def surface(path):
    with h5py.File(path) as file:
        return {name: file[name][()] for name in ("train_loss", "test_acc", "error", "status")}, dict(file.attrs)


@pytest.mark.slow
def test_out_of_memory_takes_fewer_examples_says_so_once_and_notes_it_at_the_points(tmp_path):
    grid = {"alpha": [-1, 1, 3], "beta": [-1, 1, 2]}
    run = launch("sweep", tiny_job(tmp_path, loss="tiny:hungry", grid=grid))
    assert run.returncode == 0, run.stderr
    assert run.stderr.count("evaluates 8 examples at a time instead of 64, because memory is short.") == 1
    found, attributes = surface(tmp_path / "surface.h5")
    assert attributes["batch"] == 64
    assert set(found["error"].ravel()) == {b"8 examples at a time instead of 64, because memory is short"}
    assert set(found["status"].ravel()) == {1}
    launch("sweep", tiny_job(tmp_path, loss="tiny:hungry", grid=grid, output__file="wide.h5"), env={"TINY_ROOM": "99"})
    undisturbed, _ = surface(tmp_path / "wide.h5")
    np.testing.assert_allclose(found["train_loss"], undisturbed["train_loss"], rtol=1e-6)
    assert np.array_equal(found["test_acc"], undisturbed["test_acc"])
    assert set(undisturbed["error"].ravel()) == {b""}


def test_where_not_even_two_examples_fit_the_error_comes_through(tmp_path):
    run = launch("sweep", tiny_job(tmp_path, loss="tiny:hungry"), env={"TINY_ROOM": "1"})
    assert run.returncode == 1
    assert "OutOfMemoryError: CUDA out of memory" in run.stderr
    assert not (tmp_path / "surface.h5").exists()
