"""Runs blended from their folders: the submission, the run that is left, and the page."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from run_folders import CLASSES, make_run_folder
from test_compare_runs import Reader

from podium.blends import Blend, apply_blend
from podium.members import squash
from podium.predictions import Predictions, read_predictions, write_predictions
from podium.questions import read_questions
from workbench import blend_runs
from workbench.browser import find_chromium, open_browser
from workbench.paired import compare_pair
from workbench.past_runs import read_past_runs

N, T = 120, 30
needs_browser = pytest.mark.skipif(
    find_chromium() is None,
    reason="no Chromium to look at the page with; install one: apt-get install chromium",
)


def draw_probs(seed: int, labels: np.ndarray, signal: float, sharp: float = 1.0) -> np.ndarray:
    dice = np.random.default_rng(seed)
    logits = sharp * (signal * np.eye(3)[labels] + dice.normal(0, 1, (len(labels), 3)))
    return squash(logits, True).astype(np.float32)


def make_member(
    folder: Path, seed: int, signal: float = 2.0, sharp: float = 1.0, **options: Any
) -> Path:
    """A run that left what a blend needs; of its test images the first has a broken file."""
    make_run_folder(folder, images=N, **options)
    labels, ids = np.arange(N) % 3, np.array([f"image-{row}" for row in range(N)])
    order = np.random.default_rng(seed).permutation(N)
    oof = draw_probs(seed, labels, signal, sharp)
    write_predictions(Predictions(ids[order], oof[order]), folder / "oof.npz")
    tests = np.random.default_rng(seed).permutation(np.arange(1, T))
    probs = draw_probs(seed + 100, np.arange(T) % 3, signal, sharp)
    answered = np.array([f"test-{row}" for row in tests])
    write_predictions(Predictions(answered, probs[tests]), folder / "test.npz")
    chosen = probs.argmax(axis=1)
    chosen[0] = 0  # the most frequent class
    kinds = [CLASSES[label] for label in chosen]
    asked = {"image": [f"test-{row}" for row in range(T)], "kind": kinds}
    pd.DataFrame(asked).to_csv(folder / "submission.csv", index=False)
    return folder


@pytest.fixture
def good_and_bad(tmp_path: Path) -> list[Path]:
    """A good run, and a bad one that is sure of itself."""
    return [make_member(tmp_path / "good", 0, 4.0), make_member(tmp_path / "bad", 1, 0.2, 9.0)]


def blend(folders: list[Path], out: Path) -> int:
    return blend_runs.main([*map(str, folders), "--out", str(out)])


def test_weights_that_are_shown_to_be_better_make_the_submission(
    tmp_path: Path, good_and_bad: list[Path], capsys: pytest.CaptureFixture[str]
):
    out = tmp_path / "blend"
    assert blend(good_and_bad, out) == 0
    told = capsys.readouterr().out
    (question,) = read_questions(out)
    assert question.name == "weights"
    assert question.asks == "Which weights?"
    assert question.chosen != "uniform"
    assert question.options[0].name == "uniform"
    assert question.options[1].gain is not None
    assert question.answer in told
    summary = json.loads((out / "summary.json").read_text())
    kept = summary["blend"]
    made = Blend(kept["kind"], tuple(kept["weights"]), kept["power"])
    assert made.weights[0] > 5 * made.weights[1]
    tests = [read_predictions(folder / "test.npz") for folder in good_and_bad]
    place = {image_id: row for row, image_id in enumerate(tests[1].ids.tolist())}
    rows = [place[image_id] for image_id in tests[0].ids.tolist()]
    probs = apply_blend(made, np.stack([tests[0].probs, tests[1].probs[rows]]), exclusive=True)
    written = read_predictions(out / "test.npz")
    np.testing.assert_array_equal(written.ids, tests[0].ids)
    np.testing.assert_allclose(written.probs, probs, atol=1e-6)
    submission = pd.read_csv(out / "submission.csv")
    assert submission.columns.tolist() == ["image", "kind"]
    assert submission["image"].tolist() == [f"test-{row}" for row in range(T)]
    named = dict(zip(submission["image"], submission["kind"], strict=True))
    answers = [CLASSES[label] for label in probs.argmax(axis=1)]
    assert [named[image_id] for image_id in tests[0].ids] == answers
    assert str(out / "submission.csv") in told


def test_runs_of_equal_worth_are_averaged(tmp_path: Path):
    folders = [make_member(tmp_path / str(seed), seed) for seed in range(3)]
    out = tmp_path / "blend"
    assert blend(folders, out) == 0
    summary = json.loads((out / "summary.json").read_text())
    assert summary["blend"]["weights"] == pytest.approx([1 / 3] * 3)
    assert read_questions(out)[0].chosen == "uniform"


def test_a_blend_is_a_run_that_can_be_compared_and_blended_again(
    tmp_path: Path, good_and_bad: list[Path]
):
    out = tmp_path / "blend"
    assert blend(good_and_bad, out) == 0
    bad, made = read_past_runs([good_and_bad[1], out])
    assert compare_pair(bad, made).adopted
    assert made.summary["out_of_fold"]["n"] == N
    assert blend([out, good_and_bad[0]], tmp_path / "again") == 0


def test_of_runs_that_answer_alike_no_gain_is_told(tmp_path: Path):
    folders = [make_member(tmp_path / name, 0) for name in "ab"]
    assert blend(folders, tmp_path / "blend") == 0
    (question,) = read_questions(tmp_path / "blend")
    assert question.answer.endswith("No other weights answer any image otherwise")


def test_other_folds_are_said_and_the_first_runs_are_used(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    folders = [make_member(tmp_path / str(folds), folds, folds=folds) for folds in (3, 4)]
    assert blend(folders, tmp_path / "blend") == 0
    assert "4 had other folds than 3, whose folds are used" in capsys.readouterr().out
    assert (tmp_path / "blend" / "folds.csv").read_text() == (folders[0] / "folds.csv").read_text()
    assert "other folds" in (tmp_path / "blend" / "blend.html").read_text()


def rewrite_test(folder: Path, change: Callable[[Predictions], Predictions]) -> None:
    write_predictions(change(read_predictions(folder / "test.npz")), folder / "test.npz")


def change_summary(folder: Path, **changes: Any) -> None:
    path = folder / "summary.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda run: change_summary(run, metric="macro_f1"), "their metric, classes or kind"),
        (lambda run: change_summary(run, classes=["a", "b", "c"]), "their metric, classes or kind"),
        (lambda run: (run / "oof.npz").unlink(), "bad lacks what is needed"),
        (lambda run: (run / "test.npz").unlink(), "bad has no test.npz"),
        (
            lambda run: rewrite_test(run, lambda test: Predictions(test.ids[3:], test.probs[3:])),
            "good and bad answered 29 and 26 test images, of which 26 are the same",
        ),
        (
            lambda run: rewrite_test(run, lambda test: Predictions(test.ids, test.probs[:, :2])),
            "test.npz of bad is not of 3 classes",
        ),
    ],
)
def test_runs_that_do_not_fit_are_refused_with_the_reason_and_nothing_is_written(
    tmp_path: Path,
    good_and_bad: list[Path],
    capsys: pytest.CaptureFixture[str],
    change: Callable[[Path], None],
    reason: str,
):
    change(good_and_bad[1])
    assert blend(good_and_bad, tmp_path / "blend") == 1
    assert reason in capsys.readouterr().err
    assert not (tmp_path / "blend").exists()


def test_other_training_images_are_refused(
    tmp_path: Path, good_and_bad: list[Path], capsys: pytest.CaptureFixture[str]
):
    whole = read_predictions(good_and_bad[1] / "oof.npz")
    some = Predictions(whole.ids[9:], whole.probs[9:])
    write_predictions(some, good_and_bad[1] / "oof.npz")
    assert blend(good_and_bad, tmp_path / "blend") == 1
    assert "120 and 111 images, of which 111 are the same" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda path: path.unlink(), "cannot be read"),
        (
            lambda path: path.write_text(path.read_text().replace("emu", "cat")),
            "not what its test.npz and its rule make",
        ),
    ],
)
def test_without_the_competition_a_form_that_is_not_certain_is_refused(
    tmp_path: Path,
    good_and_bad: list[Path],
    capsys: pytest.CaptureFixture[str],
    change: Callable[[Path], None],
    reason: str,
):
    change(good_and_bad[0] / "submission.csv")
    assert blend(good_and_bad, tmp_path / "blend") == 1
    told = capsys.readouterr().err
    assert reason in told
    assert "data.folder" in told


def test_no_run_that_was_trained_is_overwritten(
    tmp_path: Path, good_and_bad: list[Path], capsys: pytest.CaptureFixture[str]
):
    other = make_member(tmp_path / "other", 5)
    for out in (good_and_bad[1], other):
        before = (out / "oof.npz").read_bytes()
        assert blend(good_and_bad, out) == 1
        assert "set OUT to another" in capsys.readouterr().err
        assert (out / "oof.npz").read_bytes() == before


def test_one_run_is_no_blend(capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit):
        blend_runs.main(["runs/a"])
    assert 'make blend RUNS="runs/a runs/b"' in capsys.readouterr().err


def test_the_page_shows_what_each_run_is_worth(tmp_path: Path):
    good = make_member(tmp_path / "good", 0, 4.0)
    twin, bad = make_member(tmp_path / "twin", 0, 4.0), make_member(tmp_path / "bad", 1, 0.2, 9.0)
    out = tmp_path / "blend"
    assert blend([good, twin, bad], out) == 0
    text = (out / "blend.html").read_text()
    answer, options, members, shared = map(Reader, text.split("<section>")[1:])
    assert "Which weights?" in answer.text
    assert list(options.rows)[:2] == ["candidate", "uniform · used"]
    assert members.rows["good"][3] == members.rows["twin"][3]
    assert members.rows["bad"][0].startswith("0.")
    assert "0.499 and 0.501" in members.text
    assert shared.rows["good"][:2] == ["1", "1"]
    assert abs(float(shared.rows["good"][2])) < 0.4


@needs_browser
def test_the_page_fits_a_phone_and_runs_no_code(tmp_path: Path):
    names = ["a-run-with-a-rather-long-name-v3", "<b onclick=hacked()>", "c"]
    out, unwanted = tmp_path / "blend", list[str]()
    assert blend([make_member(tmp_path / name, len(name)) for name in names], out) == 0
    page = out / "blend.html"
    with open_browser() as browser:
        tab = browser.new_page()
        tab.on("console", lambda message: unwanted.append(message.text))
        tab.on("request", lambda request: unwanted.append(request.url))
        for width in (360, 1280):
            tab.set_viewport_size({"width": width, "height": 800})
            tab.goto(page.as_uri())
            assert tab.evaluate("document.documentElement.scrollWidth") <= width
            assert tab.locator("section").count() == 4
            assert tab.locator("[onclick]").count() == 0
    assert unwanted == [page.as_uri()] * 2
