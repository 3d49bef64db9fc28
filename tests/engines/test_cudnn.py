"""cuDNN's fused convolutions: asked for as PyTorch's schema says, and only where there is a device for them."""

import pytest
import torch
from torch.nn import functional

from landscape_mpi.engines import CannotFuseError, build_engine, candidates
from landscape_mpi.engines.cudnn import CudnnConvolution, CudnnLayer
from landscape_mpi.engines.direct import PlainConvolution
from landscape_mpi.engines.layer import Shape
from landscape_mpi.evaluate import Task
from landscape_mpi.plane import Plane
from support.engines import image_task, plane_of


def shape(relu=True, stride=1, groups=1, device="cpu"):
    ones = (1, 1)
    return Shape(8, 8, (3, 3), (stride, stride), ones, ones, groups, relu, torch.device(device), torch.float32)


@pytest.fixture
def as_cudnn_would():
    """The operators on a CPU, by what their names say; PyTorch itself matches the arguments with its schema."""

    def plain(x, weight, bias, stride, padding, dilation, groups):
        return functional.conv2d(x, weight, bias, stride, padding, dilation, groups).relu()

    def with_residual(x, weight, z, alpha, bias, stride, padding, dilation, groups):
        return (functional.conv2d(x, weight, bias, stride, padding, dilation, groups) + alpha * z).relu()

    with torch.library._scoped_library("aten", "IMPL") as library:
        library.impl("cudnn_convolution_relu", plain, "CPU")
        library.impl("cudnn_convolution_add_relu", with_residual, "CPU")
        yield


@pytest.mark.usefixtures("as_cudnn_would")
@pytest.mark.parametrize(("stride", "groups"), [(1, 1), (2, 1), (1, 4)])
@pytest.mark.parametrize("residual", [False, True])
def test_it_is_the_convolution_with_all_that_follows(stride, groups, residual):
    x, weight, bias = torch.randn(2, 8, 6, 6), torch.randn(8, 8 // groups, 3, 3), torch.randn(8)
    sizes = shape(stride=stride, groups=groups)
    plain = PlainConvolution(sizes, weight, bias)
    added = torch.randn_like(plain(x, None)) if residual else None
    assert torch.equal(CudnnConvolution(sizes, weight, bias)(x, added), plain(x, added))


def test_it_fits_no_cpu_and_nothing_without_a_relu(monkeypatch):
    monkeypatch.setattr("landscape_mpi.engines.cudnn.has_fused_cudnn", lambda: True)
    assert CudnnLayer.fits(shape(device="cuda"))
    assert not CudnnLayer.fits(shape(relu=False, device="cuda"))
    assert not CudnnLayer.fits(shape())


def test_without_the_operators_it_fits_nothing(monkeypatch):
    monkeypatch.delattr(torch, "cudnn_convolution_add_relu")
    assert not CudnnLayer.fits(shape(device="cuda"))


def test_the_engine_says_what_it_lacks():
    network = torch.nn.Conv2d(3, 10, 32)
    with pytest.raises(CannotFuseError, match="it needs a CUDA device"):
        build_engine("cudnn", network, plane_of(network), image_task(), 4)


@pytest.mark.parametrize(
    ("requested", "device", "dtype", "autocast", "expected"),
    [
        ("auto", "cuda", torch.float32, None, ("fused", "eager")),
        ("auto", "cuda", torch.float32, torch.bfloat16, ("fused", "eager")),
        ("auto", "cpu", torch.float32, torch.bfloat16, ("eager",)),
        ("auto", "cuda", torch.float64, None, ("eager",)),
        ("cudnn", "cuda", torch.float32, None, ("cudnn", "fused", "eager")),
        ("eager", "cuda", torch.float32, None, ("eager",)),
    ],
)
def test_which_engines_are_tried(requested, device, dtype, autocast, expected):
    task = Task({}, None, torch.nn.functional.cross_entropy, dtype, torch.device(device), autocast)
    assert candidates(requested, task, Plane({}, {})) == expected
