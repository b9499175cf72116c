"""Main: the stages in order."""

from podium.settings import SETTINGS


def run() -> None:
    """Prints the settings."""
    print(len(SETTINGS), "settings")


if __name__ == "__main__":
    run()
