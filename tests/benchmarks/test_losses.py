"""The benchmark that writes per-example losses looks for ranges that are `auto`, as a sweep does."""

import numpy as np

from support.jobs import tiny_job


def test_an_axis_that_is_auto_ends_where_the_loss_has_risen_by_one(benchmark_named, tmp_path, capsys):
    job = tiny_job(tmp_path, loss="cross_entropy", metrics=["loss"], grid={"alpha": "auto", "points": 3})
    assert benchmark_named("losses").main([str(job), str(tmp_path / "losses.npz")]) == 0
    assert "3 points, 40 examples" in capsys.readouterr().out
    with np.load(tmp_path / "losses.npz") as found:
        low, centre, high = found["losses"].mean(1)
        assert found["labels"].shape == (40,)
    assert 1 <= max(low, high) - centre < 1.5
    assert not list(tmp_path.glob("surface*"))
