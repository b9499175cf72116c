"""Sample: the ids that are asked for, and their images

Podium answers image by image: ids that stand for groups of images are refused, as is a
competition whose images it cannot read.
"""

from pathlib import Path

import pandas as pd

from podium.inputs import CompetitionError, ImageIndex, read_table
from podium.tables import ID_SHARE, describe_grouped_ids, read_tables


def read_sample(path: Path, index: ImageIndex) -> pd.DataFrame:
    """Reads the sample submission and checks that its ids are ids; all cells are text."""
    sample = read_table(path)
    if sample.shape[1] < 2 or len(sample) == 0:
        raise CompetitionError(f"{path.name} must have ids, at least one more column, and rows")
    first, *others = sample.columns
    for column in others:
        named = sample[column].is_unique and index.share(sample[column]) > ID_SHARE
        if named and index.share(sample[first]) <= ID_SHARE:
            raise CompetitionError(
                f"the ids of {path.name} stand in column {column!r} and not in the first; put them "
                f"first in a copy, and name it with data.sample_submission"
            )
    ids = sample[first]
    if (ids == "").any() or ids.duplicated().any():
        odd = "" if (ids == "").any() else ids[ids.duplicated()].iloc[0]
        raise CompetitionError(f"the ids of {path.name} are not unique; see {odd!r}")
    return sample


def check_images(index: ImageIndex, sample: pd.DataFrame | None, aside: set[Path]) -> None:
    """Raises CompetitionError if there is no image, saying what there is instead."""
    if index.paths:
        return
    refuse_groups(sample, index, aside)
    if dicom := index.twins[".dcm"]:
        raise CompetitionError(
            f"{index.folder} holds {dicom} DICOM files and no image that Podium reads; convert "
            f"them to PNG or JPEG, or attach a data set in which that is done and name it with "
            f"data.folder"
        )
    raise CompetitionError(f"found no images in {index.folder}; see data.folder")


def refuse_groups(sample: pd.DataFrame | None, index: ImageIndex, aside: set[Path]) -> None:
    """Raises CompetitionError if the sample's ids are those of groups of images."""
    tables, _ = read_tables(index.folder, aside)
    groups = None if sample is None else describe_grouped_ids(sample, tables)
    if sample is not None and groups is not None:
        what = " and ".join(f"{count} {suffix}" for suffix, count in sorted(index.twins.items()))
        raise CompetitionError(
            f"the sample submission asks for one answer for each {sample.columns[0]}, such as "
            f"{sample.iloc[0, 0]!r}, which is no image but a {groups}; to predict groups of images "
            f"is out of Podium's scope{f' (there are {what} files too)' if what else ''}"
        )


def find_test(index: ImageIndex, sample: pd.DataFrame) -> pd.DataFrame:
    """The ids that the sample asks for, each with the path of its image, or None."""
    ids = sample.iloc[:, 0].tolist()
    paths = pd.Series([index.find(image_id, "test") for image_id in ids], dtype=object)
    return pd.DataFrame({"id": ids, "path": paths})


def check_test(
    train: pd.DataFrame, test: pd.DataFrame, sample: pd.DataFrame, path: Path, index: ImageIndex
) -> None:
    """Raises CompetitionError if no test id has a file, or a test image is also trained on."""
    if test["path"].isna().all():
        refuse_groups(sample, index, {path.resolve()})
        raise CompetitionError(
            f"none of the {len(test)} ids of {path.name} has an image, "
            f"e.g. {test['id'].iloc[0]!r}; see data.folder"
        )
    shared = set(train["path"]) & set(test["path"].dropna())
    if shared:
        raise CompetitionError(
            f"{len(shared)} images are both training and test, e.g. {min(shared)}; "
            f"see data.id_column and data.sample_submission"
        )
