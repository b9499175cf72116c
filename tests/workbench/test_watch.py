import json

from workbench.watch import read_log, translate_line

LOG = json.dumps(
    [
        {"stream_name": "stdout", "time": 1, "data": "one\ntw"},
        {"stream_name": "stderr", "time": 2, "data": "o\n"},
        {"stream_name": "stdout", "time": 3, "data": "three"},
    ]
)


def test_a_log_is_lines_whether_kaggle_keeps_it_as_json_or_as_text():
    assert list(read_log(LOG)) == ["one", "two", "three"]
    assert list(read_log("one\ntwo\n")) == ["one", "two"]
    assert list(read_log("7")) == ["7"]
    assert list(read_log("")) == []


def test_a_line_of_a_traceback_names_the_source_it_came_from():
    places = ["build_kernel.py (title)", "src/podium/folds.py:12"]
    line = '  File "/kaggle/src/script.py", line 2, in make_folds'
    assert translate_line(line, places) == f"{line}  ← src/podium/folds.py:12"
    assert translate_line(line.replace("2", "3"), places).endswith("make_folds")
    assert translate_line('File "/lib/other.py", line 2', places).endswith("line 2")
