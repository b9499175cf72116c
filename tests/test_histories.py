from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from podium.histories import (
    HISTORY_COLUMNS,
    TRACES,
    list_changes,
    list_followed,
    read_histories,
    read_history,
)

OLD = "phase,epoch,train/loss,train/accuracy,valid/loss,valid/accuracy,learning_rate,seconds"


def write_history(folder: Path, text: str) -> None:
    folder.mkdir()
    (folder / "history.csv").write_text(text)


def make_history(**columns: object) -> pd.DataFrame:
    return pd.DataFrame(columns).reindex(columns=HISTORY_COLUMNS)


def test_folds_are_in_order_and_have_every_column(tmp_path: Path):
    for fold in (10, 9, 2):
        write_history(tmp_path / f"fold{fold}", "epoch,train/loss,more\n1,0.5,x\n2,nan,x\n")
    write_history(tmp_path / "foldings", "epoch\n1\n")  # not ours
    write_history(tmp_path / "fold3", "phase,epoch\n")  # no epoch has ended
    histories = read_histories(tmp_path)
    assert list(histories) == [2, 9, 10]
    assert list(histories[2].columns) == HISTORY_COLUMNS
    assert histories[2]["train/loss"].isna().tolist() == [False, True]
    assert histories[2]["valid/loss"].isna().all()


def test_a_row_that_was_cut_off_leaves_the_rows_before_it(tmp_path: Path):
    write_history(tmp_path / "fold0", f"{OLD}\nhead,1,1,0.5,1,0.5,0.1,2\nall,2,0.5")
    history = read_histories(tmp_path)[0]
    assert history["epoch"].tolist() == [1, 2]
    assert history["seconds"].isna().tolist() == [False, True]
    write_history(tmp_path / "fold1", f"{OLD}\nhead,1,1,0.5,1,0.5,0.1,2\nal")
    assert read_histories(tmp_path)[1]["epoch"].tolist() == [1]


@pytest.mark.parametrize("text", ["", "epoch,seconds\n1,2,3,4\n1,2,3,4,5\n"])
def test_a_file_that_is_no_table_is_a_fold_without_an_epoch(tmp_path: Path, text: str):
    write_history(tmp_path / "fold0", text)
    assert read_histories(tmp_path) == {}
    assert read_history(tmp_path / "fold1" / "history.csv").empty


def test_what_is_no_finite_number_is_empty_and_the_phase_stays_a_word(tmp_path: Path):
    write_history(tmp_path / "fold0", "phase,epoch,train/loss,left\nhead,1,inf,x\nall,2,-inf,3\n")
    history = read_histories(tmp_path)[0]
    assert history["phase"].tolist() == ["head", "all"]
    assert history["train/loss"].isna().all()
    assert history["left"].fillna(-1).tolist() == [-1, 3]


def test_without_the_metric_accuracy_is_followed():
    histories = {0: make_history(epoch=[1], **{"valid/accuracy": [0.5]})}
    loss, score = list_followed(histories, "macro_f1")
    assert loss == ("loss", ("train/loss", "valid/loss"))
    assert score == ("accuracy", ("train/accuracy", "valid/accuracy"))


def test_training_is_shown_beside_the_metric_only_where_that_is_accuracy():
    histories = {0: make_history(epoch=[1]), 1: make_history(epoch=[1], **{"valid/metric": [0.5]})}
    marks = ("valid/metric", "clean/metric", "recalibrated/metric")
    assert list_followed(histories, "accuracy")[1] == ("accuracy", ("train/accuracy", *marks))
    assert list_followed(histories, "macro_f1")[1] == ("macro F1", marks)
    assert list_followed(histories, None)[1] == ("metric", marks)


def test_where_the_metric_is_the_loss_its_marks_stand_there():
    histories = {0: make_history(epoch=[1], **{"recalibrated/metric": [0.5]})}
    loss, score = list_followed(histories, "log_loss")
    marks = ("clean/metric", "recalibrated/metric")
    assert loss.columns == ("train/loss", "valid/loss", *marks)
    assert score.name == "accuracy"


def test_every_column_that_is_followed_has_a_look_of_its_own():
    assert {one.split("/")[0] for one in HISTORY_COLUMNS if "/" in one} == set(TRACES)
    looks = {(one["color"], one["linestyle"], one.get("marker")) for one in TRACES.values()}
    assert len(looks) == len(TRACES)


def test_changes_lie_between_two_epochs_and_unknown_values_are_none():
    history = make_history(
        epoch=[1, 2, 3, 4, 5],
        updates=[10, 20, 30, 40, 50],
        phase=["head", "all", "all", "all", "all"],
        image_size=[np.nan, 128, 128, 160, 224],
    )
    assert list_changes(history, "phase") == [1.5]
    assert list_changes(history, "image_size") == [3.5, 4.5]
    assert list_changes(history, "image_size", "updates") == [30, 40]
    assert list_changes(history, "left") == []
