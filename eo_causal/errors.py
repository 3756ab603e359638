"""Errors and warnings of the whole package, each with the exit code the command line ends with.

An error says what was wrong, the value and where it came from, and what to do. Facts are kept as
fields, so that callers never have to parse the sentence:

>>> error = CoverageError("zone 'reef' covers no valid cell. Move it.", zone="reef")
>>> error.facts["zone"], error.exit_code
('reef', 3)
"""

from typing import Any, ClassVar


class EOCausalError(Exception):
    """Base of every error the package raises on purpose.

    Parameters
    ----------
    message : str
        What was seen, what was expected, and the option or step that changes it; one line, or
        one line per mistake where there are several.
    **facts
        The values named in the message, kept for programs.
    """

    exit_code: ClassVar[int] = 1

    def __init__(self, message: str, **facts: Any) -> None:
        super().__init__("\n".join(" ".join(line.split()) for line in message.splitlines()))
        self.facts = facts

    @property
    def message(self) -> str:
        """The sentence without the class name."""
        return str(self.args[0])


class ConfigError(EOCausalError):
    """Unknown, missing, duplicate, badly typed or out-of-range setting; wrong file shape."""

    exit_code = 2


class DesignError(ConfigError):
    """The design block of a config contradicts itself."""


class DataError(EOCausalError, ValueError):
    """Base of everything that is wrong with input data."""

    exit_code = 3


class ReadError(DataError):
    """A file cannot be decoded, is truncated, unreachable, or of the wrong kind."""


class IntegrityError(DataError):
    """Size, checksum or ledger differ; unwritten blocks; missing chunk."""


class GeorefError(DataError):
    """CRS, transform, grid or footprint is missing or impossible."""


class UnitsError(DataError):
    """Units are absent or not the ones asked for."""


class TimeAxisError(DataError):
    """Duplicate, unordered, mixed-calendar or index-like time axis, or a gap over the event."""


class CoverageError(DataError):
    """An empty selection, too few valid pixels, or places off the raster."""


class TableError(DataError):
    """Ids, encodings, dates, missing or infinite values, treatment coding."""


class SecurityError(EOCausalError):
    """Base of refusals to open, run or allocate something unsafe."""

    exit_code = 4


class UnsafeSourceError(SecurityError):
    """A path or URL outside what the open policy allows."""


class UnsafeArtifactError(SecurityError):
    """A stored object that could run code, or does not match its description."""


class ResourceLimitError(SecurityError):
    """A declared size, depth or ratio beyond the limits."""


class CredentialError(SecurityError):
    """A remote source refused the credentials."""


class FitError(EOCausalError):
    """Base of estimation failures."""

    exit_code = 5


class OverlapError(FitError):
    """Treated and untreated units do not overlap."""


class ConvergenceError(FitError):
    """The sampler's draws must not be used."""


class DegenerateError(FitError):
    """Constant predictions, negative variances, scores beyond their support."""


class RegistrationError(FitError):
    """The design changed after it was frozen."""


class LeakageError(FitError):
    """Treatment in the covariates, places shared across folds, or imagery after treatment."""


class StorageError(EOCausalError):
    """Disk full, no permission, lock held, cache unreadable."""

    exit_code = 6


class WorkerError(EOCausalError):
    """A worker was lost too often, or a deadline passed."""

    exit_code = 7


class EOCausalWarning(UserWarning):
    """A warning with a stable code; collected in the report and in ``manifest.json``.

    Parameters
    ----------
    message : str
        One line, like an error's.
    code : str
        Stable name, for example ``"UnitsWarning"``.
    """

    def __init__(self, message: str, code: str) -> None:
        super().__init__(" ".join(message.split()))
        self.code = code

    def __reduce__(self) -> tuple[type["EOCausalWarning"], tuple[str, str]]:
        return type(self), (str(self.args[0]), self.code)
