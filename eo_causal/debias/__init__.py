"""From shrunken map predictions to unbiased averages: calibration, Tweedie, labels in the trial."""
