"""Runtime: the machine, and the Keras backend that suits it

Keras reads its backend once, when it is first imported. So this section looks at the machine by
its files and environment alone, without loading TensorFlow or JAX (a TPU belongs to the first
library that opens it), and chooses before anything heavier is imported.

    TPU, or a GPU    JAX; TensorFlow only reads files
    CPU              TensorFlow; JAX with virtual devices rehearses a TPU
"""

import importlib.metadata
import importlib.util
import os
import platform
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from podium.config import Config, RuntimeConfig
from podium.devices import DeviceError, check_batch, check_devices, choose_precision, list_devices
from podium.hosts import (
    check_same_folder,
    copy_run_folder,
    is_first_host,
    join_hosts,
    list_hosts,
)
from podium.override import SettingsError, format_help, read_config

KAGGLE_INPUT, KAGGLE_WORKING = Path("/kaggle/input"), Path("/kaggle/working")
SESSION_HOURS = {"tpu": 9.0, "gpu": 12.0, "cpu": 12.0}  # Kaggle's limits
RESERVE_SHARE = 0.05  # of a session, which began before the run, and whose end takes its output


@dataclass(frozen=True)
class Runtime:
    """What the run has got: the accelerator's kind, its devices, the backend and the deadline."""

    accelerator: str  # "cpu", "gpu" or "tpu"
    backend: str  # "tensorflow" or "jax"
    devices: tuple[str, ...]  # as the backend names them
    precision: str  # "float32", "mixed_bfloat16" or "mixed_float16"
    folder: Path  # where everything is written
    started: float  # seconds since 1970
    deadline: float  # likewise: when the run must be done
    reserve: float = 0.0  # seconds of the session after that


def is_on_kaggle(environ: Mapping[str, str] = os.environ) -> bool:
    """Is this one of Kaggle's sessions?"""
    return "KAGGLE_KERNEL_RUN_TYPE" in environ


def find_accelerator(environ: Mapping[str, str] = os.environ, dev: Path = Path("/dev")) -> str:
    """Says "tpu", "gpu" or "cpu" from device files and environment, opening no library."""
    if environ.get("ISTPUVM") == "1" or any(dev.glob("accel[0-9]*")):
        return "tpu"
    if environ.get("CUDA_VISIBLE_DEVICES") not in ("", "-1") and any(dev.glob("nvidia[0-9]*")):
        return "gpu"
    return "cpu"


def choose_backend(config: RuntimeConfig, accelerator: str) -> str:
    """Returns the backend asked for, else the one that suits the accelerator."""
    if config.backend != "auto":
        return config.backend
    return "tensorflow" if accelerator == "cpu" and len(list_hosts(config)) < 2 else "jax"


def plan_environment(config: RuntimeConfig, accelerator: str) -> dict[str, str]:
    """The environment variables that must stand before Keras, JAX or TensorFlow is imported."""
    if config.accelerator != "auto":
        accelerator = config.accelerator
    backend = choose_backend(config, accelerator)
    plan = {"KERAS_BACKEND": backend, "TF_CPP_MIN_LOG_LEVEL": "2"}  # warnings are not for users
    if accelerator == "cpu":  # keeps both libraries quiet about the driver that is not there
        plan |= {"JAX_PLATFORMS": "cpu", "TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "-1"}
    if accelerator == "cpu" and backend == "jax" and config.devices:
        here = max(config.devices // max(len(list_hosts(config)), 1), 1)
        plan["XLA_FLAGS"] = f"--xla_force_host_platform_device_count={here}"
    if backend == "jax":  # every fold builds its own network, which is compiled for the first alone
        plan["JAX_COMPILATION_CACHE_DIR"] = str(find_compiled())
    if len(list_hosts(config)) > 1:
        plan["JAX_CPU_COLLECTIVES_IMPLEMENTATION"] = "gloo"  # what CPUs of several hosts talk by
    return plan


def find_compiled() -> Path:
    """Where JAX keeps what it compiled: with what else this user's programs can make again."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "podium" / "compiled"


def prepare_environment(argv: Sequence[str]) -> Config | SettingsError:
    """Reads the settings and chooses the backend; what already stands in the environment wins.

    `--help` and mistaken settings end the program here, before anything heavy is loaded; on Kaggle
    mistakes are handed on, for a run there ends with a status, whatever becomes of it.
    """
    if "--help" in argv or "-h" in argv:
        print(format_help())
        raise SystemExit(0)
    config: Config | SettingsError
    try:
        config = read_config(argv)
    except SettingsError as error:
        if not is_on_kaggle():
            mistakes = "\n  ".join(str(error).splitlines())
            raise SystemExit(f"These settings cannot be used:\n  {mistakes}") from None
        config = error
    chosen = config.runtime if isinstance(config, Config) else RuntimeConfig()
    for name, value in plan_environment(chosen, find_accelerator()).items():
        os.environ.setdefault(name, value)
    return config


def find_run_folder(config: RuntimeConfig) -> Path:
    """The folder the run writes to, made if need be.

    Raises DeviceError if it cannot be made or written to.
    """
    folder = Path(config.folder or time.strftime("runs/%Y-%m-%d-%H%M%S"))
    if config.folder is None and KAGGLE_WORKING.is_dir():
        folder = KAGGLE_WORKING
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / ".podium-was-here"
        probe.write_text("")
        probe.unlink()
    except OSError as error:
        raise DeviceError(
            f"the run folder {folder} cannot be written to ({error.strerror}); "
            f"set runtime.folder to a folder that can"
        ) from error
    return folder


def find_deadline(config: RuntimeConfig, kind: str, started: float) -> tuple[float, float]:
    """When a run must be done, and the seconds kept free from then to the session's limit.

    Raises SettingsError if these are the whole session.
    """
    minutes = 60 * (config.session_hours or SESSION_HOURS.get(kind, 12.0))
    reserve = config.reserve_minutes
    if reserve is None:
        reserve = RESERVE_SHARE * minutes
    if reserve >= minutes:
        raise SettingsError(
            f"runtime.reserve_minutes is {reserve:g}, but the session has {minutes:g} minutes; "
            f"set it below that, or raise runtime.session_hours"
        )
    return started + 60 * (minutes - reserve), 60 * reserve


def open_runtime(config: Config, backend: str, started: float) -> Runtime:
    """Joins the other hosts, opens the devices and the run folder and verifies them.

    Raises DeviceError if the machine is not the one that was asked for, SettingsError if no time
    is left to run in.
    """
    join_hosts(config.runtime, backend)
    found = list_devices(backend)
    check_devices(config.runtime, backend, found.kind, found.names, find_accelerator())
    check_batch(config.pixels.batch_size, len(found.names), config.optimizer.accumulate)
    lead = is_first_host(backend)
    folder = find_run_folder(config.runtime) if lead else copy_run_folder(config.runtime)
    check_same_folder(config.runtime, folder)
    deadline, reserve = find_deadline(config.runtime, found.kind, started)
    return Runtime(
        found.kind,
        backend,
        found.names,
        choose_precision(config.runtime, found),
        folder,
        started,
        deadline,
        reserve,
    )


def read_versions() -> dict[str, str]:
    """Versions of Python and of the libraries a run depends on."""
    names = ("keras", "tensorflow", "jax", "numpy", "pandas", "scikit-learn", "pillow")
    found = {"python": platform.python_version()}
    installed = {one.name.lower(): one.version for one in importlib.metadata.distributions()}
    for name in names:  # tensorflow is tensorflow-cpu on Kaggle's TPU image
        found[name] = installed.get(name) or installed.get(f"{name}-cpu", "not installed")
    return found


def describe_runtime(runtime: Runtime) -> str:
    """One card: devices, memory, cores, versions, run folder, deadline."""
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    versions = ", ".join(f"{name} {version}" for name, version in read_versions().items())
    left = (runtime.deadline - time.time()) / 3600
    deadline = time.strftime("%H:%M", time.localtime(runtime.deadline))
    first, count = runtime.devices[0], len(runtime.devices)
    rows = {
        "devices": f"{count} × {runtime.accelerator} ({first}{', …' if count > 1 else ''})",
        "backend": f"{runtime.backend}, {runtime.precision}",
        "host": f"{os.cpu_count()} cores, {pages / 2**30:.1f} GiB of memory",
        "versions": versions,
        "run folder": str(runtime.folder),
        "deadline": f"{deadline}, in {left:.1f} h; {runtime.reserve / 60:.3g} min are kept free",
    }
    return "\n".join(f"  {name:<11} {text}" for name, text in rows.items())


# The one thing Podium does when it is imported: everything below depends on it.
CONFIG = prepare_environment(sys.argv[1:] if __name__ == "__main__" else [])
