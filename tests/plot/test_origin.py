"""What a caption can tell of the job, and what it leaves out."""

import numpy as np
import pytest

from landscape_mpi.plot.origin import Origin, origin_of, plain
from plot.made_surfaces import JOB


@pytest.fixture
def origin(make):
    def made(job, **attributes):
        return origin_of(make({"train_loss": np.zeros(9)}, beta=None, job=job, attributes=attributes))

    return made


def test_a_random_plane(origin):
    assert origin(JOB) == Origin(
        network="ResNet-56, no shortcuts",
        loss="cross_entropy",
        data="CIFAR-10, first 500 examples",
        kind="random",
        normalise="filter",
        seed=3,
    )


@pytest.mark.parametrize(
    ("rise", "low", "high", "words"),
    [
        (1.0, 3.1, 2.5, "range to f(0, 0) + 1 nat"),
        (2.0, 3.0, 4.2, "range to 2 f(0, 0)"),
        (1.0, np.nan, 2.5, "range to f(0, 0) + 1 nat"),
        (1.0, 2.1, 2.2, None),
    ],
)
def test_a_caption_says_to_what_loss_a_range_goes_that_was_found(origin, rise, low, high, words):
    found = {"range_centre": 2.0, "range_rise": rise, "range_alpha_low": low, "range_alpha_high": high}
    assert origin(JOB, **found).reach == words
    assert origin(JOB).reach is None


def test_the_seed_of_a_repeat_is_that_of_its_file(origin):
    assert origin(JOB, seed=5).seed == 5


@pytest.mark.parametrize(
    ("build", "network"),
    [
        ("resnet110", "ResNet-110"),
        ("vgg9", "VGG-9"),
        ("wrn56_4", "Wide ResNet-56, k = 4"),
        ("my.nets:Tiny", "Tiny"),
        ("my.tiny:network", "tiny.network"),
        ("tiny:build", "tiny.build"),
        ("odd", "odd"),
        ("odd56_4", "odd56_4"),
    ],
)
def test_names_of_networks(origin, build, network):
    job = JOB.replace("resnet56", build).replace("shortcut: none", "shortcut: projection")
    assert origin(job).network == network


@pytest.mark.parametrize(
    ("checkpoint", "network"),
    [
        ("SmolLM2-135M", "SmolLM2-135M"),
        ("nets/Llama-3.2/", "Llama-3.2"),
        ("net/model.safetensors", "net"),
        (".", "huggingface"),
    ],
)
def test_a_model_of_a_hugging_face_folder_has_its_name(origin, checkpoint, network):
    job = JOB.replace("nets/resnet56.t7", checkpoint).replace("resnet56", "huggingface")
    assert origin(job.replace("shortcut: none", "attn_implementation: eager")).network == network


def test_an_interpolation_names_both_ends(origin):
    job = JOB.replace("{kind: random, seed: 3}", "{kind: interpolate, to: a/big.t7, via: b/third.pt}")
    found = origin(job)
    assert (found.kind, found.to, found.via, found.normalise, found.seed) == ("interpolate", "big", "third", None, None)
    assert found.start == "resnet56"


def test_an_end_whose_units_are_aligned_is_called_so(origin):
    job = JOB.replace("{kind: random, seed: 3}", "{kind: interpolate, to: a/big.t7, align: auto}")
    assert (origin(job).to, origin(job).via) == ("big, aligned", None)


def test_ends_of_one_name_are_told_apart_by_their_folders(origin):
    job = JOB.replace("{kind: random, seed: 3}", "{kind: interpolate, to: nets/large/epoch-0300.safetensors}")
    found = origin(job.replace("nets/resnet56.t7", "nets/small/epoch-0300.safetensors"))
    assert (found.start, found.to, found.via) == ("small/epoch-0300", "large/epoch-0300", None)


@pytest.mark.parametrize(
    ("policy", "said"), [("move", "move"), ("recompute", "recompute"), ("keep", None), ("x", None)]
)
def test_statistics_that_are_not_those_of_theta_are_told(origin, policy, said):
    assert origin(JOB + f"evaluate: {{batchnorm: {policy}}}\n").batchnorm == said


@pytest.mark.parametrize(
    "job",
    [
        None,
        "",
        "just text",
        "- a\n- list",
        "model: [unclosed",
        "model: {build: [1, 2], options: 7}\ndata: 5\nplane: {kind: {a: b}, seed: many, to: 3}",
        "model: !!python/object/apply:os.system [true]",
        "a: &a [x, x]\nb: &b [*a, *a]\nc: [*b, *b]",
        "[" * 5000,
        "\x00\x01",
    ],
)
def test_nonsense_is_left_out(origin, job):
    found = origin(job)
    assert found.network is None
    assert found.kind is None
    assert found.data is None


def test_text_of_others_is_one_short_line_without_mathematics():
    assert plain("a\nb\t c") == "a b c"
    assert plain("$x^2$ costs 5$") == r"\$x^2\$ costs 5\$"
    assert len(plain("x" * 500)) == 60
