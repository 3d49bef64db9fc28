"""The scripts of the gallery run as they are, and show what they say."""

import re
import sys
from pathlib import Path

import pytest
from PIL import Image

import landscape_mpi
from support import gallery
from support.launch import launch

SCRIPTS = sorted((Path(__file__).parents[2] / "docs" / "gallery").glob("plot_*.py"))
SHOWN = {"plot_first_landscape": 4, "plot_sharp_and_flat": 2}
"""How many pictures each shows."""
SAID = {
    "plot_first_landscape": r"25 x 25 points: .*complete\)\)\nf\(0, 0\) = 0\.\d+, curvature \d",
    "plot_sharp_and_flat": r"(batch \d+: \d+ epochs, .*\n){2}(seed \d, batch \d+ *: f\(0, 0\) 0\.0\d+, .*\n){6}$",
}


def run(script, folder):
    """Run a script cell by cell, with this package and without a display."""
    env = {"PYTHONPATH": str(Path(landscape_mpi.__file__).parents[1]), "MPLBACKEND": "Agg"}
    done = launch(script, folder, program=(sys.executable, gallery.__file__), cwd=folder, env=env, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_every_script_is_known_here():
    assert [script.stem for script in SCRIPTS] == sorted(SHOWN)


@pytest.mark.slow(40)
@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.stem)
def test_a_script_runs_and_shows_its_pictures(script, tmp_path):
    assert re.search(SAID[script.stem], run(script, tmp_path))
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"{n + 1}.png" for n in range(SHOWN[script.stem])]
    for path in tmp_path.iterdir():
        with Image.open(path) as image:
            assert image.width > 400
            assert len(image.convert("RGB").getcolors(1 << 20)) > 50
