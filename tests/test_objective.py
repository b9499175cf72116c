import keras
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from podium.learning import OptimizerConfig
from podium.objective import compile_model, weigh_classes
from podium.optimizers import make_optimizer, set_rates
from podium.override import SettingsError
from podium.task import Task

JIT = keras.backend.backend() == "jax"
CLASSES = ("a", "b", "c")
RNG = np.random.default_rng(0)
LOGITS = RNG.normal(size=(16, 3)).astype(np.float32)
LABELS = RNG.integers(0, 3, 16)
TARGETS = np.eye(3, dtype=np.float32)[LABELS]
SEVERAL = RNG.integers(0, 2, (16, 3)).astype(np.float32)
LOG_PROBS = LOGITS - np.log(np.exp(LOGITS).sum(axis=1, keepdims=True))
WEIGHTS = np.array([0.5, 1.0, 3.0])


def judge(targets: np.ndarray, kept: int = 16, exclusive: bool = True, **options) -> dict:
    """Loss and metrics of a model that answers with its input, of the first images only."""
    logits = keras.Input((3,))
    scale = keras.layers.Dense(3, use_bias=False, kernel_initializer="identity", name="head")
    model = keras.Model(logits, scale(logits))
    optimizer = make_optimizer(OptimizerConfig("sgd"), 1)
    task = Task("label" if exclusive else "labels", CLASSES, exclusive)
    compile_model(model, optimizer, task=task, jit=JIT, **options)
    mask = (np.arange(16) < kept).astype(np.float32)
    return model.evaluate(LOGITS, targets, 16, sample_weight=mask, verbose=0, return_dict=True)


def test_padding_does_not_count_in_the_metrics():
    judged = judge(TARGETS, kept=5)
    right = LOGITS[:5].argmax(axis=1) == LABELS[:5]
    assert judged["accuracy"] == pytest.approx(right.mean())
    expected = -(TARGETS * LOG_PROBS).sum(axis=1)[:5].mean()
    assert judged["log_loss"] == pytest.approx(expected, rel=1e-5)


def test_smoothing_spreads_a_share_of_the_targets_in_the_loss_alone():
    plain, smooth = judge(TARGETS), judge(TARGETS, smoothing=0.3)
    spread = 0.7 * TARGETS + 0.1
    assert smooth["loss"] == pytest.approx(-(spread * LOG_PROBS).sum(axis=1).mean(), rel=1e-5)
    assert plain["loss"] == pytest.approx(plain["log_loss"], rel=1e-5)
    assert smooth["log_loss"] == pytest.approx(plain["log_loss"], rel=1e-6)


def test_class_weights_weigh_the_loss_alone_also_of_images_that_are_mixed():
    mixed = 0.75 * TARGETS + 0.25 * TARGETS[::-1]
    plain, weighed = judge(mixed), judge(mixed, class_weights=WEIGHTS, smoothing=0.3)
    spread = 0.7 * mixed + 0.1
    losses = -(spread * LOG_PROBS).sum(axis=1) * (mixed @ WEIGHTS)
    assert weighed["loss"] == pytest.approx(losses.mean(), rel=1e-5)
    for name in ("log_loss", "accuracy"):
        assert weighed[name] == pytest.approx(plain[name], rel=1e-6)


def test_weights_of_one_change_nothing():
    plain, weighed = judge(TARGETS, kept=7), judge(TARGETS, kept=7, class_weights=np.ones(3))
    assert weighed == pytest.approx(plain, rel=1e-6)


def test_where_an_image_may_have_several_classes_each_is_a_question():
    judged = judge(SEVERAL, exclusive=False, kept=9)
    probs = 1 / (1 + np.exp(-LOGITS))
    losses = -(SEVERAL * np.log(probs) + (1 - SEVERAL) * np.log(1 - probs))
    assert judged["log_loss"] == pytest.approx(losses[:9].mean(), rel=1e-5)
    assert judged["accuracy"] == pytest.approx(((probs > 0.5) == SEVERAL)[:9].mean())


def test_a_compiled_optimizer_has_its_variables_before_the_first_step():
    head = keras.Sequential([keras.Input((3,)), keras.layers.Dense(3)])
    compile_model(
        head,
        make_optimizer(OptimizerConfig("adamax"), 2),
        task=Task("label", CLASSES),
        jit=JIT,
    )
    count = len(head.optimizer.variables)
    set_rates(head.optimizer, np.array([0.1]))
    head.fit(LOGITS, TARGETS, verbose=0)
    assert len(head.optimizer.variables) == count > 4


@given(st.lists(st.integers(0, 4), min_size=1, max_size=60))
def test_balanced_weights_give_each_class_the_same_part_and_an_image_one_on_average(labels):
    weights = weigh_classes(np.array(labels), 6)
    counts = np.bincount(labels, minlength=6)
    parts = (weights * counts)[counts > 0]
    np.testing.assert_allclose(parts, parts[0])
    assert (weights * counts).sum() == pytest.approx(len(labels))
    assert (weights[counts == 0] == 0).all()


def test_classes_that_do_not_exclude_each_other_have_no_balance():
    with pytest.raises(SettingsError, match=r"^train\.class_weights is balanced.*set it to none$"):
        weigh_classes([(0,), (0, 2), ()], 3)
