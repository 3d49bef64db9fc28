"""How pytest-xdist shares tests among processes: the fixtures of a module are made once, one SLURM runs at a time."""

import pytest
from xdist.scheduler import LoadScopeScheduling

TOGETHER = ("tests/slurm/",)
"""Folders whose modules need something that there is one of."""


class ByModule(LoadScopeScheduling):
    """Gives each process one module after the other, in the order of collection."""

    def __init__(self, config: pytest.Config, log: object) -> None:
        config.option.loadscopereorder = False
        super().__init__(config, log)  # type: ignore[arg-type]

    def _split_scope(self, nodeid: str) -> str:
        module = nodeid.partition("::")[0]
        return next((folder for folder in TOGETHER if module.startswith(folder)), module)
