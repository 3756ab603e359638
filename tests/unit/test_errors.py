"""Every error class keeps its facts and has the documented exit code."""

import pickle

import pytest

from eo_causal import errors

EXIT_CODES = {
    "EOCausalError": 1,
    "ConfigError": 2,
    "DesignError": 2,
    "DataError": 3,
    "ReadError": 3,
    "IntegrityError": 3,
    "GeorefError": 3,
    "UnitsError": 3,
    "TimeAxisError": 3,
    "CoverageError": 3,
    "TableError": 3,
    "SecurityError": 4,
    "UnsafeSourceError": 4,
    "UnsafeArtifactError": 4,
    "ResourceLimitError": 4,
    "CredentialError": 4,
    "FitError": 5,
    "OverlapError": 5,
    "ConvergenceError": 5,
    "DegenerateError": 5,
    "RegistrationError": 5,
    "LeakageError": 5,
    "StorageError": 6,
    "WorkerError": 7,
}


@pytest.mark.parametrize(("name", "code"), EXIT_CODES.items())
def test_exit_codes_and_facts(name, code):
    error = getattr(errors, name)("month 2019-05\n  is  missing", month="2019-05")
    assert error.exit_code == code
    assert error.facts == {"month": "2019-05"}
    assert error.message == "month 2019-05\nis missing"
    assert isinstance(error, errors.EOCausalError)


def test_every_class_is_listed_here():
    defined = {
        name
        for name, item in vars(errors).items()
        if isinstance(item, type) and issubclass(item, errors.EOCausalError)
    }
    assert defined == set(EXIT_CODES)


def test_data_errors_are_value_errors():
    assert issubclass(errors.CoverageError, ValueError)
    assert not issubclass(errors.ConfigError, ValueError)


def test_warnings_keep_their_code_across_processes():
    warning = pickle.loads(pickle.dumps(errors.EOCausalWarning("low light", code="UnitsWarning")))
    assert (str(warning), warning.code) == ("low light", "UnitsWarning")
