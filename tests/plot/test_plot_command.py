"""The command landscape-plot as users run it."""

import itertools
import subprocess
import sys

import h5py
import numpy as np
import pytest
from matplotlib.colors import LogNorm, Normalize
from matplotlib.contour import ContourSet
from PIL import Image

from landscape_mpi.plot import run
from landscape_mpi.plot.__main__ import main
from landscape_mpi.plot.figure import compose
from landscape_mpi.plot.options import Options
from landscape_mpi.plot.run import save
from landscape_mpi.surface.read import read_surface
from plot.made_surfaces import bowl, write, write_foreign
from support.launch import PLOT, launch

ALPHA, BETA = np.linspace(-0.5, 1.1, 9), np.linspace(-1.0, 0.4, 7)


@pytest.fixture
def plane(tmp_path):
    return write(tmp_path / "s.h5", ALPHA, BETA, {"train_loss": bowl(ALPHA, BETA), "test_loss": bowl(ALPHA, BETA) + 1})


@pytest.fixture
def line(tmp_path):
    return write(tmp_path / "line.h5", ALPHA, None, {"train_loss": ALPHA**2 + 1, "train_acc": 50 + ALPHA})


def plot(*arguments):
    """Run the real command."""
    return launch(*arguments, program=PLOT)


def mistake(capsys, *arguments):
    """Return the sentence of a mistake; nothing else is printed."""
    code = main([str(argument) for argument in arguments])
    out, err = capsys.readouterr()
    assert (code, out) == (2, "")
    assert err.count("\n") == 1
    return err


@pytest.mark.slow
def test_a_figure_without_any_option(plane, tmp_path):
    done = plot(plane)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"{tmp_path / 's_train_loss_contour.png'}\n"
    with Image.open(tmp_path / "s_train_loss_contour.png") as image:
        assert image.width == 680
        assert len(image.convert("RGB").getcolors(1 << 20)) > 100


@pytest.mark.slow
def test_neither_torch_nor_mpi_is_ever_imported(plane, tmp_path):
    program = (
        "import sys; from landscape_mpi.plot.__main__ import main; code = main(sys.argv[1:]);"
        "print(code, sorted({name.split('.')[0] for name in sys.modules} & {'torch', 'mpi4py', 'safetensors'}))"
    )
    command = [sys.executable, "-c", program, str(plane), "-o", str(tmp_path / "f.svg")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout.splitlines() == [str(tmp_path / "f.svg"), "0 []"]


@pytest.fixture
def drawn(monkeypatch):
    """What would be saved, by path: figures whose artists are looked at, in place of files."""
    figures = {}
    monkeypatch.setattr(run, "save", lambda figure, path: figures.update({path: figure}))
    return figures


@pytest.mark.slow
@pytest.mark.parametrize(
    ("ending", "magic"),
    [("png", b"\x89PNG"), *(pytest.param(name, b"%PDF", marks=pytest.mark.slow) for name in ("pdf", "PDF"))],
)
def test_the_ending_decides_the_format_and_the_same_figure_gives_the_same_file(plane, tmp_path, ending, magic):
    figure = compose([read_surface(plane)], Options(kind="heat", title="$\\theta$"))
    files = [tmp_path / f"{name}.{ending}" for name in ("a", "b")]
    for file in files:
        save(figure, file)
    content = files[0].read_bytes()
    assert content.startswith(magic)
    assert content == files[1].read_bytes()
    if magic == b"%PDF":  # fonts are embedded
        assert b"/FontFile2" in content
        assert b"/Type3" not in content


@pytest.mark.slow
def test_the_same_surface_gives_the_same_file(plane, tmp_path):
    files = [tmp_path / f"{name}.svg" for name in ("a", "b")]
    for file in files:
        assert main([str(plane), "-o", str(file)]) == 0
    assert files[0].read_bytes() == files[1].read_bytes()
    assert files[0].read_bytes().startswith(b"<?xml")


@pytest.mark.slow
def test_several_outputs_of_several_surfaces(plane, tmp_path, capsys):
    other = write(tmp_path / "other.h5", ALPHA, BETA, {"train_loss": bowl(ALPHA, BETA) * 2})
    targets = [tmp_path / "a.png", tmp_path / "b.svg"]
    arguments = [plane, other, "--kind", "heat", "-o", targets[0], "-o", targets[1]]
    assert main([str(argument) for argument in arguments]) == 0
    assert capsys.readouterr().out.split() == [str(target) for target in targets]
    with Image.open(targets[0]) as image:
        assert image.width > 1000


@pytest.mark.slow
@pytest.mark.usefixtures("draft")
def test_default_names(plane, line, tmp_path, capsys, drawn):
    other = write(tmp_path / "other.h5", ALPHA, BETA, {"test_loss": bowl(ALPHA, BETA) * 2})
    assert main([str(line)]) == 0
    assert main([str(line), "--metric", "train_acc"]) == 0
    assert main([str(plane), str(other), "--metric", "test_loss", "--kind", "heat"]) == 0
    names = ["line_line.png", "line_train_acc_line.png", "s+other_test_loss_heat.png"]
    assert capsys.readouterr().out.split() == [str(tmp_path / name) for name in names]
    assert list(drawn) == [tmp_path / name for name in names]


@pytest.mark.usefixtures("draft")
def test_a_surface_of_the_papers_own_code(tmp_path, drawn):
    path = write_foreign(tmp_path / "g.h5", ALPHA, BETA, {"train_loss": bowl(ALPHA, BETA)})
    assert main([str(path), "--kind", "surface", "--log", "--title", "theirs"]) == 0
    axes = drawn[tmp_path / "g_train_loss_surface.png"].axes[0]
    loss = bowl(ALPHA, BETA)
    assert axes.get_title() == "theirs"
    np.testing.assert_allclose(axes.get_zlim(), np.log10([loss.min(), loss.max()]))


@pytest.mark.slow
@pytest.mark.usefixtures("draft")
def test_options_reach_the_figure(plane, tmp_path, drawn):
    def figure(*options):
        assert main([str(plane), *options, "-o", str(tmp_path / "f.svg")]) == 0
        axes = drawn[tmp_path / "f.svg"].axes[0]
        (lines,) = [artist for artist in axes.collections if isinstance(artist, ContourSet)]
        return axes.get_title(), type(lines.norm), (lines.norm.vmin, lines.norm.vmax), lines.levels

    loss = bowl(ALPHA, BETA)
    title, norm, ends, levels = figure()
    assert (title, norm) == ("ResNet-56, no shortcuts", LogNorm)
    assert ends == pytest.approx((loss.min(), loss.max()))
    np.testing.assert_allclose(figure("--levels", "0.1:10:0.5")[3], np.arange(0.1, 10, 0.5))
    assert figure("--vmin", "1", "--vmax", "3")[2] == (1, 3)
    assert figure("--title", "mine")[0] == "mine"
    linear = figure("--linear")
    assert linear[1] is Normalize
    assert len(linear[3]) != len(levels)


def test_an_unknown_metric_names_the_nearest_and_all(plane, capsys):
    sentence = mistake(capsys, plane, "--metric", "train_los")
    assert "s.h5 has no train_los (did you mean train_loss?); it has test_loss and train_loss." in sentence


def test_mistakes_are_one_sentence_and_write_nothing(plane, line, tmp_path, capsys):
    before = set(tmp_path.iterdir())
    for arguments, sentence in [
        ([tmp_path / "none.h5"], "none.h5: expected a surface file, found no such file."),
        ([plane, "-o", tmp_path / "f.gif"], "found the ending '.gif'; expected one of .png, .pdf, .svg."),
        ([plane, "-o", tmp_path / "f"], "found no ending"),
        ([plane, "-o", tmp_path / "absent" / "f.png"], "there is no folder"),
        ([plane, "--kind", "line"], "which --kind line cannot draw"),
        ([line, "--kind", "heat"], "which --kind heat cannot draw"),
        ([plane, line], "line.h5: found a line of 9 points, which --kind contour cannot draw"),
        ([plane, "--kind", "circle"], "invalid choice: 'circle'"),
        ([plane, "--levels", "nonsense"], "--levels: found 'nonsense'"),
        ([plane, "--vmax", "inf"], "--vmax: found 'inf'; expected a finite number"),
        ([plane, "--vmax", "x"], "--vmax"),
        ([plane, "--log", "--linear"], "not allowed with"),
        ([plane, "--title", "$\\broken{$"], "--title: found"),
        ([plane, "--caption", "$\\broken{$"], "--caption: found"),
        ([plane, "--caption", "a", "--caption", "b"], "--caption: found 2 for 1 panel; expected one per panel"),
        ([plane, plane, "--caption", "a"], "--caption: found 1 for 2 panels; expected one per panel"),
        ([], "required: surface"),
    ]:
        assert sentence in mistake(capsys, *arguments)
    assert set(tmp_path.iterdir()) == before


def test_files_of_two_sorts_at_once_are_refused(plane, tmp_path, capsys):
    before = set(tmp_path.iterdir())
    sorts = {"-o": "f.png", "--vtk": "f.vts", "--movie": "f.gif", "--html": "f.html"}
    for flags in [*itertools.combinations(sorts, 2), tuple(sorts)]:
        asked = [word for flag in flags for word in (flag, tmp_path / sorts[flag])]
        assert f"{', '.join(flags)}: expected one of them; run landscape-plot" in mistake(capsys, plane, *asked)
    assert set(tmp_path.iterdir()) == before


def test_an_unwritable_output(plane, tmp_path, capsys):
    (tmp_path / "folder.png").mkdir()
    found = mistake(capsys, plane, "-o", tmp_path / "folder.png")
    assert "folder.png: found a folder; expected the name of a file" in found


@pytest.mark.slow
def test_a_mistake_ends_the_real_command_with_code_2(tmp_path):
    done = plot(tmp_path / "none.h5")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("landscape-plot: ")
    assert done.stderr.count("\n") == 1


@pytest.mark.slow
def test_a_surface_is_drawn_while_it_is_being_written(plane):
    with h5py.File(plane, "r+") as writer:
        writer["status"][0, 0] = 0
        writer.flush()
        assert plot(plane, "--kind", "heat").returncode == 0
