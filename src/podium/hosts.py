"""Hosts: several machines that train one network

Each runs this script with the same settings and a number of its own (runtime.host). All draw the
same order, feed their part of every batch, and get the whole batch's loss and answers, and so
decide the same; where a clock decides, the first is asked. The first writes the run folder; the
others work in a copy of it, which is thrown away.
"""

import atexit
import os
import shutil
import socket
import sys
import tempfile
import time
import zlib
from contextlib import ExitStack
from pathlib import Path

from podium.config import RuntimeConfig
from podium.devices import DeviceError

JOIN_SECONDS = 300.0  # in which all must be there
GO = b"go"


def list_hosts(config: RuntimeConfig) -> list[str]:
    """The addresses of all hosts; none where this machine trains alone."""
    return [one.strip() for one in (config.hosts or "").split(",") if one.strip()]


def check_hosts(config: RuntimeConfig, backend: str) -> None:
    """Raises DeviceError unless the settings name hosts, and this one of them, that can join."""
    hosts = list_hosts(config)
    if config.host >= max(len(hosts), 1):
        raise DeviceError(
            f"runtime.host is {config.host}, but runtime.hosts names {len(hosts) or 'no'} "
            f"machines, which are numbered from 0; correct one of them"
        )
    if len(hosts) > 1 and backend != "jax":
        raise DeviceError(
            f"runtime.hosts names {len(hosts)} machines, but {backend} trains on one; "
            f"set runtime.backend to jax"
        )
    if len(hosts) > 1 and not hosts[0].rpartition(":")[2].isdigit():
        raise DeviceError(
            f"runtime.hosts begins with {hosts[0]}, which names no port where the others reach "
            f"the first; write {hosts[0]}:18765"
        )


def join_hosts(config: RuntimeConfig, backend: str, seconds: float = JOIN_SECONDS) -> None:
    """Joins the other hosts, if there are any; must come before a device is opened.

    Raises DeviceError if the settings cannot be meant or not all hosts are there in time.
    """
    check_hosts(config, backend)
    hosts = list_hosts(config)
    if len(hosts) < 2:
        return
    if config.host:
        call_first_host(hosts[0], config.host, seconds)
    else:
        await_hosts(hosts, seconds)
    import jax
    import keras

    keras.utils.set_random_seed(config.seed)  # else Keras would have the hosts agree on one
    keras.distribution.initialize(",".join(hosts), len(hosts), config.host)
    if jax.device_count() != len(hosts) * jax.local_device_count():
        raise DeviceError(
            f"runtime.hosts names {len(hosts)} machines, which have {jax.device_count()} devices "
            f"together, {jax.local_device_count()} of them here; each must have as many"
        )


def await_hosts(hosts: list[str], seconds: float) -> None:
    """Waits, as the first host, until each of the others has called, and bids them go on.

    JAX waits as well, but where a host is missing it ends the process without an exception.
    """
    end, port = time.monotonic() + seconds, int(hosts[0].rpartition(":")[2])
    missing = set(range(1, len(hosts)))
    with ExitStack() as lines:
        try:
            server = lines.enter_context(socket.create_server(("", port)))
        except OSError as error:
            raise DeviceError(
                f"port {port}, which runtime.hosts names first, cannot be opened here "
                f"({error.strerror}); name another"
            ) from error
        callers = []
        while missing:
            server.settimeout(max(end - time.monotonic(), 0.01))
            try:
                caller = lines.enter_context(server.accept()[0])
                caller.settimeout(1.0)
                missing.discard(int(caller.recv(8) or b"0"))
                callers.append(caller)
            except (OSError, ValueError):  # in time, or a caller that is no host
                if time.monotonic() >= end:
                    raise DeviceError(describe_missing(hosts, missing, seconds)) from None
        for caller in callers:
            caller.sendall(GO)


def describe_missing(hosts: list[str], missing: set[int], seconds: float) -> str:
    """Names the hosts that did not come, and what to do."""
    names = ", ".join(f"{number} ({hosts[number]})" for number in sorted(missing))
    return (
        f"of the {len(hosts)} machines in runtime.hosts, {names} did not come within "
        f"{seconds:.0f} s; start this script on each, with its number as runtime.host"
    )


def call_first_host(address: str, number: int, seconds: float) -> None:
    """Calls the first host until it answers, and waits until it has heard from all."""
    end, reply, (name, _, port) = time.monotonic() + seconds, b"", address.rpartition(":")
    while not reply and time.monotonic() < end:
        try:
            with socket.create_connection((name.strip("[]"), int(port)), timeout=5.0) as line:
                line.sendall(str(number).encode())
                line.settimeout(max(end - time.monotonic(), 0.01))
                reply = line.recv(8)
        except OSError:
            pass
        if not reply:
            time.sleep(min(1.0, max(end - time.monotonic(), 0.0)))
    if reply != GO:
        raise DeviceError(
            f"the first of runtime.hosts, {address}, did not answer within {seconds:.0f} s; see "
            f"that the script runs there with runtime.host 0, and that its port can be reached"
        )


def count_hosts() -> int:
    """How many hosts have joined, this one among them; opens JAX's devices."""
    import keras

    if keras.backend.backend() != "jax":
        return 1
    import jax

    return int(jax.process_count())


def is_first_host(backend: str) -> bool:
    """Of several hosts that train together, is this the one that reports?"""
    if backend != "jax":
        return True
    import jax

    return int(jax.process_index()) == 0


def ask_first_host(value: float) -> float:
    """Gives the first host's value, in single precision, to all; they must all ask.

    Whatever is decided by a clock, or by a folder that the first alone writes, needs it: were one
    host to train on where another stops, both would wait for ever.
    """
    if count_hosts() == 1:
        return value
    import numpy as np
    from jax.experimental import multihost_utils

    return float(multihost_utils.broadcast_one_to_all(np.float32(value)))


def copy_run_folder(config: RuntimeConfig) -> Path:
    """Where a host that is not the first works: a copy of the run folder, with what a resume needs.

    It goes when the process ends; where the run failed, it stays to be looked at.
    """
    folder = Path(tempfile.mkdtemp(prefix=f"podium-host{config.host}-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    if config.folder and Path(config.folder).is_dir():
        shutil.copytree(config.folder, folder, dirs_exist_ok=True)
    return folder


def check_same_folder(config: RuntimeConfig, folder: Path) -> None:
    """Waits until each host has its copy; raises DeviceError if this one's is another folder's."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    text = " ".join(f"{path.relative_to(folder)} {path.stat().st_size}" for path in files)
    mark = zlib.crc32(text.encode()) % 2**24  # as many bits as single precision keeps
    if ask_first_host(mark) != mark:
        raise DeviceError(
            f"the run folder {config.folder or ''} of host {config.host} does not hold what the "
            f"first host's does, with which the run would go on; set runtime.folder to a new one, "
            f"or one that all hosts see"
        )


def leave_hosts(code: int) -> int:
    """Gives back the exit code; of a run that failed on one of several hosts, ends the process.

    The orderly end waits five minutes for the others, and they wait for this one; that it is gone
    they notice at once.
    """
    if code and count_hosts() > 1:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    return code
