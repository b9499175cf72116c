"""Podium: trains an image classifier on a Kaggle competition and leaves a submission.

    python podium.py --help
    python podium.py --preset dry-run --data.folder my-competition

Edit SETTINGS below, or give settings on the command line. build_kernel.py built this script from
src/podium: any other edit belongs there, and is lost here with the next build.

competition → pixels → folds → augment → backbones → model → train → predict → submit → report

      17  Settings: the block to edit on Kaggle.
      27  Main: the stages in order.

Sources: sha256 411966da2498e6de97a2466dad898ca02186949cc0da9aefa9e0b5bf2a0f88ea
"""

# ==================================================================================================
# Settings: the block to edit on Kaggle.
# ==================================================================================================

SETTINGS: dict[str, object] = {}

# The sources
SOURCE = "411966da2498e6de97a2466dad898ca02186949cc0da9aefa9e0b5bf2a0f88ea"


# ==================================================================================================
# Main: the stages in order.
# ==================================================================================================


def run() -> None:
    """Prints the settings."""
    print(len(SETTINGS), "settings")


if __name__ == "__main__":
    run()
