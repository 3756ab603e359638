"""The registry of designs: freeze one before outcomes are read, and notice when it changed after."""

import datetime
import json
from pathlib import Path
from typing import Any

import pandas as pd

from eo_causal.audit.report import AuditReport, not_run
from eo_causal.core.artefacts import write_atomic
from eo_causal.errors import IntegrityError, RegistrationError
from eo_causal.run.design import Design, block_hash, canonical, design_hash

REGISTRY = "registry"
CHANGED = "post_registration_change"
_COLUMNS = ["key", "frozen", "now"]


def freeze(design: Design, registry: Path) -> Path:
    """Write a design into the registry, once and for all.

    Parameters
    ----------
    design : Design
        Its id and version name the file.
    registry : Path
        The folder ``registry`` beside the config.

    Raises
    ------
    RegistrationError
        A design of this id and version is frozen already.
    """
    path = _file(design, registry)
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    record = {
        "hash": design_hash(design),
        "design": canonical(design) | {"registered_at": now},
    }
    text = json.dumps(record, indent=1, sort_keys=True, ensure_ascii=False) + "\n"
    registry.mkdir(exist_ok=True)
    try:
        path.touch(exist_ok=False)
    except FileExistsError as error:
        raise RegistrationError(
            f"{path}: this design is frozen already, and a frozen design is never overwritten."
            f" Raise design.version (now {design.version}) and freeze that.", path=str(path),
        ) from error  # fmt: skip
    try:
        write_atomic(path, text.encode())
    except BaseException:
        path.unlink()  # an empty file would never be overwritten
        raise
    return path


def registration(design: Design, registry: Path, *, allow_change: bool) -> AuditReport:
    """Compare a design with the frozen one of its id and version.

    Parameters
    ----------
    design : Design
        What is about to run.
    registry : Path
        The folder ``registry`` beside the config.
    allow_change : bool
        Go on after a change; the report then has status ``warn`` and the flag
        ``post_registration_change``.

    Returns
    -------
    AuditReport
        Table of changed keys: key, frozen, now.

    Raises
    ------
    RegistrationError
        The design changed after it was frozen, and this is not allowed; lists the changes.
    IntegrityError
        The frozen file is unreadable, or was edited.
    """
    path = _file(design, registry)
    if not path.exists():
        return not_run(
            "registration",
            "Not frozen: run `eo-causal freeze CONFIG` before the outcomes are read.",
        )
    frozen = _read(path)
    label = f"{design.id}, version {design.version}, frozen {frozen['design']['registered_at']}"
    if frozen["hash"] == design_hash(design):
        return AuditReport(
            "registration", "pass", f"As registered: {label}.", pd.DataFrame(columns=_COLUMNS)
        )
    changes = changed_keys(frozen["design"], canonical(design))
    listed = "; ".join(f"{row.key}: {row.frozen} -> {row.now}" for row in changes.itertuples())
    if not allow_change:
        raise RegistrationError(
            f"{path}: the design changed after it was frozen ({listed}). Undo this, raise"
            " design.version, or set design.allow_change: true, which marks every output.",
            path=str(path), keys=changes["key"].tolist(),
        )  # fmt: skip
    text = f"Registered: {label}. Changed since: {listed}."
    return AuditReport("registration", "warn", text, changes, (CHANGED,))


def changed_keys(frozen: dict[str, Any], now: dict[str, Any]) -> pd.DataFrame:
    """Keys whose values differ between two blocks: key, frozen, now; JSON texts, - = absent."""
    before, after = _flat(frozen), _flat(now)
    before.pop("registered_at", None)
    rows = [
        (key, before.get(key, "-"), after.get(key, "-"))
        for key in sorted(before.keys() | after.keys())
        if before.get(key) != after.get(key)
    ]
    return pd.DataFrame(rows, columns=_COLUMNS)


def design_facts(design: Design, found: AuditReport) -> dict[str, Any]:
    """What results.json says about a design, as plain values."""
    return {
        "id": design.id,
        "version": design.version,
        "hash": design_hash(design),
        "strategy": design.strategy,
        "estimand": design.estimand.model_dump(mode="json"),
        "registration": {
            "status": found.status, "text": found.text,
            "changed": found.table.to_dict("records"),
        },
        CHANGED: CHANGED in found.flags,
        "block": canonical(design),
    }  # fmt: skip


def _file(design: Design, registry: Path) -> Path:
    return registry / f"{design.id}-{design.version}.json"


def _read(path: Path) -> dict[str, Any]:
    try:
        record: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        sound = record["hash"] == block_hash(record["design"])
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise IntegrityError(
            f"{path}: no frozen design ({error!r}). Restore the file.", path=str(path)
        ) from error
    if not sound:
        raise IntegrityError(
            f"{path}: edited after it was frozen; its hash is another. Restore the file.",
            path=str(path),
        )
    return record


def _flat(block: dict[str, Any], prefix: str = "") -> dict[str, str]:
    """Dotted key -> JSON text of its value."""
    found: dict[str, str] = {}
    for key, value in block.items():
        if isinstance(value, dict):
            found |= _flat(value, f"{prefix}{key}.")
        else:
            found[f"{prefix}{key}"] = json.dumps(value, sort_keys=True, ensure_ascii=False)
    return found
