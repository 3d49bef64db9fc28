"""Products with the Hessian are differences of gradients, of operations too that torch differentiates wrongly."""

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations

from landscape_mpi.curvature import Hessian
from landscape_mpi.curvature.trust import differs
from support import tiny

STEP = 1e-5


def by_hooks(layer):
    with pytest.warns(FutureWarning):
        return nn.utils.weight_norm(layer)


@pytest.mark.parametrize("norm", [parametrizations.weight_norm, by_hooks], ids=["parametrization", "hooks"])
@pytest.mark.parametrize("convolved", [False, True])
def test_weight_norm_has_its_own_second_derivative(norm, convolved):
    torch.manual_seed(0)
    layers = [nn.Unflatten(1, (1, 4)), norm(nn.Conv1d(1, 4, 3)), nn.Flatten()] if convolved else [norm(nn.Linear(4, 8))]
    network = nn.Sequential(*layers, nn.Tanh(), nn.Linear(8, 3)).double()
    inputs, targets = tiny.data(None, "train")
    leaves = list(network.parameters())

    def loss():
        return nn.functional.cross_entropy(network(inputs.double()), targets, reduction="sum")

    direction = torch.randn(sum(leaf.numel() for leaf in leaves), dtype=torch.float64)
    product = Hessian(leaves, lambda _: loss()).times(direction, [slice(0, 40)])
    ends = []
    for sign in (STEP, -STEP):
        nn.utils.vector_to_parameters(nn.utils.parameters_to_vector(leaves) + sign * direction, leaves)
        ends.append(torch.cat([g.flatten() for g in torch.autograd.grad(loss(), leaves)]))
        nn.utils.vector_to_parameters(nn.utils.parameters_to_vector(leaves) - sign * direction, leaves)
    torch.testing.assert_close(product, (ends[0] - ends[1]) / (2 * STEP), rtol=1e-5, atol=1e-6)
    assert differs(dict(network.named_parameters()), lambda: loss() / 40) == ""
