"""Podium: trains an image classifier on a Kaggle competition and leaves a submission.

    python podium.py --help
    python podium.py --preset dry-run --data.folder my-competition

Edit SETTINGS below, or give settings on the command line. build_kernel.py built this script from
src/podium: any other edit belongs there, and is lost here with the next build.

competition → pixels → folds → augment → backbones → model → train → predict → submit → report

      19  Settings: the block to edit on Kaggle.
      29  Notes: a section may be prose
      35  Remarks: a comment may come first.
      45  Main: the stages in order.

Sources: sha256 e9527200186457dd18a33e257cdb75cdf81de0a507312e23f1951d9d160c0bda
"""

# ==================================================================================================
# Settings: the block to edit on Kaggle.
# ==================================================================================================

SETTINGS: dict[str, object] = {}

# The sources
SOURCE = "e9527200186457dd18a33e257cdb75cdf81de0a507312e23f1951d9d160c0bda"


# ==================================================================================================
# Notes: a section may be prose
# ==================================================================================================
# and nothing else.


# ==================================================================================================
# Remarks: a comment may come first.
# ==================================================================================================


# Above a function.
def remark() -> None:
    """Remarks."""


# ==================================================================================================
# Main: the stages in order.
# ==================================================================================================

VALUES = {"twice": lambda value: print(value) or 2 * value}

if __name__ == "__main__":
    print(VALUES["twice"](2))
