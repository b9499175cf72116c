import json
import os
import re
import socket
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import pytest
from folders import make_csv_competition

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
)
from podium.predictions import read_predictions
from podium.runtime import choose_backend, plan_environment

ON_JAX = pytest.mark.skipif(keras.backend.backend() != "jax", reason="hosts speak JAX")
pytestmark = pytest.mark.allow_hosts(["127.0.0.1", "0.0.0.0"])

ROOT = Path(__file__).resolve().parents[1]
ALONE = "import one_of_hosts; one_of_hosts.main()"
# conftest plans eight devices for the process that imports it.
BUNDLED = (
    "import os; planned = dict(os.environ); import build_kernel, conftest; "
    f"os.environ.update(planned); conftest.load_bundle(build_kernel.ORDER); {ALONE}"
)
TWO = RuntimeConfig(backend="jax", hosts="10.0.0.1:18765, 10.0.0.2")


def find_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def start(log: Path, config: RuntimeConfig, command: list[str]) -> subprocess.Popen:
    """A process with the environment that the settings plan, and no other."""
    kept = {name: value for name, value in os.environ.items() if name in ("PATH", "HOME")}
    paths = ":".join(str(ROOT / name) for name in ("tests", ".", "src"))
    env = kept | plan_environment(config, "cpu") | {"PYTHONPATH": paths}
    settings = {"backend": "jax", "hosts": config.hosts, "host": config.host}
    settings |= {"devices": config.devices, "folder": config.folder}
    words = [f"--runtime.{name}={value}" for name, value in settings.items()]
    with log.open("w") as file:
        return subprocess.Popen([*command, *words], env=env, stdout=file, stderr=file)


def start_hosts(folder: Path, command: list[str]) -> list[subprocess.Popen]:
    """Two processes of two devices each, whose logs are 0.log and 1.log."""
    hosts, run = f"127.0.0.1:{find_port()},127.0.0.1", str(folder / "run")
    configs = [RuntimeConfig(hosts=hosts, host=host, devices=4, folder=run) for host in (0, 1)]
    return [start(folder / f"{one.host}.log", one, command) for one in configs]


@ON_JAX
@pytest.mark.long
def test_two_hosts_of_two_devices_learn_and_answer_what_one_device_does(
    tmp_path: Path, pytestconfig: pytest.Config
):
    begin = BUNDLED if pytestconfig.getoption("--bundle") else ALONE
    command = [sys.executable, "-c", begin, str(tmp_path)]
    one = RuntimeConfig(backend="jax", devices=1, folder=str(tmp_path / "alone"))
    running = [start(tmp_path / "alone.log", one, command), *start_hosts(tmp_path, command)]
    codes = [process.wait(timeout=900) for process in running]
    assert codes == [0, 0, 0], "\n".join(path.read_text() for path in tmp_path.glob("*.log"))
    alone, first, second = (
        dict(np.load(tmp_path / f"{name}.npz")) for name in ("1-0", "2-0", "2-1")
    )
    assert [int(one["devices"]) for one in (alone, first, second)] == [1, 4, 4]
    assert [bool(one["leader"]) for one in (alone, first, second)] == [True, True, False]
    assert (float(first["asked"]), float(second["asked"])) == (7, 7)
    assert str(first["folder"]) == str(tmp_path / "run")
    assert not Path(str(second["folder"])).exists()
    for name in [name for name in alone if "/" in name]:
        np.testing.assert_array_equal(second[name], first[name], err_msg=name)
        # Sums are added up in another order, which AdamW enlarges where a gradient is nearly
        # nothing: 6e-6 after six steps at a rate of 0.01. Other seeds differ by a tenth.
        np.testing.assert_allclose(first[name], alone[name], atol=1e-4, rtol=1e-4, err_msg=name)


def run_script(data: Path, *words: str) -> list[str]:
    """The built script, on few and small images."""
    quick = ["--preset=dry-run", "--pixels.image_size=16", "--pixels.batch_size=8"]
    quick += ["--train.epochs=1", f"--data.folder={data}", *words]
    return [sys.executable, "-I", str(ROOT / "kernel" / "podium.py"), *quick]


@pytest.mark.long
def test_the_script_on_two_hosts_writes_what_it_writes_on_one(tmp_path: Path):
    command = run_script(make_csv_competition(tmp_path / "data"))
    one = RuntimeConfig(backend="jax", devices=1, folder=str(tmp_path / "alone"))
    running = [start(tmp_path / "alone.log", one, command), *start_hosts(tmp_path, command)]
    codes = [process.wait(timeout=900) for process in running]
    assert codes == [0, 0, 0], "\n".join(path.read_text() for path in tmp_path.glob("*.log"))
    assert not (tmp_path / "1.log").read_text()  # the first alone reports
    alone, run = tmp_path / "alone", tmp_path / "run"
    assert sorted(path.name for path in run.iterdir()) == sorted(
        path.name for path in alone.iterdir()
    )
    for name in ("oof.npz", "test.npz"):
        expected, found = read_predictions(alone / name), read_predictions(run / name)
        assert found.ids.tolist() == expected.ids.tolist()
        np.testing.assert_allclose(found.probs, expected.probs, atol=1e-4)
    assert json.loads((run / "status.json").read_text())["state"] == "finished"


@pytest.mark.long
def test_the_script_ends_on_all_hosts_where_one_fails(tmp_path: Path):
    data = make_csv_competition(tmp_path / "data")
    hosts, run = f"127.0.0.1:{find_port()},127.0.0.1", str(tmp_path / "run")
    first = RuntimeConfig(hosts=hosts, devices=2, folder=run)
    second = replace(first, host=1)
    running = [
        start(tmp_path / "0.log", first, run_script(data)),
        start(tmp_path / "1.log", second, run_script(tmp_path / "none")),
    ]
    assert [process.wait(timeout=280) for process in running] == [1, 1]  # JAX would wait for 300 s
    assert "Stopped: data.folder is" in (tmp_path / "1.log").read_text()
    assert json.loads((tmp_path / "run" / "status.json").read_text())["state"] == "failed"


def test_hosts_on_a_cpu_speak_jax_over_gloo_with_their_share_of_the_devices():
    assert choose_backend(RuntimeConfig(hosts="a:1,b"), "cpu") == "jax"
    assert choose_backend(RuntimeConfig(hosts="a:1"), "cpu") == "tensorflow"
    plan = plan_environment(RuntimeConfig(hosts="a:1,b", devices=8), "cpu")
    assert plan["JAX_CPU_COLLECTIVES_IMPLEMENTATION"] == "gloo"
    assert plan["XLA_FLAGS"] == "--xla_force_host_platform_device_count=4"
    alone = plan_environment(RuntimeConfig(backend="jax", devices=8), "cpu")
    assert "JAX_CPU_COLLECTIVES_IMPLEMENTATION" not in alone


@pytest.mark.parametrize(
    ("config", "backend", "told"),
    [
        (RuntimeConfig(host=1), "jax", "runtime.host is 1, but runtime.hosts names no machines"),
        (RuntimeConfig(hosts="a:1,b", host=2), "jax", "is 2, but runtime.hosts names 2 machines"),
        (RuntimeConfig(hosts="a:1,b"), "tensorflow", "names 2 machines, but tensorflow trains on"),
        (
            RuntimeConfig(hosts="a,b:1"),
            "jax",
            "begins with a, which names no port .* write a:18765",
        ),
    ],
)
def test_hosts_that_cannot_be_meant_are_refused(config: RuntimeConfig, backend: str, told: str):
    with pytest.raises(DeviceError, match=told):
        join_hosts(config, backend)
    check_hosts(RuntimeConfig(), "tensorflow")
    check_hosts(TWO, "jax")


def test_a_machine_alone_joins_nobody():
    join_hosts(RuntimeConfig(), "tensorflow")
    join_hosts(RuntimeConfig(hosts="10.0.0.1:18765"), "jax")
    assert count_hosts() == 1
    assert ask_first_host(3.7) == 3.7


def test_hosts_go_on_when_all_have_come(monkeypatch: pytest.MonkeyPatch):
    address, gone = f"127.0.0.1:{find_port()}", list[int]()

    def come(number: int) -> None:
        call_first_host(address, number, 60.0)
        gone.append(number)

    callers = [threading.Thread(target=come, args=[number]) for number in (1, 2)]
    callers[0].start()  # before there is anyone to answer
    time.sleep(0.2)
    first = threading.Thread(target=await_hosts, args=[[address, "b", "c"], 60.0])
    first.start()
    with socket.create_connection(call(address), timeout=10) as stranger:
        stranger.sendall(b"GET / HTTP")
    time.sleep(0.2)
    assert gone == []
    callers[1].start()
    for thread in (first, *callers):
        thread.join(60)
    assert sorted(gone) == [1, 2]


def call(address: str) -> tuple[str, int]:
    """Waits until somebody listens there."""
    name, _, port = address.rpartition(":")
    for _ in range(600):
        try:
            socket.create_connection((name, int(port)), timeout=1).close()
        except OSError:
            time.sleep(0.05)
        else:
            break
    return name, int(port)


def test_hosts_that_do_not_come_in_time_are_named():
    hosts = [f"127.0.0.1:{find_port()}", "10.0.0.2", "10.0.0.3"]
    with pytest.raises(DeviceError) as caught:
        await_hosts(hosts, 0.05)
    assert str(caught.value) == (
        "of the 3 machines in runtime.hosts, 1 (10.0.0.2), 2 (10.0.0.3) did not come within 0 s; "
        "start this script on each, with its number as runtime.host"
    )


def test_a_first_host_out_of_reach_is_told_in_time():
    address = f"127.0.0.1:{find_port()}"
    with pytest.raises(DeviceError, match=f"the first of runtime.hosts, {address}, did not answer"):
        join_hosts(RuntimeConfig(hosts=f"{address},b", host=1), "jax", seconds=0.05)


def test_a_first_host_that_gives_up_lets_the_others_know():
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        threading.Thread(target=lambda: [server.accept()[0].close()], daemon=True).start()
        with pytest.raises(DeviceError, match="see that the script runs there with runtime.host 0"):
            call_first_host(address, 1, 0.5)


def test_a_port_that_is_taken_is_told():
    with socket.create_server(("0.0.0.0", 0)) as server:
        port = server.getsockname()[1]
        with pytest.raises(DeviceError, match=re.escape(f"port {port}, which runtime.hosts names")):
            await_hosts([f"127.0.0.1:{port}", "b"], 5.0)


def test_the_other_hosts_work_in_a_copy_of_the_run_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / "fold0").mkdir()
    (tmp_path / "fold0" / "checkpoint-1.npz").write_bytes(b"12345")
    config = RuntimeConfig(hosts="a:1,b", host=1, folder=str(tmp_path))
    copy = copy_run_folder(config)
    assert copy != tmp_path
    assert (copy / "fold0" / "checkpoint-1.npz").read_bytes() == b"12345"
    marks: list[float] = []
    monkeypatch.setattr(hosts_room, "ask_first_host", lambda mark: marks.append(mark) or mark)
    check_same_folder(config, tmp_path)
    check_same_folder(config, copy)
    assert marks[0] == marks[1] == float(np.float32(marks[0]))
    monkeypatch.setattr(hosts_room, "ask_first_host", lambda mark: marks[0])
    (copy / "fold0" / "checkpoint-1.npz").unlink()
    with pytest.raises(DeviceError, match="of host 1 does not hold what the first host's does"):
        check_same_folder(config, copy)


def test_a_run_folder_that_is_new_needs_no_copy(tmp_path: Path):
    config = RuntimeConfig(hosts="a:1,b", host=1, folder=str(tmp_path / "none"))
    assert not any(copy_run_folder(config).iterdir())
    assert not (tmp_path / "none").exists()


def test_a_host_whose_run_failed_goes_at_once_and_no_other(monkeypatch: pytest.MonkeyPatch):
    ended: list[int] = []
    monkeypatch.setattr(os, "_exit", ended.append)
    assert (leave_hosts(0), leave_hosts(1)) == (0, 1)
    monkeypatch.setattr(hosts_room, "count_hosts", lambda: 2)
    leave_hosts(0)
    assert ended == []
    leave_hosts(1)
    assert ended == [1]
