"""Main: the stages in order."""

from podium.config import PATTERN, SIDES, dump


class Runner:
    """Runs."""

    def run(self) -> None:
        """Prints."""
        # type annotations, f-strings and odd   spacing survive
        print(f"{len(SIDES)=} {PATTERN.pattern!r:>8} {type(self).__name__} {len(dump()) > 9}")


if __name__ == "__main__":
    Runner().run()  # the end
