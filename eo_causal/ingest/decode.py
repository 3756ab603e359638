"""From raw numbers to values: one mask rule, float32 before any arithmetic, then scale and offset."""

import functools
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eo_causal.errors import ReadError

HUGE = 1e30


def decode(
    raw: NDArray[Any], attrs: dict[str, Any], source: str = "", *, reuse: bool = False
) -> NDArray[np.float32]:
    """The one mask rule, then float32, then scale and offset; ``reuse`` may overwrite ``raw``.

    Raises
    ------
    ReadError
        An attribute that decoding needs is no number; ``source`` says whose.
    """
    scale, offset = _numbers(attrs, "scale_factor", source), _numbers(attrs, "add_offset", source)
    usable = np.isfinite([*scale, *offset]).all() and all(scale != 0)
    if len(scale) > 1 or len(offset) > 1 or not usable:
        raise ReadError(
            f"{source}: scale_factor {scale.tolist()} and add_offset {offset.tolist()} cannot decode"
            " anything. Correct the attributes.", source=source,
        )  # fmt: skip
    if raw.dtype == np.float32 and not len(scale) and not len(offset):
        return _masked_floats(raw, attrs, source, reuse=reuse)
    valid = valid_mask(raw, attrs, source)
    values = np.where(valid, raw, 0).astype(np.float32)
    with np.errstate(over="ignore", invalid="ignore"):
        if len(scale):
            values = values * np.float32(scale[0])
        if len(offset):
            values = values + np.float32(offset[0])
    return np.where(valid & np.isfinite(values), values, np.float32(np.nan))


def valid_mask(raw: NDArray[Any], attrs: dict[str, Any], source: str = "") -> NDArray[np.bool_]:
    """True where a raw value is usable: not fill, finite, below 1e30, inside the valid range."""
    fills, low, high = _limits(attrs, source)
    valid = np.ones(raw.shape, dtype=bool)
    for fill in fills:
        valid &= raw != _comparable(fill, raw.dtype)
    if raw.dtype.kind == "f":
        valid &= np.isfinite(raw)
        valid &= np.abs(np.where(valid, raw, 0)) <= HUGE
    for limit in low:
        valid &= raw >= _comparable(limit, raw.dtype)
    for limit in high:
        valid &= raw <= _comparable(limit, raw.dtype)
    return valid


def _limits(attrs: dict[str, Any], source: str) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """Fill values, lower and upper limits that the attributes declare."""
    fills = [_numbers(attrs, name, source) for name in ("_FillValue", "missing_value")]
    low, high = (_numbers(attrs, name, source) for name in ("valid_min", "valid_max"))
    if "valid_range" in attrs:
        ends = _numbers(attrs, "valid_range", source)
        low, high = ends[:1], ends[1:]
    return np.concatenate(fills), low, high


def _masked_floats(
    raw: NDArray[np.float32], attrs: dict[str, Any], source: str, *, reuse: bool
) -> NDArray[np.float32]:
    """:func:`valid_mask` applied to floats in a single pass."""
    fills, low, high = (
        [np.float32(_comparable(value, raw.dtype)) for value in values]
        for values in _limits(attrs, source)
    )
    lowest = np.max([np.float32(-HUGE), *low])
    highest = np.min([np.float32(HUGE), *high])
    raw = np.ascontiguousarray(raw)
    if reuse and not low and not high and np.isnan(fills).all() and _is_masked(raw):
        return raw
    values = raw if reuse else np.empty(raw.shape, dtype=np.float32)
    first, *others = fills or [np.float32(np.nan)]
    for fill in others:
        raw = np.where(raw == fill, np.float32(np.nan), raw)
    _mask_kernel()(raw.reshape(-1), values.reshape(-1), lowest, highest, first)
    return values


def _is_masked(raw: NDArray[np.float32]) -> bool:
    """Whether all that is no value is NaN already; reading is a third of the work of masking."""
    huge = np.float32(HUGE).view(np.int32)
    return bool(
        _huge_kernel()(raw.reshape(-1).view(np.int32), huge, np.float32(np.inf).view(np.int32)) == 0
    )


@functools.cache
def _huge_kernel() -> Any:
    import numba

    @numba.njit(cache=False)
    def count_huge(bits: Any, huge: Any, infinite: Any) -> int:
        """Numbers beyond ``huge``, infinite ones among them; on bits, which compilers vectorise."""
        n = 0
        for i in range(len(bits)):
            size = bits[i] & 0x7FFFFFFF
            n += (size > huge) & (size <= infinite)
        return n

    return count_huge


@functools.cache
def _mask_kernel() -> Any:
    import numba

    @numba.njit(cache=False)
    def mask(raw: Any, values: Any, low: Any, high: Any, fill: Any) -> None:
        nothing = np.float32(np.nan)
        for i in range(len(raw)):
            value = raw[i]
            values[i] = value if (value >= low) & (value <= high) & (value != fill) else nothing

    return mask


def _numbers(attrs: dict[str, Any], name: str, source: str) -> NDArray[Any]:
    """An attribute's numbers, none when it is absent."""
    values = np.atleast_1d(np.asarray(attrs.get(name, [])))
    try:
        return values if values.dtype.kind in "iuf" else values.astype(float)
    except (ValueError, TypeError) as error:
        raise ReadError(
            f"{source}: its attribute {name} is {attrs[name]!r}, no number. Correct the attribute.",
            source=source, attribute=name,
        ) from error  # fmt: skip


def _comparable(value: Any, dtype: np.dtype[Any]) -> Any:
    """A float limit in the type of float data, so that 0.1 meets 0.1; integers never wrap."""
    with np.errstate(over="ignore"):
        return dtype.type(value) if dtype.kind == "f" else value
