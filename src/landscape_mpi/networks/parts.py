"""What the networks of the zoo share: their initial weights, and whole numbers among their options."""

from torch import nn

from landscape_mpi.errors import UserError


def initialise(module: nn.Module) -> None:
    """He initialisation (He et al. 2015) of one layer, as the paper's networks had it; for `Module.apply`."""
    if isinstance(module, nn.Conv2d | nn.Linear):
        nn.init.kaiming_normal_(module.weight)


def check_counts(**options: int) -> None:
    """Refuse options that are no whole number above 0.

    Raises:
        UserError: the first of them, by name.
    """
    for name, value in options.items():
        if not isinstance(value, int) or value < 1:
            raise UserError(f"model.options.{name}", f"found {value!r}", expected="a whole number >= 1")
