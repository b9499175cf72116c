"""The dry run: builds the script and runs it as Kaggle does, on a subset, on this machine.

The script is copied to an empty folder under another name, made read-only, and run by an isolated
Python (`python -I`) from yet another folder, so nothing of the repository can help it.
"""

import argparse
import fcntl
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from workbench.demo import DEMO_SETTINGS, make_demo

ROOT = Path(__file__).resolve().parents[2]
RUN = ROOT / "runs" / "dry-run"
VIRTUAL_DEVICES = 8  # as many as a TPU v5e-8 has
HOST_ONLY = ("PYTHON", "KERAS_BACKEND", "JAX", "XLA", "TF_")  # what Kaggle would not have set


def main(argv: Sequence[str]) -> int:
    """Builds, runs, prints the result; returns the script's exit code."""
    options, extra = parse_options(argv)
    RUN.parent.mkdir(exist_ok=True)
    with RUN.with_suffix(".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print(f"Another dry run is writing to {RUN}; wait until it has ended.", file=sys.stderr)
            return 1
        return rehearse(options, extra)


def rehearse(options: argparse.Namespace, extra: list[str]) -> int:
    """One rehearsal in an emptied run folder; returns the script's exit code."""
    shutil.rmtree(RUN, ignore_errors=True)
    RUN.mkdir()
    build = [sys.executable, str(ROOT / "build_kernel.py")]
    if code := subprocess.run(build, check=False).returncode:
        return code
    settings = choose_settings(options)
    code = run_as_kaggle(ROOT / "kernel" / "podium.py", command_line(settings) + extra)
    if code == 0:
        print(format_result(json.loads((RUN / "summary.json").read_text(encoding="utf-8"))))
    return code


def parse_options(argv: Sequence[str]) -> tuple[argparse.Namespace, list[str]]:
    """Splits our own options from settings of the script, which follow `--`."""
    parser = argparse.ArgumentParser("make dry-run", description=__doc__)
    parser.add_argument("--data", type=Path, help="a competition's folder; none is the demo")
    parser.add_argument("--backbone", help="a name from the table of backbones; none is tiny")
    parser.add_argument("--backend", choices=("tensorflow", "jax"), help="jax rehearses a TPU")
    parser.add_argument("--solution", type=Path, help="true labels of the test part, a CSV")
    return read_options(parser, argv)


def read_options(
    parser: argparse.ArgumentParser, argv: Sequence[str]
) -> tuple[argparse.Namespace, list[str]]:
    """Reads our own options, and leaves the settings that follow `--`; DATA must be a folder."""
    words = list(argv)
    cut = words.index("--") if "--" in words else len(words)
    options = parser.parse_args(words[:cut])
    if options.data and not options.data.is_dir():
        parser.error(f"DATA={options.data} is not a folder")
    return options, words[cut + 1 :]


def choose_settings(options: argparse.Namespace) -> dict[str, object]:
    """The script's settings: the rehearsal preset, and what the options ask for."""
    settings: dict[str, object] = {"preset": "dry-run", "runtime.folder": RUN}
    settings["runtime.accelerator"] = "cpu"  # the packages at home are those of a CPU
    if options.data:
        settings["data.folder"] = options.data.resolve()
    else:
        if options.backbone in (None, "tiny"):  # others rehearse: digits would take them hours
            settings |= DEMO_SETTINGS
        settings["data.folder"] = make_demo(ROOT / "runs" / "demo")
        settings["data.solution"] = ROOT / "runs" / "demo" / "solution.csv"
    if options.solution:
        settings["data.solution"] = options.solution.resolve()
    if options.backbone:
        settings["model.backbone"] = resolve_module(options.backbone)
    if options.backend:
        settings["runtime.backend"] = options.backend
    if options.backend == "jax":
        settings["runtime.devices"] = VIRTUAL_DEVICES
    return settings


def resolve_module(backbone: str) -> str:
    """The backbone's name; a module's folder from the root on, as the script runs elsewhere."""
    folder = Path(backbone.removeprefix("hub:")).expanduser()
    local = backbone.startswith("hub:") and folder.is_dir()
    return f"hub:{folder.resolve()}" if local else backbone


def command_line(settings: Mapping[str, object]) -> list[str]:
    """Writes settings as the words of a command line."""
    return [f"--{name}={'none' if value is None else value}" for name, value in settings.items()]


def run_as_kaggle(script: Path, words: Sequence[str]) -> int:
    """Runs a read-only copy of the script, under Kaggle's name for it, from an empty folder."""
    with tempfile.TemporaryDirectory() as source, tempfile.TemporaryDirectory() as elsewhere:
        copy = Path(source) / "script.py"
        shutil.copy(script, copy)
        copy.chmod(0o444)
        Path(source).chmod(0o555)
        environ = {k: v for k, v in os.environ.items() if not k.startswith(HOST_ONLY)}
        command = [sys.executable, "-I", str(copy), *words]
        try:
            return subprocess.run(command, cwd=elsewhere, env=environ, check=False).returncode
        finally:
            Path(source).chmod(0o755)


def format_result(summary: Mapping[str, Any]) -> str:
    """The short table at the end."""
    metric = str(summary["metric"]).replace("_", " ")
    rows = [
        (f"out-of-fold {metric}", format_score_of(summary["out_of_fold"])),
        ("test, one model", format_score_of(summary["test_single"])),
        ("test, all averaged", format_score_of(summary["test"])),
        ("backend", f"{summary['run']['backend']}, {summary['run']['devices']} device(s)"),
        ("time", f"{summary['seconds']['total']:.0f} s"),
        ("submission", str((RUN / "submission.csv").relative_to(ROOT))),
        ("report", str((RUN / "report.html").relative_to(ROOT))),
    ]
    width = max(len(name) for name, _ in rows) + 2
    lines = [f"  {name:<{width}}{text}" for name, text in rows]
    return "\n".join(["", "Dry run", *lines])


def format_score_of(score: Mapping[str, Any] | None) -> str:
    """One score with its interval, or what is missing to know it."""
    if score is None:
        return "unknown; SOLUTION=csv names the truth"
    low, high = score["interval"]
    return f"{score['value']:.4f}  (95 %: {low:.4f} to {high:.4f}, n = {score['n']})"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
