"""Rules: every check of the modules, in one list."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from workbench.flatten.effects import check_calls, check_statements
from workbench.flatten.imports import check_comments, check_imports
from workbench.flatten.layers import check_layers
from workbench.flatten.leaks import check_leaks
from workbench.flatten.names import check_names, check_unflattenable
from workbench.flatten.refusal import Refusal
from workbench.flatten.section import check_docstring
from workbench.flatten.source import Module
from workbench.flatten.stamp import check_stamp


def check_modules(
    modules: Sequence[Module], order: Sequence[str], preamble: Sequence[str]
) -> Iterator[Refusal]:
    """Refuses what cannot be flattened, in one module alone and over all of them."""
    for module in modules:
        yield from check_docstring(module)
        yield from check_leaks(module)
        yield from check_stamp(module)
        yield from check_imports(module, preamble)
        yield from check_comments(module)
        yield from check_statements(module)
        yield from check_unflattenable(module)
    yield from check_layers(modules, order)
    yield from check_names(modules)
    yield from check_calls(modules)


def sort_refusals(refusals: Sequence[Refusal], order: Sequence[str]) -> list[Refusal]:
    """Each refusal once, in the order of modules and lines; files outside ORDER come last."""
    ranks = {name: rank for rank, name in enumerate(order)}
    return sorted(set(refusals), key=lambda one: (ranks.get(Path(one.file).stem, 99), one))
