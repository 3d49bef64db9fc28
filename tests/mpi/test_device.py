"""Devices from invented machines: node-local rank modulo device count."""

import pytest

from landscape_mpi.errors import UserError
from landscape_mpi.mpi.device import choose_device, local_rank_from


@pytest.mark.parametrize(
    ("requested", "local_rank", "devices", "expected"),
    [
        ("auto", 0, 0, "cpu"),
        ("auto", 5, 0, "cpu"),
        ("auto", 0, 4, "cuda:0"),
        ("auto", 3, 4, "cuda:3"),
        ("auto", 7, 4, "cuda:3"),
        ("auto", 2, 1, "cuda:0"),
        ("cpu", 1, 4, "cpu"),
        ("cuda", 5, 4, "cuda:1"),
        ("cuda:2", 0, 4, "cuda:2"),
    ],
)
def test_device_of_a_rank(requested, local_rank, devices, expected):
    assert choose_device(requested, local_rank, devices) == expected


@pytest.mark.parametrize(("requested", "devices"), [("cuda", 0), ("cuda:4", 4), ("gpu", 2), ("cuda:x", 1)])
def test_a_device_that_is_not_there_is_refused(requested, devices):
    with pytest.raises(UserError, match="--device"):
        choose_device(requested, 0, devices)


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, 0),
        ({"SLURM_LOCALID": "3"}, 3),
        ({"OMPI_COMM_WORLD_LOCAL_RANK": "2", "SLURM_LOCALID": "0"}, 2),
        ({"MPI_LOCALRANKID": "1", "SLURM_LOCALID": "0"}, 1),
        ({"SLURM_LOCALID": "nonsense"}, 0),
    ],
)
def test_the_launchers_environment_is_the_fallback(environment, expected):
    assert local_rank_from(environment) == expected
