"""Random small networks of the pieces that people build of: every engine gives what plain torch gives."""

import pytest

from landscape_mpi.engines import fuse
from support.engine_trials import trials

FOUND = (1009, 1156, 1271)
"""Seeds that were wrong once: one channel and strides in oneDNN, and images that were written into before a branch."""
DISTURBED = 33
"""A seed whose network writes in place between the ends of a chain."""


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("seed", [*range(30), *FOUND])
def test_every_engine_gives_what_plain_torch_gives(seed):
    assert [(trial.engine, trial.wrong) for trial in trials(seed) if trial.wrong] == []


def test_a_trial_sees_what_is_wrong(monkeypatch):
    monkeypatch.setattr(fuse, "_is_undisturbed", lambda *_: True)
    monkeypatch.setattr(fuse, "_differs", lambda *_: "")
    assert any(trial.wrong for trial in trials(DISTURBED))
