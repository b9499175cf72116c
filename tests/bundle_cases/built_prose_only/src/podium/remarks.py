"""Remarks: a comment may come first."""


# Above a function.
def remark() -> None:
    """Remarks."""
