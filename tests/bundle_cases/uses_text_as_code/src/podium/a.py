"""A: the first."""

import builtins
from ast import literal_eval


class Model:
    def eval(self) -> "Model":
        return self


def fine(model: Model) -> object:
    """Sees its own names."""
    return literal_eval("[1]"), model.eval(), locals(), vars(), vars(model), dir(model)


def early(text: str) -> object:
    exec(text)
    builtins.exec(text)
    return eval(text)
