"""Classes: their names and their order

A label is the name of a class, or a list of names with spaces between. Classes that are whole
numbers are in the order of numbers, others in that of the alphabet; the sample submission's
columns have the order that they have there.
"""

from collections.abc import Sequence

from podium.config import DataConfig
from podium.inputs import CompetitionError
from podium.task import AnswerKind

Names = tuple[str, ...]  # the classes that one image shows


def are_lists(labels: set[str]) -> bool:
    """Are labels with spaces lists of labels, and not names?

    They are if every part of them is a label by itself elsewhere, or a whole number. Raises
    CompetitionError if that holds for some and not for others.
    """
    spaced = sorted(label for label in labels if " " in label)
    if not spaced:
        return False
    if all(is_whole(part) for label in labels for part in label.split()):
        return True
    lists = [set(label.split()) <= labels for label in spaced]
    if any(lists) and not all(lists):
        one, other = spaced[lists.index(True)], spaced[lists.index(False)]
        raise CompetitionError(
            f"label {one!r} may be a list, as each of its parts is a label by itself, but "
            f"{other!r} has a part that is none: set data.answer to labels if an image has "
            f"several labels, or to label if these are names with spaces"
        )
    return all(lists)


def is_whole(text: str) -> bool:
    """Is this a whole number?"""
    return text.removeprefix("-").isdecimal()


def split_names(cell: str | Names, answer: AnswerKind, columns: Sequence[str]) -> Names:
    """The classes that a label names: a tuple has them already, a list has spaces between."""
    if not isinstance(cell, str):
        return cell
    parts = tuple(dict.fromkeys(cell.split()))
    if answer == "labels":
        return parts
    listed = answer == "probabilities" and cell not in columns and set(parts) <= set(columns)
    return parts if listed else (cell,)


def list_classes(present: set[str], columns: Sequence[str], images: int) -> list[str]:
    """The classes: the sample's columns if they are, else the labels in natural order."""
    if len(present) < 2:
        raise CompetitionError(
            f"all {images} training images have the label {min(present)!r}; see data.label_column"
        )
    if columns:
        unknown = sorted(present - set(columns))
        if unknown:
            raise CompetitionError(
                f"label {unknown[0]!r} is not among the sample submission's columns "
                f"{', '.join(columns[:5])}…; see data.label_column"
            )
        return list(columns)
    whole = all(map(is_whole, present))
    return sorted(present, key=(lambda label: (int(label), label)) if whole else None)


def put_positive_last(classes: Sequence[str], config: DataConfig) -> list[str]:
    """Two classes, of which the last is the one whose probability is asked."""
    if len(classes) != 2:
        raise CompetitionError(
            f"the sample submission asks for one probability for each image, but the training "
            f"labels are {len(classes)} classes ({', '.join(classes[:5])}…) and not two; see "
            f"data.label_column and data.answer"
        )
    positive = config.positive_class or classes[-1]
    if positive not in classes:
        raise CompetitionError(
            f"data.positive_class is {positive!r}, but the labels are {' and '.join(classes)}"
        )
    return sorted(classes, key=lambda name: name == positive)
