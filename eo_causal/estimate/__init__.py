"""From study units and features to average effects: cross-fitting, propensities, estimators."""
