"""B: the second."""


def default(size: int = (STATE := 2)) -> int:
    return (INSIDE := size)


class Derived((BASE := dict)):
    fine = (INSIDE := 3)

    def show(self, size: int = (INSIDE := 5)) -> None: ...


def annotated() -> (MARK := int): ...
