"""
Sharp and flat
==============

Are minima that small batches find flatter than those of large ones? The line between two networks seems to answer
that, but it compares weights of different sizes (Li et al., NeurIPS 2018, section 5). Filter-normalised planes, in
which alpha = 1 changes each filter by its own length, compare like with like.
"""

import torch
from torch import nn

import landscape_mpi


def shells(examples: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return points in eight dimensions, float32, and which of four shells around 0 each lies in, int64."""
    inputs = torch.randn(examples, 8, generator=torch.Generator().manual_seed(seed))
    return inputs, torch.bucketize(inputs.norm(dim=1), torch.tensor([2.25, 2.71, 3.2]))


def loss_of(network: nn.Module, data: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
    """Return the mean cross entropy."""
    return nn.functional.cross_entropy(network(data[0]), data[1])


train, test = shells(512, seed=1), shells(1024, seed=2)

# %%
# Two networks
# ------------
# The same weights to start from, the same rate of learning, batches of 16 and of 256; each is done when it has a
# training loss below 0.05: networks that fit differently well have different landscapes for that reason alone.


def trained(batch: int) -> nn.Module:
    """Return a network after SGD with momentum."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(8, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 4))
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9)
    epochs = 0
    while loss_of(network, train) > 0.05 and epochs < 500:
        epochs += 1
        for some in torch.randperm(len(train[0])).split(batch):
            optimizer.zero_grad()
            loss_of(network, (train[0][some], train[1][some])).backward()
            optimizer.step()
    right = (network(test[0]).argmax(dim=1) == test[1]).float().mean()
    length = torch.cat([parameter.flatten() for parameter in network.parameters()]).norm()
    print(f"batch {batch}: {epochs} epochs, {100 * right:.1f} % of the test set, ||theta|| = {length:.1f}")
    return network


networks = {"batch 16": trained(16), "batch 256": trained(256)}

# %%
# The line between them
# ---------------------
# f(alpha) = L(theta + alpha (theta' - theta)): alpha = 0 is the network of small batches, alpha = 1 that of large ones.
# The minimum of large batches looks by far the narrower one. But its weights are shorter as well (the norms above), so
# that the same step is a larger change to them: multiply the weights of one layer by ten and divide those of the next
# by ten, and the function stays the same while the picture changes.

line = landscape_mpi.sweep(
    networks["batch 16"],
    "cross_entropy",
    {"train": train, "test": test},
    plane={"kind": "interpolate", "to": networks["batch 256"]},
    grid={"alpha": [-0.5, 1.5, 81]},
    batch_size=1024,
    quiet=True,
)
line.plot(title="batch 16 at 0, batch 256 at 1")

# %%
# Planes around each
# ------------------
# Random directions with each filter as long as the network's own, and one scale of colours for both: most of the
# difference is gone.


def plane(network: nn.Module, seed: int) -> landscape_mpi.Surface:
    """Return the training loss on a random plane."""
    directions = {"kind": "random", "seed": seed}
    return landscape_mpi.sweep(network, "cross_entropy", train, directions, grid=21, batch_size=512, quiet=True)


planes = {name: plane(network, seed=0) for name, network in networks.items()}
planes["batch 16"].plot(planes["batch 256"], kind="filled", log=True, caption=list(planes))

# %%
# In numbers
# ----------
# One plane is one draw. Look at several seeds before you believe in a difference, and at the test set before you call
# it a good one.

for seed in range(3):
    for name, network in networks.items():
        numbers = (planes[name] if seed == 0 else plane(network, seed)).sharpness()
        curvature = (numbers.curvature_alpha + numbers.curvature_beta) / 2
        print(f"seed {seed}, {name:9}: f(0, 0) {numbers.centre:.3f}, curvature {curvature:5.1f}, ", end="")
        print(f"{100 * numbers.area_above:.0f} % of the plane below f(0, 0) + 1")

# sphinx_gallery_thumbnail_path = "images/gallery_sharp_and_flat.png"
