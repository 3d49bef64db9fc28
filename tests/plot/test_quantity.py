"""Metrics in words and units."""

import pytest

from landscape_mpi.plot.quantity import quantity


@pytest.mark.parametrize(
    ("metric", "label"),
    [
        ("train_loss", "training loss (nats)"),
        ("test_acc", "test accuracy (%)"),
        ("train_loss_stderr", "standard error of the training loss (nats)"),
        ("test_acc_bar", "95 % error bar of the test accuracy (%)"),
        ("train_images", "training images used"),
        ("test_loss_relbar", "relative 95 % error bar of the test loss (%)"),
        ("min_eig", "smallest Hessian eigenvalue"),
        ("hessian_iterations", "products for the Hessian eigenvalues"),
        ("hold_out_loss", "hold_out loss (nats)"),
        ("something_new", "something new"),
    ],
)
def test_labels(metric, label):
    assert quantity(metric, nats=True).label == label


def test_a_loss_other_than_the_cross_entropy_has_no_unit():
    assert quantity("test_loss", nats=False).label == "test loss"
    assert quantity("test_acc", nats=False).label == "test accuracy (%)"
