"""Random numbers depend on the seed and the name only."""

from eo_causal.core.random import generator


def test_same_names_same_numbers():
    assert generator(1, "placebo", 60).random() == generator(1, "placebo", 60).random()


def test_other_seed_name_or_split_of_names_gives_other_numbers():
    numbers = {
        generator(1, "placebo", 60).random(),
        generator(2, "placebo", 60).random(),
        generator(1, "placebo", 6, 0).random(),
        generator(1, "placebo60").random(),
    }
    assert len(numbers) == 4
