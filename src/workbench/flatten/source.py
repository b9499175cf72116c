"""Source: the modules as read and parsed, and what they import and define."""

import ast
import inspect
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple, TypeAlias

from workbench.flatten.refusal import Refusal

ImportNode: TypeAlias = ast.Import | ast.ImportFrom
Assignment: TypeAlias = ast.Assign | ast.AnnAssign | ast.AugAssign
Definition: TypeAlias = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef
Function: TypeAlias = ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda


class Import(NamedTuple):
    """One name that an import statement binds."""

    module: str  # "numpy.typing"; "." before it where relative
    name: str | None  # "NDArray"; None for `import module`
    alias: str | None
    line: int

    @property
    def root(self) -> str:
        """The package that must be installed."""
        return self.module.partition(".")[0]

    @property
    def bound(self) -> str:
        """The name the importing module can use."""
        return self.alias or self.name or self.root

    @property
    def thing(self) -> str:
        """What that name stands for: `import os.path` binds os."""
        path = self.module if self.alias or self.name else self.root
        return f"{path}.{self.name}" if self.name else path

    def __str__(self) -> str:
        end = f" as {self.alias}" if self.alias else ""
        if self.name:
            return f"from {self.module} import {self.name}{end}"
        return f"import {self.module}{end}"


@dataclass(frozen=True)
class Module:
    """One parsed source file."""

    package: str  # "podium"
    name: str  # "train"
    file: str  # "src/podium/train.py"
    text: str  # with \n line ends
    tree: ast.Module

    @cached_property
    def nodes(self) -> list[ast.AST]:
        """All nodes of the tree, which many rules look at: walking it is most of a build's time."""
        return list(ast.walk(self.tree))

    @property
    def lines(self) -> list[str]:
        """The source lines as Python's parser counts them."""
        return self.text.split("\n")

    @property
    def docstring(self) -> list[str]:
        """Heading, then prose; empty if the file does not open with a docstring."""
        text = ast.get_docstring(self.tree, clean=False) or "\n"
        on_top = not text.startswith("\n") and self.tree.body[0].lineno == 1
        return inspect.cleandoc(text).split("\n") if on_top else []

    @property
    def statements(self) -> list[ast.stmt]:
        """The top-level statements below the docstring."""
        return self.tree.body[1:] if self.docstring else self.tree.body

    @property
    def imports(self) -> list[ImportNode]:
        """The top-level import statements, which are cut out of the body."""
        return [node for node in self.statements if isinstance(node, ImportNode)]

    @property
    def hoisted(self) -> list[Import]:
        """The names its top-level imports bring in from outside the package."""
        found = [one for node in self.imports for one in list_imported(node)]
        return [one for one in found if one.root not in ("", self.package)]

    @cached_property
    def names(self) -> dict[str, int]:
        """The names it defines for the whole script, with their lines."""
        found: dict[str, int] = {}
        for node in self.statements:
            if isinstance(node, Definition):
                found.setdefault(node.name, node.lineno)
            if not isinstance(node, ImportNode) and not is_guard(node):
                for name in list_assigned(node):
                    found.setdefault(name.id, name.lineno)
        for inner in self.nodes:
            if isinstance(inner, ast.Global):
                found = dict.fromkeys(inner.names, inner.lineno) | found
        return found

    @cached_property
    def things(self) -> dict[str, str]:
        """What each name that comes from outside the package stands for, wherever it is imported.

        `from os import path as p` gives {"p": "os.path"}.
        """
        nodes = [node for node in self.nodes if isinstance(node, ImportNode)]
        found = [one for node in nodes for one in list_imported(node)]
        return {one.bound: one.thing for one in found if one.root not in ("", self.package)}

    @cached_property
    def delayed(self) -> set[int]:
        """The ids of all nodes that stand in a function."""
        outer = [node for node in self.nodes if isinstance(node, Function)]
        return {id(inner) for node in outer for inner in ast.walk(node)}

    def resolve(self, name: str) -> str:
        """A dotted name in full: with the import above, p.sep is os.path.sep."""
        root, dot, rest = name.partition(".")
        return self.things.get(root, root) + dot + rest

    def refuse(self, line: int, reason: str) -> Refusal:
        """A refusal in this file."""
        return Refusal(self.file, line, reason)


def read_modules(package: Path, order: Sequence[str]) -> tuple[list[Module], list[Refusal]]:
    """Reads and parses the modules in order, and refuses what is missing on either side."""
    folder = f"{package.parent.name}/{package.name}"
    modules, refusals = [], []
    for name in order:
        file = f"{folder}/{name}.py"
        try:
            text = (package / f"{name}.py").read_bytes().decode()
            text = text.replace("\r\n", "\n").replace("\r", "\n")
            modules.append(Module(package.name, name, file, text, ast.parse(text)))
        except FileNotFoundError:
            reason = "is in ORDER but not on disk; write it, or take it out of ORDER"
            refusals.append(Refusal(file, 1, reason))
        except (SyntaxError, ValueError) as error:
            line, reason = getattr(error, "lineno", None) or 1, getattr(error, "msg", str(error))
            refusals.append(Refusal(file, line, f"is not Python ({reason}); mend this line"))
    for path in sorted(path.relative_to(package) for path in package.rglob("*.py")):
        if path.as_posix().removesuffix(".py") not in (*order, "__init__"):
            reason = "is not in ORDER in build_kernel.py; give it its place there"
            refusals.append(Refusal(f"{folder}/{path.as_posix()}", 1, reason))
    return modules, refusals


def list_imported(node: ImportNode) -> list[Import]:
    """The names that one import statement binds."""
    if isinstance(node, ast.Import):
        return [Import(alias.name, None, alias.asname, node.lineno) for alias in node.names]
    module = "." * node.level + (node.module or "")
    return [Import(module, alias.name, alias.asname, node.lineno) for alias in node.names]


def run_on_import(node: ast.AST) -> Iterator[ast.AST]:
    """The parts of a statement that run with it: all but the bodies of functions and lambdas.

    Inner parts come before what they are parts of, as they run.
    """
    body = node.body if isinstance(node, Function) else []
    later = body if isinstance(body, list) else [body]
    for child in ast.iter_child_nodes(node):
        if child not in later:
            yield from run_on_import(child)
    yield node


def list_assigned(node: ast.stmt) -> list[ast.Name]:
    """The names that a statement assigns around it: `def f(y=(x := 2))` assigns x.

    Those of a class's body and of a comprehension stay inside.
    """
    body = node.body if isinstance(node, Definition) else []
    outside = [child for child in ast.iter_child_nodes(node) if child not in body]
    parts = [part for child in outside for part in run_on_import(child)]
    loops = [part.target for part in parts if isinstance(part, ast.comprehension)]
    inside = {id(name) for target in loops for name in ast.walk(target)}
    names = [part for part in parts if isinstance(part, ast.Name) and id(part) not in inside]
    return [name for name in names if isinstance(name.ctx, ast.Store)]


def is_guard(node: ast.stmt) -> bool:
    """Is it `if __name__ == "__main__":`?"""
    return isinstance(node, ast.If) and ast.unparse(node.test) == "__name__ == '__main__'"
