"""A: the first."""

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Fine:
    """A row."""

    names: list[str] = field(default_factory=lambda: list(open("x")))
    size: int = len("abc")

    def show(self) -> None:
        """Prints when it is called."""
        print(self)


class Wrong(open("base")):
    print("x")
    size = input()
    if size:
        exit()

    class Inner:
        fine = Fine()
        print("y")
