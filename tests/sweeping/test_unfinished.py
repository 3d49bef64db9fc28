"""Products with the Hessian that are kept until their point is done: after faults, damage and changed jobs."""

import pytest

from landscape_mpi.errors import Exit, UserError
from landscape_mpi.mpi.scheduler import PieceError
from landscape_mpi.mpi.world import Solo
from landscape_mpi.surface.journal import RecordFile
from landscape_mpi.surface.status import describe
from landscape_mpi.sweeping import unfinished
from landscape_mpi.sweeping.curvature import Curvature
from landscape_mpi.sweeping.run import Options, sweep
from support.jobs import results, tiny_job

PROBES, STEPS = 3, 5
POINT = {"grid": {"alpha": [0, 0, 1]}, "hessian": {"probes": PROBES, "steps": STEPS, "seed": 4}}
SPECTRUM, ENDS, BOTH = ["loss", "spectrum"], ["loss", "hessian"], ["loss", "hessian", "spectrum"]


class StoppedError(Exception):
    """What a product ends with in place of a kill."""


@pytest.fixture
def products(monkeypatch):
    """A list with an entry for each product that is computed; `stops` of it is the number of the one that raises."""

    class Products(list):
        stops = 0

    made, product = Products(), Curvature.product

    def counted(curvature, hessian, vector):
        made.append(0)
        if len(made) == made.stops:
            raise StoppedError
        return product(curvature, hessian, vector)

    monkeypatch.setattr(Curvature, "product", counted)
    monkeypatch.setattr(unfinished, "WORTH", 0.0)
    return made


def go(folder, metrics, **changes):
    return sweep(tiny_job(folder, **{**POINT, "metrics": metrics, **changes}), Options(device="cpu"), Solo())


def stopped_at(folder, products, number, metrics, **changes):
    """Stop a sweep in a product, and return the files that are kept."""
    products.clear()
    products.stops = number
    with pytest.raises(PieceError, match="StoppedError"):
        go(folder, metrics, **changes)
    products.clear()
    products.stops = 0
    return sorted((folder / "surface.h5.products").iterdir())


@pytest.mark.parametrize(
    ("metrics", "number", "kept"),
    [(SPECTRUM, 3, 2), (SPECTRUM, STEPS + 1, STEPS), (SPECTRUM, 2 * STEPS + 4, 2 * STEPS + 3), (ENDS, 4, 3)],
)
def test_a_point_goes_on_within_its_search_and_has_the_same_bits(tmp_path, products, metrics, number, kept):
    (tmp_path / "whole").mkdir()
    assert go(tmp_path / "whole", metrics) == Exit.COMPLETE
    whole = len(products)
    assert stopped_at(tmp_path, products, number, metrics)
    begun = "1 point, whose products with the Hessian are kept in surface.h5.products for the next run"
    assert begun in describe(tmp_path / "surface.h5")
    assert go(tmp_path, metrics) == Exit.COMPLETE
    assert "products" not in describe(tmp_path / "surface.h5")
    assert len(products) == whole - kept
    assert results(tmp_path / "surface.h5") == results(tmp_path / "whole/surface.h5")
    assert not (tmp_path / "surface.h5.products").exists()


def test_what_a_kill_has_torn_is_computed_again_and_probes_that_are_done_take_one_vector(tmp_path, products):
    running, *done = stopped_at(tmp_path, products, 2 * STEPS + 4, SPECTRUM)
    assert len(done) == PROBES - 1
    assert max(path.stat().st_size for path in done) < running.stat().st_size
    for path in (running, done[0]):
        path.write_bytes(path.read_bytes()[:-5])
    assert go(tmp_path, SPECTRUM) == Exit.COMPLETE
    assert len(products) == STEPS + (STEPS - 2)  # the probe whose end is torn, and the rest of the running one
    (tmp_path / "whole").mkdir()
    assert go(tmp_path / "whole", SPECTRUM) == Exit.COMPLETE
    assert results(tmp_path / "surface.h5") == results(tmp_path / "whole/surface.h5")


def test_one_metric_after_the_other_goes_on_in_the_second(tmp_path, products):
    (tmp_path / "whole").mkdir()
    assert go(tmp_path / "whole", BOTH) == Exit.COMPLETE
    stopped_at(tmp_path, products, len(products) - 1, BOTH)
    assert go(tmp_path, BOTH) == Exit.COMPLETE
    assert len(products) == 2
    assert results(tmp_path / "surface.h5") == results(tmp_path / "whole/surface.h5")


def test_a_new_surface_takes_nothing_of_an_old_one(tmp_path, products):
    stopped_at(tmp_path, products, 4, SPECTRUM)
    (tmp_path / "surface.h5").unlink()
    assert go(tmp_path, SPECTRUM) == Exit.COMPLETE
    assert len(products) == PROBES * STEPS


def test_quick_points_keep_nothing(tmp_path, products, monkeypatch):
    monkeypatch.setattr(unfinished, "WORTH", float("inf"))
    with pytest.raises(FileNotFoundError):
        stopped_at(tmp_path, products, 4, SPECTRUM)


def test_a_full_disk_ends_the_keeping_and_not_the_sweep(tmp_path, products, monkeypatch, caplog):
    def full(file, _):
        raise UserError("surface.h5.products", "cannot be written (No space left on device)")

    monkeypatch.setattr(RecordFile, "append", full)
    assert go(tmp_path, SPECTRUM) == Exit.COMPLETE
    assert len(products) == PROBES * STEPS
    assert "products are not kept" in caplog.text
