import json
from pathlib import Path

import pytest

from podium.annotations import read_annotations
from podium.inputs import CompetitionError

COCO = {
    "info": {"year": 2021},
    "images": [
        {"id": 7, "file_name": "images/000/7.jpg", "location": 3, "size": [8, 8]},
        {"id": 8, "file_name": "images/001/8.jpg"},
        {"id": 9, "file_name": "images/001/9.jpg", "location": 4},
    ],
    "annotations": [
        {"id": 1, "image_id": 7, "category_id": 60},
        {"id": 2, "image_id": 7, "category_id": 60},
        {"id": 3, "image_id": 8, "category_id": 104},
        {"id": 4, "image_id": 8, "category_id": 9},
    ],
}


def test_annotated_images_become_rows_of_text_with_their_categories(tmp_path: Path):
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "metadata.json").write_text(json.dumps(COCO))
    ((path, table),) = read_annotations(tmp_path)
    assert path == tmp_path / "deep" / "metadata.json"
    assert table.to_dict("list") == {
        "id": ["7", "8", "9"],
        "file_name": ["images/000/7.jpg", "images/001/8.jpg", "images/001/9.jpg"],
        "location": ["3", "", "4"],
        "category_id": ["60", "9 104", ""],
    }


@pytest.mark.parametrize(
    "content",
    [
        {"0": "Cassava Bacterial Blight"},
        [1, 2],
        {"images": COCO["images"], "annotations": []},  # test images
        {"images": COCO["images"]},
        {"images": [7], "annotations": [8]},
    ],
)
def test_other_json_is_none_of_it(tmp_path: Path, content: object):
    (tmp_path / "map.json").write_text(json.dumps(content))
    assert read_annotations(tmp_path) == []


def test_what_is_no_json_is_an_error_that_names_the_file(tmp_path: Path):
    (tmp_path / "train.json").write_text("{")
    with pytest.raises(CompetitionError, match=r"train.json cannot be read as JSON: "):
        read_annotations(tmp_path)
