"""Truth: why a network answers new images worse than those it learned

Between training and validation three things differ, and each has its own remedy. So validation is
answered three times with the same weights: by batch norm's statistics as training left them (e),
by statistics anew of images as training showed them (a), and of clean images (c); and training
images once, by the latter (t). The differences add up: lag = a − e, shift = c − a, gap = t − c.
"""

from collections.abc import Iterable
from typing import Any, Literal, NamedTuple

import keras
import numpy as np
from numpy.typing import NDArray

from podium.evidence import compare_answers, find_paired_error, judge_draws
from podium.fold_data import FoldData
from podium.freezing import fit_momentum
from podium.metrics import METRICS, bootstrap_scores, score_answers
from podium.model import strip_augmentation
from podium.recalibrate import (
    Moments,
    Recalibrator,
    draw_clean,
    find_norms,
    lend_statistics,
    write_statistics,
)
from podium.rules import apply_rule, plain_rule
from podium.tallies import Answers, Truth
from podium.task import Task

TRAINING_IMAGES = 1000  # that are answered for t: their accuracy is known to 1.6 points or better
# What is smaller is true but not worth a remedy, which costs more; and a network always knows its
# training images somewhat better than others.
USUAL_HARM, USUAL_GAP = 0.01, 0.05

Verdict = Literal["lag", "shift", "overfit", "none"]


class Anew(NamedTuple):
    """Statistics of clean images, and what they make of the validation images: probs [N, C]."""

    moments: list[Moments]
    before: NDArray[np.float32]
    after: NDArray[np.float32]


class Finding(NamedTuple):
    """The verdict in words, and the four figures behind it, of one metric that rises."""

    verdict: Verdict
    words: str
    metric: str
    e: float
    a: float
    c: float
    t: float
    lag: float
    shift: float
    gap: float


class Examiner:
    """Examines one fold's model, as often as one likes: what it compiles it keeps.

    The model takes stored squares, and augments in training. It is left as it was.
    """

    def __init__(self, model: keras.Model, image_size: int, fold: FoldData) -> None:
        self.model, self.fold = model, fold
        self.clean = Recalibrator(strip_augmentation(model, image_size))
        self.trained = Recalibrator(model, as_trained=True)

    def recalibrate(self) -> Anew:
        """Takes the statistics of clean training images, and answers validation with and without.

        Without a batch norm that trains nothing changes.
        """
        fold = self.fold
        batches = draw_clean(fold.data.pixels, fold.training, fold.batch_size, fold.seed)
        moments = self.clean.estimate(batches)
        before = fold.predict(self.model, fold.validated)
        with lend_statistics(moments):
            after = fold.predict(self.model, fold.validated)
        return Anew(moments, before, after)

    def examine(self, anew: Anew, augmented: Iterable[NDArray[np.uint8]]) -> Finding:
        """Says what keeps validation below training.

        `augmented` are batches [B, S, S, 3] as training takes them; every one is read.
        """
        fold = self.fold
        shown = draw_shown(fold)
        with lend_statistics(anew.moments):
            learned = fold.predict(self.model, shown)
        with lend_statistics(self.trained.estimate(augmented)):
            likewise = fold.predict(self.model, fold.validated)
        judged = find_judge(fold.task)
        rule, truth = plain_rule(judged), fold.encode(fold.validated)
        e, a, c, t = (
            apply_rule(rule, probs) for probs in (anew.before, likewise, anew.after, learned)
        )
        scores = [score_answers(judged, truth, answers) for answers in (e, a, c)]
        scores.append(score_answers(judged, fold.encode(shown), t))
        harmed = compare_answers(judged, truth, e, c).adopted
        gap = knows_better(judged, (fold.encode(shown), t), (truth, c))
        verdict = judge(*scores, harmed=harmed, overfitted=gap)
        return describe(verdict, judged, scores, find_norms(self.model), fold.steps)


def draw_shown(fold: FoldData) -> NDArray[np.int64]:
    """The rows of the training images that are answered, the same ones each time."""
    return np.random.default_rng(fold.seed).permutation(fold.training)[:TRAINING_IMAGES]


def find_judge(task: Task) -> Task:
    """The task with a metric whose unit is known: accuracy in the place of log loss."""
    return task if METRICS[task.metric].higher_is_better else task._replace(metric="accuracy")


def knows_better(task: Task, learned: tuple[Truth, Answers], new: tuple[Truth, Answers]) -> bool:
    """Whether the metric is higher on images that were learned, and not by luck (95 %, one-sided).

    They are others, so that their bootstrap draws are too.
    """
    one, other = (
        bootstrap_scores(task, *pair, seed=seed) for seed, pair in enumerate((new, learned))
    )
    difference = score_answers(task, *learned) - score_answers(task, *new)
    return judge_draws(len(new[0]), difference, other - one).adopted


def judge(e: float, a: float, c: float, t: float, *, harmed: bool, overfitted: bool) -> Verdict:
    """The largest of the parts of t − e that are not luck.

    `harmed` says so of c − e, which lag and shift share, and `overfitted` of t − c.
    """
    parts = dict[Verdict, float]()
    if harmed and c - e > USUAL_HARM:
        parts = {"lag": a - e, "shift": c - a}
    if overfitted and t - c > USUAL_GAP:
        parts["overfit"] = t - c
    return max(parts, key=lambda name: parts[name], default="none")


def describe(
    verdict: Verdict,
    task: Task,
    scores: list[float],
    norms: list[keras.layers.BatchNormalization],
    steps: int,
) -> Finding:
    """The finding, with the words of the report."""
    e, a, c, t = scores
    title = METRICS[task.metric].title
    figures = f"validation {title} {e:.3f} as trained, {c:.3f} with statistics of clean images"
    words = {
        "lag": f"batch norm lags behind the weights: {figures}; {advise_momentum(norms, steps)}",
        "shift": f"augmentation shifts batch norm's statistics: {figures}, {a:.3f} of augmented "
        f"ones; let predict.recalibrate mend it, raise train.clean_epochs, or augment less",
        "overfit": f"the network knows training images better than others: {title} {t:.3f} "
        f"against {c:.3f} in validation, of which batch norm explains {c - e:+.3f}; augment more "
        f"(augment.policy), raise head.dropout or optimizer.weight_decay, or train fewer epochs",
        "none": f"nothing keeps validation down that can be told from luck: {title} {t:.3f} on "
        f"clean training images, {figures}",
    }[verdict]
    return Finding(verdict, words, task.metric, e, a, c, t, a - e, c - a, t - c)


def advise_momentum(norms: list[keras.layers.BatchNormalization], steps: int) -> str:
    """What to do about statistics that lag."""
    slowest, fitting = max(norm.momentum for norm in norms), fit_momentum(steps)
    lower = f"set model.bn_momentum to {fitting:g}, " if 0 < fitting < slowest else ""
    return (
        f"with momentum {slowest:g} they need {3 / (1 - slowest):.0f} updates to settle, and an "
        f"epoch has {steps}; {lower}train more epochs, or let predict.recalibrate mend it"
    )


class Gain(NamedTuple):
    """What a candidate gains on the competition metric, positive where it is better."""

    difference: float
    se: float  # standard error of the difference, image by image
    kept: bool


def measure_gain(task: Task, truth: Truth, before: Answers, after: Answers) -> Gain:
    """Compares two sets of probabilities [N, C]; the latter is kept beyond one standard error.

    One in six of candidates that change nothing passes, as they cost nothing.
    """
    rule = plain_rule(task)
    one, other = apply_rule(rule, before), apply_rule(rule, after)
    difference = compare_answers(task, truth, one, other).difference
    se = find_paired_error(task, truth, one, other)
    return Gain(difference, se, bool(difference > se))


def keep_if_better(fold: FoldData, anew: Anew) -> dict[str, Any]:
    """Leaves the model with the new statistics if validation gains by them; says what it gains."""
    gain = measure_gain(fold.task, fold.encode(fold.validated), anew.before, anew.after)
    if gain.kept:
        write_statistics(anew.moments)
    return gain._asdict()
