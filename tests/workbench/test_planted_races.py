"""Races whose right verdict is known: bench/races.py plants it."""

import pytest

from bench.races import NOISES, PLANTS, is_right, race_alike, race_plant


@pytest.mark.parametrize("name", PLANTS)
def test_the_verdict_is_what_was_planted(name: str):
    question = race_plant(PLANTS[name], 100)
    assert is_right(PLANTS[name], question), question.answer


@pytest.mark.long
@pytest.mark.parametrize("name", PLANTS)
def test_the_verdict_is_what_was_planted_in_19_of_20_sets(name: str):
    assert sum(is_right(PLANTS[name], race_plant(PLANTS[name], seed)) for seed in range(20)) >= 19


@pytest.mark.long
@pytest.mark.parametrize("noise", NOISES)
def test_the_same_arm_trained_with_another_seed_is_no_better(noise: float):
    """In one of 20 races at most; 5 of 40 would have odds of one in twenty at that rate."""
    gains = [race_alike(seed, noise).options[1].gain for seed in range(40)]
    assert sum(gain is not None and gain.adopted for gain in gains) <= 4
