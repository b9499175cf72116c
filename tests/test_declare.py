from dataclasses import dataclass, fields

from podium.declare import setting


@dataclass(frozen=True)
class Section:
    speed: float = setting(1.5, "how fast", unit="m/s", low=0.0, high=9.0)


def test_a_setting_is_a_field_that_knows_its_meaning_unit_and_limits():
    (field,) = fields(Section)
    assert Section().speed == 1.5
    assert dict(field.metadata) == {"meaning": "how fast", "unit": "m/s", "low": 0.0, "high": 9.0}
