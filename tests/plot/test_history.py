"""Training histories: norms and histograms of weights as in Figure 2, losses and errors over epochs."""

import math
import subprocess
import sys

import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.colors import to_rgba

from landscape_mpi.errors import UserError
from landscape_mpi.plot.__main__ import main
from landscape_mpi.plot.history import MOST_BARS, TAIL, bars_of, compose_histories, read_histories
from landscape_mpi.plot.options import Options
from landscape_mpi.plot.style import GREY
from landscape_mpi.surface.training import EDGES, EpochRecord, write_history
from plot.made_surfaces import bowl, write

pytestmark = [pytest.mark.filterwarnings("error"), pytest.mark.usefixtures("draft")]

AXIS = np.linspace(-1, 1, 5)


def counts(weights):
    """Return the histogram of weights."""
    return np.histogram(weights, EDGES)[0].astype(np.int64)


def records(epochs, growth=1.0, width=0.05, drops=()):
    """Return a history in which everything differs from epoch to epoch, and nothing of training precedes it."""
    weights = np.random.default_rng(0).normal(0, width, 4000)
    for epoch in range(epochs + 1):
        loss = 2.0 / (1 + epoch)
        trained = {"train_loss": loss, "train_acc": 90 - 10 * loss, "lr": 0.1 * 0.1 ** sum(d < epoch for d in drops)}
        untrained = dict.fromkeys(trained, math.nan)
        known = {"test_loss": loss + 0.5, "test_acc": 80 - 10 * loss, "seconds": 1.0, "weight_norm": 3 + growth * epoch}
        yield EpochRecord(epoch, **(trained if epoch else untrained), **known, weight_histogram=counts(weights))


@pytest.fixture
def make(tmp_path):
    """Write a history into a folder of its own."""

    def made(name, *args, **others):
        (tmp_path / name).mkdir()
        write_history(tmp_path / name / "history.h5", list(records(*args, **others)))
        return tmp_path / name / "history.h5"

    return made


@pytest.fixture
def pair(make):
    return [make("small", 40, 2.0, 0.3, drops=[20, 30]), make("large", 10, 0.1, 0.01, drops=[20, 30])]


@pytest.fixture
def surface(tmp_path):
    return write(tmp_path / "s.h5", AXIS, AXIS, {"train_loss": bowl(AXIS, AXIS)})


def figure(paths, kind, **options):
    return compose_histories(read_histories(paths), Options(kind=kind, **options))


def curves(axes):
    return [line for line in axes.lines if line.get_gid() != "drop"]


def drops(axes):
    return [(line.get_xdata()[0], line.get_color()) for line in axes.lines if line.get_gid() == "drop"]


def legend(axes):
    return [text.get_text() for text in axes.get_legend().get_texts()]


def mistake(capsys, *arguments):
    code = main([str(argument) for argument in arguments])
    out, err = capsys.readouterr()
    assert (code, out, err.count("\n")) == (2, "", 1)
    return err


def test_norms_have_a_curve_a_file_named_after_its_folder(pair):
    (axes,) = figure(pair, "norm").axes
    small, large = curves(axes)
    np.testing.assert_array_equal(small.get_xdata(), range(41))
    np.testing.assert_allclose(small.get_ydata(), 3 + 2.0 * np.arange(41))
    np.testing.assert_allclose(large.get_ydata(), 3 + 0.1 * np.arange(11))
    assert legend(axes) == ["small", "large"]
    assert [handle.get_color() for handle in axes.get_legend().legend_handles] == [
        small.get_color(),
        large.get_color(),
    ]


def test_captions_are_the_names_in_legends(pair):
    for kind in ("training", "norm", "weights"):
        axes, *_ = figure(pair, kind, captions=("batch 32", "_batch 1024")).axes
        assert legend(axes)[:2] == ["batch 32", " _batch 1024"]


def test_a_drop_stands_after_the_last_epoch_at_the_old_rate(make):
    (axes,) = figure([make("a", 9, drops=[4, 7])], "norm").axes
    assert [epoch for epoch, _ in drops(axes)] == [4, 7]
    assert axes.figure.texts[-1].get_text() == "dotted: the learning rate drops"


def test_drops_are_grey_where_all_files_share_them_and_of_the_colour_of_their_file_elsewhere(make):
    same = [make("a", 9, drops=[4]), make("b", 9, drops=[4])]
    (axes,) = figure(same, "norm").axes
    assert drops(axes) == [(4, GREY)]
    (axes,) = figure([same[0], make("begun", 3, drops=[4])], "norm").axes
    assert drops(axes) == [(4, GREY)]
    (axes,) = figure([same[0], make("c", 9, drops=[6])], "norm").axes
    assert drops(axes) == [(4, curves(axes)[0].get_color()), (6, curves(axes)[1].get_color())]


@pytest.mark.slow
def test_training_shows_losses_and_errors_solid_and_dashed(pair, layout):
    losses, errors = figure(pair, "training").axes
    for axes, (train, test) in ((losses, ("train_loss", "test_loss")), (errors, ("train_acc", "test_acc"))):
        with h5py.File(pair[1], locking=False) as file:
            wanted = [file[train][:], file[test][:]]
        found = [line for line in curves(axes) if line.get_color() == curves(axes)[1].get_color()]
        assert [line.get_linestyle() for line in found] == ["-", "--"]
        for line, values in zip(found, wanted, strict=True):
            np.testing.assert_allclose(line.get_ydata(), 100 - values if "acc" in train else values)
    assert (losses.get_ylabel(), errors.get_ylabel()) == ("loss", "error (%)")
    assert legend(losses) == ["small", "large", "training", "test"]


def test_one_file_gives_the_title_its_name(make):
    shown = figure([make("mine", 3)], "training")
    assert shown.get_suptitle() == "mine"
    assert legend(shown.axes[0]) == ["training", "test"]
    assert figure([make("other", 3)], "norm", title="ours").get_suptitle() == "ours"


def test_the_norm_of_one_file_needs_no_legend(make):
    assert figure([make("mine", 3)], "norm").axes[0].get_legend() is None


def test_a_run_without_test_split_shows_none(tmp_path):
    known = {"test_loss": math.nan, "test_acc": math.nan, "lr": 0.1, "seconds": 1.0}
    write_history(tmp_path / "history.h5", [EpochRecord(e, 1.0 + e, 50.0, **known) for e in range(3)])
    losses, errors = figure([tmp_path / "history.h5"], "training").axes
    assert len(losses.lines) == len(errors.lines) == 1
    assert losses.get_legend() is None


@pytest.mark.slow
def test_the_loss_is_logarithmic_over_decades_or_as_asked(make):
    flat, steep = make("flat", 5), make("steep", 200)
    assert figure([flat], "training").axes[0].get_yscale() == "linear"
    assert [axes.get_yscale() for axes in figure([steep], "training").axes] == ["log", "linear"]
    assert figure([flat], "training", log=True).axes[0].get_yscale() == "log"
    assert figure([flat], "norm", low=1.0, high=9.0).axes[0].get_ylim() == (1, 9)


def test_histograms_are_shares_in_the_bars_of_all_files(pair, layout):
    (axes,) = figure(pair, "weights").axes
    filled, outline = axes.patches[0::2], axes.patches[1::2]
    assert len(filled) == len(outline) == 2
    assert to_rgba(outline[0].get_edgecolor()) != to_rgba(outline[1].get_edgecolor())
    wide, narrow = (patch.get_data() for patch in outline)
    np.testing.assert_array_equal(wide.edges, narrow.edges)
    assert narrow.values.sum() == pytest.approx(100)
    assert 99.6 < wide.values.sum() <= 99.9
    assert narrow.values.max() > 5 * wide.values.max()
    assert legend(axes) == ["small", "large"]
    assert "small: 40 epochs, 0." in axes.figure.texts[-1].get_text()


def test_a_bar_counts_the_weights_between_its_edges():
    weights = np.random.default_rng(1).normal(0.1, 0.2, 50_000)
    bars = bars_of([counts(weights)])
    wanted = np.histogram(weights, bars.edges)[0] / weights.size * 100
    # a histogram of numpy closes its last bar on the right, the file's bins are open there
    np.testing.assert_allclose(bars.shares[0], wanted, atol=1e-9)
    np.testing.assert_allclose(np.diff(bars.edges), bars.width / 1024)


@pytest.mark.slow
@given(
    st.lists(st.tuples(st.integers(0, 2049), st.integers(1, 10**6)), min_size=1, max_size=8),
    st.lists(st.tuples(st.integers(0, 2049), st.integers(1, 10**6)), min_size=1, max_size=8),
)
def test_whatever_the_weights_little_of_them_lies_beyond_the_axis(some, others):
    every = [np.zeros(2050, np.int64) for _ in range(2)]
    for found, put in zip(every, (some, others), strict=True):
        for bin_, count in put:
            found[bin_] += count
    bars = bars_of(every)
    assert 1 <= len(bars.edges) - 1 <= MOST_BARS
    for found, shares in zip(every, bars.shares, strict=True):
        outermost = (found[0] + found[-1]) / found.sum()
        beyond = 1 - shares.sum() / 100
        assert outermost - 1e-9 <= beyond <= outermost + 2 * TAIL + 1e-9


@pytest.mark.parametrize(("dataset", "kind"), [("weight_histogram", "weights"), ("weight_norm", "norm")])
def test_a_file_of_an_older_version_says_what_it_lacks(make, dataset, kind):
    path = make("old", 3)
    with h5py.File(path, "r+", locking=False) as file:
        del file[dataset]
    figure([path], "training")
    with pytest.raises(UserError, match=f"{path}: holds no .* of weights: an older version wrote it; train again"):
        figure([path], kind)


def test_folders_of_one_name_are_told_apart(make, tmp_path):
    (tmp_path / "other").mkdir()
    paths = [make("a", 2), make("other/a", 2)]
    assert [history.label for history in read_histories(paths)] == [f"{tmp_path.name}/a", "other/a"]
    assert len({history.label for history in read_histories([paths[0], paths[0]])}) == 1


def test_odd_names_are_shown_as_they_are(make, tmp_path):
    paths = [make("_a", 2), make("$b", 2), make("b", 2).rename(tmp_path / "copy.h5")]
    (axes,) = figure(paths, "norm").axes
    assert legend(axes) == [" _a", r"\$b", "copy"]


@pytest.mark.slow
def test_the_default_kind_and_the_default_names(pair, capsys, layout):
    assert main([str(pair[0])]) == 0
    assert main([*map(str, pair), "--kind", "weights"]) == 0
    names = ["history_training.png", f"{pair[0].parent.name}+{pair[1].parent.name}_weights.png"]
    assert capsys.readouterr().out.split() == [str(pair[0].with_name(name)) for name in names]


@pytest.mark.slow
def test_the_same_histories_give_the_same_file_and_torch_is_never_imported(pair, tmp_path, layout):
    program = (
        "import sys; from landscape_mpi.plot.__main__ import main; code = main(sys.argv[1:]);"
        "print(code, sorted({name.split('.')[0] for name in sys.modules} & {'torch', 'mpi4py', 'safetensors'}))"
    )
    files = [tmp_path / "a.svg", tmp_path / "b.svg"]
    arguments = [*map(str, pair), "--kind", "norm", "-o"]
    command = [sys.executable, "-c", program, *arguments, str(files[0])]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout.splitlines() == [str(files[0]), "0 []"]
    assert main([*arguments, str(files[1])]) == 0
    assert files[0].read_bytes() == files[1].read_bytes()


@pytest.mark.slow
def test_mistakes_are_one_sentence_and_write_nothing(pair, surface, tmp_path, capsys):
    before = set(tmp_path.rglob("*"))
    history = pair[0]
    empty = tmp_path / "none.h5"
    for arguments, sentence in [
        ([history, surface], f"s.h5: is no training history, {history} is one; expected one or the other in a figure."),
        ([surface, history], f"s.h5: is no training history, {history} is one"),
        ([history, "--kind", "contour"], "found a training history, which --kind contour cannot draw"),
        ([surface, "--kind", "norm"], "s.h5: found no training history, which --kind norm cannot draw"),
        ([empty, "--kind", "norm"], "none.h5: expected a surface file, found no such file."),
        ([history, "--metric", "train_loss"], "--metric: figures of training histories have none"),
        ([history, "--levels", "1,2"], "--levels: figures of training histories have none"),
        ([*pair, "--caption", "a"], "--caption: found 1 for 2 files; expected one per file, in order"),
        ([history, "--vmin", "5", "--vmax", "3"], "--vmin and --vmax: found 5.0 to 3.0"),
        ([history, "--log", "--vmin", "0"], "--vmin: found 0; a log scale needs values above 0"),
        ([history, "--title", "$\\broken{$"], "--title: found"),
    ]:
        assert sentence in mistake(capsys, *arguments)
    assert set(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda file: resize(file, "epoch", np.empty(0, np.int64)), "history.h5: "),
        (lambda file: resize(file, "lr", np.zeros((4, 2))), "lr is not a row of numbers"),
        (lambda file: resize(file, "weight_histogram", np.full((4, 2050), -1)), "counts no weights"),
        (lambda file: resize(file, "weight_histogram", np.zeros((4, 2050), np.int64)), "counts no weights"),
    ],
)
def test_what_is_no_history_is_refused(make, change, sentence):
    path = make("bad", 3)
    with h5py.File(path, "r+", locking=False) as file:
        change(file)
    with pytest.raises(UserError, match=sentence):
        figure([path], "weights")


def resize(file, name, values):
    del file[name]
    file[name] = values


def test_a_history_without_rows_is_none(tmp_path):
    write_history(tmp_path / "history.h5", [])
    with pytest.raises(UserError, match=r"history.h5: "):
        read_histories([tmp_path / "history.h5"])
    with h5py.File(tmp_path / "history.h5", "r+", locking=False) as file:
        del file["weight_histogram"]
    with pytest.raises(UserError, match=r"nothing to draw: the history has no rows"):
        read_histories([tmp_path / "history.h5"])
