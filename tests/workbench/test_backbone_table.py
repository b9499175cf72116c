from podium.backbones import BACKBONES
from workbench.backbone_table import format_table


def test_every_backbone_has_a_line_with_what_one_chooses_by():
    lines = format_table().splitlines()
    for row in BACKBONES.values():
        (line,) = [line for line in lines if line.split()[:1] == [row.name]]
        cells = line.split()
        assert cells[1:5] == [
            row.family,
            *(str(number) for number in (row.train_size, row.image_size, row.features)),
        ]
        assert cells[-1] == (row.weights or "none")
