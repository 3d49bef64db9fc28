r"""
A first loss landscape
======================

A small network learns three spirals in a few seconds. Then we walk away from its weights theta\* along two random
directions, filter-normalised as in Li et al. (NeurIPS 2018), and look at the loss there.
"""

import torch
from torch import nn

import landscape_mpi

torch.manual_seed(0)


def spirals(examples: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return noisy points of three arms of a spiral, float32 [examples, 2], and which arm each is of, int64."""
    arm = torch.arange(examples) % 3
    radius = torch.rand(examples).sqrt()
    angle = 5 * radius + 2 * torch.pi / 3 * arm + 0.15 * torch.randn(examples)
    return 2 * torch.stack([radius * angle.cos(), radius * angle.sin()], dim=1), arm


# %%
# Train
# -----
# Any ``nn.Module`` will do.

train, test = spirals(600), spirals(600)
network = nn.Sequential(nn.Linear(2, 48), nn.ReLU(), nn.Linear(48, 48), nn.ReLU(), nn.Linear(48, 3))
optimizer = torch.optim.Adam(network.parameters(), lr=0.01)
for _ in range(400):
    optimizer.zero_grad()
    nn.functional.cross_entropy(network(train[0]), train[1]).backward()
    optimizer.step()

# %%
# Sweep
# -----
# f(alpha, beta) = L(theta\* + alpha delta + beta eta) on 25 x 25 points, for both splits at once. The network is
# copied: it stays as it is. Under ``mpirun -n 4 python -m mpi4py plot_first_landscape.py`` four ranks share the points.

surface = landscape_mpi.sweep(
    network,
    "cross_entropy",
    {"train": train, "test": test},
    plane={"kind": "random", "seed": 0},
    grid={"alpha": [-1, 1, 25], "beta": [-1, 1, 25]},
    batch_size=600,
)
print(surface)

# %%
# Look
# ----
# Contours first: a star marks theta\*.

surface.plot(kind="contour")

# %%
# The same in three dimensions, as in Figure 1 of the paper.

surface.plot(kind="surface", log=True)

# %%
# And what the network gets right, on examples that it has never seen.

surface.plot(kind="filled", metric="test_acc")

# %%
# A line
# ------
# Without ``beta`` the grid is a line: cheap, so that it may be fine, and with both splits on one picture.

line = landscape_mpi.sweep(
    network,
    "cross_entropy",
    {"train": train, "test": test},
    grid={"alpha": [-1.5, 1.5, 121]},
    batch_size=600,
    quiet=True,
)
line.plot()

# %%
# Numbers
# -------
# How sharp is it? ``docs/sharpness.md`` says what each number means. Results are numpy arrays: the row is beta, the
# column alpha.

numbers = surface.sharpness("train")
print(f"f(0, 0) = {numbers.centre:.4f}, curvature {numbers.curvature_alpha:.2f} and {numbers.curvature_beta:.2f}")
print(f"a loss of one nat more begins at a distance of {numbers.radius_above:.2f}")
print("lowest loss on the grid:", surface.loss("train").min().round(4))

# sphinx_gallery_thumbnail_path = "images/gallery_first_landscape.png"
