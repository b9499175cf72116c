"""A: the first."""


def fine(model: object) -> list[dict[str, object]]:
    """Sees its own names."""
    return [locals(), vars(), vars(model), {"names": dir()}]
