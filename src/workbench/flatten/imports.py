"""Imports: which of them can move to the top of the script, and how they are merged there."""

import io
import re
import sys
import tokenize
from collections.abc import Iterable, Iterator, Sequence

from workbench.flatten.kaggle_image import BOTH_IMAGES, KAGGLE_IMAGE
from workbench.flatten.refusal import Refusal
from workbench.flatten.script import WIDTH
from workbench.flatten.source import Import, ImportNode, Module, list_imported


def check_imports(module: Module, preamble: Sequence[str]) -> Iterator[Refusal]:
    """Refuses imports that cannot be hoisted, and libraries that Kaggle lacks."""
    top = {id(node) for node in module.imports}
    for node in module.nodes:
        if isinstance(node, ImportNode):
            for one in list_imported(node):
                reason = (
                    refuse_own(module, one, id(node) in top)
                    if one.root in ("", module.package)
                    else refuse_outside(module, one, id(node) in top, id(node) in module.delayed)
                    or refuse_library(module, one, id(node) in top and module.name in preamble)
                )
                if reason:
                    yield module.refuse(one.line, reason)


def refuse_own(module: Module, one: Import, top: bool) -> str | None:
    """Says what is wrong with the form of an import between own modules, if anything is."""
    wanted = f"from {module.package}.module import name"
    if not top:
        return f"imports an own module conditionally or late; write {wanted!r} at the top level"
    plain = one.name not in (None, "*") and not one.alias and one.module.count(".") == 1
    if not plain or not one.root:
        return f"{str(one)!r} cannot be taken out without renaming; write {wanted!r}"
    return None


def refuse_outside(module: Module, one: Import, top: bool, delayed: bool) -> str | None:
    """Says why an import from outside the package cannot be hoisted, if it cannot."""
    if one.module == "__future__":
        return "from __future__ would change every section; Python 3.11 does without it, delete it"
    if one.name == "*":
        return f"{str(one)!r} brings in unknown names; list those you use"
    if not top and not delayed:
        return (
            f"{str(one)!r} is conditional, and hoisting would change when it runs; "
            "import at the top level or inside the function that needs it"
        )
    if top and module.name == "settings":
        return "settings stands above all imports, so it may import nothing; move the import"
    return None


def refuse_library(module: Module, one: Import, early: bool) -> str | None:
    """Says why a library cannot be used: Kaggle's images lack it, or Keras is not to load yet."""
    if one.root in sys.stdlib_module_names:
        return None
    lacking = [image for image in BOTH_IMAGES if image not in KAGGLE_IMAGE.get(one.root, ())]
    if lacking:
        images = " and its ".join(f"{image} image" for image in lacking)
        verb = "lacks" if len(lacking) == 1 else "lack"
        return (
            f"imports {one.root}, which Kaggle's {images} {verb}; "
            "use one that src/workbench/flatten/kaggle_image.py lists for both"
        )
    if early:
        return (
            f"{module.name} may not import {one.root} at the top level, because Keras's backend is "
            "not chosen yet; import it inside the function that needs it"
        )
    return None


def check_comments(module: Module) -> Iterator[Refusal]:
    """Refuses comments on imports: imports move and merge, and the comment would be lost."""
    lines = module.lines
    for node in module.imports:
        above = [node.lineno - 1] if node.lineno > 1 else []
        own = [number for number in above if lines[number - 1].startswith("#")]
        source = "\n".join(lines[node.lineno - 1 : node.end_lineno]) + "\n"
        tokens = tokenize.generate_tokens(io.StringIO(source).readline)
        own += [
            node.lineno + token.start[0] - 1 for token in tokens if token.type == tokenize.COMMENT
        ]
        for number in own:
            yield module.refuse(
                number,
                "a comment on an import is lost, because imports are merged; "
                "say it in the docstring, or a linter's exception in pyproject.toml",
            )


def format_imports(imports: Iterable[Import]) -> list[str]:
    """Merges and sorts imports, and wraps them, as ruff does."""
    straight: set[tuple[str, str]] = set()
    merged: dict[tuple[str, str | None], set[str]] = {}
    for one in imports:
        if one.name is None:
            straight.add((one.module, one.alias or ""))
        else:
            own_line = str(one) if one.alias else None
            end = f" as {one.alias}" if one.alias else ""
            merged.setdefault((one.module, own_line), set()).add(one.name + end)
    lines = [
        f"import {module}" + (f" as {alias}" if alias else "")
        for module, alias in sorted(straight, key=lambda pair: (*sort_key(pair[0]), pair[1]))
    ]
    froms = [(module, sorted(names, key=member_key)) for (module, _), names in merged.items()]
    for module, names in sorted(froms, key=lambda one: (sort_key(one[0]), member_key(one[1][0]))):
        line = f"from {module} import {', '.join(names)}"
        wrapped = [f"from {module} import (", *(f"    {name}," for name in names), ")"]
        lines += [line] if len(line) <= WIDTH else wrapped
    return lines


def sort_key(name: str) -> tuple[list[tuple[int, int]], str]:
    """Orders without regard to case, and v9 before v10."""
    parts = re.findall(r"\d+|\D", name.lower())
    return [(ord("0"), int(part)) if part.isdecimal() else (ord(part), 0) for part in parts], name


def member_key(name: str) -> tuple[int, tuple[list[tuple[int, int]], str]]:
    """Orders CONSTANTS before Classes before functions."""
    bare = name.partition(" ")[0]
    kind = 0 if len(bare) > 1 and bare.isupper() else 1 if bare[0].isupper() else 2
    return kind, sort_key(name)
