"""Who computed which point: kept in the file, carried through merges, and compared."""

import h5py
import numpy as np
import pytest

from landscape_mpi.job import Axis
from landscape_mpi.surface import NewSurface, Record, create_surface, open_writer, read_surface
from landscape_mpi.surface.merge import merge
from landscape_mpi.surface.platforms import (
    BY,
    MOST,
    OTHERS,
    differences,
    parse_platform,
    platform_text,
    recorded_platform,
    register,
)
from landscape_mpi.surface.status import describe
from support.jobs import LINE_JOB as JOB
from surface.test_hostile_shards import RESULTS

HERE = {"device": "EPYC; 2 cores", "torch": "2.6.0", "settings": "none"}
THERE = {**HERE, "settings": "ONEDNN_MAX_CPU_ISA=SSE41"}


def shard(path, number, platforms):
    """Write shard `number` of two, whose points are computed by the platforms in turn."""
    fixed = {"seed": 0, "checkpoint_sha256": "c", "data_sha256": "d", "plane_sha256": "p", "shard": f"{number}/2"}
    create_surface(path, NewSurface((Axis(-1, 1, 8).coordinates(),), RESULTS, ([],), JOB, fixed))
    numbers = register(path, [platform_text(platform) for platform in platforms])
    writer = open_writer(path, None, root=True, platforms=numbers)
    for rank, point in enumerate(range(number, 8, 2)):
        writer.at_root(Record((point,), dict.fromkeys(RESULTS, float(point)), rank % len(platforms), 0.1))
    writer.finish(lambda: None, complete=False)
    return path


def test_a_maker_comes_back_from_its_text():
    assert parse_platform(platform_text(HERE)) == {**HERE, "device": "EPYC, 2 cores"}
    assert len(platform_text({"device": "\u00e9" * 1000}).encode()) <= 600


def test_each_point_says_who_computed_it(tmp_path):
    found = read_surface(shard(tmp_path / "s.h5", 0, [HERE, THERE, HERE]))
    assert found.platforms == {platform_text(HERE): 3, platform_text(THERE): 1}
    assert f"points by platform 1: {platform_text(THERE)}" in describe(tmp_path / "s.h5")
    assert set(found.metrics) == set(RESULTS)


def test_a_merge_carries_makers_over_and_says_where_they_differ(tmp_path):
    shards = [shard(tmp_path / "a.h5", 0, [HERE]), shard(tmp_path / "b.h5", 1, [THERE, HERE])]
    merged = merge(tmp_path / "s.h5", shards)
    assert merged.surface.platforms == {platform_text(HERE): 6, platform_text(THERE): 2}
    (note,) = merged.notes
    assert "its points were not computed alike (settings none and ONEDNN_MAX_CPU_ISA=SSE41)" in note
    with h5py.File(tmp_path / "s.h5") as file:
        assert file[BY][()].tolist() == [0, 1, 0, 0, 0, 1, 0, 0]


def test_alike_shards_are_not_told(tmp_path):
    shards = [shard(tmp_path / f"{number}.h5", number, [HERE]) for number in (0, 1)]
    assert merge(tmp_path / "s.h5", shards).notes == ()


@pytest.mark.parametrize("old", [0, 1])
def test_a_file_without_makers_is_merged_with_one_that_has_them(tmp_path, old):
    shards = [shard(tmp_path / f"{number}.h5", number, [HERE]) for number in (0, 1)]
    with h5py.File(shards[old], "r+") as file:
        del file["made"]
    assert merge(tmp_path / "s.h5", shards).surface.platforms == ({} if old == 0 else {platform_text(HERE): 4})


def test_more_makers_than_there_is_place_for_share_the_last(tmp_path):
    many = [{"device": str(number)} for number in range(MOST + 5)]
    shard(tmp_path / "s.h5", 0, [HERE])
    numbers = register(tmp_path / "s.h5", [platform_text(platform) for platform in many])
    assert numbers == [*range(1, MOST - 1), *[MOST - 1] * 7]
    with h5py.File(tmp_path / "s.h5") as file:
        assert file["made/who"][-1] == OTHERS.encode()
    assert register(tmp_path / "s.h5", [platform_text(HERE), platform_text(many[0])]) == [0, 1]


def test_only_what_all_know_is_compared():
    assert differences([]) == ""
    assert differences([HERE, {"torch": "2.6.0"}, {}]) == ""
    assert differences([HERE, THERE, {**HERE, "torch": "2.7.1"}]) == (
        "torch 2.6.0 and 2.7.1, settings none and ONEDNN_MAX_CPU_ISA=SSE41"
    )


def test_an_old_surface_is_known_by_its_attributes():
    old = recorded_platform({"device": "EPYC; 2 cores", "batch": 8, "versions": '{"torch": "2.6.0", "numpy": "1"}'})
    assert old == {"device": "EPYC, 2 cores", "batch": "8", "torch": "2.6.0", "settings": "none"}
    assert differences([old, parse_platform(platform_text(THERE))]) == "settings none and ONEDNN_MAX_CPU_ISA=SSE41"
    assert recorded_platform({"versions": "[" * 100_000}) == {}


def test_numbers_of_points_that_are_no_list_are_not_read(tmp_path):
    path = shard(tmp_path / "s.h5", 0, [HERE])
    with h5py.File(path, "r+") as file:
        del file[BY]
        file[BY] = np.zeros(7, np.uint8)
    assert read_surface(path).platforms == {}
