"""Arms: what a race compares, from the words of its command line.

One question a race, so that an answer has one cause; optimizers and schedules alone go together,
every pair an arm. The first arm is the plain one, which stays unless another is shown to be better.
"""

import re
from collections import Counter
from collections.abc import Callable, Mapping
from itertools import product
from typing import NamedTuple

from podium.override import SettingsError
from podium.policies import find_policy

Settings = dict[str, object]


class RaceError(ValueError):
    """A race that cannot be run; the message says what to ask instead."""


class Arm(NamedTuple):
    """One way to train, and the settings that make it."""

    name: str
    settings: Settings

    @property
    def folder(self) -> str:
        """Its name, fit for a folder's."""
        return re.sub(r"[^\w.+-]", "-", self.name)


class Race(NamedTuple):
    """A question, and the arms that answer it, the plain one first."""

    name: str  # of the question in decisions.json
    asks: str
    arms: tuple[Arm, ...]

    def is_at_edge(self, name: str) -> bool:
        """Is this arm the lowest or highest learning rate of those raced?"""
        rates = {arm.name: float(arm.name) for arm in self.arms if self.name == "lr"}
        return bool(rates) and rates[name] in (min(rates.values()), max(rates.values()))


def read_policy(word: str) -> Settings:
    """The policy of that name; raises RaceError."""
    try:
        find_policy(word)
    except SettingsError as error:
        raise RaceError(f"AUGMENT: {error}") from error
    return {"augment.policy": word}


def read_head(word: str) -> Settings:
    """`linear`, or `dense256elu`: one more layer of that width; raises RaceError."""
    dense = re.fullmatch(r"dense(\d+)(elu|relu|gelu|swish)", word)
    if dense and int(dense[1]):
        return {"head.hidden": int(dense[1]), "head.activation": dense[2]}
    if word == "linear":
        return {"head.hidden": 0}
    raise RaceError(f"HEAD takes linear, or words such as dense256elu, not {word!r}")


def read_rate(word: str) -> Settings:
    """A peak learning rate of everything; raises RaceError."""
    try:
        return {"schedule.peak_lr": float(word)}
    except ValueError:
        raise RaceError(f"LR takes numbers such as 1e-3, not {word!r}") from None


READERS: dict[str, Callable[[str], Settings]] = {
    "augment": read_policy,
    "head": read_head,
    "optimizer": lambda word: {"optimizer.name": word},
    "schedule": lambda word: {"schedule.name": word},
    "colour": lambda word: {"pixels.colour": word},
    "lr": read_rate,
}
ASKS = {
    "augment": "Which augmentation?",
    "head": "Does the extra dense layer help?",
    "optimizer": "Which optimizer?",
    "schedule": "Which schedule?",
    "colour": "Are colours worth keeping?",
    "lr": "Which learning rate?",
}
TOGETHER = {"optimizer", "schedule"}


def make_race(words: Mapping[str, str]) -> Race:
    """The race that some of READERS ask for, each with words apart by spaces; raises RaceError."""
    given = {name: words[name].split() for name in READERS if words.get(name, "").split()}
    if not given or (len(given) > 1 and set(given) != TOGETHER):
        known = ", ".join(name.upper() for name in READERS)
        raise RaceError(
            f"a race asks one question, {known}, and this one asks "
            f"{' and '.join(name.upper() for name in given) or 'none'}; only OPTIMIZER and "
            f'SCHEDULE go together: make race AUGMENT="none flip-crop light"'
        )
    arms = tuple(make_arm(dict(zip(given, each, strict=True))) for each in product(*given.values()))
    doubled = [name for name, count in Counter(arm.folder for arm in arms).items() if count > 1]
    if doubled or len(arms) == 1:
        raise RaceError(
            f"a race needs two arms or more, each named once, not "
            f"{', '.join(arm.name for arm in arms)}"
        )
    name = next(iter(given))
    asks = "Which optimizer, and which schedule?" if len(given) > 1 else ASKS[name]
    return Race(name, asks, arms)


def make_arm(words: Mapping[str, str]) -> Arm:
    """The arm of one word for each thing that is raced; raises RaceError."""
    settings = [READERS[name](word) for name, word in words.items()]
    return Arm("-".join(words.values()), {key: one[key] for one in settings for key in one})
