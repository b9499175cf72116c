"""The table of backbones, as `make backbones` prints it."""

import sys

from podium.backbones import BACKBONES, Backbone

HEAD = ("backbone", "family", "train px", "test px", "features", "params M", "input", "weights")


def main() -> int:
    """Prints one line for each row of the table."""
    print(format_table())
    return 0


def format_table() -> str:
    """The table as aligned text."""
    rows = [HEAD, *(list_cells(row) for row in BACKBONES.values())]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    aligned = (
        "  ".join(
            cell.rjust(width) if 2 <= place <= 5 else cell.ljust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    )
    return "\n".join(
        [
            *aligned,
            "",
            "input: what pixels are scaled to inside the model; a hub module's is measured when it",
            "is ported. hub:<folder> and addresses of kaggle.com/models and tfhub.dev do as well.",
        ]
    )


def list_cells(row: Backbone) -> tuple[str, ...]:
    """One row as text."""
    sizes = (str(row.train_size), str(row.image_size), str(row.features), f"{row.parameters:.1f}")
    scaling = "measured" if row.name.startswith("hub:") else row.scaling
    return (row.name, row.family, *sizes, scaling, row.weights or "none")


if __name__ == "__main__":
    sys.exit(main())
