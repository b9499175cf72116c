"""Podium: trains an image classifier on a Kaggle competition and leaves a submission.

    python podium.py --help
    python podium.py --preset dry-run --data.folder my-competition

Edit SETTINGS below, or give settings on the command line. build_kernel.py built this script from
src/podium: any other edit belongs there, and is lost here with the next build.

competition → pixels → folds → augment → backbones → model → train → predict → submit → report

      18  Settings: the block to edit on Kaggle.
      32  Config: how comments and blank lines come through
      70  Main: the stages in order.

Sources: sha256 5bb519498535fdb198041baaea49db47eb8824318d77cc5cc681510d514fc26b
"""

# ==================================================================================================
# Settings: the block to edit on Kaggle.
# ==================================================================================================

SETTINGS: dict[str, object] = {}

# The sources
SOURCE = "5bb519498535fdb198041baaea49db47eb8824318d77cc5cc681510d514fc26b"


import json
import re
import textwrap

# ==================================================================================================
# Config: how comments and blank lines come through
# ==================================================================================================
# Prose is printed in the script: α → ω, 2×T4.
#
#     a table   keeps its columns
#       and     its indent
#
# The end.

# A comment below the imports stays.
PATTERN = re.compile(r"\d+")  # so does one beside a line
TEXT = """
from podium import nothing
import this_is_text



three blank lines above
"""

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


# ==================================================================================================
# Main: the stages in order.
# ==================================================================================================


class Runner:
    """Runs."""

    def run(self) -> None:
        """Prints."""
        # type annotations, f-strings and odd   spacing survive
        print(f"{len(SIDES)=} {PATTERN.pattern!r:>8} {type(self).__name__} {len(dump()) > 9}")


if __name__ == "__main__":
    Runner().run()  # the end
