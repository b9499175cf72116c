"""Proofs: the evidence page, one block a question

The question, the answer in words, and what it rests on: each option's score, what it gains over
the first with its bounds, how many images it mends and breaks, and what it costs; drawn and as
figures. It is for showing to a team.
"""

import html
import math
from collections.abc import Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from podium.metrics import METRICS
from podium.page import CHART_STYLE, export_chart, format_figure, render_list, render_section
from podium.questions import Option, Question

NAME_SHOWN = 24  # characters of an option's name in a chart
MANY = 6  # options, of which a narrow screen shows no more at once
EDGE = 4.0  # times the middle option's reach: what lies farther is drawn at the chart's edge
LEAST_P = 0.00101  # what a thousand draws can tell
USED, WORSE, OTHER = "#0072b2", "#d55e00", "#5c6675"
PROOF_CSS = """
.proof{border-top:1px solid var(--line);margin-top:1.3rem;padding-top:1.1rem}
.proof h3{font-size:1.05rem;margin:0;display:flex;flex-wrap:wrap;gap:.3rem .7rem;align-items:center}
.proof h3+p{color:var(--ink);font-size:.95rem;margin:.25rem 0 .9rem;max-width:52rem}
.used{font:600 .78rem system-ui,sans-serif;padding:.15em .7em;border-radius:1em;
background:rgb(var(--hit)/.14);color:var(--valid)}.stays{background:var(--page);color:var(--soft)}
.sides{display:grid;gap:1rem 1.5rem;grid-template-columns:minmax(0,18.5rem) minmax(0,1fr);
align-items:start}.proof .sides+ul{margin-top:.8rem;color:var(--soft);font-size:.85rem}
.proof .wide{max-height:none}.options{font-size:.9rem;line-height:1.4}
.options :is(td,th){padding:.35rem .4rem}.options small{display:block;white-space:nowrap}
.options .used{margin-left:.3em}.options td:first-child{overflow-wrap:break-word;min-width:7.5rem}
@media(max-width:62rem){.sides{grid-template-columns:minmax(0,1fr)}.sides .chart{max-width:27rem}}
@media(max-width:40rem){.options,.options tbody{display:block}.options tr{display:grid;
grid-template-columns:repeat(4,minmax(0,1fr));gap:.3rem .5rem;padding:.6rem 0;
border-bottom:1px solid var(--line)}.options tr:first-child,.options .none{display:none}
.options td{border:0;padding:0;text-align:left;white-space:normal}
.options td:first-child{grid-column:1/-1;font-weight:600}.proof .many{max-height:26rem}
.options td:not(:first-child)::before{content:attr(data-name);display:block;color:var(--soft);
font-size:.7rem;line-height:1.3;white-space:nowrap;letter-spacing:-.01em}
.options td:nth-child(3){grid-column:span 2}}
"""


def render_evidence(questions: Sequence[Question]) -> str:
    """A block for each question between options; nothing where there is none."""
    asked = [question for question in questions if len(question.options) > 1]
    blocks = "".join(render_question(place, one) for place, one in enumerate(asked))
    hint = (
        "Each option against the first of its question, on images that it was not fitted to. Lines "
        "and small figures are the gain's one-sided 95 % bounds: what lies right of zero is better "
        "by more than luck, but once in twenty times. Detectable is the true gain that would be "
        "shown four times in five. Blue is used; orange is shown to be worse."
    )
    return render_section("Evidence", hint, blocks)


def render_question(place: int, question: Question) -> str:
    """One question: its answer in words, the options drawn and in figures, and what else counts."""
    chosen = html.escape(question.chosen)
    plain = question.chosen == question.options[0].name
    badge = f'<span class="used{" stays" if plain else ""}">{chosen}</span>'
    return (
        f'<div class="proof"><h3>{html.escape(question.asks)} {badge}</h3>'
        f"<p>{html.escape(question.answer)}</p>"
        f'<div class="sides">{plot_gains(place, question)}{render_options(question)}</div>'
        f"{render_list(question.notes)}</div>\n"
    )


def render_options(question: Question) -> str:
    """A row for each option; figures that none of them has are left out."""
    rows = [list_figures(question, option) for option in question.options]
    shown = [name for name in rows[0] if any(row[name] for row in rows)]
    head = "".join(f"<th>{html.escape(name)}</th>" for name in ("option", *shown))
    body = "\n".join(
        f"<tr><td>{name_option(question, option)}</td>{render_cells(row, shown)}"
        for option, row in zip(question.options, rows, strict=True)
    )
    kind = "wide many" if len(question.options) > MANY else "wide"
    return f'<div class="{kind}"><table class="options"><tr>{head}\n{body}</table></div>'


def render_cells(row: dict[str, str], shown: Sequence[str]) -> str:
    """Cells that know their column's name, which a narrow screen shows above each."""
    cells = []
    for name in shown:
        kind = "" if row[name] else ' class="none"'
        cells.append(f'<td{kind} data-name="{html.escape(name)}">{row[name] or "–"}</td>')
    return "".join(cells)


def name_option(question: Question, option: Option) -> str:
    """An option's name, marked where it is the one in use."""
    mark = ' <span class="used">used</span>' if option.name == question.chosen else ""
    return html.escape(option.name) + mark


def list_figures(question: Question, option: Option) -> dict[str, str]:
    """An option's figures by the name of their column, "" where it has none."""
    gain, flips = option.gain, (option.fixed, option.broken)
    cost = "cost" if question.unit == "s" else question.unit
    style = "s" if question.unit == "s" else ".3g"
    figures = {"score": format_figure(option.score, ".4f")}
    figures |= dict.fromkeys(("gain", "p", "fixed/broken", cost, "detectable"), "")
    if gain:
        low, high = (format_figure(bound, "+.4f") for bound in (gain.low, gain.high))
        figures["gain"] = (
            f"<b>{format_figure(gain.difference, '+.4f')}</b> <small>{low} to {high}</small>"
        )
        figures["p"] = "≤ 0.001" if gain.p < LEAST_P else format_figure(gain.p, ".2g")
        figures["detectable"] = format_figure(gain.detectable, ".4f")
    if None not in flips:
        figures["fixed/broken"] = f"{option.fixed} / {option.broken}"
    if option.cost is not None:
        figures[cost] = format_figure(option.cost, style)
    return figures


def plot_gains(place: int, question: Question) -> str:
    """A forest plot as inline SVG: an option a row, its gain and bounds around zero."""
    gains = [find_gain(question, option) for option in question.options]
    rows, reach = len(gains), find_reach(gains)
    metric = METRICS[question.metric]
    with mpl.rc_context(CHART_STYLE | {"font.size": 9.0}):
        figure = Figure(figsize=(3.7, 0.62 + 0.25 * rows), layout="constrained")
        axes = figure.subplots()
        axes.axvline(0, color=OTHER, linewidth=1)
        for row, (option, gain) in enumerate(zip(question.options, gains, strict=True)):
            draw_gain(axes, row, gain, reach, used=option.name == question.chosen)
        axes.set(xlim=(-1.06 * reach, 1.06 * reach), ylim=(rows - 0.4, -0.6))
        axes.set_yticks(range(rows), [shorten(option.name) for option in question.options])
        axes.set_xlabel(f"gain in {metric.title}")
        axes.xaxis.set_major_locator(MaxNLocator(4))
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:+.3g}" if value else "0")
        axes.grid(axis="x")
        axes.set_axisbelow(True)
        axes.tick_params(axis="y", length=0)
        axes.spines[["top", "right", "left"]].set_visible(False)
        label = html.escape(f"Gain of each option: {question.asks}")
        return export_chart(figure, f"proof{place}", label)


def find_gain(question: Question, option: Option) -> tuple[float, float, float]:
    """What to draw: gain, low and high; bounds are NaN where the option was not tested."""
    if option.gain:
        return option.gain.difference, option.gain.low, option.gain.high
    sign = 1 if METRICS[question.metric].higher_is_better else -1
    return sign * (option.score - question.options[0].score), math.nan, math.nan


def find_reach(gains: Sequence[tuple[float, float, float]]) -> float:
    """How far from zero the chart goes: to the farthest bound, unless few are that far."""
    ends = np.array(
        [max((abs(end) for end in gain if math.isfinite(end)), default=0.0) for gain in gains]
    )
    ends = ends[ends > 0]
    return float(min(ends.max(), EDGE * np.median(ends))) if len(ends) else 1.0


def draw_gain(
    axes: Any, row: int, gain: tuple[float, float, float], reach: float, *, used: bool
) -> None:
    """Draws one option: a line between its bounds, and a mark, hollow where it was not tested."""
    middle, low, high = gain
    colour = USED if used else WORSE if high < 0 else OTHER
    look: dict[str, Any] = {"color": colour, "markersize": 7 if used else 5}
    if math.isfinite(low):
        axes.plot(np.clip([low, high], -reach, reach), [row, row], color=colour, linewidth=2)
    elif row and not used:
        look["markerfacecolor"] = "none"
    mark = "D" if used else "o"
    if abs(middle) > reach:
        mark = "<" if middle < 0 else ">"
    if math.isfinite(middle):
        axes.plot(np.clip(middle, -reach, reach), row, mark, **look)


def shorten(name: str) -> str:
    """A name that fits beside a chart, and means nothing to whoever sets it."""
    name = name if len(name) <= NAME_SHOWN else name[: NAME_SHOWN - 1] + "…"
    return name.replace("$", r"\$")
