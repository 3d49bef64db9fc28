"""When SLURM will end this job: said by its environment, or by `squeue` where it is older than that."""

import os
import subprocess
from collections.abc import Mapping
from datetime import datetime

END = "SLURM_JOB_END_TIME"
"""What SLURM sets from 22.05 or 23.02 on, depending on who built it: seconds since 1970."""
PATIENCE = 10.0
"""Seconds to wait for squeue, which asks a server that may be busy."""


def job_end(environment: Mapping[str, str]) -> float | None:
    """Return when the job of this environment ends, in seconds since 1970; None where nobody says."""
    if environment.get(END, "").isdecimal():
        return float(environment[END])
    job = environment.get("SLURM_ARRAY_JOB_ID", ""), environment.get("SLURM_ARRAY_TASK_ID", "")
    number = "_".join(job) if all(job) else environment.get("SLURM_JOB_ID", "")
    return _asked(number) if number.replace("_", "").isdecimal() else None


def _asked(number: str) -> float | None:
    """Ask squeue, once, and take no answer for none."""
    command = ["squeue", "--noheader", f"--jobs={number}", "--format=%e"]
    local = {**os.environ, "SLURM_TIME_FORMAT": "standard"}
    try:
        found = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=True, env=local)
        return datetime.strptime(found.stdout.strip(), "%Y-%m-%dT%H:%M:%S").timestamp()
    except (OSError, subprocess.SubprocessError, ValueError):  # none there, none that answers, N/A
        return None
