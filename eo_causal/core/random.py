"""One seed for a run; named child generators for everything random in it."""

import hashlib

import numpy as np


def generator(seed: int, *names: str | int) -> np.random.Generator:
    """A generator that depends on the seed and the names only, never on order or worker.

    Parameters
    ----------
    seed : int
        Seed of the run.
    *names : str or int
        What the numbers are for, for example ``"placebo_in_time", 60``.
    """
    words = hashlib.sha256("\x1f".join(map(str, names)).encode()).digest()[:16]
    key = [int.from_bytes(words[i : i + 4], "big") for i in range(0, 16, 4)]
    return np.random.default_rng(np.random.SeedSequence(entropy=seed, spawn_key=key))
