"""Random small networks of the pieces that people build of: every engine gives what plain torch gives."""

import pytest

from landscape_mpi.engines import chains, rewrite
from support.engine_trials import trials

DISTURBED = 33
"""A seed whose network writes in place between the ends of a chain."""


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("seed", range(36))
def test_every_engine_gives_what_plain_torch_gives(seed):
    assert [(trial.engine, trial.wrong) for trial in trials(seed) if trial.wrong] == []


def test_a_trial_sees_what_is_wrong(monkeypatch):
    monkeypatch.setattr(chains, "_is_undisturbed", lambda *_: True)
    monkeypatch.setattr(rewrite, "differs", lambda *_: "")
    assert any(trial.wrong for trial in trials(DISTURBED))
