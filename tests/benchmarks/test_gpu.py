"""The benchmark of CUDA runs from end to end without a device, and tells a failed check from one that held."""

import json
import os
import subprocess
import sys

import pytest


@pytest.fixture
def gpu(benchmark_named):
    return benchmark_named("gpu")


def run(checkout, *arguments):
    line = [sys.executable, str(checkout / "benchmarks" / "gpu.py"), *arguments]
    env = os.environ | {"CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
    return subprocess.run(line, env=env, capture_output=True, text=True, timeout=300, check=False)


@pytest.mark.slow
def test_without_a_device_it_says_so_and_measures_nothing(checkout, tmp_path):
    found = run(checkout, "--json", str(tmp_path / "gpu.json"))
    assert (found.returncode, found.stderr) == (0, "")
    assert found.stdout == "PyTorch sees no CUDA device here, so nothing was measured.\n"
    assert not (tmp_path / "gpu.json").exists()


@pytest.mark.slow(55)
def test_a_dry_run_goes_the_whole_way(checkout, tmp_path):
    found = run(checkout, "--dry-run", "--networks", "resnet20", "--json", str(tmp_path / "gpu.json"))
    assert found.returncode == 0, found.stdout + found.stderr
    report = json.loads((tmp_path / "gpu.json").read_text())
    rows = report["networks"]["resnet20"]["rows"]
    assert {row["way"] for row in rows} >= {
        "eager",
        "fused",
        "fused, graph x 1",
        "fused, graph x 2",
        "fused, graph x 4",
    }
    assert {row["dtype"] for row in rows} == {"float32", "bfloat16"}
    assert all(row["bits"] for row in rows)
    ways = [
        "plain",
        "resident",
        "resident, graph",
        "resident, theta on the host",
        "streamed",
        "streamed, theta on the host",
    ]
    assert [row["way"] for row in report["transformer"]["rows"]] == ways
    assert {one["dtype"] for one in report["sweeps"]} == {"float32", "bfloat16"}
    assert "FAILED" not in found.stdout


def report(**changes):
    row = {"dtype": "float32", "way": "eager", "images_a_second": 10.0, "bits": True, "deviation": 1e-7}
    rows = [row, {**row, "way": "fused, graph x 2", "images_a_second": 20.0, **changes}]
    sweeps = [{"device": "a device", "dtype": "float32", "deviation_from_cpu": changes.get("from_cpu", 1e-7)}]
    ways = [{"way": "resident", "bits": True}, {"way": "streamed", "bits": changes.get("streamed", True)}]
    large = {"rows": ways, "weights_of_a_cpu": changes.get("of_cpu", True)}
    return {"networks": {"resnet20": {"rows": rows}}, "transformer": large, "sweeps": sweeps}


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"bits": False}, "bits differ between replays or lanes: float32 fused, graph x 2"),
        ({"deviation": 1e-4}, "float32 deviates from float64 by up to 1.0e-04"),
        ({"from_cpu": 1e-3}, "deviates from the CPU's by up to 1.0e-03"),
        ({"streamed": False}, "transformer: bits differ between ways: streamed"),
        ({"of_cpu": False}, "the bits of rebuilt weights are not those of a CPU"),
    ],
)
def test_a_check_that_does_not_hold_is_told(gpu, changes, text):
    failed = [said for held, said in gpu.verdicts(report(**changes)) if not held]
    assert len(failed) == 1
    assert text in failed[0]


def test_what_holds_is_told_as_well(gpu):
    held, said = zip(*gpu.verdicts(report()), strict=True)
    assert all(held)
    assert "fastest in float32 is `fused, graph x 2`, 2.00 times eager" in " ".join(said)
