"""Config: how comments and blank lines come through

Prose is printed in the script: α → ω, 2×T4.

    a table   keeps its columns
      and     its indent

The end.
"""

import json
import re

from podium.settings import SETTINGS

# A comment below the imports stays.
PATTERN = re.compile(r"\d+")  # so does one beside a line
TEXT = """
from podium import nothing
import this_is_text



three blank lines above
"""

import textwrap

WIDTH, HEIGHT = 3, 4
SIDES = [2 * side for side in (WIDTH, HEIGHT)]
SIDES += [5]


# A comment before a function.
def dump() -> str:
    """Imports late."""
    import tempfile  # only here

    # inside
    return json.dumps([tempfile.gettempdir() != "", textwrap.dedent(TEXT), SETTINGS])


# The last comment.
