"""The suite really tests the script when it is told to."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from workbench.flatten.kaggle_image import KAGGLE_IMAGE

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A copy of the project that a test may spoil."""
    left_out = shutil.ignore_patterns("__pycache__", ".*", "runs", "images")
    return Path(shutil.copytree(ROOT, tmp_path / "podium", ignore=left_out))


def run_python(checkout: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *words], cwd=checkout, capture_output=True, text=True, check=False
    )


def run_tests(checkout: Path, *words: str) -> int:
    done = run_python(checkout, "-m", "pytest", "tests/test_metrics.py", *words)
    assert re.search(r"^\d+ passed|\d failed", done.stdout, re.M), done.stdout + done.stderr
    return done.returncode


@pytest.mark.slow
def test_a_mutation_of_the_script_alone_turns_bundle_and_check_red(checkout: Path):
    assert run_tests(checkout, "--bundle") == 0
    assert run_python(checkout, "build_kernel.py", "--check").returncode == 0
    script = checkout / "kernel" / "podium.py"
    text = script.read_text()
    assert text.count("Z95 = 1.95") == 1
    script.write_text(text.replace("Z95 = 1.95", "Z95 = 2.95"))
    assert run_tests(checkout) == 0
    assert run_tests(checkout, "--bundle") == 1
    assert run_python(checkout, "build_kernel.py", "--check").returncode == 1


@pytest.mark.slow
def test_modules_and_script_are_tested_by_the_same_tests(checkout: Path):
    collect = ("-m", "pytest", "--collect-only", "-p", "no:randomly")
    listed = [
        {line for line in run_python(checkout, *collect, *mode).stdout.splitlines() if "::" in line}
        for mode in ((), ("--bundle",))
    ]
    assert len(listed[0]) > 400
    assert listed[0] == listed[1]


@pytest.mark.parametrize(("words", "code"), [(["--help"], 0), (["--train.epoch=3"], 1)])
def test_help_and_a_mistake_are_told_before_any_library_is_loaded(words: list[str], code: int):
    command = [sys.executable, "-I", "-X", "importtime", str(ROOT / "kernel" / "podium.py"), *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == code, done.stderr
    loaded = {line.rpartition("|")[2].split(".")[0].strip() for line in done.stderr.splitlines()}
    assert "dataclasses" in loaded
    assert loaded.isdisjoint(KAGGLE_IMAGE)
