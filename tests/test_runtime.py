import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import keras
import pytest

from podium.config import Config, RuntimeConfig
from podium.devices import DeviceError
from podium.override import SettingsError
from podium.runtime import (
    choose_backend,
    describe_runtime,
    find_accelerator,
    find_deadline,
    find_run_folder,
    open_runtime,
    plan_environment,
    prepare_environment,
    read_versions,
)


@pytest.fixture
def dev(tmp_path: Path) -> Path:
    (tmp_path / "null").touch()
    return tmp_path


def test_a_machine_without_device_files_is_a_cpu(dev: Path):
    assert find_accelerator({}, dev) == "cpu"


def test_a_gpu_is_seen_by_its_device_file_unless_it_is_hidden(dev: Path):
    (dev / "nvidia0").touch()
    assert find_accelerator({}, dev) == "gpu"
    assert find_accelerator({"CUDA_VISIBLE_DEVICES": "-1"}, dev) == "cpu"


def test_the_control_device_alone_is_no_gpu(dev: Path):
    (dev / "nvidiactl").touch()
    assert find_accelerator({}, dev) == "cpu"


def test_a_tpu_is_seen_by_kaggles_variable_or_its_device_file(dev: Path):
    assert find_accelerator({"ISTPUVM": "1"}, dev) == "tpu"
    (dev / "accel0").touch()
    assert find_accelerator({}, dev) == "tpu"


def test_accelerators_speak_jax_and_a_cpu_tensorflow():
    auto = RuntimeConfig()
    backends = [choose_backend(auto, kind) for kind in ("tpu", "gpu", "cpu")]
    assert backends == ["jax", "jax", "tensorflow"]
    assert choose_backend(RuntimeConfig(backend="tensorflow"), "gpu") == "tensorflow"


def test_jax_on_a_cpu_gets_the_virtual_devices_asked_for():
    plan = plan_environment(RuntimeConfig(backend="jax", devices=8), "cpu")
    assert plan["XLA_FLAGS"] == "--xla_force_host_platform_device_count=8"
    assert plan["KERAS_BACKEND"] == "jax"
    assert "XLA_FLAGS" not in plan_environment(RuntimeConfig(devices=8), "tpu")


def test_what_jax_compiles_is_kept_among_what_the_users_programs_can_make_again(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    kept = plan_environment(RuntimeConfig(), "tpu")["JAX_COMPILATION_CACHE_DIR"]
    assert kept == str(tmp_path / "podium" / "compiled")
    assert "JAX_COMPILATION_CACHE_DIR" not in plan_environment(RuntimeConfig(), "cpu")
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    kept = plan_environment(RuntimeConfig(), "tpu")["JAX_COMPILATION_CACHE_DIR"]
    assert kept == str(tmp_path / ".cache" / "podium" / "compiled")


def test_help_is_answered_and_a_mistake_refused_before_anything_is_loaded(
    capsys: pytest.CaptureFixture[str],
):
    with pytest.raises(SystemExit) as ended:
        prepare_environment(["--help"])
    assert ended.value.code == 0
    assert "--train.epochs" in capsys.readouterr().out
    with pytest.raises(SystemExit, match="These settings cannot be used:\n  unknown setting 'x'"):
        prepare_environment(["--x=1"])


def test_on_kaggle_a_mistake_is_handed_on_since_the_run_must_leave_a_status(
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setenv("KAGGLE_KERNEL_RUN_TYPE", "Batch")
    mistake = prepare_environment(["--x=1"])
    assert isinstance(mistake, SettingsError)
    assert str(mistake) == "unknown setting 'x'; --help lists them all"
    with pytest.raises(SystemExit) as ended:
        prepare_environment(["--help", "--x=1"])
    assert ended.value.code == 0


def test_looking_at_the_machine_loads_no_heavy_library():
    source = Path(__file__).resolve().parents[1] / "src"
    program = (
        f"import sys; sys.path.insert(0, {str(source)!r}); import podium.runtime; "
        "print([m for m in ('keras', 'jax', 'tensorflow', 'numpy') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    assert done.stdout.decode().strip() == "[]"


def test_a_run_folder_that_cannot_be_made_is_refused(tmp_path: Path):
    (tmp_path / "file").touch()
    with pytest.raises(DeviceError, match=r"cannot be written to \(Not a directory\); set runtime"):
        find_run_folder(RuntimeConfig(folder=str(tmp_path / "file" / "run")))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_run_folder_without_write_permission_is_refused(tmp_path: Path):
    tmp_path.chmod(0o555)
    with pytest.raises(DeviceError, match="Permission denied"):
        find_run_folder(RuntimeConfig(folder=str(tmp_path)))


def test_a_run_folder_on_a_read_only_system_is_refused():
    with pytest.raises(DeviceError, match="run folder /proc/podium cannot be written to"):
        find_run_folder(RuntimeConfig(folder="/proc/podium"))


def test_the_runtime_of_this_machine_opens_and_is_described(tmp_path: Path):
    backend = keras.backend.backend()
    config = replace(Config(), runtime=RuntimeConfig(folder=str(tmp_path), session_hours=2))
    started = time.time()
    runtime = open_runtime(config, backend, started)
    assert (runtime.accelerator, runtime.backend) == ("cpu", backend)
    assert len(runtime.devices) == (8 if backend == "jax" else 1)
    assert runtime.deadline == started + 114 * 60
    assert runtime.reserve == 6 * 60
    card = describe_runtime(runtime)
    assert str(tmp_path) in card
    assert f"keras {keras.version()}" in card
    assert "in 1.9 h; 6 min are kept free" in card


@pytest.mark.parametrize(
    ("kind", "hours", "minutes", "left", "reserve"),
    [
        ("tpu", None, None, 513, 27),
        ("gpu", None, None, 684, 36),
        ("cpu", 2, None, 114, 6),
        ("gpu", None, 30, 690, 30),
        ("tpu", 1, 0, 60, 0),
        ("tpu", 1, 59, 1, 59),
    ],
)
def test_a_run_must_be_done_before_the_session_ends(
    kind: str, hours: float | None, minutes: float | None, left: float, reserve: float
):
    config = RuntimeConfig(session_hours=hours, reserve_minutes=minutes)
    assert find_deadline(config, kind, 1000) == pytest.approx((1000 + 60 * left, 60 * reserve))


@pytest.mark.parametrize("minutes", [60, 90])
def test_a_reserve_that_leaves_nothing_of_the_session_is_refused(minutes: float):
    config = RuntimeConfig(session_hours=1, reserve_minutes=minutes)
    with pytest.raises(SettingsError) as caught:
        find_deadline(config, "gpu", 0)
    assert str(caught.value) == (
        f"runtime.reserve_minutes is {minutes}, but the session has 60 minutes; set it below that, "
        f"or raise runtime.session_hours"
    )


def test_a_gpu_is_left_alone_where_a_cpu_is_asked_for():
    plan = plan_environment(RuntimeConfig(accelerator="cpu"), "gpu")
    assert plan["CUDA_VISIBLE_DEVICES"] == "-1"
    assert (plan["KERAS_BACKEND"], plan["JAX_PLATFORMS"]) == ("tensorflow", "cpu")
    assert "CUDA_VISIBLE_DEVICES" not in plan_environment(RuntimeConfig(), "gpu")


def test_versions_of_the_libraries_are_read(monkeypatch: pytest.MonkeyPatch):
    assert read_versions()["keras"] == keras.version()
    on_tpu = [SimpleNamespace(name="tensorflow-cpu", version="2.20.0")]
    monkeypatch.setattr("importlib.metadata.distributions", lambda: on_tpu)
    assert read_versions()["tensorflow"] == "2.20.0"
    assert read_versions()["jax"] == "not installed"
