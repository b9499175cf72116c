"""The static report: the live page of some runs as one HTML file, to keep and to send.

It is the same page. Its modules cannot be imported from a file, so they are joined to one script;
what the dashboard would have answered stands in the file as JSON, and nothing is fetched.
"""

import base64
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from workbench.dashboard import uplot

PAGE = Path(__file__).parent / "page"
# The order of the modules in the script: each imports only from those before it.
ORDER = (
    *("words", "dom", "api", "colours", "axes", "curves", "lines", "marks", "charts", "card"),
    *("choices", "stop", "decisions", "details", "differences"),
    *("runs", "compare", "run", "health", "app"),
)
IMPORT = re.compile(
    r'^import \{ (?P<names>[^}]*) \} from "\./(?P<module>\w+)\.js";\n', re.MULTILINE
)
KINDS = r"(?:async )?(?:function|class|const|let)"
EXPORT = re.compile(rf"^export (?={KINDS} )", re.MULTILINE)
DEFINED = re.compile(rf"^{KINDS} (\w+|[\[{{][^\]}}]*[\]}}])", re.MULTILINE)
BODY = re.compile(r"<body>\n(.*)</body>", re.DOTALL)


class BundleError(Exception):
    """The page's modules cannot be joined; the text names module and reason."""


def render(data: Mapping[str, Any]) -> str:
    """The page of these runs as HTML; the data are those that the page's api.js names.

    Raises UplotError where the chart library is not here and cannot be fetched.
    """
    library = uplot.find()
    styles = [read(library[uplot.STYLE]), read(PAGE / "style.css")]
    scripts = [read(library[uplot.SCRIPT]), bundle(PAGE)]
    policy = (
        f"default-src 'none'; img-src data:; style-src {list_hashes(styles)}; "
        f"script-src {list_hashes(scripts)}; base-uri 'none'; form-action 'none'"
    )
    body = BODY.search((PAGE / "index.html").read_text(encoding="utf-8"))
    if body is None:
        raise BundleError("index.html has no body")
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n<title>Podium</title>\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"{''.join(f'<style>{one}</style>' for one in styles)}\n</head>\n<body>\n{body[1]}"
        f'<script type="application/json" id="data">{dump(data)}</script>\n'
        f"{''.join(f'<script>{one}</script>' for one in scripts)}\n</body>\n</html>\n"
    )


def dump(data: Mapping[str, Any]) -> str:
    """JSON that ends no element, whatever names the runs have."""
    return json.dumps(data, allow_nan=False).replace("<", "\\u003c")


def bundle(folder: Path, order: Sequence[str] = ORDER) -> str:
    """Joins modules to one script; raises BundleError for what cannot be joined.

    Nothing is renamed: imports go, exports lose the word, so top-level names must be unique, and a
    module may import only from those before it.
    """
    defined, parts = dict[str, str](), list[str]()
    for place, module in enumerate(order):
        text = read(folder / f"{module}.js")
        for found in IMPORT.finditer(text):
            check_import(module, found["module"], found["names"], defined, order[:place])
        text = EXPORT.sub("", IMPORT.sub("", text))
        if re.search(r"^(import|export)\b", text, re.MULTILINE):
            raise BundleError(f"{module}.js: an import or export of a form that cannot be left out")
        for name in find_names(text):
            if name in defined:
                raise BundleError(f"{module}.js: {name} is a name of {defined[name]}.js already")
            defined[name] = module
        parts.append(text)
    return '(() => {\n"use strict";\n' + "\n".join(parts) + "})();\n"


def check_import(
    module: str, source: str, names: str, defined: Mapping[str, str], before: Sequence[str]
) -> None:
    """Raises BundleError unless the module imports what a module before it defines."""
    if source not in before:
        raise BundleError(f"{module}.js imports from {source}.js, which does not stand before it")
    for name in re.findall(r"\w+", names):
        if defined.get(name) != source:
            raise BundleError(f"{module}.js imports {name}, which {source}.js does not define")


def find_names(text: str) -> list[str]:
    """The top-level names that a module defines."""
    return [name for found in DEFINED.findall(text) for name in re.findall(r"\w+", found)]


def list_hashes(texts: Sequence[str]) -> str:
    """The hashes by which a Content-Security-Policy allows these inline texts."""
    digests = [hashlib.sha256(text.encode()).digest() for text in texts]
    return " ".join(f"'sha256-{base64.b64encode(one).decode()}'" for one in digests)


def read(path: Path) -> str:
    """A text to stand inside an element; raises BundleError if it would end it."""
    text = path.read_text(encoding="utf-8")
    if re.search("</(script|style)", text, re.IGNORECASE):
        raise BundleError(f"{path.name} holds the end of an element")
    return text
