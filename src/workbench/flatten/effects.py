"""Effects: what a module does while it is imported; it may make values, and nothing else."""

import ast
import re
import sys
from collections.abc import Iterator, Sequence
from itertools import pairwise

from workbench.flatten.refusal import Refusal
from workbench.flatten.source import (
    Assignment,
    Definition,
    ImportNode,
    Module,
    is_guard,
    run_on_import,
)

# What may be called while a module is imported: it makes a value and does nothing else.
HARMLESS_CALLS = re.compile(
    r"(typing\.)?(TypeVar|ParamSpec|NewType|NamedTuple)|(collections\.)?namedtuple|math\.\w+"
    r"|(dataclasses\.)?field|re\.compile|(pathlib\.)?(Path|PurePosixPath)"
    r"|bool|bytes|dict|float|frozenset|int|len|list|range|set|str|tuple"
)
# What may decorate: it keeps or wraps a function or class, and at most enters it in a table.
HARMLESS_DECORATORS = re.compile(
    r"property|staticmethod|classmethod|\w+\.(setter|deleter)|(dataclasses\.)?dataclass"
    r"|functools\.\w+|cache|cached_property|lru_cache|total_ordering"
    r"|(abc\.)?abstractmethod|(contextlib\.)?contextmanager|(typing\.)?(final|overload|override)"
    r"|(keras\.saving\.)?register_keras_serializable"
)


def check_statements(module: Module) -> Iterator[Refusal]:
    """Refuses work at import time: in the script it would run between two sections."""
    for before, node in pairwise(module.statements):
        if node.lineno == before.end_lineno:
            yield module.refuse(node.lineno, "has two statements on one line; give each its own")
    for node in module.statements:
        if is_guard(node):
            if module.name != "main" or node is not module.tree.body[-1]:
                yield module.refuse(
                    node.lineno, "only the end of main.py asks for __main__; delete the block"
                )
        elif not is_declaration(node, anything=module.name == "runtime"):
            yield module.refuse(
                node.lineno, "does something when imported; move it into a function that main calls"
            )


def is_declaration(node: ast.stmt, anything: bool) -> bool:
    """Does the statement only give names a meaning? Runtime may also evaluate anything."""
    if isinstance(node, Assignment):
        targets = node.targets if isinstance(node, ast.Assign) else [node.target]
        tuples = [one.elts if isinstance(one, ast.Tuple) else [one] for one in targets]
        return all(isinstance(name, ast.Name) for names in tuples for name in names)
    if isinstance(node, ast.Expr):
        return anything
    if sys.version_info >= (3, 12) and isinstance(node, ast.TypeAlias):
        return True
    return isinstance(node, Definition | ImportNode)


def check_calls(modules: Sequence[Module]) -> Iterator[Refusal]:
    """Refuses calls at import time, but for harmless ones and those of own functions.

    A decorator is a call too; what makes a default or stands in a class's body runs at once.
    """
    own = {name for module in modules for name in module.names}
    for module in modules:
        if module.name == "runtime":
            continue
        made = [node for node in module.statements if isinstance(node, Assignment | Definition)]
        parts = [part for node in made for part in run_on_import(node)]
        defined = [part for part in parts if isinstance(part, Definition)]
        decorators = [one for part in defined for one in part.decorator_list]
        calls = [part for part in parts if isinstance(part, ast.Call) and part not in decorators]
        checks = (
            *((call, "calls", HARMLESS_CALLS) for call in calls),
            *((one, "decorates with", HARMLESS_DECORATORS) for one in decorators),
        )
        for node, verb, harmless in checks:
            name = name_called(node)
            if name not in own and not harmless.fullmatch(name):
                reason = f"{verb} {name} when imported; call it inside a function"
                yield module.refuse(node.lineno, reason)


def name_called(node: ast.expr) -> str:
    """What a call or a decorator calls: `dict[str, int]()` calls dict."""
    called = node.func if isinstance(node, ast.Call) else node
    return ast.unparse(called.value if isinstance(called, ast.Subscript) else called)
