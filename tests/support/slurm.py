"""A SLURM of the tests' own: munged, slurmctld and some slurmd on loopback, without systemd; knows no sweep.

Everything it writes lies in one folder and everything it starts, the jobs' processes too, carries one mark: `keeper`
removes both when `stop` is called, and also when this process is killed.
"""

import os
import re
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Mapping
from contextlib import ExitStack, suppress
from pathlib import Path

from support import keeper
from support.launch import MARK, environment
from support.waiting import wait_for

CONFIGURATION = """
ClusterName=landscape
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
CryptoType=crypto/munge
AuthInfo=socket={folder}/munge/socket
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool.%n
TmpFS={folder}/tmp.%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerParameters=sched_min_interval=200000,bf_interval=1
MpiDefault=none
ReturnToService=2
SlurmdParameters=config_overrides
MinJobAge=3600
KillWait=5
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
NodeName=node[1-{nodes}] NodeHostname={host} NodeAddr=127.0.0.1 Port=[{node_ports}] CPUs=4 RealMemory=1000
PartitionName=low Nodes=ALL Default=YES MaxTime=INFINITE PriorityTier=1
PartitionName=high Nodes=ALL MaxTime=INFINITE PriorityTier=10 PreemptMode=OFF
"""
OF_AN_OUTER_SLURM = ("SLURM_", "SBATCH_", "SRUN_", "SQUEUE_")
# Ranks on virtual nodes of one host believe to share memory, and do not find it.
ON_VIRTUAL_NODES = {"OMPI_MCA_btl": "self,tcp"}
EVERY = 0.25
"""Seconds between two questions: each starts a program of SLURM's, and its controller has to answer."""
FINAL = {"COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL", "PREEMPTED", "OUT_OF_MEMORY", "BOOT_FAIL"}


class Slurm:
    """A running SLURM; its `env` makes the ordinary commands speak to it."""

    def __init__(self, nodes: int = 4) -> None:
        self.nodes = nodes
        self.folder = Path(tempfile.mkdtemp(prefix="slurm-"))  # munge's socket wants a short path
        self.mark = f"{MARK}={uuid.uuid4()}"
        self._keeper = subprocess.Popen(
            [sys.executable, keeper.__file__, self.mark, self.folder],
            stdin=subprocess.PIPE,
            env={name: value for name, value in os.environ.items() if name != MARK},
            start_new_session=True,
        )
        self._daemons: list[subprocess.Popen[bytes]] = []
        self.env = self._environment()
        try:
            self._write_files()
            self._start_daemons()
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """End every daemon and every job, and remove all files."""
        self._keeper.communicate()
        for daemon in self._daemons:
            daemon.wait()

    def command(self, *line: str | Path, env: Mapping[str, str] | None = None, cwd: Path | None = None) -> str:
        """Return what a command of SLURM's prints.

        Raises:
            RuntimeError: it fails; the text holds what it said.
        """
        run = subprocess.run(
            [str(part) for part in line],
            env=self.env | dict(env or {}),
            cwd=cwd,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        if run.returncode:
            message = f"{line}: {run.stdout}{run.stderr}"
            raise RuntimeError(message)
        return run.stdout.strip()

    def submit(self, *line: str | Path, env: Mapping[str, str] | None = None, cwd: Path | None = None) -> str:
        """Return the number of the job that `sbatch LINE` makes."""
        return self.command("sbatch", "--parsable", *line, env=env, cwd=cwd)

    def jobs(self, number: str) -> list[dict[str, str]]:
        """Return what `scontrol show job` says of a job, one entry a task of an array."""
        lines = self.command("scontrol", "--oneliner", "show", "job", number).splitlines()
        return [dict(re.findall(r"(\S+?)=(\S*)", line)) for line in lines]

    def states(self, number: str) -> list[str]:
        """Return the states of a job's tasks, e.g. `["COMPLETED", "PENDING"]`."""
        return [job["JobState"] for job in self.jobs(number)]

    def wait(self, number: str, *states: str, patience: float = 120) -> list[dict[str, str]]:
        """Return a job's tasks once all of them are in one of the states, at first those that a job never leaves.

        Raises:
            TimeoutError: that does not come within `patience` seconds; the text holds what SLURM and the job say.
        """
        deadline = time.monotonic() + patience
        wanted = set(states) or FINAL
        while True:
            found = self.jobs(number)
            if {job["JobState"] for job in found} <= wanted:
                return found
            if time.monotonic() > deadline:
                message = f"job {number} is not {wanted}: {found}\n{self.report()}"
                raise TimeoutError(message)
            time.sleep(EVERY)

    def report(self) -> str:
        """Return what explains a job that does not end: the states of all jobs and nodes, and the logs."""
        texts = []
        for what in ("job", "node"):
            with suppress(RuntimeError):
                texts.append(self.command("scontrol", "--oneliner", "show", what))
        logs = [*self.folder.glob("*.log"), *self.folder.glob("*.out"), *self.folder.glob("munge/log")]
        texts += [f"--- {path.name}\n{path.read_text(errors='replace')[-1500:]}" for path in sorted(logs)]
        return "\n".join(texts)

    def start_requeued(self, number: str) -> None:
        """Wait until a job that has run is pending again and let it start at once instead of after two minutes.

        Only once nothing of its first run is left: for that, and for credentials of one second, the two minutes are.
        """
        wait_for(
            lambda: all(job["Reason"] == "BeginTime" and not self._spools(job) for job in self.jobs(number)),
            every=EVERY,
        )
        self.command("scontrol", "update", f"JobId={number}", "StartTime=now+2")

    def _spools(self, job: Mapping[str, str]) -> list[Path]:
        return list(self.folder.glob(f"spool.*/job{int(job['JobId']):05}"))

    def _environment(self) -> dict[str, str]:
        own = {key: value for key, value in environment().items() if not key.startswith(OF_AN_OUTER_SLURM)}
        name, _, value = self.mark.partition("=")
        own |= ON_VIRTUAL_NODES | {name: value, "SLURM_CONF": str(self.folder / "slurm.conf")}
        own |= {"TMPDIR": f"{self.folder}/tmp", "OMPI_MCA_osc_sm_backing_directory": f"{self.folder}/tmp"}
        return own | {"PATH": f"{own.get('PATH', '')}{os.pathsep}/usr/sbin"}

    def _write_files(self) -> None:
        host = socket.gethostname().partition(".")[0]
        own = (f"{what}.node{node + 1}" for what in ("spool", "tmp") for node in range(self.nodes))
        for name in ("munge", "state", "tmp", *own):
            (self.folder / name).mkdir(mode=0o755)
        self.folder.chmod(0o755)
        key = self.folder / "munge" / "key"
        key.write_bytes(secrets.token_bytes(128))
        key.chmod(0o400)
        ports = free_ports(1 + self.nodes)
        text = CONFIGURATION.format(
            folder=self.folder, host=host, nodes=self.nodes, ports=ports, node_ports=",".join(map(str, ports[1:]))
        )
        (self.folder / "slurm.conf").write_text(text)

    def _start_daemons(self) -> None:
        munge = self.folder / "munge"
        options = [f"--{what}-file={munge / what}" for what in ("key", "pid", "seed", "log")]
        self._daemon("munged", "--foreground", "--force", f"--socket={munge / 'socket'}", *options)
        self._until(lambda: (munge / "socket").exists())
        self._daemon("slurmctld", "-D", "-c")
        for node in range(self.nodes):
            self._daemon("slurmd", "-D", "-N", f"node{node + 1}")
        self._until(lambda: self._idle() == self.nodes)

    def _daemon(self, name: str, *options: str) -> None:
        path = shutil.which(name, path=self.env["PATH"]) or name
        log = (self.folder / f"{name}.out").open("a")
        with log:
            daemon = subprocess.Popen([path, *options], env=self.env, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        self._daemons.append(daemon)

    def _idle(self) -> int:
        with suppress(RuntimeError):  # slurmctld is not up yet
            return self.command("sinfo", "--noheader", "--Node", "--partition=low", "--format=%T").split().count("idle")
        return 0

    def _until(self, condition: Callable[[], bool], patience: float = 60) -> None:
        deadline = time.monotonic() + patience
        while not condition():
            if time.monotonic() > deadline:
                message = f"SLURM does not start\n{self.report()}"
                raise TimeoutError(message)
            time.sleep(0.05)


def free_ports(count: int) -> list[int]:
    """Return ports of loopback that nobody listens on."""
    with ExitStack() as held:
        sockets = [held.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [each.getsockname()[1] for each in sockets]
