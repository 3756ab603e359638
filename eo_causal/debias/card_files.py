"""The calibration card on disk: JSON and NetCDF beside the map, each with its hash."""

import json
from dataclasses import fields
from pathlib import Path
from typing import Any

import pandas as pd
import xarray as xr

from eo_causal.core.artefacts import sha256_file, sha256_json, write_atomic
from eo_causal.debias.card import CalibrationCard, CardSettings
from eo_causal.errors import IntegrityError


def write_card(card: CalibrationCard, path: Path) -> str:
    """Write ``path`` (JSON) and, beside it, the curves (NetCDF); returns the card's SHA-256.

    The hash covers all values and the NetCDF file; it goes into the tags of the map.
    """
    curves = path.with_suffix(".nc")
    temporary = curves.with_name(f".{curves.name}.tmp")
    card.curves.to_netcdf(temporary, engine="netcdf4")
    temporary.replace(curves)
    content: dict[str, Any] = {
        field.name: getattr(card, field.name) for field in fields(card) if field.name != "curves"
    }
    content |= {
        "settings": card.settings.model_dump(mode="json"),
        "folds": card.folds.to_dict(orient="list"),
        "choice": card.choice.to_dict(orient="list"),
        "flags": list(card.flags),
        "curves": curves.name,
        "curves_sha256": sha256_file(curves),
    }
    digest = sha256_json(content)
    text = json.dumps({**content, "sha256": digest}, indent=1, allow_nan=False)
    write_atomic(path, text.encode())
    return digest


def read_card(path: Path, sha256: str | None = None) -> CalibrationCard:
    """Read what :func:`write_card` wrote.

    Parameters
    ----------
    path : Path
        The JSON file.
    sha256 : str, optional
        The hash that the map names.

    Raises
    ------
    IntegrityError
        The card, or its curves, are not as they were written, or not those of the map.
    """
    try:
        content = json.loads(path.read_text())
        digest = content.pop("sha256")
        curves = path.with_name(Path(content.pop("curves")).name)
        named = {**content, "curves": curves.name}
        intact = sha256_json(named) == digest and sha256 in (None, digest)
        intact = intact and sha256_file(curves) == content.pop("curves_sha256")
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise IntegrityError(
            f"{path}: not a readable calibration card ({error}). Write it again.", path=str(path)
        ) from error
    if not intact:
        raise IntegrityError(
            f"{path}: the card or its curves are not what was written with the map. Take the card that"
            " belongs to the map.",
            path=str(path),
        )
    with xr.open_dataset(curves, engine="netcdf4") as dataset:
        loaded = dataset.load()
    content |= {
        "settings": CardSettings(**content["settings"]),
        "folds": pd.DataFrame(content["folds"]),
        "choice": pd.DataFrame(content["choice"]),
        "flags": tuple(content["flags"]),
    }
    return CalibrationCard(curves=loaded, **content)
