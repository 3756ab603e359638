"""``python -m eo_causal`` is the same as ``eo-causal``."""

from eo_causal.cli import main

main()
