"""The zoo, the published checkpoints, and files that are no checkpoints of it."""

import os
import pickle

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from landscape_mpi.errors import UserError
from landscape_mpi.networks import ZOO, build_network, load_checkpoint
from landscape_mpi.networks.zoo import SHORTCUTS

LI2018 = ((0.49137255, 0.48235294, 0.44666667), (0.24705882, 0.24352941, 0.26156863))
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


def count(network):
    return sum(tensor.numel() for tensor in network.parameters())


@pytest.mark.parametrize(
    ("name", "shortcut", "parameters"),
    [
        ("resnet20", "pad", 269_722),
        ("resnet32", "pad", 464_154),
        ("resnet44", "pad", 658_586),
        ("resnet56", "pad", 853_018),
        ("resnet110", "pad", 1_727_962),
        ("resnet56", "projection", 855_770),
        ("resnet56", "none", 853_018),
        ("wrn56_1", "projection", 855_770),
        ("wrn56_1", "none", 853_018),
    ],
)
def test_parameter_counts_are_the_published_ones(tmp_path, name, shortcut, parameters):
    assert count(build_network(name, {"shortcut": shortcut}, tmp_path)) == parameters


@pytest.mark.slow
@pytest.mark.parametrize("shortcut", ["projection", "none"])
@pytest.mark.parametrize("k", [1, 2, 4, 8])
def test_wide_resnets_are_those_of_the_paper(tmp_path, k, shortcut):
    """WRN-56-k: no table has their counts, but those of k = 1 are published; WResNet_cifar in the authors' code."""
    w = 16 * k
    sizes = [(3, w, 1), (w, w, 18), (w, 2 * w, 1), (2 * w, 2 * w, 17), (2 * w, 4 * w, 1), (4 * w, 4 * w, 17)]
    expected = sum(times * (9 * into * out + 2 * out) for into, out, times in sizes) + 10 * (4 * w + 1)
    if shortcut == "projection":
        expected += sum(into * out + 2 * out for into, out in ((w, 2 * w), (2 * w, 4 * w)))
    with torch.device("meta"):
        network = build_network(f"wrn56_{k}", {"shortcut": shortcut}, tmp_path)
    assert count(network) == expected
    assert expected == {"projection": 855_770, "none": 853_018}[shortcut] or k > 1


def test_densenet121_is_the_papers(tmp_path):
    """The count of kuangliu/pytorch-cifar's DenseNet121, whose names of tensors the authors' code has too."""
    network = build_network("densenet121", {}, tmp_path)
    assert count(network) == 6_956_298
    names = set(network.state_dict())
    layer = ["bn1.weight", "bn1.running_mean", "conv1.weight", "bn2.bias", "conv2.weight"]
    for number, layers in enumerate((6, 12, 24, 16), 1):
        assert {f"dense{number}.{layers - 1}.{name}" for name in layer} <= names
        assert f"dense{number}.{layers}.conv1.weight" not in names
    assert {"conv1.weight", "trans1.bn.weight", "trans3.conv.weight", "bn.running_var", "linear.bias"} <= names
    assert network.dense2[0].conv1.weight.shape == (128, 128, 1, 1)
    assert network.linear.weight.shape == (10, 1024)


def test_a_dense_layer_puts_what_is_new_in_front(tmp_path):
    """As the authors' checkpoints expect it."""
    network = build_network("densenet121", {"growth": 2, "classes": 7}, tmp_path)
    x = torch.randn(1, 4, 8, 8)
    assert torch.equal(network.dense1[0](x)[:, 2:], x)
    assert network(torch.zeros(2, 3, 32, 32)).shape == (2, 7)


def test_vgg9_is_the_papers(tmp_path):
    """The parameters and the names of tensors of cifar10/models/vgg.py in tomgoldstein/loss-landscape."""
    network = build_network("vgg9", {}, tmp_path)
    assert count(network) == 2_789_706
    shapes = {name: list(tensor.shape) for name, tensor in network.state_dict().items() if tensor.ndim > 1}
    channels = [3, 64, 64, 128, 128, 256, 256, 256]
    convolutions = zip([0, 3, 7, 10, 14, 17, 20], channels, channels[1:], strict=False)
    expected = {f"features.{index}.weight": [out, into, 3, 3] for index, into, out in convolutions}
    assert shapes == expected | {"fc.0.weight": [256, 4096], "classifier.weight": [10, 256]}
    assert {"features.0.bias", "features.1.running_mean", "fc.1.running_var"} <= set(network.state_dict())


def test_a_narrow_vgg9_maps_images_to_logits(tmp_path):
    network = build_network("vgg9", {"width": 4, "classes": 7}, tmp_path)
    assert network(torch.zeros(2, 3, 32, 32)).shape == (2, 7)
    assert network.fc[0].weight.shape == (16, 256)
    with pytest.raises(UserError, match=r"model\.options\.width: found 0"):
        build_network("vgg9", {"width": 0}, tmp_path)


@pytest.mark.parametrize("shortcut", SHORTCUTS)
def test_networks_map_images_to_logits(tmp_path, shortcut):
    network = build_network("resnet20", {"shortcut": shortcut, "width": 4, "classes": 7}, tmp_path)
    assert network.training  # eval mode comes after the weights
    assert network.eval()(torch.zeros(2, 3, 32, 32)).shape == (2, 7)


def test_the_shortcut_is_there_unless_it_is_none(tmp_path):
    """With the last batch norm of every block at zero only the shortcuts carry the image on."""
    for shortcut in SHORTCUTS:
        torch.manual_seed(0)
        network = build_network("resnet20", {"shortcut": shortcut}, tmp_path)
        for name, parameter in network.named_parameters():
            if name.endswith(("bn2.weight", "bn2.bias")):
                nn.init.zeros_(parameter)
        spread = network(torch.randn(4, 3, 32, 32)).std(dim=0).max().item()
        assert (spread > 1e-4) == (shortcut != "none")


def test_an_unknown_name_suggests_the_nearest(tmp_path):
    with pytest.raises(UserError, match=r"model.build: found 'resnt56' \(did you mean `resnet56`\?\)"):
        build_network("resnt56", {}, tmp_path)
    resnets = [*(f"resnet{depth}" for depth in (20, 32, 44, 56, 110)), *(f"wrn56_{k}" for k in (1, 2, 4, 8))]
    assert set(ZOO) == {*resnets, "vgg9", "densenet121"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"shortcut": "identity"}, "model.options.shortcut: found 'identity'"),
        ({"width": 0}, "model.options.width: found 0"),
        ({"depth": 3}, "model.options"),
        ({"blocks": 3}, "model.options: resnet20 does not take {'blocks': 3}"),
    ],
)
def test_options_that_do_not_fit_are_named(tmp_path, options, message):
    with pytest.raises(UserError) as caught:
        build_network("resnet20", options, tmp_path)
    assert message in str(caught.value)


@pytest.fixture
def network(tmp_path):
    torch.manual_seed(1)
    return build_network("resnet20", {"width": 2}, tmp_path)


@pytest.mark.parametrize("nest", [None, "state_dict", "model"])
@pytest.mark.parametrize("prefix", ["", "module."])
@pytest.mark.parametrize("suffix", [".pt", ".t7", ".safetensors"])
def test_every_way_to_store_a_state_dict(tmp_path, network, nest, prefix, suffix):
    state = {prefix + name: tensor for name, tensor in network.state_dict().items()}
    path = tmp_path / f"net{suffix}"
    if suffix == ".safetensors":
        save_file(state, path)
    else:
        torch.save(state if nest is None else {"epoch": 3, nest: state}, path)
    fresh = build_network("resnet20", {"width": 2}, tmp_path)
    load_checkpoint(fresh, path)
    assert all(torch.equal(fresh.state_dict()[name], tensor) for name, tensor in network.state_dict().items())


def test_old_checkpoints_lack_num_batches_tracked(tmp_path, network):
    state = {name: t for name, t in network.state_dict().items() if not name.endswith("num_batches_tracked")}
    torch.save(state, tmp_path / "old.pt")
    load_checkpoint(network, tmp_path / "old.pt")


@pytest.mark.slow
def test_the_first_tensor_that_does_not_fit_is_named(tmp_path, network):
    state = network.state_dict()
    first = next(iter(state))
    cases = {
        "missing": ({n: t for n, t in state.items() if n != "layer2.0.conv1.weight"}, "`layer2.0.conv1.weight`"),
        "extra": ({**state, "layer9.weight": torch.zeros(2)}, r"it holds `layer9.weight` \[2\]"),
        "shape": ({**state, first: torch.zeros(5)}, rf"`{first}` is \[5\] in it"),
    }
    for name, (broken, message) in cases.items():
        torch.save(broken, tmp_path / f"{name}.pt")
        with pytest.raises(UserError, match=message):
            load_checkpoint(network, tmp_path / f"{name}.pt")


class Evil:
    """Unpickling this makes a folder."""

    def __init__(self, place):
        self.place = place

    def __reduce__(self):
        return os.mkdir, (str(self.place),)


@pytest.mark.parametrize("how", ["torch", "pickle", "text", "empty", "safetensors", "array"])
def test_what_is_not_weights_is_refused_and_not_executed(tmp_path, network, how):
    path, place = tmp_path / ("net.safetensors" if how == "safetensors" else "net.pt"), tmp_path / "executed"
    if how == "torch":
        torch.save({"state_dict": Evil(place)}, path)
    elif how == "pickle":
        path.write_bytes(pickle.dumps(Evil(place)))
    elif how == "array":
        torch.save([1, 2, 3], path)
    else:
        path.write_bytes(b"" if how == "empty" else b"weights, honestly")
    with pytest.raises(UserError, match=r"model\.checkpoint") as caught:
        load_checkpoint(network, path)
    assert "\n" not in str(caught.value)
    assert not place.exists()


@pytest.mark.slow(10)
@pytest.mark.parametrize(
    ("build", "shortcut", "file", "normalisation", "images", "loss", "digits", "accuracy"),
    [
        ("resnet20", "pad", "resnet20-12fca82f.th", IMAGENET, 4000, 0.008547, 6, 99.80),
        ("resnet56", "pad", "resnet56-4bfd9763.th", IMAGENET, 500, 0.000260, 6, 100.0),
        ("resnet56", "projection", "li2018-resnet56.t7", LI2018, 500, 0.000552, 6, 100.0),
        ("resnet56", "none", "li2018-resnet56-noshort.t7", LI2018, 500, 0.10624, 5, 96.4),
    ],
)
def test_published_networks_give_their_losses(
    tmp_path, shared_data, cifar10, build, shortcut, file, normalisation, images, loss, digits, accuracy
):
    from landscape_mpi.data import Normalisation, load_split
    from landscape_mpi.evaluate import Task, build_loss
    from landscape_mpi.metrics.examples import summarise
    from landscape_mpi.metrics.registry import METRICS

    network = build_network(build, {"shortcut": shortcut}, tmp_path).eval()
    load_checkpoint(network, shared_data / file)
    split = load_split("cifar10", cifar10, "train", {}, images)
    task = Task({"train": split}, Normalisation(*normalisation), build_loss("cross_entropy", tmp_path))
    found = summarise({"train": task.evaluate(network, "train", slice(0, images), 64)}, METRICS)
    assert round(found["train_loss"], digits) == loss
    assert found["train_acc"] == pytest.approx(accuracy, abs=0.005)
