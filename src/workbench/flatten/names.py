"""Names: those that would mean something else in the one namespace of the script."""

import ast
import builtins
from collections.abc import Iterator, Sequence

from workbench.flatten.refusal import Refusal
from workbench.flatten.source import Import, Module, is_guard

# Names that mean one thing in a module and another in the script.
UNFLATTENABLE = {
    "__file__": "but Kaggle runs a renamed copy; take the path from a setting",
    "__name__": "which is __main__ in every section; write the name out",
    "__doc__": "which is the title in every section; write the text out",
    "__path__": "which the script lacks; take the path from a setting",
    "__spec__": "which the script lacks; write the name out",
    "__package__": "which the script lacks; write the name out",
    "__import__": "which would look for the module beside the script; import it by a statement",
    "globals": "which all sections share; keep a dict of your own",
}


def check_unflattenable(module: Module) -> Iterator[Refusal]:
    """Refuses names whose meaning the script would change; only the guard asks for __name__."""
    guard = {id(node) for top in module.statements if is_guard(top) for node in ast.walk(top)}
    for node in ast.walk(module.tree):
        if not isinstance(node, ast.Name) or id(node) in guard:
            continue
        if node.id in UNFLATTENABLE and (module.name, node.id) != ("runtime", "__name__"):
            yield module.refuse(node.lineno, f"uses {node.id}, {UNFLATTENABLE[node.id]}")


def check_names(modules: Sequence[Module]) -> Iterator[Refusal]:
    """Refuses names that would mean two things in the one namespace of the script."""
    imported: dict[str, tuple[Import, Module]] = {}
    defined: dict[str, Module] = {}
    for module in modules:
        for one in module.hoisted:
            first, where = imported.setdefault(one.bound, (one, module))
            if first.thing != one.thing:
                yield module.refuse(
                    one.line,
                    f"{str(one)!r}, but {where.file}:{first.line} says {str(first)!r}; "
                    f"let {one.bound} be the same thing everywhere",
                )
            yield from refuse_builtin(module, one.bound, one.line)
    for module in modules:
        for name, line in module.names.items():
            yield from refuse_builtin(module, name, line)
            if defined.setdefault(name, module) is not module:
                other = defined[name]
                yield module.refuse(
                    line,
                    f"{name} is defined in {other.file}:{other.names[name]} too; "
                    "give one of them a longer name",
                )
            if name in imported:
                first, where = imported[name]
                yield module.refuse(
                    line,
                    f"{name} would hide {str(first)!r} of {where.file}:{first.line}; rename it",
                )


def refuse_builtin(module: Module, name: str, line: int) -> Iterator[Refusal]:
    """Refuses a top-level name that would change the language for the sections around it."""
    if name.startswith("__") and name.endswith("__"):
        yield module.refuse(
            line, f"{name} belongs to one module, and the script has one; delete it"
        )
    elif hasattr(builtins, name):
        yield module.refuse(
            line, f"{name} would hide Python's own {name} in every section; choose another name"
        )
