import math
import re

import pytest

from podium.evidence import Comparison, count_changes
from podium.proofs import find_gain, find_reach, render_evidence
from podium.questions import Option, Question

HOSTILE = "<img src=x> & $x_1$"
GAIN = Comparison(400, 0.0125, 0.003, 0.021, 0.012, adopted=True, detectable=0.014)
PLAIN = Option("one view", 0.9, cost=0.01)
OPTIONS = (PLAIN, Option("all views", 0.9125, GAIN, cost=0.123, fixed=9, broken=4))
TTA = Question(
    "tta", "Is TTA worth it?", "Yes: 0.0125.", "accuracy", "all views", OPTIONS, "s/image"
)


def read_rows(page):
    """The cells of each option by their column."""
    rows = re.findall(r"<tr><td>(.*?)</td>(.*)", page)
    return {
        re.sub("<.*", "", name).strip(): dict(re.findall(r'data-name="([^"]*)">(.*?)</td>', cells))
        for name, cells in rows
    }


def find_colours(page):
    """What colours lines and marks are drawn in."""
    return set(re.findall(r"(?:stroke|fill): (var\(--\w+\))", page))


def test_a_question_is_a_block_with_its_answer_its_figures_and_a_chart():
    page = render_evidence([TTA._replace(notes=("five views", "<b>"))])
    assert '<h3>Is TTA worth it? <span class="used">all views</span></h3>' in page
    assert "<p>Yes: 0.0125.</p>" in page
    assert "<li>five views</li><li>&lt;b&gt;</li>" in page
    assert read_rows(page)["all views"] == {
        "score": "0.9125",
        "gain": "<b>+0.0125</b> <small>+0.0030 to +0.0210</small>",
        "p": "0.012",
        "fixed/broken": "9 / 4",
        "s/image": "0.123",
        "detectable": "0.0140",
    }
    assert read_rows(page)["one view"]["gain"] == "–"
    assert page.count('<span class="used">used</span>') == 1
    (chart,) = re.findall(r"<svg.*?</svg>", page, re.DOTALL)
    for words in ("one view", "all views", "gain in accuracy", "Gain of each option: Is TTA"):
        assert words in chart


def test_what_stays_as_it_is_is_told_from_what_was_adopted():
    page = render_evidence([TTA._replace(chosen="one view")])
    assert '<span class="used stays">one view</span></h3>' in page


def test_figures_that_no_option_has_have_no_column():
    bare = tuple(one._replace(cost=None, fixed=None, broken=None) for one in OPTIONS)
    assert set(read_rows(render_evidence([TTA._replace(options=bare)]))["all views"]) == {
        "score",
        "gain",
        "p",
        "detectable",
    }


def test_a_p_at_the_least_that_draws_can_tell_is_said_to_be_no_larger():
    sure = OPTIONS[1]._replace(gain=GAIN._replace(p=1 / 1001))
    page = render_evidence([TTA._replace(options=(PLAIN, sure))])
    assert read_rows(page)["all views"]["p"] == "≤ 0.001"


def test_what_nobody_knows_is_a_dash_and_drawn_nowhere():
    unknown = GAIN._replace(difference=math.nan, low=math.nan, high=math.nan, detectable=math.nan)
    page = render_evidence(
        [TTA._replace(options=(PLAIN, Option("odd", math.nan, unknown)), chosen="one view")]
    )
    assert "nan" not in page
    row = read_rows(page)["odd"]
    assert (row["score"], row["detectable"]) == ("–", "–")


def test_a_question_without_another_option_is_not_shown():
    assert render_evidence([TTA._replace(options=(PLAIN,))]) == render_evidence([]) == ""


def test_words_of_questions_and_options_are_text():
    page = render_evidence(
        [
            Question("a", HOSTILE, HOSTILE, "accuracy", HOSTILE, options, HOSTILE, (HOSTILE,))
            for options in [(PLAIN, OPTIONS[1]._replace(name=HOSTILE))]
        ]
    )
    assert "<img" not in page
    assert page.count("&lt;img src=x&gt; &amp; $x_1$") >= 7


def test_charts_of_a_page_share_no_ids():
    page = render_evidence([TTA, TTA, TTA])
    ids = re.findall(r' id="([^"]*)"', page)
    assert len(ids) == len(set(ids)) > 10


def test_the_choice_and_what_is_worse_have_their_colours():
    worse = Option("flip", 0.8, count_changes(400, 5, 45))
    page = render_evidence([TTA._replace(options=(*OPTIONS, worse))])
    assert {"var(--valid)", "var(--train)"} <= find_colours(page)
    assert "var(--train)" not in find_colours(render_evidence([TTA]))
    assert "var(--valid)" in find_colours(render_evidence([TTA]))


def test_one_option_that_is_far_off_does_not_flatten_the_others():
    near = [(0.0, math.nan, math.nan), (0.001, -0.002, 0.004), (0.002, -0.001, 0.005)]
    assert find_reach(near) == 0.005
    assert find_reach([*near, (-0.4, -0.42, -0.38)]) == pytest.approx(4 * 0.005)
    assert find_reach([(0.0, math.nan, math.nan)]) == 1


def test_an_option_that_was_not_tested_is_drawn_as_its_score_says():
    """Log loss falls as it gets better: a lower score lies to the right of zero."""
    options = (Option("uniform", 0.3), Option("other", 0.25))
    question = Question("weights", "Which?", "Equal.", "log_loss", "uniform", options)
    gain, low, high = find_gain(question, options[1])
    assert gain == pytest.approx(0.05)
    assert math.isnan(low)
    assert math.isnan(high)
    assert find_gain(TTA, OPTIONS[1]) == (GAIN.difference, GAIN.low, GAIN.high)
    assert find_gain(TTA, PLAIN)[0] == 0
