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
    "exec": "which sees and sets the names of all sections; write the code out",
    "eval": "which sees the names of all sections; write the code out",
    "sys.modules": "where the script has no modules of its own; import the name by a statement",
    "importlib.import_module": "which the script's imports do not show; import it by a statement",
    "importlib.reload": "which the script has no module for; call a function instead",
    "importlib.resources": "but the script travels without files; take the path from a setting",
    "pkgutil": "but the script is no package; name the modules by import statements",
    "runpy": "but the script travels without modules; call a function instead",
}
# Without an argument they list the names of a function, or else those of all sections.
LISTINGS = ("dir", "locals", "vars")


def check_unflattenable(module: Module) -> Iterator[Refusal]:
    """Refuses names whose meaning the script would change; only the guard asks for __name__."""
    guard = {id(node) for top in module.statements if is_guard(top) for node in ast.walk(top)}
    for node in module.nodes:
        if isinstance(node, ast.Name | ast.Attribute) and id(node) not in guard:
            name = module.resolve(ast.unparse(node)).removeprefix("builtins.")
            for one, reason in UNFLATTENABLE.items():
                own = (module.name, one) == ("runtime", "__name__")
                if f"{name}.".startswith(f"{one}.") and not own:
                    yield module.refuse(node.lineno, f"uses {one}, {reason}")
        elif isinstance(node, ast.Call) and not node.args and id(node) not in module.delayed:
            name = ast.unparse(node.func)
            if name in LISTINGS:
                reason = "outside a function lists the names of all sections; name them one by one"
                yield module.refuse(node.lineno, f"{name}() {reason}")


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
