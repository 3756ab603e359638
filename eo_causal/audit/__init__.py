"""What speaks against an estimate: dates, leakage, hidden confounding, space, applicability."""
