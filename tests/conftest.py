"""The whole suite runs on the modules and, with --bundle, on the built script.

KERAS_BACKEND=jax runs it on JAX with 8 virtual devices, as many as a TPU v5e-8 has.
"""

import importlib.util
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from hypothesis import settings

ROOT = Path(__file__).resolve().parents[1]
SCRIPT = ROOT / "kernel" / "podium.py"

os.environ.setdefault("KERAS_BACKEND", "tensorflow")
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=8"
os.environ["CUDA_VISIBLE_DEVICES"] = "-1"  # the packages are those of a CPU
os.environ["MPLBACKEND"] = "agg"

# Figures stay the same on a slow machine: no deadline for an example.
settings.register_profile("podium", deadline=None, max_examples=40)
settings.load_profile("podium")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--bundle", action="store_true", help="test kernel/podium.py instead of src/podium"
    )


def pytest_configure(config: pytest.Config) -> None:
    """With --bundle, every podium.* module is the built script."""
    if config.getoption("--bundle"):
        from build_kernel import ORDER

        load_bundle(ORDER)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Slow tests come first, in their random order, so that none is waited for at the end."""
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)


def load_bundle(order: tuple[str, ...]) -> None:
    spec = importlib.util.spec_from_file_location("podium_script", SCRIPT)
    script = sys.modules["podium_script"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    package = sys.modules["podium"] = ModuleType("podium")
    package.__path__ = []  # nothing of src/podium may be found behind it
    for name in order:
        sys.modules[f"podium.{name}"] = script
        setattr(package, name, script)


@pytest.fixture(scope="session")
def exported() -> Path:
    """A stand-in for the published EfficientNetV2 B0, which takes seconds to make."""
    from hub_modules import keep_efficientnet

    return keep_efficientnet("b0")


@contextmanager
def compute_step_by_step() -> Iterator[None]:
    """TensorFlow traces no functions: of a whole run in a test, most was tracing them.

    For what a run writes and says; that it trains as graphs is for test_train and the dry runs.
    """
    if os.environ["KERAS_BACKEND"] != "tensorflow":
        yield
        return
    import tensorflow as tf

    tf.config.run_functions_eagerly(True)
    yield
    tf.config.run_functions_eagerly(False)


@pytest.fixture
def untraced() -> Iterator[None]:
    """The test computes step by step."""
    with compute_step_by_step():
        yield


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A clock that whole runs take their time from, which goes as they cost."""
    from clocked_run import plant_clock

    return plant_clock(monkeypatch)


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo's competition."""
    from workbench.demo import make_demo

    return make_demo(tmp_path_factory.mktemp("demo"))


def pytest_report_header(config: pytest.Config) -> str:
    tested = "kernel/podium.py" if config.getoption("--bundle") else "src/podium"
    return f"testing {tested} on {os.environ['KERAS_BACKEND']}"
