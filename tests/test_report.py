import base64
import io
import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from sklearn.metrics import confusion_matrix

from podium.competition import Competition
from podium.evidence import Comparison
from podium.page import format_figure, render_heatmap, render_thumbnail
from podium.predictions import Predictions, write_predictions
from podium.questions import Option, Question, keep_questions
from podium.report import write_report
from podium.task import Task

HOSTILE = "<img src=x onerror=alert(1)>"
CLASSES = ("cat", HOSTILE, "$x_1$ & co", "dog")
N = 240
WORST = 17  # row of the image that the model got most wrong


def make_competition(folder, size=8):
    """240 PNGs of four noisy colours, the table of them, and 30 test rows without files."""
    rng = np.random.default_rng(0)
    labels = np.arange(N) % len(CLASSES)
    paths = []
    for row, label in enumerate(labels):
        pixels = rng.integers(0, 120, (size, size, 3), dtype=np.uint8)
        pixels[..., label % 3] += 100
        paths.append(str(folder / f"{row}.png"))
        Image.fromarray(pixels).save(paths[-1])
    ids = [f"image-{row}" for row in range(N)]
    return Competition(
        train=pd.DataFrame({"id": ids, "path": paths, "label": labels}),
        test=pd.DataFrame({"id": [f"test-{row}" for row in range(30)], "path": None}),
        sample=pd.DataFrame({"id": ["test-0"], "label": ["0"]}),
        task=Task("label", CLASSES),
        notes=("labels are in train.csv, column <label>",),
    )


def make_history(fold):
    """Two epochs of the head, then six of everything."""
    epoch = np.arange(1, 9)
    loss = 1.4 * np.exp(-epoch / 3) + 0.02 * fold
    table = {
        "phase": ["head"] * 2 + ["all"] * 6,
        "epoch": epoch,
        "train/loss": loss + 0.1,
        "train/accuracy": 0.9 - loss / 2,
        "valid/loss": loss + 0.05 * np.sin(epoch),
        "valid/accuracy": 0.97 - loss / 2,
        "learning_rate": [1e-3] * 2 + list(3e-4 * np.cos(np.linspace(0, 1.5, 6))),
        "seconds": 2.5,
        "images_per_second": 400.0,
    }
    return pd.DataFrame(table)


def make_probs(labels):
    """Mostly right probabilities; row WORST says "dog" to a hostile class with all its weight."""
    rng = np.random.default_rng(1)
    probs = rng.dirichlet(np.full(len(CLASSES), 0.3), N) * 0.9
    probs[np.arange(N), labels] += 0.1 + 0.8 * (rng.random(N) > 0.1)
    probs[WORST] = [0.01, 1e-9, 0.01, 0.98]
    return (probs / probs.sum(axis=1, keepdims=True)).astype(np.float32)


def make_summary(folds):
    score = {
        "n": N,
        "metric": "accuracy",
        "value": 0.91375,
        "interval": [0.871, 0.943],
        "log_loss": 0.2871,
    }
    return {
        "run": {
            "state": "complete",
            "backend": "tensorflow",
            "accelerator": "cpu",
            "devices": 1,
            "source": "0123456789abcdef" * 4,
            "started": "2026-01-02T03:04:05+00:00",
            "versions": {"keras": "3.13.2", "tensorflow": "2.20.0"},
        },
        "metric": "accuracy",
        "out_of_fold": score,
        "test": {**score, "n": 30, "value": 0.9},
        "folds": [
            {"fold": fold, "value": 0.9 + fold / 50, "log_loss": 0.3 - fold / 50, "n": 80}
            for fold in range(folds)
        ],
        "counts": {"train": N, "test": 30, "classes": 4, "folds": folds},
        "seconds": {"data": 1.2, "train": 60.0, "predict": 1.0, "total": 4000.0},
        "warnings": ["2 classes have fewer than 5 images: <b>cat</b>"],
        "unreadable": {"train": ["image-3"], "test": []},
    }


def make_run(folder, competition, folds=3, done=3):
    """A run folder; with done < folds it has neither predictions nor a summary."""
    settings = {"runtime.seed": 0, "model.backbone": "tiny", "train.epochs": 6}
    (folder / "config.json").write_text(json.dumps(settings))
    table = competition.train[["id", "label"]].assign(fold=np.arange(N) % folds)
    table.to_csv(folder / "folds.csv", index=False)
    for fold in range(done):
        (folder / f"fold{fold}").mkdir()
        make_history(fold).to_csv(folder / f"fold{fold}" / "history.csv", index=False)
    if done == folds:
        (folder / "summary.json").write_text(json.dumps(make_summary(folds)))
        ids, labels = competition.train["id"].to_numpy(np.str_), competition.train["label"]
        order = np.random.default_rng(2).permutation(N)  # rows are found by id
        probs = make_probs(labels.to_numpy())
        write_predictions(Predictions(ids[order], probs[order]), folder / "oof.npz")
    return folder


@pytest.fixture
def competition(tmp_path) -> Competition:
    images = tmp_path / "images"
    images.mkdir()
    return make_competition(images)


@pytest.fixture
def run_folder(tmp_path, competition) -> Path:
    folder = tmp_path / "run"
    folder.mkdir()
    return make_run(folder, competition)


@pytest.fixture(scope="module")
def page(tmp_path_factory) -> str:
    """The report of a finished run, for the tests that only read it."""
    folder, images = tmp_path_factory.mktemp("run"), tmp_path_factory.mktemp("images")
    competition = make_competition(images)
    return read_page(make_run(folder, competition), competition)


def read_page(run_folder, competition):
    return write_report(run_folder, competition).read_text(encoding="utf-8")


def cut_section(page, title):
    """The section under a heading, from the heading on."""
    return next(part for part in page.split("<section") if f"<h2>{title}</h2>" in part)


def test_the_page_shows_the_figures_of_the_summary(page):
    for figure in ("0.9137", "0.8710 to 0.9430", "0.2871", "0.9000", "1 h 07 min", "complete"):
        assert figure in page
    assert "3 of 3" in page
    assert "keras 3.13.2" in page


def test_every_fold_has_its_curves_on_the_same_scales(page):
    charts = re.findall(r"<svg.*?</svg>", page, re.DOTALL)
    assert [re.search(r"of fold (\d)", chart)[1] for chart in charts] == ["0", "1", "2"]
    ticks = [re.findall(r">([\d.]+)</text>", chart) for chart in charts]
    assert ticks[0] == ticks[1] == ticks[2]
    for word in ("training", "validation", "loss", "accuracy", "epoch"):
        assert all(word in chart for chart in charts)


def test_ids_are_unique_over_all_charts(page):
    ids = re.findall(r' id="([^"]*)"', page)
    assert len(ids) > 50
    assert len(ids) == len(set(ids))


def test_the_fold_table_ends_in_mean_and_standard_deviation(page):
    table = cut_section(page, "Folds")
    assert "<b>mean</b></td><td></td><td><b>0.9200</b></td><td><b>0.2800</b>" in table
    assert "<b>± sd</b></td><td></td><td><b>0.0200</b></td><td><b>0.0200</b>" in table
    assert "20.0 s" in table  # eight epochs of 2.5 s


def test_the_worst_image_comes_first_with_truth_prediction_and_thumbnail(run_folder, competition):
    worst = cut_section(read_page(run_folder, competition), "Worst images")
    figures = re.findall(r"<figure>.*?</figure>", worst, re.DOTALL)
    assert len(figures) == 24
    assert f"image-{WORST}<" in figures[0]
    assert "true <b>&lt;img src=x" in figures[0]
    assert "predicted <b>dog</b> 98.00%" in figures[0]
    with Image.open(competition.train["path"][WORST]) as image:
        assert np.array_equal(decode_thumbnail(figures[0]), np.asarray(image))


def test_the_page_needs_nothing_from_outside(page):
    assert "http" not in page
    assert "<script" not in page
    assert all(uri.startswith("data:") for uri in re.findall(r'src="([^"]*)', page))
    assert all(uri.startswith("#") for uri in re.findall(r"(?:href=\"|url\()([^\")]*)", page))


def test_text_from_the_data_is_escaped(page):
    assert "<img src=x" not in page
    assert "&lt;img src=x onerror=alert(1)&gt;" in page
    assert "&lt;b&gt;cat&lt;/b&gt;" in page
    assert "column &lt;label&gt;" in page
    assert "$x_1$ &amp; co" in page


def test_words_on_batch_norm_stand_above_its_figures(run_folder, competition):
    truth = {"verdict": "<lag>", "words": "it <b>lags</b>", "lag": 0.02, "gap": -0.1, "se": 0.004}
    truth |= {"e": 0.9, "c": 0.92, "a": None, "t": float("nan"), "kept": True}
    (run_folder / "fold1" / "truth.json").write_text(json.dumps(truth))
    (run_folder / "fold2" / "truth.json").write_text("{}")
    section = cut_section(read_page(run_folder, competition), "Batch norm")
    assert "<li>Fold 1: it &lt;b&gt;lags&lt;/b&gt;</li>" in section
    cells = re.findall(r"<t[dh]>(.*?)</t[dh]>", section)
    head = ["fold", "verdict", "moving", "anew", "augmented", "training"]
    assert cells[:11] == [*head, "lag", "shift", "gap", "± se", "kept"]
    assert "1 &lt;lag&gt; 0.9000 0.9200 – – +0.0200 – -0.1000 0.0040 yes" in " ".join(cells)
    assert cells[-11:] == ["2", *["–"] * 10]


GAIN = Comparison(N, 0.02, 0.01, 0.03, 0.004, adopted=True, detectable=0.02)
QUESTION = Question(
    "tta",
    "Is TTA worth it?",
    "Yes.",
    "accuracy",
    "all views",
    (Option("one view", 0.9), Option("all views", 0.92, GAIN)),
)


def test_what_the_run_decided_stands_before_its_curves_and_that_of_others_behind_its_own(
    run_folder, competition
):
    keep_questions(run_folder, [QUESTION])
    other = QUESTION._replace(asks="Which head?")
    page = write_report(run_folder, competition, [other]).read_text(encoding="utf-8")
    assert re.findall("<h3>(.*?) <", page) == ["Is TTA worth it?", "Which head?"]
    titles = re.findall("<h2>(.*?)</h2>", page)
    assert titles.index("Evidence") + 1 == titles.index("Learning curves")
    assert ".proof{" in page


def test_decisions_that_cannot_be_read_do_not_cost_the_report(run_folder, competition):
    (run_folder / "decisions.json").write_text("{")
    assert "<h2>Evidence</h2>" not in read_page(run_folder, competition)


def test_a_plan_is_listed_where_the_run_tells_of_it(run_folder, competition):
    summary = json.dumps(make_summary(3) | {"plan": ["4 folds fit", "<b>"]})
    (run_folder / "summary.json").write_text(summary)
    page = read_page(run_folder, competition)
    assert "<li>4 folds fit</li><li>&lt;b&gt;</li>" in cut_section(page, "Plan")


def test_what_a_run_does_not_tell_has_no_section(page):
    assert not {"Plan", "Batch norm"} & set(re.findall("<h2>(.*?)</h2>", page))


def test_warnings_and_unreadable_images_stand_in_a_box(page):
    box = cut_section(page, "Warnings")
    assert box.startswith(' class="warn"')
    assert "1 unreadable train images: image-3" in box
    assert "unreadable test" not in box


def test_a_run_after_its_first_fold_has_a_report(tmp_path, competition):
    page = read_page(make_run(tmp_path, competition, folds=3, done=1), competition)
    assert "not finished" in page
    assert "0 of 3" in page
    assert page.count("<svg") == 1
    for absent in ("out-of-fold accuracy", "test accuracy", "Worst images", "Warnings", "nan"):
        assert absent not in page


def test_an_empty_folder_has_a_report(tmp_path, competition):
    assert "not finished" in read_page(tmp_path, competition)


def test_figures_so_far_come_from_the_out_of_fold_probabilities(tmp_path, competition):
    folder = make_run(tmp_path, competition, folds=3, done=1)
    first = np.arange(N) % 3 == 0
    probs = make_probs(competition.train["label"].to_numpy())[first]
    ids = competition.train["id"].to_numpy(np.str_)[first]
    write_predictions(Predictions(ids, probs), folder / "oof.npz")
    page = read_page(folder, competition)
    right = np.mean(probs.argmax(axis=1) == competition.train["label"][first])
    assert f"<b>{right:.4f}</b>" in page
    assert "80 images" in page
    assert "1 of 3" in page


@pytest.mark.parametrize("state", [{}, {"run": None}, {"out_of_fold": {"n": 3}, "test": None}])
def test_a_summary_may_lack_any_key(run_folder, competition, state):
    (run_folder / "summary.json").write_text(json.dumps(state))
    assert "Podium run" in read_page(run_folder, competition)


def test_every_key_of_the_summary_may_be_missing_alone(run_folder, competition):
    for history in run_folder.glob("fold*/history.csv"):
        history.unlink()  # charts take their time
    whole = make_summary(3)
    for name, value in whole.items():
        keys = list(value) if isinstance(value, dict) else []
        partial = [{k: value[k] for k in keys if k != key} for key in keys]
        for changed in [None, *partial]:
            (run_folder / "summary.json").write_text(json.dumps({**whole, name: changed}))
            assert "Podium run" in read_page(run_folder, competition)


def test_epochs_that_diverged_are_drawn_as_gaps(run_folder, competition):
    history = make_history(0)
    history.loc[3:, ["train/loss", "valid/loss"]] = [np.nan, np.inf]
    history.to_csv(run_folder / "fold0" / "history.csv", index=False)
    assert read_page(run_folder, competition).count("<svg") == 3


def test_equal_runs_give_equal_bytes(run_folder, competition):
    first = write_report(run_folder, competition).read_bytes()
    assert write_report(run_folder, competition).read_bytes() == first
    assert not list(run_folder.glob("*.half"))


def test_the_page_stays_below_a_megabyte(run_folder, competition):
    for row in range(N):  # photographs' worth of noise
        pixels = np.random.default_rng(row).integers(0, 256, (300, 400, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(competition.train["path"][row], "JPEG")
    assert len(read_page(run_folder, competition).encode()) < 1_000_000


def test_an_unreadable_file_shows_a_placeholder(run_folder, competition):
    Path(competition.train["path"][WORST]).unlink()
    worst = cut_section(read_page(run_folder, competition), "Worst images")
    assert worst.count("unreadable</div>") == 1
    assert worst.count("<img ") == 23


def decode_thumbnail(markup):
    data = base64.b64decode(re.search(r"base64,([^\"]*)", markup)[1])
    return np.asarray(Image.open(io.BytesIO(data)))


def test_a_thumbnail_is_upright_and_at_most_96_pixels_wide(tmp_path):
    photo = Image.new("RGB", (400, 200), "red")
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by a quarter
    photo.save(tmp_path / "photo.jpg", exif=exif)
    assert decode_thumbnail(render_thumbnail(tmp_path / "photo.jpg")).shape == (96, 48, 3)


@pytest.mark.parametrize("mode", ["1", "L", "P", "LA", "RGBA", "CMYK", "I;16", "F"])
def test_images_of_every_mode_have_a_thumbnail(tmp_path, mode):
    path = tmp_path / "image.tiff"
    Image.new(mode, (9, 7)).save(path)
    assert decode_thumbnail(render_thumbnail(path)).shape == (7, 9, 3)


def test_sixteen_bit_images_are_stretched_from_black_to_white(tmp_path):
    pixels = np.array([[1000, 1500], [1250, 1000]], np.uint16)
    Image.fromarray(pixels).save(tmp_path / "scan.png")
    thumbnail = decode_thumbnail(render_thumbnail(tmp_path / "scan.png"))[..., 0]
    assert thumbnail.tolist() == [[0, 255], [127, 0]]


def read_pairs(section):
    lines = re.findall(r"true (.*?) → predicted (.*?): (\d+) image", section)
    return {(truth, guess): int(count) for truth, guess, count in lines}


def test_confusion_counts_equal_those_of_sklearn(run_folder, competition):
    section = cut_section(read_page(run_folder, competition), "Confusion")
    labels = competition.train["label"].to_numpy()
    expected = confusion_matrix(labels, make_probs(labels).argmax(axis=1))
    cells = re.findall(r"<i[^>]*>(\d*)</i>", section)
    assert [int(cell or 0) for cell in cells] == expected.ravel().tolist()
    pairs = read_pairs(section)
    assert max(pairs.values()) == (expected - np.diag(np.diag(expected))).max()
    assert pairs["cat", "dog"] == expected[0, 3]


def test_many_classes_show_pairs_instead_of_a_heat_map(run_folder, competition):
    many = Competition(
        train=competition.train,
        test=competition.test,
        sample=pd.DataFrame({"id": ["test-0"], "label": ["0"]}),
        task=Task("label", CLASSES + tuple(f"class {number}" for number in range(40))),
        notes=(),
    )
    probs = np.pad(make_probs(many.train["label"].to_numpy()), ((0, 0), (0, 40)))
    ids = many.train["id"].to_numpy(np.str_)
    write_predictions(Predictions(ids, probs), run_folder / "oof.npz")
    section = cut_section(read_page(run_folder, many), "Confusion")
    assert 'class="heat"' not in section
    assert read_pairs(section)


def test_a_run_without_mistakes_says_so(run_folder, competition):
    probs = np.eye(4, dtype=np.float32)[competition.train["label"]]
    ids = competition.train["id"].to_numpy(np.str_)
    write_predictions(Predictions(ids, probs), run_folder / "oof.npz")
    assert "No mistakes." in read_page(run_folder, competition)


def test_a_class_without_images_has_an_empty_row_in_the_heat_map():
    heat = render_heatmap(np.array([[3, 1], [0, 0]]), ["a", "b"])
    assert re.findall(r"<i[^>]*>(\d*)</i>", heat) == ["3", "1", "", ""]


def test_recall_lists_the_weakest_class_first(page):
    section = cut_section(page, "Recall by class")
    shares = [float(share) for share in re.findall(r">([\d.]+)%<", section)]
    assert len(shares) == 4
    assert shares == sorted(shares)


def test_changed_settings_come_before_those_at_their_default(page):
    changed, usual = cut_section(page, "Settings").split("<details")
    assert "train.epochs" in changed
    assert "model.backbone" in changed
    assert "runtime.seed" not in changed
    assert "runtime.seed" in usual


@pytest.mark.parametrize(
    ("value", "style", "text"),
    [
        (0.98537, ".2%", "98.54%"),
        (44.0, "s", "44.0 s"),
        (600, "s", "10 min"),
        (7260, "s", "2 h 01 min"),
        (None, ".2%", "–"),
        (float("nan"), ".4f", "–"),
    ],
)
def test_figures_are_formatted_for_people(value, style, text):
    assert format_figure(value, style) == text
