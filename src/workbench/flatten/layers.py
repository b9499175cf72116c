"""Layers: a module imports only from modules before it, and only names they define."""

from collections.abc import Iterator, Sequence

from workbench.flatten.refusal import Refusal
from workbench.flatten.source import Module, list_imported


def check_layers(modules: Sequence[Module], order: Sequence[str]) -> Iterator[Refusal]:
    """Refuses imports against ORDER, and of names that the module does not define."""
    names = {module.name: module.names for module in modules}
    for module in modules:
        for one in (one for node in module.imports for one in list_imported(node)):
            package, _, target = one.module.partition(".")
            if package != module.package or not target or not one.name or one.name == "*":
                continue
            if target not in order:
                reason = f"{target} is not in ORDER; mend the name, or give the module its place"
                yield module.refuse(one.line, reason)
            elif target == module.name:
                reason = f"{target} imports from itself; delete the import"
                yield module.refuse(one.line, reason)
            elif order.index(target) > order.index(module.name):
                yield module.refuse(
                    one.line,
                    f"{module.name} may not import {target}, which comes later in ORDER; "
                    "move what it needs to an earlier module",
                )
            elif target in names and one.name not in names[target]:
                yield module.refuse(
                    one.line,
                    f"{target} does not define {one.name}; mend the name, "
                    "or import it from the module that defines it",
                )
