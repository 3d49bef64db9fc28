"""Records who made a surface, with what and from what: the attributes of its root and the platforms of its points."""

import json
import math
import os
import platform
import subprocess
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import torch

from landscape_mpi import __version__
from landscape_mpi.engines import kernel_version
from landscape_mpi.log import note
from landscape_mpi.mpi.communicator import is_started, library_file, library_version
from landscape_mpi.mpi.world import on_root, together
from landscape_mpi.plane import Plane
from landscape_mpi.surface import hdf5_version
from landscape_mpi.surface.platforms import PLAIN, differences, parse_platform, platform_text, register
from landscape_mpi.surface.status import LAST_DIGITS, known_platforms
from landscape_mpi.sweeping.context import SweepContext

SETTINGS = (
    *("ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA", "ATEN_CPU_CAPABILITY", "ONEDNN_DEFAULT_FPMATH_MODE"),
    *("DNNL_DEFAULT_FPMATH_MODE", "MKL_ENABLE_INSTRUCTIONS", "MKL_CBWR", "MKL_DEBUG_CPU_TYPE", "OPENBLAS_CORETYPE"),
    *("GLIBC_TUNABLES", "NVIDIA_TF32_OVERRIDE", "TORCH_ALLOW_TF32_CUBLAS_OVERRIDE", "CUBLAS_WORKSPACE_CONFIG"),
)
"""Variables of the environment that choose among instructions and kernels."""
EXTENSIONS = {
    *("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "avx512_fp16", "avx_vnni", "amx_tile", "amx_bf16"),
    *("asimd", "sve", "sve2", "bf16", "i8mm"),
}
"""Features that processors report, by which kernels are chosen."""


def versions(mpi: str) -> dict[str, str]:
    """Return the versions that may matter to a number or to a bug report; `mpi`: what to say of that library."""
    return {
        "landscape_mpi": __version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "cuda": torch.version.cuda or "none",
        "numpy": version("numpy"),
        "mpi4py": version("mpi4py"),
        "mpi": mpi,
        "h5py": version("h5py"),
        "hdf5": hdf5_version(),
        "kernel": kernel_version(),
    }


def versions_around() -> dict[str, str]:
    """Return what matters to bug reports alone: packages that draw, the MPI library's file, the checkout's commit."""
    found = {"matplotlib": version("matplotlib"), "plotly": version("plotly"), "mpi_library": library_file()}
    checkout = Path(__file__).parents[3]
    return found | ({"commit": _git(checkout)} if (checkout / ".git").exists() else {})


def attributes(plane: Plane, device: torch.device, folder: Path) -> Mapping[str, str | float]:
    """Return what is recorded of the plane, the machine and the code."""
    norms = dict(zip(("delta_norm", "eta_norm", "zeta_norm"), plane.norms, strict=False))
    volume = len(plane.directions) == 3
    more_angles = {"cosine_13": plane.cosine(0, 2), "cosine_23": plane.cosine(1, 2)} if volume else {}
    return {
        "plane_sha256": plane.fingerprint(),
        "cosine": plane.cosine(0, 1),
        "eta_norm": math.nan,  # of a line
        **norms,
        **more_angles,
        "versions": json.dumps(versions(library_version() if is_started() else "not started")),
        "git": _git(folder),
        "device": device_name(device),
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def platform_of(device: torch.device, engine: str, batch: int) -> dict[str, str]:
    """Return the platform of this rank: what the last digits of its numbers may depend on, by names."""
    settings = " ".join(f"{name}={os.environ[name]}" for name in SETTINGS if os.environ.get(name))
    # what PyTorch's kernels use of the processor, and what else PyTorch's libraries may use
    flags = next((set(value.split()) for name, value in _cpuinfo() if name in ("flags", "Features")), set())
    instructions = "+".join([torch.backends.cpu.get_cpu_capability(), *sorted(flags & EXTENSIONS)])
    found = {"device": device_name(device), "instructions": instructions, "settings": settings or PLAIN}
    found |= {"torch": torch.__version__, "kernel": kernel_version(), "engine": engine, "batch": str(batch)}
    if device.type == "cuda":
        cudnn = torch.backends.cudnn.version()  # type: ignore[no-untyped-call]
        found["cuda"] = f"{torch.version.cuda}, cuDNN {cudnn}"
    if is_started():
        found["mpi"] = library_version()
    return {**found, "landscape_mpi": __version__}


def register_platforms(context: SweepContext) -> tuple[list[int], str]:
    """Record what each rank computes with, and say where not all points are computed alike; collective.

    Returns:
        The number of each rank's platform, none in an old file without a list; in that case also what to record at
        points.
    """
    world, path, found = context.world, context.path, context.found
    mine = platform_text(together(world, platform_of, context.experiment.device, context.engine.name, context.batch))
    texts = world.allgather(mine)
    earlier = known_platforms(found) if found else []
    differing = differences([*earlier, *map(parse_platform, dict.fromkeys(texts))])
    if differing:
        note(world, f"{path}: not all points are computed alike ({differing}): {LAST_DIGITS}.")
    numbers = on_root(world, register, path, texts)
    return numbers, "" if numbers or not differing else f"computed otherwise than points before: {mine}"


def device_name(device: torch.device) -> str:
    """Return the model of the device."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    models = (value for name, value in _cpuinfo() if name == "model name")
    return next(models, platform.processor() or platform.machine())


def _cpuinfo() -> list[tuple[str, str]]:
    """Return what Linux says of the processors, by names; nothing elsewhere."""
    path = Path("/proc/cpuinfo")
    lines = (line.partition(":") for line in path.read_text().splitlines()) if path.exists() else ()
    return [(name.strip(), value.strip()) for name, _, value in lines]


def _git(folder: Path) -> str:
    """Return the commit that the job file's folder is at; empty outside a repository."""
    # a repository's configuration may name a program to run for its state; a job's folder must not decide that
    command = ["git", "-c", "core.fsmonitor=false", "-C", str(folder)]
    command += ["describe", "--always", "--dirty", "--abbrev=40"]
    try:
        found = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return found.stdout.strip()
