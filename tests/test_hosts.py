import os
import socket
import subprocess
import sys
import threading
from pathlib import Path

import keras
import numpy as np
import pytest

from podium import hosts as hosts_room
from podium.config import RuntimeConfig
from podium.devices import DeviceError
from podium.hosts import (
    ask_first_host,
    await_hosts,
    call_first_host,
    check_hosts,
    check_same_folder,
    copy_run_folder,
    count_hosts,
    join_hosts,
    leave_hosts,
    list_hosts,
)
from podium.runtime import choose_backend, plan_environment

pytestmark = pytest.mark.allow_hosts(["127.0.0.1"])

PROGRAM = Path(__file__).with_name("one_of_hosts.py")


def find_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def start(
    folder: Path, name: str, kind: str, *settings: str, program: Path = PROGRAM, devices: int = 1
) -> subprocess.Popen:
    """One process, with the environment that the settings plan and no other."""
    kept = {k: v for k, v in os.environ.items() if k in ("PATH", "HOME", "PYTHONPATH")}
    hosts = settings[1] if "--runtime.hosts" in settings else None
    planned = RuntimeConfig(backend="jax", hosts=hosts, devices=devices)
    words = [sys.executable, str(program), str(folder / f"{name}.npz"), kind, *settings]
    words += ["--runtime.folder", str(folder / "run"), "--runtime.devices", str(devices)]
    with (folder / f"{name}.log").open("w") as log:
        env = kept | plan_environment(planned, "cpu")
        return subprocess.Popen(words, env=env, stdout=log, stderr=subprocess.STDOUT)


@pytest.mark.slow
def test_two_hosts_of_two_devices_learn_and_answer_what_one_device_does(
    tmp_path: Path, pytestconfig: pytest.Config
):
    kind = "script" if pytestconfig.getoption("--bundle") else "modules"
    hosts = ("--runtime.hosts", f"127.0.0.1:{find_port()},127.0.0.1")
    running = [start(tmp_path, "alone", kind)] + [
        start(tmp_path, name, kind, *hosts, "--runtime.host", number, devices=4)
        for number, name in (("0", "first"), ("1", "second"))
    ]
    codes = [process.wait(timeout=900) for process in running]
    logs = [(tmp_path / f"{name}.log").read_text() for name in ("alone", "first", "second")]
    assert codes == [0, 0, 0], "\n".join(logs)
    alone, first, second = (
        dict(np.load(tmp_path / f"{name}.npz")) for name in ("alone", "first", "second")
    )
    assert (int(first["devices"]), int(second["devices"]), int(alone["devices"])) == (4, 4, 1)
    assert (bool(first["leader"]), bool(second["leader"])) == (True, False)
    assert (float(first["asked"]), float(second["asked"])) == (7, 7)
    assert str(first["folder"]) == str(tmp_path / "run")
    assert not Path(str(second["folder"])).exists()
    for name in [name for name in alone if "/" in name]:
        np.testing.assert_array_equal(second[name], first[name], err_msg=name)
        np.testing.assert_allclose(first[name], alone[name], atol=2e-4, rtol=1e-4, err_msg=name)
