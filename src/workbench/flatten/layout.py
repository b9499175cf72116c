"""Layout: title with contents, settings, imports and sections, one below the other."""

import sys
from collections.abc import Iterable, Sequence

from workbench.flatten.imports import format_imports
from workbench.flatten.script import Line, Place, Script
from workbench.flatten.section import EMPTY, RULE, contents_line, write_section
from workbench.flatten.source import Module
from workbench.flatten.stamp import digest_sources

LIBRARIES = (
    "Libraries",
    "Imported only now: Keras reads its backend once, when it is imported, and Runtime chose it.",
)

TITLE_PLACE = Place("build_kernel.py (title)")
IMPORTS_PLACE = Place("build_kernel.py (imports)")


def lay_out(modules: Sequence[Module], preamble: Sequence[str], template: str) -> Script:
    """Puts title, settings, imports and sections one below the other.

    The template is the title, with places for {contents} and {digest}.
    """
    digest = digest_sources(modules)
    hoisted = [one for module in modules for one in module.hoisted]
    standard = [one for one in hoisted if one.root in sys.stdlib_module_names]
    libraries = [one for one in hoisted if one.root not in sys.stdlib_module_names]
    sections = [(module.docstring[0], write_section(module, digest)) for module in modules]
    early = sum(module.name in preamble for module in modules)
    if libraries:
        heading, prose = LIBRARIES
        banner = [RULE, f"# {heading}", RULE, f"# {prose}", ""]
        lines = [Line(text, IMPORTS_PLACE) for text in banner + format_imports(libraries)]
        sections.insert(early, (heading, lines))
    if standard:
        sections.insert(1, ("", [Line(text, IMPORTS_PLACE) for text in format_imports(standard)]))
    return join_sections(sections, template, digest)


def join_sections(sections: Sequence[tuple[str, list[Line]]], template: str, digest: str) -> Script:
    """Counts the lines, writes the title with its contents, and joins everything."""
    headings = [heading for heading, _ in sections if heading]
    title = len(write_title([(0, heading) for heading in headings], template, digest))
    starts, body = list[tuple[int, str]](), list[Line]()
    for heading, lines in sections:
        after_section = body and body[-1].place != IMPORTS_PLACE  # isort wants one line, not two
        body += [EMPTY] * (2 if after_section else 1) + lines
        if heading:
            starts.append((title + 1 + len(body) - len(lines), heading))
    lines = write_title(starts, template, digest) + body
    text = "\n".join(line.text for line in lines) + "\n"
    return Script(text, tuple(line.place for line in lines), tuple(starts))


def write_title(starts: Iterable[tuple[int, str]], template: str, digest: str) -> list[Line]:
    """The script's docstring: what it is, where its sections begin, which sources it is made of."""
    contents = "\n".join(contents_line(line, heading) for line, heading in starts)
    text = f'"""{template.format(contents=contents, digest=digest)}\n"""'
    return [Line(line, TITLE_PLACE) for line in text.split("\n")]
