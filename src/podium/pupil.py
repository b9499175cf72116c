"""Pupil: what a run that learns from pseudo-labels keeps of them, and says

Shapes: K folds, N images out of fold, T test images, C classes.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from podium.events import write_json
from podium.learning import PseudoConfig
from podium.pseudo import (
    Band,
    FoldPoll,
    Selection,
    count_bands,
    count_needed,
    join_polls,
)
from podium.storage import write_whole

LABELS_FILE, RECORD_FILE = "pseudo.csv", "pseudo.json"
RULE_RISK = (
    "some competitions forbid labels made by models, or hand labelling, of the test part: read the "
    "rules"
)


class Found(NamedTuple):
    """What the teacher said, and what came of it, fold by fold."""

    config: PseudoConfig
    views: int
    classes: Sequence[str]  # [C]
    polls: Sequence[FoldPoll]  # [K]
    chosen: Sequence[Selection]  # [K]

    def bands(self) -> list[Band]:
        """How often the teacher is right out of fold, by how many views agree."""
        known, truth = join_polls([poll.own for poll in self.polls]), [p.truth for p in self.polls]
        return count_bands(known.agreement, known.labels == np.concatenate(truth))

    def count_accepted(self, fold: int) -> dict[str, int]:
        """The accepted images of each class."""
        labels = self.chosen[fold].labels
        counts = np.bincount(labels[labels >= 0], minlength=len(self.classes))
        return dict(zip(self.classes, counts.tolist(), strict=True))


def describe_bands(bands: Sequence[Band], views: int) -> str:
    """Precision by agreement, in words."""
    shares = [f"{band.name}: {band.right / band.n:.1%} of {band.n}" for band in bands if band.n]
    return (
        f"out of fold, the teacher is right by the share of its {views} views that agree: "
        f"{', '.join(shares)}"
    )


def describe_found(found: Found) -> list[str]:
    """Precision by agreement, and a line for each fold."""
    lines = [describe_bands(found.bands(), found.views)]
    for fold, one in enumerate(found.chosen):
        counts = found.count_accepted(fold)
        held = ", ".join(f"{name} {count}" for name, count in counts.items() if count)
        lines.append(
            f"fold {fold}: {sum(counts.values())} of {len(one.labels)} test images are labelled"
            f"{f' ({held})' if held else ''}; {one.sure} are sure, {one.copies} of them near to "
            f"validation, {one.capped} beyond the share of their class"
        )
    return lines


def describe_none(config: PseudoConfig, most: int) -> str:
    """Why no test image has a label, where the largest class has so many images."""
    return (
        f"no test image is labelled, so that both arms train as without pseudo.run: for "
        f"pseudo.precision {config.precision:g} a class takes at least "
        f"{count_needed(config.precision)} answers out of fold, all of them right, and the largest "
        f"class has {most} images in all folds; lower pseudo.precision, or unset pseudo.run"
    )


def keep_found(found: Found, ids: Sequence[str], folder: Path) -> None:
    """Writes the accepted of the test images [T] for each fold, and pseudo.json."""
    for fold, (one, poll) in enumerate(zip(found.chosen, found.polls, strict=True)):
        rows = np.flatnonzero(one.labels >= 0)
        columns: dict[str, Any] = {
            "id": [ids[row] for row in rows],
            "label": [found.classes[label] for label in one.labels[rows]],
            "agreement": poll.test.agreement[rows],
            "confidence": poll.test.confidence[rows],
        }
        place = folder / f"fold{fold}" / LABELS_FILE
        place.parent.mkdir(parents=True, exist_ok=True)
        write_whole(place, pd.DataFrame(columns).to_csv(index=False).encode())
    write_json(folder / RECORD_FILE, found_fields(found))


def found_fields(found: Found) -> dict[str, Any]:
    """What pseudo.json says; a class without a threshold has null."""
    folds = []
    for fold, one in enumerate(found.chosen):
        levels = [level if np.isfinite(level) else None for level in one.thresholds.tolist()]
        counts = found.count_accepted(fold)
        folds.append(
            {
                "accepted": sum(counts.values()),
                "of": len(one.labels),
                "sure": one.sure,
                "near_validation": one.copies,
                "beyond_share": one.capped,
                "classes": counts,
                "thresholds": dict(zip(found.classes, levels, strict=True)),
            }
        )
    return {
        "run": found.config.run,
        "arm": found.config.arm,
        "rule_risk": RULE_RISK,
        "views": found.views,
        "bands": [band._asdict() for band in found.bands()],
        "folds": folds,
    }


def recall_found(
    folder: Path, count: int, ids: Sequence[str], classes: Sequence[str]
) -> NDArray[np.int64] | None:
    """The labels [K, T] with which an unfinished run was begun; None where a fold has none."""
    rows = {image: row for row, image in enumerate(ids)}
    places = {name: place for place, name in enumerate(classes)}
    labels = np.full((count, len(ids)), -1)
    for fold, of_fold in enumerate(labels):
        path = folder / f"fold{fold}" / LABELS_FILE
        if not path.is_file():
            return None
        table = pd.read_csv(path, dtype=str, keep_default_na=False)
        of_fold[[rows[image] for image in table["id"]]] = [places[one] for one in table["label"]]
    return labels
