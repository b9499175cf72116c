"""The builder: what it builds, what it refuses, and how its lines lead back to the modules."""

import ast
import graphlib
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

import build_kernel
from build_kernel import BuildError, Script, build_script
from workbench.flatten.kaggle_image import KAGGLE_IMAGE
from workbench.flatten.script import Place
from workbench.flatten.section import RULE

CASES = Path(__file__).parent / "bundle_cases"
BUILT = sorted(path.parent.name for path in CASES.glob("*/expected.py"))
REFUSED = sorted(path.parent.name for path in CASES.glob("*/expected_error.txt"))
SETTINGS = '"""Settings: the block."""\n\nSETTINGS: dict[str, object] = {}\n\nSOURCE = "modules"\n'


def build_case(name: str) -> Script:
    order = (CASES / name / "order.txt").read_text().split()
    return build_script(CASES / name / "src" / "podium", order)


def write_package(root: Path, files: dict[str, str]) -> Path:
    package = root / "src" / "podium"
    package.mkdir(parents=True)
    for name, text in files.items():
        (package / f"{name}.py").write_bytes(text.encode())
    return package


def build_files(root: Path, **files: str) -> Script:
    return build_script(write_package(root, files), list(files))


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A project with a tiny module for every name in ORDER; main raises when it runs."""
    files = {
        name: f'"""{name.title()}: a section."""\n\n\n'
        f'def run_{name}() -> str:\n    return "{name}"\n'
        for name in build_kernel.ORDER
    }
    files["settings"] = SETTINGS
    files["main"] = (
        '"""Main: the stages in order."""\n\nimport json\n\nfrom podium.submit import run_submit\n'
        '\n\ndef run_main() -> None:\n    """Fails."""\n    json.dumps(run_submit())\n'
        '    raise RuntimeError("out of luck")\n\n\nif __name__ == "__main__":\n    run_main()\n'
    )
    write_package(tmp_path, files)
    return tmp_path


def run_builder(root: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, build_kernel.__file__, "--root", str(root), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


# What is built


@pytest.mark.parametrize("name", BUILT)
def test_a_case_builds_its_golden_script_byte_for_byte(name: str) -> None:
    assert build_case(name).text.encode() == (CASES / name / "expected.py").read_bytes()


def test_every_case_says_what_it_expects() -> None:
    cases = {path.name for path in CASES.iterdir() if path.is_dir()}
    assert cases == set(BUILT) | set(REFUSED)
    assert not set(BUILT) & set(REFUSED)


def test_golden_scripts_are_formatted_and_linted_as_the_project_asks(tmp_path: Path) -> None:
    config = str(build_kernel.ROOT / "pyproject.toml")
    for name in BUILT:
        (tmp_path / name / "kernel").mkdir(parents=True)
        shutil.copy(CASES / name / "expected.py", tmp_path / name / "kernel" / "podium.py")
    ruff = [sys.executable, "-m", "ruff"]
    ignored = ["--ignore", "E402,T201"]  # the goldens print; E402 is ignored by the script's path
    for command in ([*ruff, "check", *ignored], [*ruff, "format", "--check"]):
        run = subprocess.run(
            [*command, "--no-cache", "--config", config, str(tmp_path)],
            capture_output=True,
            text=True,
            check=False,
        )
        assert run.returncode == 0, run.stdout


@pytest.mark.parametrize("name", BUILT)
def test_every_line_of_a_module_is_where_the_map_says(name: str) -> None:
    script = build_case(name)
    lines = script.text.removesuffix("\n").split("\n")
    assert len(lines) == len(script.places)
    stamped = 0
    for line, place in zip(lines, script.places, strict=True):
        if place.line is None or line == RULE:
            continue
        source = (CASES / name / place.file).read_text().split("\n")[place.line - 1]
        if source.startswith("SOURCE ="):
            stamped += 1
        elif line != source:  # a line of the docstring, printed as a comment
            assert line.removeprefix("#").strip() == source.strip('"').strip()
    assert stamped == 2  # SOURCE and its comment


@pytest.mark.parametrize("name", BUILT)
def test_every_line_of_code_and_every_comment_arrives_once(name: str) -> None:
    script = build_case(name)
    arrived = [place for place in script.places if place.line]
    for path in sorted((CASES / name / "src" / "podium").glob("*.py")):
        text = path.read_text()
        tree = ast.parse(text)
        cut = {
            number
            for node in tree.body
            if isinstance(node, ast.Import | ast.ImportFrom) or node is tree.body[0]
            for number in range(node.lineno, (node.end_lineno or 0) + 1)
        }
        for number, line in enumerate(text.split("\n"), 1):
            expected = 2 if line.startswith("SOURCE = ") and "#" in line else 1
            if line.strip() and number not in cut:
                place = Place(f"src/podium/{path.name}", number)
                assert arrived.count(place) == expected, line


@pytest.mark.parametrize("name", BUILT)
def test_the_contents_point_at_the_headings(name: str) -> None:
    script = build_case(name)
    lines = script.text.split("\n")
    for number, heading in script.sections:
        assert lines[number - 1 : number + 2] == [RULE, f"# {heading}", RULE]
        assert f"{number:>8}  {heading}" in lines


def test_a_script_imports_nothing_of_its_own_and_no_name_of_this_machine() -> None:
    for name in set(BUILT) - {"built_comments_kept"}:  # that one has such a line in a string
        text = build_case(name).text
        assert not re.search(r"(import|from) podium", text)
        assert str(build_kernel.ROOT) not in text


def test_two_builds_in_different_folders_are_identical(tmp_path: Path) -> None:
    texts = []
    for folder in ("one", "another/deeper"):
        shutil.copytree(CASES / "built_comments_kept", tmp_path / folder)
        order = (tmp_path / folder / "order.txt").read_text().split()
        texts.append(build_script(tmp_path / folder / "src" / "podium", order).text)
    assert texts[0] == texts[1]


def test_line_ends_of_windows_build_the_same_script(tmp_path: Path) -> None:
    main = '"""Main: the stages."""\n\nimport os\n\nTEXT = """\na\n"""\nprint_it = os.sep\n'
    here = build_files(tmp_path / "unix", settings=SETTINGS, main=main)
    there = build_files(
        tmp_path / "dos",
        settings=SETTINGS.replace("\n", "\r\n"),
        main=main.replace("\n", "\r\n"),
    )
    assert here == there


def test_the_hash_depends_on_every_byte_and_on_the_order(tmp_path: Path) -> None:
    one, two = '"""One."""\n', '"""Two."""\n'
    orders = (["settings", "a", "b"], ["settings", "b", "a"])
    package = write_package(tmp_path, {"settings": SETTINGS, "a": one, "b": two})
    texts = [build_script(package, order).text for order in orders]
    (package / "b.py").write_text(two + "\n")
    texts.append(build_script(package, orders[0]).text)
    hashes = {re.findall("[0-9a-f]{64}", text)[0] for text in texts}
    assert len(hashes) == 3
    assert all(len(set(re.findall("[0-9a-f]{64}", text))) == 1 for text in texts)


@pytest.mark.parametrize("name", ["built_minimal", "built_comments_kept", "built_prose_only"])
def test_a_script_runs_renamed_in_a_read_only_folder_and_from_elsewhere(
    name: str, tmp_path: Path
) -> None:
    folder, elsewhere = tmp_path / "kaggle" / "src", tmp_path / "elsewhere"
    folder.mkdir(parents=True)
    elsewhere.mkdir()
    (folder / "script.py").write_text(build_case(name).text)
    folder.chmod(0o555)
    run = subprocess.run(
        [sys.executable, "-I", str(folder / "script.py")],
        cwd=elsewhere,
        capture_output=True,
        text=True,
        check=False,
    )
    folder.chmod(0o755)
    assert run.returncode == 0, run.stderr
    assert run.stdout.strip()
    assert [path.name for path in folder.iterdir()] == ["script.py"]
    assert not list(elsewhere.iterdir())


def test_the_backend_is_chosen_before_any_library_is_imported() -> None:
    lines = build_case("built_imports_merged").text.split("\n")
    chosen = lines.index('os.environ.setdefault("PODIUM_GOLDEN", "1")')
    assert lines.index("SETTINGS: dict[str, object] = {}") < lines.index("import os") < chosen
    assert (
        chosen
        < lines.index("import keras")
        < lines.index("# Folds: every image is validated once.")
    )


# What is refused


@pytest.mark.parametrize("name", REFUSED)
def test_a_case_is_refused_with_its_message(name: str) -> None:
    with pytest.raises(BuildError) as refusal:
        build_case(name)
    assert f"{refusal.value}\n" == (CASES / name / "expected_error.txt").read_text()


@pytest.mark.parametrize("name", REFUSED)
def test_a_refusal_names_file_and_line_and_the_way_out(name: str) -> None:
    for line in (CASES / name / "expected_error.txt").read_text().splitlines():
        assert re.match(r"src/podium/[\w/]+\.py:\d+: \S[^;]*[^;\s]", line), line
        assert re.search(r"[;,] [a-z]", line), line


SECRETS = {
    "a Discord webhook": "https://discord.com/" + "api/webhooks/" + "1" * 18 + "/" + "aB-3_" * 13,
    "a Slack webhook": "https://hooks.slack" + ".com/services/" + "T0AAAAAAA/B0AAAAAAA/" + "x" * 24,
    "a Slack token": "xox" + "b-" + "1" * 12 + "-" + "aB3" * 8,
    "an ntfy topic": "https://ntfy" + ".sh/" + "podium-aB3xYz9q",
    "an ntfy token": "tk" + "_" + "aB3" * 9 + "xY",
    "a webhook's address": "discord" + "+https://own.example/" + "api/webhooks/1/token",
    "a Telegram bot token": "https://api.telegram.org/bot" + "1" * 9 + ":" + "A-b_c" * 7,
    "a Kaggle token": "KGAT" + "_" + "0f" * 16,
    "a GitHub token": "ghp" + "_" + "aB3" * 12,
    "a Hugging Face token": "hf" + "_" + "aB" * 17,
    "an AWS key": "AKIA" + "ABCD" * 4,
    "a webhook's signing secret": "whsec" + "_" + "aB3/" * 8,
}
WRITINGS = {
    "text": '\n\nPLACE = "{}"\n',
    "comment": "\n\nPLACE = 1  # {}\n",
    "docstring": '\n\ndef place():\n    """Was {}."""\n',
    "f-string": '\n\ndef place(at):\n    return f"{{at}}/{}"\n',
    "lines": '\n\nPLACE = """\nfirst\n{}\n"""\n',
}


def refuse_secret(root: Path, writing: str, secret: str) -> str:
    text = '"""A: holds it."""\n' + WRITINGS[writing].format(secret)
    with pytest.raises(BuildError) as refusal:
        build_files(root, settings=SETTINGS, a=text)
    return str(refusal.value)


@pytest.mark.parametrize("writing", WRITINGS)
@pytest.mark.parametrize("what", SECRETS)
def test_a_secret_is_refused_wherever_it_stands_and_not_repeated(
    what: str, writing: str, tmp_path: Path
) -> None:
    message = refuse_secret(tmp_path, writing, SECRETS[what])
    assert re.fullmatch(
        rf"src/podium/a\.py:\d+: holds what looks like {what}, and the script is public; "
        "revoke it and read it from the environment",
        message,
    )
    assert SECRETS[what] not in message


@pytest.mark.parametrize(
    ("what", "secret"),
    [
        ("a Slack webhook", "https://hooks.slack-gov" + ".com/services/T0AAAAAAA/B0AAAAAAA/xxx"),
        ("an ntfy topic", "ntfys" + "://own.example/podium-aB3xYz9q"),
        ("a webhook's address", "json" + "+http://127.0.0.1:8080/a/long/secret/path"),
        ("a webhook's signing secret", "https://own.example/in#whsec" + "_" + "aB3/" * 8),
    ],
)
def test_the_other_forms_of_an_address_are_refused_too(
    what: str, secret: str, tmp_path: Path
) -> None:
    assert f"src/podium/a.py:4: holds what looks like {what}," in refuse_secret(
        tmp_path, "text", secret
    )


@pytest.mark.parametrize(
    "text",
    [
        'PLACE = "{}" "{}"',
        'PLACE = (\n    "{}"\n    "{}"\n)',
        'PLACE = "{}" + "{}"',
        'def place(at):\n    return f"{{at}}{}" f"{}{{at}}"',
        'def place(at):\n    return at + ("{}" + "{}")',
    ],
)
@pytest.mark.parametrize("what", SECRETS)
def test_a_secret_in_two_halves_is_one(what: str, text: str, tmp_path: Path) -> None:
    middle = len(SECRETS[what]) - 9
    halves = text.format(SECRETS[what][:middle], SECRETS[what][middle:])
    with pytest.raises(BuildError) as refusal:
        build_files(tmp_path, settings=SETTINGS, a=f'"""A: holds it."""\n\n{halves}\n')
    assert re.match(rf"src/podium/a\.py:[34]: holds what looks like {what},", str(refusal.value))
    assert len(str(refusal.value).splitlines()) == 1


@pytest.mark.parametrize(
    "line",
    ['KAGGLE_KEY = "{}"', 'ENVIRON = {{"KAGGLE_KEY": "{}"}}', "api_token: str = '{}'"],
)
def test_a_kaggle_key_is_known_by_the_name_it_is_given(line: str, tmp_path: Path) -> None:
    text = '"""A: holds it."""\n\n' + line.format("0f" * 16) + "\n"
    with pytest.raises(BuildError, match=r"^src/podium/a\.py:3: .* a Kaggle key, [^\n]*$"):
        build_files(tmp_path, settings=SETTINGS, a=text)


def test_hashes_and_addresses_without_a_token_are_no_secrets(tmp_path: Path) -> None:
    lines = [
        f'TOKEN_OF_SOURCES = "{"0f" * 32}"',
        f'MD5_OF_WEIGHTS = "{"0f" * 16}"',
        'WEBHOOK = "https://discord.com/api/webhooks/<id>/<token>"',
        'TOPIC = "https://ntfy.sh/podium-runs"',
        'KERAS = "keras+http://host:9000/publish/epoch/end/"',
        'OWN = ("discord+https://host/path", "ntfys://host/topic", "tgram://1:token/2")',
        'PREFIXES = ("tk_", "xoxb-", "hf_", "ghp_", "KGAT_", "whsec_", "AKIA")',
        'TIMES = "2026-11-24T12:34:56"',
    ]
    build_files(tmp_path, settings=SETTINGS, a='"""A."""\n\n' + "\n".join(lines) + "\n")


def test_a_library_in_both_images_may_be_used_anywhere_below_the_preamble(tmp_path: Path) -> None:
    both = [name for name, images in KAGGLE_IMAGE.items() if len(images) == 2]
    imports = "\n".join(f"import {name}" for name in both)
    script = build_files(tmp_path, settings=SETTINGS, a=f'"""A."""\n\n{imports}\n')
    assert all(f"\nimport {name}\n" in script.text for name in both)


def test_a_script_over_kaggles_limit_is_refused(tmp_path: Path) -> None:
    line = "# " + "x" * 97 + "\n"
    room = build_kernel.SIZE_LIMIT // len(line)
    files = {"settings": SETTINGS, "a": '"""A."""\n\n' + line * (room - 30)}
    package = write_package(tmp_path, files)
    assert len(build_script(package, list(files)).text) <= 900_000
    (package / "a.py").write_text('"""A."""\n\n' + line * room)
    with pytest.raises(BuildError) as refusal:
        build_script(package, list(files))
    assert re.fullmatch(
        r"kernel/podium\.py:1: has 90\d,\d{3} bytes, over the limit of 900,000; "
        "Kaggle takes 1 MB at most, so move data to a data set",
        str(refusal.value),
    )


def test_a_file_that_is_not_text_is_refused(tmp_path: Path) -> None:
    package = write_package(tmp_path, {"settings": SETTINGS})
    (package / "a.py").write_bytes(b'"""A."""\n\xff\n')
    with pytest.raises(BuildError, match=r"^src/podium/a\.py:1: is not Python"):
        build_script(package, ["settings", "a"])


# The command line


def test_a_build_writes_the_script_and_says_so_in_one_line(checkout: Path) -> None:
    run = run_builder(checkout)
    assert run.returncode == 0, run.stderr
    path = checkout / "kernel" / "podium.py"
    lines, size = path.read_text().count("\n"), path.stat().st_size
    sections = len(build_kernel.ORDER)
    assert run.stdout == (
        f"kernel/podium.py: {lines:,} lines, {size:,} of 900,000 bytes, {sections} sections\n"
    )
    assert list(path.parent.iterdir()) == [path]
    assert path.read_text() == build_script(checkout / "src" / "podium").text


def test_another_checkout_is_built_from_anywhere_by_this_builders_own_code(checkout: Path) -> None:
    theirs = checkout / "src" / "workbench" / "flatten"
    theirs.mkdir(parents=True)
    for folder in (theirs.parent, theirs):
        (folder / "__init__.py").write_text('raise RuntimeError("not this one")\n')
    command = [sys.executable, "-I", "-S", build_kernel.__file__, "--root", str(checkout)]
    run = subprocess.run(command, cwd=checkout, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    assert (checkout / "kernel" / "podium.py").is_file()


def test_a_refused_build_leaves_the_script_alone_and_exits_1(checkout: Path) -> None:
    run_builder(checkout)
    before = (checkout / "kernel" / "podium.py").read_bytes()
    with (checkout / "src/podium/folds.py").open("a") as file:
        file.write("\n\nprint(1)\nprint(__file__)\n")
    run = run_builder(checkout)
    assert run.returncode == 1
    assert run.stdout == ""
    assert [line.partition(": ")[0] for line in run.stderr.splitlines()] == [
        "src/podium/folds.py:8",
        "src/podium/folds.py:9",
        "src/podium/folds.py:9",
    ]
    assert (checkout / "kernel" / "podium.py").read_bytes() == before


def test_check_passes_on_a_fresh_script_and_writes_nothing(checkout: Path) -> None:
    missing = run_builder(checkout, "--check")
    assert missing.returncode == 1
    assert missing.stderr == "kernel/podium.py is missing; run `make build`\n"
    assert not (checkout / "kernel").exists()
    run_builder(checkout)
    fresh = run_builder(checkout, "--check")
    assert (fresh.returncode, fresh.stdout, fresh.stderr) == (0, "", "")


def test_check_names_the_line_of_a_script_that_was_edited(checkout: Path) -> None:
    run_builder(checkout)
    path = checkout / "kernel" / "podium.py"
    path.write_text(path.read_text().replace('return "folds"', 'return "holds"'))
    line = path.read_text().split("\n").index('    return "holds"') + 1
    run = run_builder(checkout, "--check")
    assert run.returncode == 1
    assert run.stderr == (
        f"kernel/podium.py is stale: line {line} is not src/podium/folds.py:5; run `make build`\n"
    )


@pytest.mark.parametrize(
    ("old", "new", "place"),
    [
        ('return "folds"', 'return "holds"', "src/podium/folds.py:5"),
        (
            "def run_folds",
            "\n\n\ndef added():\n    ...\n\n\ndef run_folds",
            "src/podium/folds.py:7",
        ),
        ("a section", "a room", "src/podium/folds.py:1"),
    ],
)
def test_check_names_the_line_of_a_module_that_was_edited(
    old: str, new: str, place: str, checkout: Path
) -> None:
    run_builder(checkout)
    module = checkout / "src" / "podium" / "folds.py"
    module.write_text(module.read_text().replace(old, new))
    run = run_builder(checkout, "--check")
    assert run.returncode == 1
    assert re.fullmatch(
        rf"kernel/podium\.py is stale: line \d+ is not {place}; run `make build`\n", run.stderr
    )


def test_check_sees_a_change_that_shows_only_in_the_hash(checkout: Path) -> None:
    run_builder(checkout)
    with (checkout / "src/podium/folds.py").open("a") as file:
        file.write("\n\n")
    run = run_builder(checkout, "--check")
    assert run.returncode == 1
    assert "is not build_kernel.py (title); run `make build`" in run.stderr


def test_check_sees_lines_added_below_the_end(checkout: Path) -> None:
    run_builder(checkout)
    with (checkout / "kernel/podium.py").open("a") as file:
        file.write("print(1)\n")
    run = run_builder(checkout, "--check")
    assert run.returncode == 1
    assert "in the modules; run `make build`" in run.stderr


def test_map_leads_a_traceback_back_to_the_module(checkout: Path) -> None:
    run_builder(checkout)
    crash = subprocess.run(
        [sys.executable, "-I", str(checkout / "kernel" / "podium.py")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert "RuntimeError: out of luck" in crash.stderr
    line = re.findall(r'podium\.py", line (\d+), in run_main', crash.stderr)[-1]
    module = (checkout / "src" / "podium" / "main.py").read_text().split("\n")
    at = module.index('    raise RuntimeError("out of luck")') + 1
    run = run_builder(checkout, "--map", line)
    assert (run.returncode, run.stderr) == (0, "")
    assert run.stdout == f"podium.py:{line} is src/podium/main.py:{at}\n"


def test_map_says_what_the_builder_wrote_itself(checkout: Path) -> None:
    run_builder(checkout)
    lines = (checkout / "kernel" / "podium.py").read_text().split("\n")
    banner = lines.index("# Folds: a section.") + 1
    numbers = [1, lines.index("import json") + 1, banner - 1, banner, banner - 2]
    run = run_builder(checkout, "--map", *numbers)
    assert [line.partition(" is ")[2] for line in run.stdout.splitlines()] == [
        "build_kernel.py (title)",
        "build_kernel.py (imports)",
        "src/podium/folds.py:1",
        "src/podium/folds.py:1",
        "build_kernel.py (between sections)",
    ]


def test_map_warns_of_a_stale_script_and_still_answers(checkout: Path) -> None:
    run = run_builder(checkout, "--map", 1)
    assert run.returncode == 0
    assert run.stdout == "podium.py:1 is build_kernel.py (title)\n"
    assert run.stderr == "kernel/podium.py is missing; run `make build`\n"


@pytest.mark.parametrize("line", ["0", "-3", "99999"])
def test_map_refuses_a_line_that_is_not_there(line: str, checkout: Path) -> None:
    run_builder(checkout)
    run = run_builder(checkout, "--map", line)
    assert run.returncode == 2
    assert re.search(rf"podium\.py has lines 1 to \d+, not {line}\n$", run.stderr)


def test_help_teaches_the_three_uses(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        build_kernel.main(["--help"])
    text = capsys.readouterr().out
    assert all(word in text for word in ("--check", "--map LINE", "--root FOLDER", "it builds"))


# The project itself


def read_own_modules() -> Sequence[Path]:
    package = build_kernel.ROOT / "src" / "podium"
    return sorted(path for path in package.glob("*.py") if path.name != "__init__.py")


def count_code_lines(node: ast.AST, text: str) -> int:
    """Lines that are neither blank, comment, nor docstring."""
    first, last = getattr(node, "lineno", 1), getattr(node, "end_lineno", None)
    words = set(range(first, (last or len(text.split("\n"))) + 1))
    for inner in ast.walk(node):
        documented = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Module
        if isinstance(inner, documented) and ast.get_docstring(inner) is not None:
            said = inner.body[0]
            words -= set(range(said.lineno, (said.end_lineno or 0) + 1))
    lines = text.split("\n")
    return sum(
        1 for number in words if lines[number - 1].strip() and lines[number - 1].strip()[0] != "#"
    )


def test_order_names_every_module_and_nothing_else() -> None:
    assert sorted(build_kernel.ORDER) == [path.stem for path in read_own_modules()]
    assert build_kernel.ORDER[: len(build_kernel.PREAMBLE)] == build_kernel.PREAMBLE
    assert build_kernel.ORDER[-1] == "main"


def test_every_module_has_a_test_file_of_its_name() -> None:
    elsewhere = {"settings": "workbench/test_settings_block.py"}  # it holds a block, and no code
    tests = Path(__file__).parent
    untested = {path.stem for path in read_own_modules()} - {
        path.stem.removeprefix("test_") for path in tests.glob("test_*.py")
    }
    assert untested == set(elsewhere)
    assert all((tests / place).is_file() for place in elsewhere.values())


def read_checked_files() -> dict[str, str]:
    """The texts of the modules, the workbench and the builder, by their paths in the project."""
    workbench = (build_kernel.ROOT / "src" / "workbench").rglob("*.py")
    paths = [*read_own_modules(), *workbench, Path(build_kernel.__file__)]
    return {path.relative_to(build_kernel.ROOT).as_posix(): path.read_text() for path in paths}


def test_modules_have_at_most_250_lines_of_code() -> None:
    files = read_checked_files()
    assert {"build_kernel.py", "src/workbench/flatten/source.py"} < set(files)
    sizes = {file: count_code_lines(ast.parse(text), text) for file, text in files.items()}
    assert {file: size for file, size in sizes.items() if size > 250} == {}


def test_functions_have_at_most_40_lines() -> None:
    long = {}
    for file, text in read_checked_files().items():
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                size = count_code_lines(node, text)
                if size > 40:
                    long[f"{file}:{node.name}"] = size
    assert long == {}


def test_the_builders_rooms_import_one_way_and_nothing_but_python() -> None:
    graph: dict[str, set[str]] = {}
    for path in (build_kernel.ROOT / "src" / "workbench" / "flatten").glob("*.py"):
        tree = ast.parse(path.read_text())
        imports = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
        modules = {node.module or "." for node in imports}
        modules |= {
            one.name
            for node in ast.walk(tree)
            if isinstance(node, ast.Import)
            for one in node.names
        }
        rooms = {name for name in modules if name.startswith("workbench.flatten.")}
        others = {name.partition(".")[0] for name in modules - rooms}
        assert others <= sys.stdlib_module_names, path.name
        graph[f"workbench.flatten.{path.stem}"] = rooms
    assert len(list(graphlib.TopologicalSorter(graph).static_order())) == len(graph)


def test_the_modules_build() -> None:
    build_script(build_kernel.ROOT / "src" / "podium")
