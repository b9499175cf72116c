"""The blend's page: which weights, what each member is worth, and whose errors are whose"""

import html
from collections.abc import Sequence

from podium.evidence import Comparison
from podium.metrics import METRICS, Score
from podium.page import REPORT_CSS, format_figure, render_list, render_section, render_table
from podium.questions import Option, Question
from podium.tallies import Doubles
from workbench.compare_page import FETCH_NOTHING
from workbench.member_facts import MemberFact

BLEND_CSS = (
    ".used{font-weight:600;color:var(--valid)}td small{display:block;white-space:nowrap}"
    ".wide{max-height:none}.lead{font-size:1rem;color:var(--ink)}td:first-child{min-width:5.5rem}"
)
USELESS = (
    "Accuracies as weights hardly differ from each other: of 0.9652 and 0.9691 they make 0.499 and "
    "0.501, the mean in disguise. They know neither which errors two members share nor how sure "
    "each is of its own. Here they would be in the last column; they are not used."
)


def render_blend(
    question: Question,
    score: Score,
    names: Sequence[str],
    facts: Sequence[MemberFact],
    correlations: Doubles,
) -> str:
    """The page, which fetches nothing and runs no script."""
    body = [
        render_answer(question, score),
        render_options(question),
        render_members(question, names, facts),
        render_correlations(names, correlations),
    ]
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8"><title>Podium blend</title>\n'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f'<meta http-equiv="Content-Security-Policy" content="{FETCH_NOTHING}">'
        f"<style>{REPORT_CSS}{BLEND_CSS}</style>\n<main>\n"
        f"<h1>Blend of {len(names)} runs</h1>\n{''.join(body)}</main></html>\n"
    )


def render_answer(question: Question, score: Score) -> str:
    """The answer in words, with the score of what is submitted."""
    low, high = score.interval
    hint = (
        f"Out of fold, {METRICS[score.metric].title} {score.value:.4f} on {score.n} images "
        f"(95 %: {low:.4f} to {high:.4f}), with the rule that makes answers of probabilities."
    )
    words = f'<p class="lead">{html.escape(question.answer)}.</p>'
    return render_section(html.escape(question.asks), hint, words + render_list(question.notes))


def render_options(question: Question) -> str:
    """All candidates, each fitted on the other folds."""
    head = ["candidate", METRICS[question.metric].title, "gain", "p", "fixed", "broken"]
    rows = [show_option(option, option.name == question.chosen) for option in question.options]
    hint = (
        "Each candidate answers images that it was not fitted to. Gains are over the first, with "
        "one-sided 95 % bounds, as if it were the only one. The gate looked at none of these rows, "
        "but at a choice among them that was made without the images it answers, and asked for "
        "more than the luckiest of so many would gain."
    )
    return render_section("Candidates", hint, render_table(head, rows))


def show_option(option: Option, used: bool) -> list[str]:
    """A candidate's row."""
    name = html.escape(option.name)
    counts = [format_figure(count, "d") for count in (option.fixed, option.broken)]
    return [
        f'<span class="used">{name} · used</span>' if used else name,
        format_figure(option.score, ".4f"),
        show_gain(option.gain),
        format_figure(option.gain.p, ".3g") if option.gain else "–",
        *counts,
    ]


def show_gain(gain: Comparison | None) -> str:
    """A gain with its bounds below it; a dash where there is none."""
    if gain is None:
        return "–"
    low, high = (format_figure(bound, "+.4f") for bound in (gain.low, gain.high))
    return f"{format_figure(gain.difference, '+.4f')}<small>{low} to {high}</small>"


def render_members(question: Question, names: Sequence[str], facts: Sequence[MemberFact]) -> str:
    """What each member reached, weighs, and would be missed by."""
    head = ["run", METRICS[question.metric].title, "weight", "without it", "by accuracy"]
    rows = [show_member(name, fact) for name, fact in zip(names, facts, strict=True)]
    hint = (
        "A run's own score by the plain rule; its share of the weights, with bounds (95 % each) "
        "where these are fitted again on images drawn anew; and what the blend gains, out of fold, "
        "by leaving it out."
    )
    table = render_table(head, rows)
    return render_section("Members", hint, f"{table}<p>{USELESS}</p>")


def show_member(name: str, fact: MemberFact) -> list[str]:
    """A member's row."""
    low, high = (format_figure(end, ".4f") for end in fact.score.interval)
    bounds = f"<small>{fact.low:.2f} to {fact.high:.2f}</small>" if fact.high > fact.low else ""
    return [
        html.escape(name),
        f"{format_figure(fact.score.value, '.4f')}<small>{low} to {high}</small>",
        f'<span class="bar" style="--w:{fact.weight:.0%}">{fact.weight:.3f}{bounds}</span>',
        f"{advise(fact.without)}<small>{show_gain(fact.without)}</small>",
        f"{fact.by_accuracy:.3f}",
    ]


def advise(without: Comparison | None) -> str:
    """Whether to drop a member, in a word or two; nothing of one alone."""
    if without is None:
        return ""
    if without.adopted:
        return "drop it"
    return "keep it" if without.high < 0 else "no difference shown"


def render_correlations(names: Sequence[str], correlations: Doubles) -> str:
    """How errors go together, as a table of shades."""
    rows = []
    for name, row in zip(names, correlations.tolist(), strict=True):
        cells = [f"<b>{html.escape(name)}</b>"]
        for value in row:
            kind = ("hit" if value >= 0 else "miss") + (" on" if abs(value) > 0.5 else "")
            shown = "1" if value > 0.995 else f"{value:.2f}".replace("0.", ".", 1)
            cells.append(f'<i class="{kind}" style="--a:{abs(value):.2f}">{shown}</i>')
        rows.append(cells)
    tall = ' class="tall"' if max(map(len, names)) > 2 else ""
    head = ["", *(f"<b{tall}>{html.escape(name)}</b>" for name in names)]
    hint = (
        "What the members' probabilities of the truth lack to one, image by image, correlated. "
        "Members near 1 make the same errors and add little to each other, however good they are."
    )
    return render_section("Shared errors", hint, render_table(head, rows, "heat"))
