"""Flattens src/podium into kernel/podium.py: tested modules in, one readable script out.

Nothing is renamed and no code is rewritten. Sections are slices of the modules; only imports move,
because libraries may be loaded only after the runtime section has chosen Keras's backend.
What cannot be flattened without a change of meaning is refused with file, line, reason and remedy.
"""

import argparse
import ast
import builtins
import hashlib
import inspect
import io
import re
import sys
import tokenize
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise, takewhile, zip_longest
from pathlib import Path
from typing import NamedTuple, TypeAlias

ROOT = Path(__file__).resolve().parent

# The order of the sections, the direction of the data, and the layer rule: a module imports only
# from modules before it.
PREAMBLE = (
    "settings",
    "config",
    "override",
    "runtime",
)  # standard library only: Keras is not loaded yet
ORDER = (
    *PREAMBLE,
    *(
        "storage",
        "events",
        "predictions",
        "metrics",
    ),  # what the stages say, exchange and are judged by
    *("competition", "folds", "pixels", "augment"),  # what the model sees
    *("backbones", "model", "schedule", "train"),  # how it learns
    *("predict", "submit", "summary", "report", "main"),  # what it answers
)

TITLE = """\
Podium: trains an image classifier on a Kaggle competition and leaves a submission.

    python podium.py --help
    python podium.py --preset dry-run --data.folder my-competition

Edit SETTINGS below, or give settings on the command line. build_kernel.py built this script from
src/podium: any other edit belongs there, and is lost here with the next build.

competition → folds → pixels → augment → backbones → model → train → predict → submit → report

{contents}

Sources: sha256 {digest}"""

LIBRARIES = (
    "Libraries",
    "Imported only now: Keras reads its backend once, when it is imported, and Runtime chose it.",
)

SIZE_LIMIT = 900_000  # bytes; Kaggle refuses sources of 1 MB
WIDTH = 100  # columns, as in pyproject.toml
RULE = "# " + "=" * (WIDTH - 2)

# Libraries by import name, and which of Kaggle's images hold them.
BOTH_IMAGES, GPU_IMAGE = ("GPU", "TPU"), ("GPU",)
KAGGLE_IMAGE: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(("albumentations", "cv2", "h5py", "jax", "keras", "kagglehub"), BOTH_IMAGES),
    **dict.fromkeys(("matplotlib", "numpy", "pandas", "PIL", "requests", "scipy"), BOTH_IMAGES),
    **dict.fromkeys(("sklearn", "tensorflow", "tensorflow_hub", "tf_keras", "tqdm"), BOTH_IMAGES),
    **dict.fromkeys(("catboost", "kornia", "lightgbm", "optuna", "statsmodels"), GPU_IMAGE),
    **dict.fromkeys(("torchmetrics", "wandb", "xgboost"), GPU_IMAGE),
}

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

# What may be called while a module is imported: it makes a value and does nothing else.
HARMLESS_CALLS = re.compile(
    r"(typing\.)?(TypeVar|ParamSpec|NewType|NamedTuple)|(collections\.)?namedtuple|math\.\w+"
    r"|(dataclasses\.)?field|re\.compile|(pathlib\.)?(Path|PurePosixPath)"
    r"|bool|bytes|dict|float|frozenset|int|list|range|set|str|tuple"
)

SECRETS = {
    "a Discord webhook": r"discord(app)?\.com/api/(v\d+/)?webhooks/\d+/[\w-]{20,}",
    "a Slack webhook": r"hooks\.slack\.com/(services|workflows|triggers)/[A-Z0-9]{6,}",
    "a Telegram bot token": r"(?<!\d)\d{8,10}:[\w-]{35}(?![\w-])",
    "a Kaggle token": r"\bKGAT_\w{16,}",
    "a Kaggle key": r"""(?i)(key|token)\w*["']?\]?\s*[:=][^"'#]*["'][0-9a-f]{32}["']""",
    "a GitHub token": r"\b(gh[oprsu]_[A-Za-z0-9]{30,}|github_pat_\w{20,})",
    "a Hugging Face token": r"\bhf_[A-Za-z0-9]{30,}",
    "an AWS key": r"\b(AKIA|ASIA)[0-9A-Z]{16}\b",
    "a webhook's signing secret": r"\bwhsec_[\w+/=-]{16,}",
}


class Refusal(NamedTuple):
    """One thing that cannot be flattened: where, why, and the way out."""

    file: str  # from the project's root, "src/podium/train.py"
    line: int
    reason: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.reason}"


class BuildError(ValueError):
    """The modules cannot be flattened; the message has one line for each refusal."""

    def __init__(self, refusals: Sequence[Refusal]) -> None:
        super().__init__("\n".join(map(str, refusals)))
        self.refusals = tuple(refusals)


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


ImportNode: TypeAlias = ast.Import | ast.ImportFrom
Assignment: TypeAlias = ast.Assign | ast.AnnAssign | ast.AugAssign
Definition: TypeAlias = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef
Function: TypeAlias = ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda


@dataclass(frozen=True)
class Module:
    """One parsed source file."""

    package: str  # "podium"
    name: str  # "train"
    file: str  # "src/podium/train.py"
    text: str  # with \n line ends
    tree: ast.Module

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

    @property
    def names(self) -> dict[str, int]:
        """The names it defines for the whole script, with their lines."""
        found: dict[str, int] = {}
        for node in self.statements:
            if isinstance(node, Definition):
                found.setdefault(node.name, node.lineno)
            elif not isinstance(node, ImportNode) and not is_guard(node):
                for name in list_assigned(node):
                    found.setdefault(name.id, name.lineno)
        for inner in ast.walk(self.tree):
            if isinstance(inner, ast.Global):
                found = dict.fromkeys(inner.names, inner.lineno) | found
        return found

    def refuse(self, line: int, reason: str) -> Refusal:
        """A refusal in this file."""
        return Refusal(self.file, line, reason)


class Place(NamedTuple):
    """Where a script line comes from; no line number where the builder wrote it."""

    file: str
    line: int | None = None

    def __str__(self) -> str:
        return self.file if self.line is None else f"{self.file}:{self.line}"


class Line(NamedTuple):
    """One line of the script."""

    text: str
    place: Place


TITLE_PLACE = Place("build_kernel.py (title)")
IMPORTS_PLACE = Place("build_kernel.py (imports)")
EMPTY = Line("", Place("build_kernel.py (between sections)"))


@dataclass(frozen=True)
class Script:
    """The built script: its text, the place of every line, and its sections' first lines."""

    text: str
    places: tuple[Place, ...]
    sections: tuple[tuple[int, str], ...]  # first line and heading


def build_script(
    package: Path,
    order: Sequence[str] = ORDER,
    preamble: Sequence[str] = PREAMBLE,
    size_limit: int = SIZE_LIMIT,
) -> Script:
    """Flattens the package's modules into one script; raises BuildError with every refusal."""
    modules, refusals = read_modules(package, order)
    refusals += [refusal for module in modules for refusal in check_module(module, preamble)]
    refusals += check_layers(modules, order)
    refusals += check_names(modules)
    refusals += check_calls(modules)
    if refusals:
        ranks = {name: rank for rank, name in enumerate(order)}
        ordered = sorted(set(refusals), key=lambda one: (ranks.get(Path(one.file).stem, 99), one))
        raise BuildError(ordered)
    script = lay_out(modules, preamble)
    check_script(script, size_limit)
    return script


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


def check_module(module: Module, preamble: Sequence[str]) -> Iterator[Refusal]:
    """Refuses what can be seen in one module alone."""
    yield from check_docstring(module)
    yield from check_lines(module)
    yield from check_imports(module, preamble)
    yield from check_comments(module)
    yield from check_statements(module)
    guard = {id(node) for top in module.statements if is_guard(top) for node in ast.walk(top)}
    for node in ast.walk(module.tree):
        if not isinstance(node, ast.Name) or id(node) in guard:
            continue
        if node.id in UNFLATTENABLE and (module.name, node.id) != ("runtime", "__name__"):
            yield module.refuse(node.lineno, f"uses {node.id}, {UNFLATTENABLE[node.id]}")


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


def check_lines(module: Module) -> Iterator[Refusal]:
    """Refuses secrets in code, text and comments, and a settings module that cannot be stamped."""
    for number, line in enumerate(module.lines, 1):
        for what, pattern in SECRETS.items():
            if re.search(pattern, line):
                yield module.refuse(
                    number,
                    f"holds what looks like {what}, and the script is public; "
                    "revoke it and read it from the environment",
                )
    if module.name == "settings" and not any(map(is_stamp, module.lines)):
        yield module.refuse(1, 'does not say where the script comes from; add SOURCE = "modules"')


def check_imports(module: Module, preamble: Sequence[str]) -> Iterator[Refusal]:
    """Refuses imports that cannot be hoisted, and libraries that Kaggle lacks."""
    top = {id(node) for node in module.imports}
    delayed = {
        id(inner)
        for outer in ast.walk(module.tree)
        if isinstance(outer, Function)
        for inner in ast.walk(outer)
    }
    for node in ast.walk(module.tree):
        if isinstance(node, ImportNode):
            for one in list_imported(node):
                reason = (
                    refuse_own(module, one, id(node) in top)
                    if one.root in ("", module.package)
                    else refuse_outside(module, one, id(node) in top, id(node) in delayed)
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
            "use a library that KAGGLE_IMAGE in build_kernel.py lists for both"
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


def check_calls(modules: Sequence[Module]) -> Iterator[Refusal]:
    """Refuses calls at import time, but for those that only make a value and own functions."""
    own = {name for module in modules for name in module.names}
    for module in modules:
        assigned = [node for node in module.statements if isinstance(node, Assignment)]
        for node in assigned if module.name != "runtime" else ():
            for call in run_on_import(node):
                if isinstance(call, ast.Call):
                    bare = call.func.value if isinstance(call.func, ast.Subscript) else call.func
                    name = ast.unparse(bare)
                    if name not in own and not HARMLESS_CALLS.fullmatch(name):
                        yield module.refuse(
                            call.lineno, f"calls {name} when imported; call it inside a function"
                        )


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


def check_script(script: Script, size_limit: int) -> None:
    """Raises BuildError if the script is too large for Kaggle or is not Python as a whole."""
    size = len(script.text.encode())
    if size > size_limit:
        reason = f"has {size:,} bytes, over the limit of {size_limit:,}; Kaggle takes 1 MB at most"
        raise BuildError([Refusal("kernel/podium.py", 1, f"{reason}, so move data to a data set")])
    try:
        compile(script.text, "kernel/podium.py", "exec", dont_inherit=True)
    except SyntaxError as error:
        place = script.places[(error.lineno or 1) - 1]
        reason = f"is not Python in the script ({error.msg}); mend this line"
        raise BuildError([Refusal(place.file, place.line or 1, reason)]) from None


def lay_out(modules: Sequence[Module], preamble: Sequence[str]) -> Script:
    """Puts title, settings, imports and sections one below the other."""
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
    return join_sections(sections, digest)


def join_sections(sections: Sequence[tuple[str, list[Line]]], digest: str) -> Script:
    """Counts the lines, writes the title with its contents, and joins everything."""
    headings = [heading for heading, _ in sections if heading]
    title = len(write_title([(0, heading) for heading in headings], digest))
    starts, body = list[tuple[int, str]](), list[Line]()
    for heading, lines in sections:
        after_section = body and body[-1].place != IMPORTS_PLACE  # isort wants one line, not two
        body += [EMPTY] * (2 if after_section else 1) + lines
        if heading:
            starts.append((title + 1 + len(body) - len(lines), heading))
    lines = write_title(starts, digest) + body
    text = "\n".join(line.text for line in lines) + "\n"
    return Script(text, tuple(line.place for line in lines), tuple(starts))


def write_title(starts: Iterable[tuple[int, str]], digest: str) -> list[Line]:
    """The script's docstring: what it is, where its sections begin, which sources it is made of."""
    contents = "\n".join(contents_line(line, heading) for line, heading in starts)
    text = f'"""{TITLE.format(contents=contents, digest=digest)}\n"""'
    return [Line(line, TITLE_PLACE) for line in text.split("\n")]


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


def is_stamp(line: str) -> bool:
    """Is it the settings line that the builder fills in?"""
    return line.startswith('SOURCE = "modules"')


def stamp_line(line: Line, digest: str) -> list[Line]:
    """Fills in SOURCE; its comment goes above it, because the hash takes the room beside it."""
    if not is_stamp(line.text):
        return [line]
    comment = line.text.partition("#")[2]
    stamp = line._replace(text=f'SOURCE = "{digest}"')
    return [line._replace(text=f"#{comment}"), stamp] if comment else [stamp]


def digest_sources(modules: Sequence[Module]) -> str:
    """The sha256 over names and texts of the modules, in order."""
    digest = hashlib.sha256()
    for module in modules:
        text = module.text.encode()
        digest.update(f"{module.name} {len(text)}\n".encode() + text)
    return digest.hexdigest()


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


def list_imported(node: ImportNode) -> list[Import]:
    """The names that one import statement binds."""
    if isinstance(node, ast.Import):
        return [Import(alias.name, None, alias.asname, node.lineno) for alias in node.names]
    module = "." * node.level + (node.module or "")
    return [Import(module, alias.name, alias.asname, node.lineno) for alias in node.names]


def run_on_import(node: ast.AST) -> Iterator[ast.AST]:
    """The parts of a statement that run with it: all but the bodies of lambdas."""
    yield node
    for child in ast.iter_child_nodes(node):
        if not isinstance(child, ast.Lambda):
            yield from run_on_import(child)


def list_assigned(node: ast.stmt) -> list[ast.Name]:
    """The names that a statement assigns; those of a comprehension stay inside it."""
    parts = list(run_on_import(node))
    loops = [part.target for part in parts if isinstance(part, ast.comprehension)]
    inside = {id(name) for target in loops for name in ast.walk(target)}
    names = [part for part in parts if isinstance(part, ast.Name) and id(part) not in inside]
    return [name for name in names if isinstance(name.ctx, ast.Store)]


def is_guard(node: ast.stmt) -> bool:
    """Is it `if __name__ == "__main__":`?"""
    return isinstance(node, ast.If) and ast.unparse(node.test) == "__name__ == '__main__'"


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


def find_difference(script: Script, path: Path) -> str | None:
    """Says where the file on disk differs from the script, or None if it does not.

    Every change changes the hash and many the contents, so the first other difference is named.
    """
    if not path.is_file():
        return "kernel/podium.py is missing; run `make build`"
    present = path.read_bytes()
    if present == script.text.encode():
        return None
    old, new = (
        re.sub("[0-9a-f]{64}", "", text).split("\n")
        for text in (present.decode(errors="replace"), script.text)
    )
    pairs = enumerate(zip_longest(old, new), 1)
    differing = [number for number, (one, other) in pairs if one != other]
    title = script.places.count(TITLE_PLACE)
    number = min(differing, key=lambda number: (number <= title, number), default=title)
    place = script.places[number - 1] if number <= len(script.places) else "in the modules"
    return f"kernel/podium.py is stale: line {number} is not {place}; run `make build`"


def write_script(script: Script, path: Path) -> str:
    """Writes the script, whole or not at all, and describes it in one line."""
    path.parent.mkdir(exist_ok=True)
    half = path.with_suffix(".half")
    half.write_bytes(script.text.encode())
    half.replace(path)
    size = len(script.text.encode())
    return (
        f"kernel/podium.py: {len(script.places):,} lines, {size:,} of {SIZE_LIMIT:,} bytes, "
        f"{len(script.sections)} sections"
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Builds, checks or maps the script; returns the exit code."""
    parser = argparse.ArgumentParser(
        description="Flattens src/podium into kernel/podium.py, the one script Kaggle runs.",
        epilog="Without an option it builds. Edit the modules, build, commit both.",
    )
    either = parser.add_mutually_exclusive_group()
    either.add_argument(
        "--check", action="store_true", help="exit 1 if the script is not what the modules say"
    )
    either.add_argument(
        "--map", nargs="+", type=int, metavar="LINE", help="name the source of these script lines"
    )
    parser.add_argument(
        "--root", type=Path, default=ROOT, metavar="FOLDER", help="the checkout (default: this one)"
    )
    given = parser.parse_args(argv)
    path = given.root / "kernel" / "podium.py"
    try:
        script = build_script(given.root / "src" / "podium")
    except BuildError as error:
        print(error, file=sys.stderr)
        return 1
    if not given.check and not given.map:
        print(write_script(script, path))
        return 0
    stale = find_difference(script, path)
    if stale:
        print(stale, file=sys.stderr)
    for line in given.map or ():
        if not 0 < line <= len(script.places):
            parser.error(f"podium.py has lines 1 to {len(script.places)}, not {line}")
        print(f"podium.py:{line} is {script.places[line - 1]}")
    return int(bool(stale) and given.check)


if __name__ == "__main__":
    sys.exit(main())
