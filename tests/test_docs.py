"""The documents are held to the code."""

import json
import re
import subprocess
from pathlib import Path

import pytest

from workbench.settings_page import PAGE, format_page

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text()
CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text()
MAKEFILE = (ROOT / "Makefile").read_text()


def make_targets() -> set[str]:
    return set(re.findall(r"^([a-z-]+):", MAKEFILE, re.MULTILINE))


@pytest.mark.parametrize("document", ["README.md", "CONTRIBUTING.md", "docs/kaggle.md"])
def test_every_make_target_that_a_document_names_exists(document: str):
    text = (ROOT / document).read_text()
    commands = set(re.findall(r"(?:`|^ {4})make ([a-z]+(?:-[a-z]+)*)\b", text, re.MULTILINE))
    assert commands
    assert commands <= make_targets()


def test_the_kaggle_page_names_every_verb_of_the_loop():
    lines = re.findall(r"^([a-z-]+): .*\n(?:\t.*\n)*?\t.*workbench\.(\w+) .*ABOUT", MAKEFILE, re.M)
    verbs = {verb for verb, _ in lines}
    assert {"new", "push", "infer-push", "status", "logs", "pull", "submit", "quota"} <= verbs
    page = (ROOT / "docs" / "kaggle.md").read_text()
    assert not {verb for verb in verbs if f"make {verb}" not in page}


def test_every_room_that_calls_keras_is_tested_on_jax_too():
    listed = re.search(r"^JAX_ROOMS = ((?:.*\\\n)*.*)$", MAKEFILE, re.MULTILINE)
    rooms = set(listed[1].replace("\\", "").split())
    files = {path.stem: path.read_text() for path in (ROOT / "src" / "podium").glob("*.py")}
    calling = {room for room, text in files.items() if re.search(r"^import keras$", text, re.M)}
    assert len(calling) > 8
    assert calling <= rooms | {"main"}  # which test_infer runs
    assert all((ROOT / "tests" / f"test_{room}.py").is_file() for room in rooms)


@pytest.mark.parametrize("target", ["push", "infer-push"])
def test_a_push_runs_every_check_first_and_a_dry_one_none(target: str):
    def plan(*words: str) -> str:
        command = ["make", "--dry-run", "--no-print-directory", target, *words]
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout

    pushes = "-m workbench.push "
    checks = ("ruff check", "mypy src", "build_kernel.py --check", "pytest")
    checked, _, sent = plan().partition(pushes)
    assert all(check in checked for check in checks)
    assert "--dry" not in sent
    unchecked, _, shown = plan("DRY=1").partition(pushes)
    assert not any(check in unchecked + shown for check in checks)
    assert "--dry" in shown


def test_help_lists_every_target():
    shown = subprocess.run(
        ["make", "--no-print-directory", "help"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    listed = {line.split()[0] for line in shown.stdout.splitlines() if line}
    assert listed == make_targets()


def test_plain_make_runs_check():
    assert ".DEFAULT_GOAL := check" in MAKEFILE


def test_the_settings_page_is_fresh():
    assert PAGE.read_text() == format_page()


def test_every_link_and_picture_of_the_readme_exists():
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        assert target.startswith("https://") or (ROOT / target).exists(), target


def test_the_readme_is_short():
    assert len(README.splitlines()) <= 150


def test_ci_calls_the_test_command_that_the_readme_names():
    assert "make check" in README
    assert (ROOT / ".ci" / "run").read_text().strip().endswith("make check")


def test_kaggles_metadata_names_the_built_script_and_only_keys_that_kaggle_knows():
    metadata = json.loads((ROOT / "kernel-metadata.json").read_text())
    assert (ROOT / metadata["code_file"]).is_file()
    assert set(metadata) <= {
        "id", "title", "code_file", "language", "kernel_type", "is_private", "enable_gpu",
        "enable_tpu", "enable_internet", "machine_shape", "competition_sources",
        "dataset_sources", "kernel_sources", "model_sources",
    }  # fmt: skip
    assert metadata["id"].split("/")[1] == metadata["title"]


def test_no_requirement_of_kaggles_image_is_left_without_a_version():
    lines = (ROOT / "requirements" / "kaggle-image.txt").read_text().splitlines()
    for line in lines:
        requirement = line.partition("#")[0].strip()
        assert not requirement or re.search(r"[=<>~]", requirement), line
