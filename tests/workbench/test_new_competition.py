from pathlib import Path

import pytest

from workbench import competition_file, new_competition
from workbench.competition_file import read_competition_file
from workbench.kernel import derive_inference


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(new_competition, "FOLDER", tmp_path / "kernel" / "competitions")
    (tmp_path / "kernel").mkdir()
    monkeypatch.setattr(
        new_competition,
        "read_competition_file",
        lambda slug: competition_file.read_competition_file(slug, new_competition.FOLDER),
    )
    return tmp_path / "kernel" / "competitions"


def test_questions_are_asked_for_what_no_flag_says(folder: Path, monkeypatch: pytest.MonkeyPatch):
    asked: list[str] = []
    answers = iter(["", "me", "code"])

    def answer(question: str) -> str:
        asked.append(question)
        return next(answers)

    monkeypatch.setattr("builtins.input", answer)
    new_competition.new_competition(["--competition", "digit-recognizer"])
    kernel = read_competition_file("digit-recognizer", folder)
    assert (kernel.kernel, kernel.kind) == ("me/podium-digit-recognizer", "code")
    assert kernel.accelerator == "gpu"
    assert asked[0] == "Which accelerator? [gpu] (gpu, tpu, cpu): "


FLAGS = ["--competition", "digits", "--owner", "me", "--kind", "file", "--accelerator", "cpu"]


def test_flags_answer_beforehand_and_a_file_is_never_overwritten(folder: Path):
    new_competition.new_competition([*FLAGS, "--backbone", "keras:MobileNetV2"])
    kernel = read_competition_file("digits", folder)
    assert kernel.config.model.backbone == "keras:MobileNetV2"
    assert "preset" not in kernel.settings
    with pytest.raises(new_competition.VerbError, match="digits.toml is there already"):
        new_competition.new_competition(FLAGS)


def test_the_name_of_a_long_competition_is_cut_so_that_both_kernels_fit(folder: Path):
    slug = "a-competition-with-a-name-of-36-char-and-more"
    flags = ["--competition", slug, *FLAGS[2:4], "--kind", "code", *FLAGS[6:]]
    new_competition.new_competition(flags)
    kernel = read_competition_file(slug, folder)
    assert kernel.slug == "podium-a-competition-with-a-name-of-36-char"
    assert len(derive_inference(kernel).slug) <= 50


def test_answers_that_cannot_be_used_leave_no_file(folder: Path):
    with pytest.raises(competition_file.CompetitionFileError, match="kernel must be owner/slug"):
        new_competition.new_competition([*FLAGS[:2], "--owner", "a b", *FLAGS[4:]])
    assert not list(folder.glob("*"))
    with pytest.raises(new_competition.VerbError, match="make new COMPETITION=slug"):
        new_competition.new_competition([])
