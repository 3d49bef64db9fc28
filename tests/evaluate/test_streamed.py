"""Streamed weights: the bits of the resident network, one module's weights at a time, and what cannot be streamed."""

import copy
import subprocess
import sys
from functools import partial

import pytest
import torch
from torch import nn
from torch.func import functional_call
from torch.multiprocessing.reductions import StorageWeakRef
from torch.nn import functional
from torch.nn.utils import parametrizations, prune

from landscape_mpi.errors import UserError
from landscape_mpi.evaluate import Streamed
from landscape_mpi.evaluate import streamed as evaluate_streamed
from landscape_mpi.evaluate.live import Resident, Streaming
from landscape_mpi.networks.state import duplicate
from landscape_mpi.plane import Plane, RandomDirections

MODES = (torch.inference_mode, torch.no_grad)


class Points:
    """The parameters of a network at points, and what of those that were built is still in memory."""

    def __init__(self, network):
        self.theta = {name: parameter.detach().clone() for name, parameter in network.named_parameters()}
        self.scale, self.peak, self.built, self.names = 1.0, 0, [], []

    def build(self, name):
        """A fresh tensor, laid out as theta*'s."""
        tensor = self.theta[name] * self.scale
        self.built.append((StorageWeakRef(tensor.untyped_storage()), tensor.nbytes))
        self.peak = max(self.peak, self.alive)
        self.names.append(name)
        return tensor

    @property
    def alive(self):
        """Bytes of what was built and is still there."""
        return sum(nbytes for memory, nbytes in self.built if not memory.expired())

    @property
    def nbytes(self):
        """Bytes of the whole network."""
        return sum(tensor.nbytes for tensor in self.theta.values())

    def set(self, network):
        """Set the parameters of a resident network to the point's."""
        with torch.no_grad():
            for name, parameter in network.named_parameters():
                parameter.copy_(self.theta[name] * self.scale)


def streamed(network):
    """The network resident, the same streamed, and its points."""
    network.eval()
    resident, points = copy.deepcopy(network), Points(network)
    return resident, Streamed(network, points.build), points


def same(one, other):
    """Whether outputs have the same bits."""
    if isinstance(one, torch.Tensor):
        return one.shape == other.shape and one.dtype == other.dtype and torch.equal(one, other)
    return one is other is None or all(same(a, b) for a, b in zip(one, other, strict=True))


def agree(resident, network, points, *inputs, modes=MODES, **named):
    """Whether both give the same at two points in turn, in torch's modes, and nothing stays."""
    for mode in modes:
        for points.scale in (0.9, 1.1, 0.9):
            points.set(resident)
            for some in inputs:
                with mode():
                    assert same(resident(some.clone(), **named), network(some.clone(), **named))
        assert points.alive == 0
    return True


class Block(nn.Module):
    """Attention and two layers, before which the width is normalised."""

    def __init__(self, width):
        super().__init__()
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(2))
        self.attention = nn.MultiheadAttention(width, 2, batch_first=True)
        self.layers = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, x, mask):
        y = self.norms[0](x)
        x = x + self.attention(y, y, y, attn_mask=mask, need_weights=False)[0]
        return x + self.layers(self.norms[1](x))


class Gpt(nn.Module):
    """A small language model whose head is its embedding, by a shared parameter or by reading it."""

    def __init__(self, words=50, width=16, depth=3, shared=True):
        super().__init__()
        self.embed, self.place = nn.Embedding(words, width), nn.Parameter(torch.randn(1, 12, width))
        self.blocks = nn.ModuleList(Block(width) for _ in range(depth))
        self.head = nn.Linear(width, words, bias=False) if shared else None
        if shared:
            self.head.weight = self.embed.weight

    def forward(self, tokens):
        length = tokens.shape[1]
        x = self.embed(tokens) + self.place[:, :length]
        mask = nn.Transformer.generate_square_subsequent_mask(length, dtype=x.dtype)
        for block in self.blocks:
            x = block(x, mask)
        return functional.linear(x, self.embed.weight) if self.head is None else self.head(x)


def vit(models):
    return models.VisionTransformer(16, 8, num_layers=3, num_heads=2, hidden_dim=16, mlp_dim=32, num_classes=5)


def convnext(models):
    kinds = [models.convnext.CNBlockConfig(8, 16, 2), models.convnext.CNBlockConfig(16, None, 2)]
    return models.ConvNeXt(kinds, num_classes=5)


def resnet(models):
    network = models.ResNet(models.resnet.BasicBlock, [1, 1, 1, 1], num_classes=5)
    with torch.no_grad():
        network(torch.randn(4, 3, 32, 32))  # running statistics that are neither 0 nor 1
    return network


@pytest.mark.slow  # torchvision's import takes seconds
@pytest.mark.parametrize(("make", "times"), [(vit, 2.2), (convnext, 1.5), (resnet, 1.1)])
def test_networks_of_torchvision(make, times, torchvision_models):
    resident, network, points = streamed(make(torchvision_models))
    size = 16 if make is vit else 32
    assert agree(resident, network, points, torch.randn(2, 3, size, size), torch.randn(5, 3, size, size))
    assert points.peak <= times * network.largest < 0.9 * points.nbytes
    assert network.peak == points.peak


class Scaled(nn.Embedding):
    """An embedding that does more than look up, as some transformers do."""

    def forward(self, tokens):
        return super().forward(tokens) * self.embedding_dim**0.5


def test_an_embedding_reads_the_rows_of_its_tokens_alone():
    read = []

    def rows(name, wanted):
        read.append((name, wanted.tolist()))
        return points.build(name)[wanted]

    resident = nn.Sequential(nn.Embedding(50, 8, padding_idx=3), nn.Linear(8, 4)).eval()
    points = Points(resident)
    network = Streamed(copy.deepcopy(resident), points.build, rows)
    inputs = [torch.tensor([[7, 3, 7], [49, 0, 3]], dtype=dtype) for dtype in (torch.int64, torch.int32)]
    assert agree(resident, network, points, *inputs, torch.arange(50), torch.zeros(0, 2, dtype=torch.int64))
    assert {name for name, _ in read} == {"0.weight"}
    assert all(wanted == [0, 3, 7, 49] for _, wanted in read)
    assert len(read) == 3 * 2 * len(MODES)  # not of all 50 rows, and not of none
    points.set(resident)
    vmapped = torch.vmap(network.network)(inputs[0])
    assert torch.equal(vmapped, torch.vmap(resident)(inputs[0]))
    assert torch.equal(network.network[0](input=inputs[0]), resident[0](input=inputs[0]))
    assert network(inputs[0]).requires_grad
    for outside in (-1, 50):
        with pytest.raises(IndexError, match="out of range"):
            network(torch.tensor([outside]))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_an_embedding_on_a_plane_has_the_bits_of_a_resident_one(dtype):
    network = nn.Sequential(nn.Embedding(50, 16), nn.Linear(16, 4)).eval()
    theta = {name: parameter.detach().clone() for name, parameter in network.named_parameters()}
    draw = RandomDirections(0, "filter", "biasbn").draw
    plane, tokens = Plane(theta, (draw(theta, 0), draw(theta, 1))), torch.tensor([[7, 3, 7], [49, 0, 8]])
    network.to(dtype)
    resident = Resident(copy.deepcopy(network))
    streaming = Streaming(network, plane, torch.device("cpu"), dtype)
    for point in ((0.1, -0.7), (0.0, 0.0), (0.0, 1 / 3)):
        resident.move(plane, point)
        streaming.move(plane, point)
        with torch.inference_mode():
            assert same(resident(tokens), streaming(tokens))


@pytest.mark.parametrize("make", [Scaled, partial(nn.Embedding, dtype=torch.complex64), nn.EmbeddingBag])
def test_other_embeddings_read_all_rows(make):
    embedding = make(50, 8)
    points = Points(embedding.eval())
    network = Streamed(copy.deepcopy(embedding), points.build, lambda *_: pytest.fail("rows alone are read"))
    assert agree(embedding, network, points, torch.tensor([[7, 3], [49, 0]]))


@pytest.mark.parametrize("shared", [True, False])
def test_a_language_model_whose_head_is_its_embedding(shared):
    resident, network, points = streamed(Gpt(shared=shared))
    assert agree(resident, network, points, torch.randint(50, (2, 7)), torch.randint(50, (3, 12)))
    assert {"embed.weight", "place"} <= set(points.names)
    assert "head.weight" not in points.names
    assert points.peak < 2.5 * network.largest < points.nbytes


@pytest.mark.parametrize("make", [nn.LSTM, nn.GRU, nn.RNN])
def test_recurrent_networks_keep_their_weights_in_lists(make, monkeypatch):
    """What is built for them is not moved to memory of their own either, as they do on CUDA."""
    resident, network, points = streamed(make(8, 6, 2, batch_first=True, bidirectional=True))
    monkeypatch.setattr(nn.RNNBase, "flatten_parameters", lambda _: pytest.fail("moved"))
    assert agree(resident, network, points, torch.randn(2, 5, 8), torch.randn(3, 4, 8))


def test_torchs_transformer_takes_its_fast_path(monkeypatch):
    """It does so neither where modules have hooks nor where weights are on the device meta."""
    calls, real = [], torch._transformer_encoder_layer_fwd
    monkeypatch.setattr(torch, "_transformer_encoder_layer_fwd", lambda *given: calls.append(1) or real(*given))
    layer = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True)
    resident, network, points = streamed(nn.TransformerEncoder(layer, 4))
    agree(resident, network, points, torch.randn(2, 7, 16), torch.randn(3, 5, 16), modes=[torch.inference_mode])
    assert len(calls) == 2 * 4 * 3 * 2  # both networks, layers, points, batches
    assert points.peak == points.nbytes // 4
    agree(resident, network, points, torch.randn(2, 7, 16), modes=[torch.enable_grad])
    assert len(calls) == 2 * 4 * 3 * 2  # none where its weights ask for gradients


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
def test_torchs_transformer_with_padding_as_nested_tensors():
    layer = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True)
    resident, network, points = streamed(nn.TransformerEncoder(layer, 4))
    padding = torch.zeros(2, 7, dtype=torch.bool)
    padding[0, 4:] = True
    assert agree(resident, network, points, torch.randn(2, 7, 16), src_key_padding_mask=padding)
    assert points.peak == points.nbytes // 2


def test_parametrised_weights():
    network = nn.Sequential(
        parametrizations.weight_norm(nn.Linear(8, 6)),
        parametrizations.spectral_norm(nn.Linear(6, 6)),
        parametrizations.orthogonal(nn.Linear(6, 6)),
    )
    resident, network, points = streamed(network)
    assert agree(resident, network, points, torch.randn(2, 8), torch.randn(3, 8))
    assert points.peak < points.nbytes


class Reader(nn.Module):
    """Reads parameters in every way but as its own attributes."""

    def __init__(self):
        super().__init__()
        self.linear, self.again = nn.Linear(4, 4), nn.Linear(4, 4)
        self.held = [self.linear.weight, self.again.weight]
        self.same = nn.ModuleList([self.linear, self.again, self.linear])

    def forward(self, x):
        for layer in self.same:
            x = layer(x)
        first = next(self.parameters())
        x = x.to(first.device, first.dtype) @ self.held[0].t() + torch.stack([p.sum() for p in self.parameters()]).sum()
        weights = {name: 2 * parameter for name, parameter in self.again.named_parameters()}
        x = functional_call(self.again, weights, x) + torch.einsum("ij,kj->ki", self.held[0], x)
        x = x + torch.stack(self.held).sum(0).mean(0)
        return x + self.again.forward(x) if x.sum() > 0 else self.linear.forward(x) - x


def test_parameters_that_are_read_elsewhere():
    resident, network, points = streamed(Reader())
    assert agree(resident, network, points, *(torch.randn(3, 4) for _ in range(6)))


class Halves(nn.Module):
    """Runs itself on a half of its input, until one row is left."""

    def __init__(self):
        super().__init__()
        self.weight, self.inner = nn.Parameter(torch.randn(4, 4)), nn.Linear(4, 4)

    def forward(self, x):
        before = x @ self.weight
        if len(x) > 1:
            before = before + self(x[: len(x) // 2]).mean(0)
        return self.inner(before) @ self.weight


def test_a_module_within_itself():
    resident, network, points = streamed(Halves())
    assert agree(resident, network, points, torch.randn(8, 4), torch.randn(3, 4))
    assert points.peak == points.nbytes


class Slope(nn.Module):
    """u'(z) by torch.autograd in the forward pass."""

    def __init__(self):
        super().__init__()
        self.u = nn.Sequential(nn.Linear(2, 8), nn.Tanh(), nn.Linear(8, 1))

    def forward(self, z):
        with torch.enable_grad():
            z = z.detach().requires_grad_(True)
            return torch.autograd.grad(self.u(z).sum(), z)[0]


def test_networks_that_take_gradients():
    resident, network, points = streamed(Slope())
    assert agree(resident, network, points, torch.randn(3, 2), modes=[torch.no_grad])


def test_meta_parameters_need_no_memory_before():
    resident = Gpt().eval()
    points = Points(resident)
    with torch.device("meta"):
        network = Gpt().eval()
    assert agree(resident, Streamed(network, points.build), points, torch.randint(50, (2, 7)))


def test_the_memory_of_ordinary_parameters_is_let_go():
    network = nn.Linear(64, 64).eval()
    memory = [StorageWeakRef(parameter.untyped_storage()) for parameter in network.parameters()]
    points = Points(network)
    Streamed(network, points.build)
    assert all(one.expired() for one in memory)
    assert network.weight.requires_grad
    assert (network.weight.shape, network.weight.nbytes) == ((64, 64), 4 * 64 * 64)


class Stops(nn.Module):
    """Raises what it is told to."""

    error = None

    def forward(self, x):
        if self.error:
            raise self.error
        return x


@pytest.mark.parametrize("error", [ValueError("no"), KeyboardInterrupt(), torch.OutOfMemoryError("full")])
def test_an_exception_drops_the_weights(error):
    stops = Stops()
    resident, network, points = streamed(nn.Sequential(nn.Linear(4, 4), nn.Sequential(nn.Linear(4, 4), stops)))
    stops.error = error
    with pytest.raises(type(error)):
        network(torch.ones(1, 4))
    error.__traceback__ = None
    assert points.alive == 0
    stops.error = None
    assert agree(resident, network, points, torch.randn(3, 4))


def test_a_shape_that_is_not_the_parameters_is_an_error_of_ours():
    network = Streamed(nn.Linear(4, 4).eval(), lambda _: torch.zeros(4, 5))
    with pytest.raises(RuntimeError, match="weight was built as"):
        network(torch.ones(1, 4))


class KeepsView(nn.Module):
    """Keeps a transposed view of its weight from its first forward pass on."""

    def __init__(self):
        super().__init__()
        self.weight, self.kept = nn.Parameter(torch.randn(4, 4)), {}

    def forward(self, x):
        if not self.kept:
            self.kept["t"] = self.weight.t()
        return x @ self.kept["t"]


class Writes(nn.Module):
    """Sets its weight in its forward pass."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(4))

    def forward(self, x):
        with torch.no_grad():
            self.weight.clamp_(min=0)
        return x * self.weight


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    ("make", "inputs", "words"),
    [
        (KeepsView, torch.ones(1, 4), "KeepsView `1` keeps a view of the parameter `1.weight`"),
        (Writes, torch.ones(1, 4), "writes to its parameter `1.weight`"),
        (lambda: nn.Embedding(5, 4, max_norm=0.1), torch.ones(1, 2, dtype=torch.int64), "writes to its parameter `1.w"),
    ],
)
def test_a_pass_that_would_spoil_the_next_point_is_refused(make, inputs, words, mode):
    _, network, _ = streamed(nn.Sequential(nn.Identity(), make()))
    with mode(), pytest.raises(UserError, match=words) as caught:
        network(inputs)
    assert "write evaluate.weights: resident" in str(caught.value)


def test_outputs_may_hold_parameters():
    class Returns(nn.Linear):
        def forward(self, x):
            return super().forward(x), self.weight

    _, network, points = streamed(Returns(4, 4))
    for _ in range(2):
        outputs = network(torch.ones(1, 4))
        assert torch.equal(outputs[1], points.theta["weight"])
    del outputs
    assert points.alive == 0


def test_memory_that_others_hold_is_looked_for_once(monkeypatch):
    looked, real = [], evaluate_streamed.keeper
    monkeypatch.setattr(evaluate_streamed, "keeper", lambda *given: looked.append(1) or real(*given))
    network = nn.Linear(4, 4).eval()
    theta = Points(network).theta
    network = Streamed(network, theta.__getitem__)
    for _ in range(3):
        network(torch.ones(1, 4))
    assert len(looked) == len(theta)


class Merged(nn.Linear):
    """Adds a low-rank update to its weight in eval mode, as LoRA does."""

    def __init__(self):
        super().__init__(4, 4)
        self.low, self.merged = nn.Parameter(torch.randn(4, 1)), False

    def train(self, mode=True):
        super().train(mode)
        if mode == self.merged:
            update = self.low @ self.low.t()
            self.weight.data += -update if mode else update
            self.merged = not mode
        return self


class OnMeta(nn.Module):
    """Computes a constant from its weight as it is made."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(4, device="meta"))
        self.scale = [self.weight.detach() * 2]


class View(nn.Module):
    """Keeps a view of its weight."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(4, 4)
        self.register_buffer("first", self.linear.weight.detach()[0])


def pruned():
    return prune.l1_unstructured(nn.Linear(4, 4), "weight", 0.5)


class Special(nn.Parameter):
    """A parameter of a class of its own."""


def special():
    network = nn.Linear(4, 4)
    network.weight = Special(network.weight.detach())
    return network


def compiled_method():
    """A module one method of which is compiled."""

    class CompiledMethod(nn.Linear):
        @torch.compile
        def forward(self, x):
            return super().forward(x)

    return CompiledMethod(4, 4)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: torch.jit.script(nn.Linear(4, 4)), r"RecursiveScriptModule `1` is compiled by torch\.jit"),
        pytest.param(
            lambda: torch.compile(nn.Linear(4, 4)),
            r"OptimizedModule `1` is compiled by torch\.compile",
            marks=pytest.mark.slow,  # its import takes seconds
        ),
        pytest.param(compiled_method, r"CompiledMethod `1` is compiled by torch\.compile", marks=pytest.mark.slow),
        (pruned, "Linear `1` has its weights computed by a hook, L1Unstructured"),
        (special, "Linear `1` has parameters of the class Special"),
        (View, "View `1` keeps a view of a parameter"),
        (OnMeta, "OnMeta `1` keeps a tensor without values"),
        (Merged, "Merged `1` computes something from its parameters between train and eval mode"),
    ],
)
@pytest.mark.filterwarnings("ignore:.*torch.jit.script.*:DeprecationWarning")
def test_what_needs_its_weights_is_refused_and_left_as_it_is(make, words):
    network = nn.Sequential(nn.Linear(4, 4), make()).eval()
    before = {name: parameter.detach().clone() for name, parameter in network.named_parameters()}
    with pytest.raises(UserError, match=words) as caught:
        Streamed(network, before.__getitem__)
    assert "write evaluate.weights: resident" in str(caught.value)
    for name, parameter in network.named_parameters():
        assert type(parameter) in (nn.Parameter, Special)
        assert parameter.is_meta or torch.equal(parameter, before[name])
    assert not any(module.training for module in network.modules())


@pytest.mark.filterwarnings("ignore:.*weight_norm.*:FutureWarning")
def test_the_old_weight_norm_is_refused():
    with pytest.raises(UserError, match="Linear `0` has its weights computed by a hook, WeightNorm"):
        Streamed(nn.Sequential(nn.utils.weight_norm(nn.Linear(4, 4))).eval(), str)


def test_a_network_with_an_eval_mode_of_its_own_is_streamed_where_no_parameter_is_used():
    class Frozen(nn.BatchNorm1d):
        def train(self, _=True):
            return super().train(False)

    resident, network, points = streamed(nn.Sequential(nn.Linear(4, 4), Frozen(4)))
    assert agree(resident, network, points, torch.randn(3, 4))


def test_a_streamed_network_is_not_copied():
    _, network, _ = streamed(nn.Sequential(nn.Linear(4, 4)))
    with pytest.raises(UserError, match="cannot be copied"):
        duplicate(network.network)


@pytest.mark.slow
def test_parameters_without_memory_import_no_compiler_of_torch():
    """It would take every rank a second and 40 MB."""
    code = (
        "import sys, torch; from torch import nn; from landscape_mpi.evaluate.streamed import Streamed; "
        "network = nn.Linear(3, 2, device='meta').eval(); "
        "shapes = {name: p.shape for name, p in network.named_parameters()}; "
        "streamed = Streamed(network, lambda name: torch.ones(shapes[name])); "
        "streamed(torch.ones(1, 3)); sys.exit('sympy' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
