"""How tomgoldstein/loss-landscape evaluates a point, in our own words: what users have today; uses nothing of ours."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset

BATCH, WORKERS = 128, 2


class Pictures(Dataset[tuple[Tensor, int]]):
    """Images [n, 32, 32, 3] uint8 that become normalised tensors one by one, as from torchvision's CIFAR10."""

    def __init__(
        self, pixels: NDArray[np.uint8], labels: NDArray[np.int64], mean: list[float], std: list[float]
    ) -> None:
        self.pixels, self.labels = pixels, labels
        self.mean, self.std = mean, std

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        picture = Image.fromarray(self.pixels[index])
        return self._normalise(_to_tensor(picture)), int(self.labels[index])

    def _normalise(self, image: Tensor) -> Tensor:
        mean = torch.as_tensor(self.mean, dtype=image.dtype)[:, None, None]
        std = torch.as_tensor(self.std, dtype=image.dtype)[:, None, None]
        return image.clone().sub_(mean).div_(std)


def _to_tensor(picture: Image.Image) -> Tensor:
    pixels = torch.from_numpy(np.array(picture, np.uint8, copy=True))
    return pixels.view(picture.size[1], picture.size[0], 3).permute(2, 0, 1).contiguous().to(torch.float32).div(255)


@dataclass(frozen=True)
class Directions:
    """theta, delta and eta by parameter name."""

    theta: Mapping[str, Tensor]
    delta: Mapping[str, Tensor]
    eta: Mapping[str, Tensor]


def set_weights(network: nn.Module, plane: Directions, alpha: float, beta: float) -> None:
    """Set every parameter to theta + alpha delta + beta eta, one by one."""
    for name, parameter in network.named_parameters():
        change = plane.delta[name] * alpha + plane.eta[name] * beta
        parameter.data = plane.theta[name] + change.type_as(plane.theta[name])


def evaluate(network: nn.Module, loader: DataLoader[tuple[Tensor, int]]) -> tuple[float, float]:
    """Return the mean cross entropy in nats and the accuracy in percent."""
    network.eval()
    total, right, count = 0.0, 0, 0
    with torch.no_grad():
        for inputs, targets in loader:
            outputs = network(inputs)
            total += functional.cross_entropy(outputs, targets).item() * len(targets)
            right += int(outputs.max(1)[1].eq(targets).sum().item())
            count += len(targets)
    return total / count, 100.0 * right / count


def loader(pictures: Pictures) -> DataLoader[tuple[Tensor, int]]:
    """Return the loader that feeds a point: batches of 128 in order, made by two worker processes.

    They are forked, as Python 3.11 does by itself: starting them anew for every point would cost more.
    """
    return DataLoader(pictures, BATCH, shuffle=False, num_workers=WORKERS, multiprocessing_context="fork")
