"""The names of results: what a job writes, and what a name says."""

import pytest

from landscape_mpi.metrics.base import ACCURACY, LOSS
from landscape_mpi.metrics.registry import (
    METRICS,
    USUAL,
    asked,
    dtype_of,
    in_schema,
    is_count,
    is_mean,
    is_result,
    mistake,
    parse,
    result_names,
)


def test_a_job_may_name_what_the_registry_holds():
    assert not any(mistake(metric.key) for metric in METRICS)
    expected = "one of loss, accuracy, hessian, spectrum, or `package.module:callable` (did you mean `accuracy`?)"
    assert mistake("accurac") == expected
    assert set(USUAL) < {metric.key for metric in METRICS}


def test_results_come_in_the_order_of_the_file_whatever_that_of_the_job():
    names = (
        *("train_loss", "train_loss_stderr", "train_acc", "train_acc_stderr"),
        *("test_loss", "test_loss_stderr", "test_acc", "test_acc_stderr"),
        *("min_eig", "max_eig", "hessian_residual", "hessian_iterations"),
    )
    assert result_names(["train", "test"], asked(["hessian", "accuracy"])) == names
    assert [metric.key for metric in asked(["accuracy"])] == ["loss", "accuracy"]


def test_sampled_results_have_bars_and_how_many_examples_were_used():
    assert result_names(["train"], asked(["loss"]), sampled=True) == (
        *("train_loss", "train_loss_stderr", "train_loss_bar", "train_examples"),
    )
    assert [dtype_of(name) for name in ("train_loss", "train_examples")] == ["f8", "i8"]


@pytest.mark.parametrize("name", result_names(["train", "hold_out"], asked([m.key for m in METRICS]), sampled=True))
def test_every_name_that_is_written_is_known(name):
    found = parse(name)
    assert is_result(name)
    assert name == "_".join(filter(None, [found.split, found.result.name])) + found.spread


@pytest.mark.parametrize("name", ["", "loss", "_loss", "something", "status", "train", "train_loss_", "Loss"])
def test_other_names_say_nothing(name):
    assert parse(name) is None
    assert not is_result(name)


def test_means_are_told_from_what_says_how_exact_they_are():
    assert is_mean("test_acc", ACCURACY)
    assert not is_mean("test_acc", LOSS)
    assert not is_mean("test_acc_stderr", ACCURACY)
    assert not is_mean("max_eig", LOSS)


@pytest.mark.parametrize("name", ["train_images", "train_examples"])
def test_numbers_of_examples_have_another_name_in_schema_1(name):
    assert [in_schema(name, schema) for schema in (1, 2, 3)] == ["train_images", "train_examples", "train_examples"]
    assert is_count(name)
    assert is_result(name)
    assert dtype_of(name) == "i8"
    assert parse(name) == parse("train_examples")


@pytest.mark.parametrize("name", ["train_loss", "status", "images", "examples", "own/images"])
def test_other_results_are_called_the_same_in_every_schema(name):
    assert {in_schema(name, schema) for schema in (1, 2)} == {name}
