"""Rules of the house that no linter knows."""

import ast
import re
from functools import cache
from pathlib import Path

import pytest
import yaml

from landscape_mpi.arguments import build_parser
from landscape_mpi.job import SweepJob, TrainJob, load_job, plane, schema

CHECKOUT = Path(__file__).resolve().parents[1]
JOBS = sorted(CHECKOUT.glob("jobs/**/*.yaml"))
PAGES = [
    CHECKOUT / "README.md",
    CHECKOUT / "README.ko.md",
    CHECKOUT / "CONTRIBUTING.md",
    *sorted(CHECKOUT.glob("docs/*.md")),
]


@cache
def nodes(path):
    return list(ast.walk(ast.parse(path.read_text())))


def calls(path):
    return (node for node in nodes(path) if isinstance(node, ast.Call))


@pytest.mark.slow
def test_no_torch_load_executes_a_pickle():
    found = 0
    for path in CHECKOUT.glob("src/**/*.py"):
        for call in calls(path):
            if ast.unparse(call.func) == "torch.load":
                found += 1
                assert any(word.arg == "weights_only" and ast.unparse(word.value) == "True" for word in call.keywords)
    assert found


def test_no_bare_assert_and_no_shell_in_the_package():
    for path in CHECKOUT.glob("src/**/*.py"):
        assert not any(isinstance(node, ast.Assert) for node in nodes(path)), path
        assert "shell=True" not in path.read_text(), path


@pytest.mark.parametrize("path", JOBS, ids=lambda path: path.name)
def test_every_example_job_is_sound(path):
    sections = yaml.safe_load(path.read_text())
    kinds = [kind for section, kind in (("train", TrainJob), ("plane", SweepJob)) if section in sections]
    assert kinds
    for kind in kinds:
        load_job(path, kind)


def test_the_reference_job_holds_every_key_and_the_defaults():
    path = CHECKOUT / "jobs" / "reference.yaml"
    job = load_job(path, SweepJob).values
    sections = {"model": schema.Model, "data": schema.Data, "plane": plane.RandomPlane, "grid": plane.Grid}
    sections |= {"evaluate": schema.Evaluate, "sampling": schema.Sampling, "output": schema.Output}
    sections |= {"hessian": schema.Hessian, "train": schema.Train}
    written = yaml.safe_load(path.read_text())
    for name, section in sections.items():
        assert set(written[name]) - {"kind"} == set(section.__struct_fields__), name
    assert set(written) == set(SweepJob.__struct_fields__)
    assert job.evaluate == schema.Evaluate()
    assert job.hessian == schema.Hessian()
    assert job.plane == plane.RandomPlane(only=("*",), trajectory="nets/resnet56/epoch-*.safetensors")
    assert job.sampling == schema.Sampling(error=0.02)
    assert job.train == schema.Train(output="nets/resnet56")


def test_every_key_of_a_job_is_documented():
    text = (CHECKOUT / "docs" / "job.md").read_text()
    for struct in (SweepJob, TrainJob):
        for section in struct.__struct_fields__:
            assert f"## {section}" in text, section
    keys = set(re.findall(r"`(\w+)`", text))
    kinds = (
        plane.RandomPlane,
        plane.InterpolatedPlane,
        plane.CurvePlane,
        plane.PcaPlane,
        plane.HessianPlane,
        plane.WorstPlane,
        plane.FilePlane,
    )
    sections = (schema.Model, schema.Data, *kinds, plane.Grid, schema.Evaluate, schema.Hessian)
    for section in (*sections, schema.Sampling, schema.Output, schema.Train):
        assert set(section.__struct_fields__) <= keys, section


def test_links_of_the_pages_lead_somewhere():
    for page in PAGES:
        for target in re.findall(r"\]\(([^)#\s]+)\)", page.read_text()):
            if "://" not in target:
                assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_the_commands_of_the_readme_exist():
    parser = build_parser()
    text = "\n".join(page.read_text() for page in PAGES)
    used = set(re.findall(r"python -m landscape_mpi (\w+)", text))
    assert {"sweep", "check", "init", "info", "fetch"} <= used
    for command in used:
        with pytest.raises(SystemExit) as stopped:
            parser.parse_args([command, "--help"])
        assert stopped.value.code == 0


def test_each_walk_of_the_guide_takes_ten_files_at_most():
    walks = re.findall(
        r"\*\*Follow ([^*]+)\*\*:((?:\s(?:->\s)?`[\w./]+\.py`)+)", (CHECKOUT / "CONTRIBUTING.md").read_text()
    )
    assert [what for what, _ in walks] == [
        "a job to its first point",
        "a point to its cell in HDF5",
        "a surface to its contour",
    ]
    for what, text in walks:
        files = re.findall(r"`([\w./]+)`", text)
        assert len(files) <= 10, what
        for file in files:
            assert (CHECKOUT / "src" / "landscape_mpi" / file).exists(), file
