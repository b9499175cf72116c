"""Effects: what a module does while it is imported; it may make values, and nothing else."""

import ast
import re
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import NamedTuple, TypeAlias

from workbench.flatten.refusal import Refusal
from workbench.flatten.source import (
    Assignment,
    Definition,
    ImportNode,
    Module,
    is_guard,
    list_imported,
    run_on_import,
)

# What may be called while a module is imported: it makes a value and does nothing else.
HARMLESS_CALLS = re.compile(
    r"typing\.(TypeVar|ParamSpec|NewType|NamedTuple|cast)|collections\.namedtuple|math\.\w+"
    r"|dataclasses\.field|re\.compile|pathlib\.(Path|PurePosixPath)"
    r"|bool|bytes|dict|float|frozenset|int|len|list|range|set|str|tuple|\w+Error"
)
# What may decorate: it keeps or wraps a function or class, and at most enters it in a table.
HARMLESS_DECORATORS = re.compile(
    r"property|staticmethod|classmethod|\w+\.(setter|deleter)|dataclasses\.dataclass"
    r"|functools\.\w+|abc\.abstractmethod|contextlib\.contextmanager"
    r"|typing\.(final|overload|override)|keras\.saving\.register_keras_serializable"
)
# What an own class that is called may inherit from, but for own classes.
HARMLESS_BASES = re.compile(r"object|typing\.(Generic|NamedTuple|Protocol)|Exception|\w+Error")
# Methods of texts, tables and rows; a file has none of these names, but for Path.replace.
HARMLESS_METHODS = {"_replace", "_asdict"}.union(*map(dir, (str, bytes, tuple, list, dict, set)))
HARMLESS_METHODS -= {"sort"}  # it calls its key

Definitions: TypeAlias = Mapping[str, tuple[Module, Definition]]


class Use(NamedTuple):
    """One call, decorator or base."""

    verb: str
    harmless: re.Pattern[str]
    node: ast.expr


class Effect(NamedTuple):
    """Something that does more than make a value, and how it comes to that."""

    line: int
    words: str  # "calls load"
    trail: str = ""  # ", and src/podium/a.py:5 calls open"


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
    """Refuses what does more than make a value at import time, in own functions called then too.

    A decorator is a call; what makes a default or stands in a class's body runs at once.
    """
    own = {
        node.name: (module, node)
        for module in modules
        for node in module.statements
        if isinstance(node, Definition)
    }
    for module in modules:
        if module.name == "runtime":
            continue
        made = [node for node in module.statements if isinstance(node, Assignment | Definition)]
        for line, words, trail in find_effects(module, made, own):
            reason = f"{words} when imported{trail}; do so inside a function"
            yield module.refuse(line, reason)


def find_effects(
    module: Module, nodes: Iterable[ast.AST], own: Definitions, inside: tuple[str, ...] = ()
) -> Iterator[Effect]:
    """Yields all that does more than make a value when the nodes run.

    Own functions and classes are followed into; inside are those on the way here.
    """
    parts = [part for node in nodes for part in run_on_import(node)]
    defined = [part for part in parts if isinstance(part, Definition)]
    decorators = [one for part in defined for one in part.decorator_list]
    for part in parts:
        if part in decorators:
            use = Use("decorates with", HARMLESS_DECORATORS, part)
            yield from follow(module, use, own, inside)
        elif isinstance(part, ast.Call):
            yield from follow(module, Use("calls", HARMLESS_CALLS, part), own, inside)
        elif isinstance(part, ast.Global):
            yield Effect(part.lineno, f"changes {', '.join(part.names)}")
        elif isinstance(part, ImportNode) and inside:
            yield Effect(part.lineno, f"imports {list_imported(part)[0].module}")
        elif isinstance(part, ast.Attribute | ast.Subscript) and changes_library(module, part):
            yield Effect(part.lineno, f"changes {ast.unparse(part)}")


def follow(module: Module, use: Use, own: Definitions, inside: tuple[str, ...]) -> Iterator[Effect]:
    """Yields the use if it is not known to be harmless; of what it comes to, the first effect."""
    name = name_called(use.node)
    if name not in own:
        if not use.harmless.fullmatch(module.resolve(name)) and not is_harmless_method(module, use):
            yield Effect(use.node.lineno, f"{use.verb} {name}")
    elif name not in inside:
        where, node = own[name]
        bases = node.bases if isinstance(node, ast.ClassDef) else []
        uses = [Use("inherits from", HARMLESS_BASES, base) for base in bases]
        found = [effect for one in uses for effect in follow(where, one, own, (*inside, name))]
        found += find_effects(where, list_body(node), own, (*inside, name))
        for line, words, trail in found[:1]:
            way = f", and {where.file}:{line} {words}{trail}"
            yield Effect(use.node.lineno, f"{use.verb} {name}", way)


def list_body(node: Definition) -> list[ast.stmt]:
    """What may run when a function or class is called: of a class, every method like __init__."""
    if not isinstance(node, ast.ClassDef):
        return node.body
    methods = [one for one in node.body if isinstance(one, ast.FunctionDef)]
    return [line for one in methods if one.name.startswith("__") for line in one.body]


def is_harmless_method(module: Module, use: Use) -> bool:
    """Is it a call like `line.split()`, and not one like `os.remove()`?"""
    called = use.node.func if isinstance(use.node, ast.Call) else use.node
    method = isinstance(called, ast.Attribute) and called.attr in HARMLESS_METHODS
    return method and find_root(called) not in module.things


def changes_library(module: Module, part: ast.Attribute | ast.Subscript) -> bool:
    """Does it set or delete something of a library, like `os.environ["x"] = "1"`?"""
    return not isinstance(part.ctx, ast.Load) and find_root(part) in module.things


def find_root(node: ast.AST) -> str:
    """The name at the start of `name.x[0].y()`, or nothing."""
    while isinstance(node, ast.Attribute | ast.Subscript | ast.Call):
        node = node.func if isinstance(node, ast.Call) else node.value
    return node.id if isinstance(node, ast.Name) else ""


def name_called(node: ast.expr) -> str:
    """What a call, a decorator or a base names: `dict[str, int]()` calls dict."""
    called = node.func if isinstance(node, ast.Call) else node
    return ast.unparse(called.value if isinstance(called, ast.Subscript) else called)
