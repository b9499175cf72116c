"""Section: one module in the script, as banner, prose and body."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import takewhile

from workbench.flatten.refusal import Refusal
from workbench.flatten.script import WIDTH, Line, Place
from workbench.flatten.source import Definition, ImportNode, Module
from workbench.flatten.stamp import stamp_line

RULE = "# " + "=" * (WIDTH - 2)
EMPTY = Line("", Place("build_kernel.py (between sections)"))


def check_docstring(module: Module) -> Iterator[Refusal]:
    """A module's docstring becomes its section's heading and prose, so it must be there and fit."""
    if not module.docstring:
        yield module.refuse(
            1,
            "does not open with a docstring; its first line is the section's heading, so write "
            '"""Folds: what it says to a reader of the script',
        )
    for number, line in enumerate(module.docstring, 1):
        room = WIDTH - (len(contents_line(0, "")) if number == 1 else len("# "))
        if len(line) > room:
            what = "heading" if number == 1 else "docstring's line"
            yield module.refuse(
                number,
                f"the {what} has {len(line)} columns, the script room for {room}; shorten it",
            )


def contents_line(line: int, heading: str) -> str:
    """One entry of the table of contents."""
    return f"{line:>8}  {heading}"


def write_section(module: Module, digest: str) -> list[Line]:
    """Banner, prose and body of one module."""
    numbered = [Line(text, Place(module.file, at)) for at, text in enumerate(module.docstring, 1)]
    heading, *prose = [line._replace(text=f"# {line.text}".rstrip()) for line in numbered]
    if prose and prose[0].text == "#":  # the empty line under the heading
        prose.pop(0)
    rule = heading._replace(text=RULE)
    lines = [rule, heading, rule, *prose]
    body = cut_body(module)
    if module.name == "settings":
        body = [stamped for line in body for stamped in stamp_line(line, digest)]
    first = next((node for node in module.statements if not isinstance(node, ImportNode)), None)
    room = 2 if isinstance(first, Definition) else 1  # as ruff format wants it
    return lines + [EMPTY] * room + body if body else lines


def cut_body(module: Module) -> list[Line]:
    """The module's lines below its docstring, without imports and the blank lines those leave."""
    lines = module.lines
    removed = set(range(1, (module.tree.body[0].end_lineno or 1) + 1))
    for node in module.imports:
        end = node.end_lineno or node.lineno
        upwards = (number for number in range(node.lineno - 1, 0, -1) if number not in removed)
        above = count_blank(lines, upwards)
        below = count_blank(lines, range(end + 1, len(lines) + 1))
        removed.update(range(node.lineno, end + min(above, below) + 1))
    kept = [number for number in range(1, len(lines) + 1) if number not in removed]
    while kept and not lines[kept[0] - 1]:
        kept.pop(0)
    while kept and not lines[kept[-1] - 1]:
        kept.pop()
    return [Line(lines[number - 1], Place(module.file, number)) for number in kept]


def count_blank(lines: Sequence[str], numbers: Iterable[int]) -> int:
    """How many of the numbered lines are blank before the first that is not."""
    return sum(1 for _ in takewhile(lambda number: not lines[number - 1].strip(), numbers))
