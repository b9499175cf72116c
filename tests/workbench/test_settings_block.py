import json
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from build_kernel import build_apart, build_script
from workbench.flatten.refusal import BuildError
from workbench.flatten.settings_block import copy_with_settings, format_settings

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "src" / "podium"
ODD = {"train.epochs": 3, "data.folder": 'a "b" \\ c\nd'}


def test_the_settings_stand_in_the_script_and_its_lines_are_still_mapped(tmp_path: Path):
    (tmp_path / "settings.json").write_text(json.dumps(ODD))
    said = build_apart(PACKAGE, tmp_path / "settings.json", tmp_path)
    plain = build_script(PACKAGE)
    lines = (tmp_path / "podium.py").read_text().splitlines()
    places = (tmp_path / "places.txt").read_text().splitlines()
    start = next(n for n, line in enumerate(lines) if line.startswith("SETTINGS:"))
    scope: dict[str, object] = {}
    exec("\n".join(lines[start : start + 4]), scope)  # noqa: S102, four lines of our own
    assert scope["SETTINGS"] == ODD
    assert len(lines) == len(places) == len(plain.places) + 3
    assert lines[-1] == plain.text.splitlines()[-1]
    assert places[-1] == str(plain.places[-1])
    assert places[-1].startswith("src/podium/main.py:")
    assert said.startswith(f"{tmp_path.name}/podium.py: ")


def test_the_command_line_builds_apart_and_leaves_the_kernel_as_it_is(tmp_path: Path):
    before = (ROOT / "kernel" / "podium.py").read_bytes()
    (tmp_path / "settings.json").write_text('{"train.epochs": 3}')
    words = ["build_kernel.py", "--apart", str(tmp_path / "settings.json"), str(tmp_path)]
    subprocess.run([sys.executable, *words], cwd=ROOT, check=True, capture_output=True)
    done = subprocess.run(
        [sys.executable, "-I", str(tmp_path / "podium.py"), "--folds.count=1"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert "folds.count must be 2 to 20" in done.stderr
    assert (ROOT / "kernel" / "podium.py").read_bytes() == before


def test_settings_of_ones_own_in_the_module_are_not_overwritten(tmp_path: Path):
    package = tmp_path / "src" / "podium"
    package.mkdir(parents=True)
    (package / "settings.py").write_text('SETTINGS: dict[str, object] = {"train.epochs": 3}\n')
    with pytest.raises(BuildError, match="move yours to its file"):
        copy_with_settings(package, {}, tmp_path / "copy")


numbers = st.integers() | st.floats(allow_nan=False, allow_infinity=False)
values = st.text() | st.booleans() | numbers


@given(st.dictionaries(st.text(min_size=1), values))
def test_any_settings_are_python_that_gives_them_back(settings: dict[str, object]):
    scope: dict[str, object] = {}
    exec(format_settings(settings), scope)  # noqa: S102
    assert scope["SETTINGS"] == settings
