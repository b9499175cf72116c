"""The comparison's page: runs as columns, what they reached, how they learned, what differs."""

import html
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from podium.metrics import METRICS
from podium.page import REPORT_CSS, format_figure, render_list, render_section, render_table
from podium.panels import render_curves
from podium.report import render_truths
from workbench.paired import describe_pair
from workbench.past_runs import PastRun, list_differences, show_setting
from workbench.run_charts import LOOKS, draw_svg, list_overlays

FETCH_NOTHING = "default-src 'none'; style-src 'unsafe-inline'"
COMPARE_CSS = (
    ":root{"
    + "".join(f"--run{place}:{light};" for place, (light, _, _) in enumerate(LOOKS))
    + "}@media(prefers-color-scheme:dark){:root{"
    + "".join(f"--run{place}:{dark};" for place, (_, dark, _) in enumerate(LOOKS))
    + "}}.run{display:inline-flex;align-items:center;gap:.4em;margin-right:1em;color:var(--ink)}"
    + ".run svg{width:2.2em;height:.6em;flex:none}td{vertical-align:top}small{white-space:nowrap}"
    + ".wide{max-height:none}.words td{min-width:7rem;overflow-wrap:break-word}"
)


def render_comparison(runs: Sequence[PastRun]) -> str:
    """The page, which fetches nothing and runs no script; of one run its curves and figures."""
    title = "Runs side by side" if len(runs) > 1 else f"Run {html.escape(runs[0].name)}"
    body = [render_figures(runs), render_pairs(runs), render_overlays(runs), render_settings(runs)]
    if len(runs) == 1:
        body = [
            render_figures(runs),
            render_curves(runs[0].curves, runs[0].metric),
            render_truths(runs[0].truths),
        ]
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title>\n'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f'<meta http-equiv="Content-Security-Policy" content="{FETCH_NOTHING}">'
        f"<style>{REPORT_CSS}{COMPARE_CSS}</style>\n<main>\n"
        f"<h1>{title}</h1>\n{''.join(body)}</main></html>\n"
    )


def show_name(runs: Sequence[PastRun], place: int) -> str:
    """A run's name beside its line."""
    dash = LOOKS[place][2]
    gaps = {"-": "", "--": "5 3", "-.": "6 2 2 2", ":": "2 2"}
    dashes = gaps[dash] if isinstance(dash, str) else " ".join(f"{one:g}" for one in dash[1])
    line = (
        f'<svg viewBox="0 0 28 6" aria-hidden="true"><path d="M0 3h28" stroke="var(--run{place})" '
        f'stroke-width="3" stroke-dasharray="{dashes}"/></svg>'
    )
    return (
        f'<span class="run">{line if len(runs) > 1 else ""}{html.escape(runs[place].name)}</span>'
    )


def render_figures(runs: Sequence[PastRun]) -> str:
    """What each run reached, at what cost, with what: a column for each run."""
    facts: dict[str, Callable[[PastRun], str]] = {
        "out of fold": lambda run: show_score(run, "out_of_fold"),
        "test, one model": lambda run: show_score(run, "test_single"),
        "test, all averaged": lambda run: show_score(run, "test"),
        "folds scored": show_folds,
        "time": lambda run: format_figure(run.part("seconds").get("total"), "s"),
        "batch norm": show_verdicts,
        "state": lambda run: html.escape(str(run.part("run").get("state", "not finished"))),
        "started": lambda run: html.escape(str(run.part("run").get("started", "–"))),
        **{name: read_setting(setting) for name, setting in SETTINGS_SHOWN.items()},
    }
    rows = [[name, *map(show, runs)] for name, show in facts.items()]
    rows = [row for row in rows if any(cell != "–" for cell in row[1:])]
    head = ["", *(show_name(runs, place) for place in range(len(runs)))]
    hint = "In small type the 95 % interval of a score, were other images of the same kind drawn."
    return render_section("What they reached", hint, render_table(head, rows, "words"))


SETTINGS_SHOWN = {
    "backbone": "model.backbone",
    "image size": "pixels.image_size",
    "augmentation": "augment.policy",
    "optimizer": "optimizer.name",
    "schedule": "schedule.name",
    "epochs of the head": "train.head_epochs",
    "epochs of all": "train.epochs",
}


def read_setting(name: str) -> Callable[[PastRun], str]:
    """Shows one setting of a run."""
    return lambda run: html.escape(show_setting(run, name))


def show_score(run: PastRun, part: str) -> str:
    """A score by the name of its metric, with its interval."""
    score = run.part(part)
    value = format_figure(score.get("value"), ".4f")
    if value == "–":
        return value
    name = METRICS[run.metric].title if run.metric else "score"
    low, high = (format_figure(end, ".4f") for end in score.get("interval") or (None, None))
    return f"<b>{value}</b> {name}<br><small>{low} to {high}</small>"


def show_folds(run: PastRun) -> str:
    """How many folds have a score, of how many."""
    scored = run.summary.get("folds") or []
    wanted: Any = run.part("counts").get("folds", run.settings.get("folds.count", "?"))
    return f"{len(scored)} of {html.escape(str(wanted))}"


def show_verdicts(run: PastRun) -> str:
    """The verdicts on batch norm, and in how many folds each was reached."""
    counts = Counter(str(truth.get("verdict", "?")) for truth in run.truths.values())
    words = ", ".join(f"{verdict} × {count}" for verdict, count in counts.most_common())
    return html.escape(words) or "–"


def render_pairs(runs: Sequence[PastRun]) -> str:
    """What the evidence says of every run against the first."""
    words = [describe_pair(runs[0], other) for other in runs[1:]]
    hint = (
        f"Each against {html.escape(runs[0].name)}, out of fold, image by image. Of runs that are "
        f"no better, one in twenty is called so: look again where you compare many."
    )
    return render_section("Better, or luckier?", hint, render_list(words))


def render_overlays(runs: Sequence[PastRun]) -> str:
    """The curves of all runs in the same pictures."""
    names = "".join(show_name(runs, place) for place in range(len(runs)))
    charts = "".join(
        draw_svg(overlay, runs, f"overlay{place}")
        for place, overlay in enumerate(list_overlays(runs))
    )
    grid = f'<div class="grid" style="--w:18.5rem">{charts}</div>' if charts else ""
    hint = (
        "Thick: the mean over folds, as far as all have come; thin: each fold. A rate is that of "
        f"an epoch's last update.</p><p>{names}"
    )
    return render_section("How they learned", hint, grid)


def render_settings(runs: Sequence[PastRun]) -> str:
    """The settings that are not the same in all runs."""
    head = ["setting", *(show_name(runs, place) for place in range(len(runs)))]
    rows = [
        [f"<code>{html.escape(name)}</code>", *map(html.escape, values)]
        for name, values in list_differences(runs).items()
    ]
    table = render_table(head, rows, "words") if rows else render_list(["All are the same."])
    return render_section("Settings that differ", "A dash: that run did not know it.", table)
