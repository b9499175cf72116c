"""`make setup`, in a copy, with a stand-in for Python."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
CONSTRAINTS = ROOT / "requirements" / "constraints.txt"
# Says yes to every question, writes down what it is asked, and makes a .venv of itself.
PYTHON = """#!/bin/sh
echo "$*" >> {log}
case "$*" in
  --version) echo "Python 3.12.99" ;;
  *venv*.venv) mkdir -p .venv/bin; cp "$0" .venv/bin/python ;;
  *freeze*) echo "attrs==1.0"; echo "kaggle==9.9.9"; echo "kagglesdk==0.1" ;;
  *"{broken}"*) exit 1 ;;
esac
"""
NO_FAILURE = "nothing fails"


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    folder = tmp_path / "checkout"
    shutil.copytree(ROOT / "requirements", folder / "requirements")
    shutil.copy(ROOT / "Makefile", folder)
    return folder


def run_setup(checkout: Path, path: str = "", *words: str) -> subprocess.CompletedProcess[str]:
    """Runs make setup where there is no Python but one on the path."""
    command = [str(shutil.which("make")), "--no-print-directory", "setup", *words]
    environment = {"PATH": path, "HOME": str(checkout)}
    return subprocess.run(
        command, cwd=checkout, env=environment, capture_output=True, text=True, check=False
    )


def install_python(checkout: Path, broken: str = NO_FAILURE) -> str:
    """A path with the stand-in and the tools that make has at hand."""
    (checkout / "bin").mkdir(exist_ok=True)
    python = checkout / "bin" / "python3.12"
    python.write_text(PYTHON.format(log=checkout / "log", broken=broken))
    python.chmod(0o755)
    for tool in ("cp", "grep", "mkdir", "touch"):
        if not (checkout / "bin" / tool).exists():
            (checkout / "bin" / tool).symlink_to(str(shutil.which(tool)))
    return str(checkout / "bin")


def test_without_a_python_setup_says_which_it_needs_and_how_to_name_it(checkout: Path):
    done = run_setup(checkout)
    assert done.returncode != 0
    assert done.stderr.startswith(
        "Podium needs Python 3.12 (as on Kaggle) or 3.11, and found neither; "
        "install one, or name it: make PYTHON=/path/to/python3.12\n"
    )
    assert not (checkout / ".venv").exists()


def test_setup_installs_under_the_constraints_and_tells_which_client_is_the_newest(checkout: Path):
    done = run_setup(checkout, install_python(checkout))
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == (
        "Setting up .venv with Python 3.12.99; this is done once and takes minutes.\n"
        "All is pinned but for one package: the tests also run against the newest client, "
        "kaggle==9.9.9.\n"
    )
    installs = [line for line in (checkout / "log").read_text().splitlines() if "install" in line]
    assert len(installs) == 2
    assert "--constraint requirements/constraints.txt" in installs[0]
    assert "-r requirements/kaggle-image.txt -r requirements/workshop.txt" in installs[0]
    assert installs[1].endswith("--target .venv/kaggle-newest kaggle")


def test_a_second_setup_does_nothing_and_a_changed_requirement_sets_up_anew(checkout: Path):
    path = install_python(checkout)
    run_setup(checkout, path)
    before = (checkout / "log").read_text()
    again = run_setup(checkout, path, "--silent")
    assert (again.returncode, again.stdout, again.stderr) == (0, "", "")
    assert (checkout / "log").read_text() == before
    ready = (checkout / ".venv" / ".ready").stat().st_mtime
    for name in ("kaggle-image.txt", "workshop.txt", "constraints.txt"):
        os.utime(checkout / "requirements" / name, (ready + 10, ready + 10))
        changed = run_setup(checkout, path, "--question")
        assert changed.returncode == 1, name
        os.utime(checkout / "requirements" / name, (ready - 10, ready - 10))


@pytest.mark.parametrize("broken", ["constraint", "kaggle-newest kaggle"])
def test_a_setup_that_fails_half_way_is_not_taken_for_ready(broken: str, checkout: Path):
    done = run_setup(checkout, install_python(checkout, broken))
    assert done.returncode != 0
    assert not (checkout / ".venv" / ".ready").exists()


def test_every_requirement_and_all_that_it_brings_along_has_one_version():
    pinned = [
        line.partition("==") for line in CONSTRAINTS.read_text().splitlines() if line[0] != "#"
    ]
    assert len(pinned) > 100
    assert all(name and version for name, _, version in pinned)
    names = {re.sub("[-_.]+", "-", name).lower() for name, _, _ in pinned}
    for file in ("kaggle-image.txt", "workshop.txt"):
        lines = (ROOT / "requirements" / file).read_text().splitlines()
        words = [re.match(r"[\w.-]+", line) for line in lines]
        assert {re.sub("[-_.]+", "-", one[0]).lower() for one in words if one} <= names
