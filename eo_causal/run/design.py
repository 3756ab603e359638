"""The design of a causal study as one validated block, and its hash.

The block of the analysis plan: estimand, treatment, outcome, what is and what must not be adjusted
for, and the fields its strategy needs. Users type a small part (:class:`DesignText`); a pipeline
reads the rest from its settings, so that nothing is written twice.
"""

import hashlib
import json
from collections.abc import Mapping
from typing import Any, Self

from pydantic import (
    BaseModel,
    Field,
    ModelWrapValidatorHandler,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from eo_causal.core.settings import Settings
from eo_causal.errors import DesignError
from eo_causal.run.design_blocks import (
    DesignBlocks,
    Excluded,
    Quantity,
    Strategy,
    last_moment,
    refuse,
)
from eo_causal.run.design_strategies import SPECIFIC, Specific

UNHASHED = ("result", "registered_at")


class Design(DesignBlocks):
    """The design block of one run.

    Raises
    ------
    DesignError
        A key that is unknown, missing, of the wrong kind, or contradicts the strategy; names the
        key, its value and the remedy.
    """

    design_specific: Specific

    @model_validator(mode="wrap")
    @classmethod
    def _mistakes_are_named(cls, values: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        try:
            return handler(values)
        except ValidationError as error:
            raise _mistake(error) from error

    @field_validator("design_specific", mode="before")
    @classmethod
    def _of_its_strategy(cls, value: Any, info: ValidationInfo) -> Any:
        kind = SPECIFIC.get(info.data.get("strategy", ""))
        if kind is None or isinstance(value, kind):
            return value
        try:
            return kind.model_validate(value)
        except ValidationError as error:
            raise _mistake(error, ("design_specific",)) from error

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        _check_estimand(self)
        _check_time_order(self)
        _check_columns(self)
        _check_outcome(self)
        _check_inference(self)
        self.design_specific.check(self)
        return self


class DesignText(Settings):
    """The part of a design that a user types, the block ``design:`` of a config."""

    id: str | None = Field(
        default=None, pattern=r"^[^/\\]+$", description="name in the registry; null = the config's"
    )
    version: str = Field(
        default="1",
        pattern=r"^[^/\\-]+$",
        description="a frozen design that changes needs a new one",
    )
    strategy: Strategy
    population: str = Field(
        default="the units of the study", min_length=1, description="whom the effect is about"
    )
    quantity: Quantity = "ATE"
    excluded: Excluded = Field(default=Excluded(), description="what must not be adjusted for")
    design_specific: dict[str, Any] = Field(
        default={}, description="what the strategy needs and the settings do not say"
    )
    allow_change: bool = Field(
        default=False, description="run after a frozen design was changed; marks every output"
    )

    def complete(self, name: str, question: str | None, derived: Mapping[str, Any]) -> Design:
        """The whole block: what was typed, joined to what the settings say.

        Parameters
        ----------
        name : str
            Id where none was typed.
        question : str or None
            The causal question.
        derived : mapping
            Blocks of :class:`Design` read from the settings; its ``design_specific`` may hold only
            keys that were not typed, and its ``estimand`` may add the horizon.

        Raises
        ------
        DesignError
            The blocks contradict one another, or a key was typed that the settings decide.
        """
        specific = dict(derived.get("design_specific", {}))
        for key in specific.keys() & self.design_specific.keys():
            refuse(
                f"design_specific.{key}", self.design_specific[key],
                f"it is read from the settings ({specific[key]!r}). Remove it from the design.",
            )  # fmt: skip
        typed = {
            "id": self.id or name, "version": self.version, "question": question,
            "strategy": self.strategy, "excluded": self.excluded,
            "design_specific": self.design_specific | specific,
            "estimand": {"quantity": self.quantity, "population": self.population}
            | dict(derived.get("estimand", {})),
        }  # fmt: skip
        return Design.model_validate({**derived, **typed})


def canonical(design: Design) -> dict[str, Any]:
    """The block as plain JSON values in one form: no result, no date of registration, no null."""
    block = design.model_dump(mode="json", exclude_none=True, exclude=set(UNHASHED))
    normal: dict[str, Any] = _normal(block)
    return normal


def design_hash(design: Design) -> str:
    """SHA-256 of the canonical JSON of a design; see :func:`block_hash`."""
    return block_hash(canonical(design))


def block_hash(block: Mapping[str, Any]) -> str:
    """SHA-256 of a block of plain JSON values.

    UTF-8, sorted keys, no white space, floats in their shortest form that reads back the same;
    -0 is 0 and 1.0 is 1. ``result`` and ``registered_at`` do not count.
    """
    kept = {key: value for key, value in block.items() if key not in UNHASHED}
    text = json.dumps(
        _normal(kept), sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    )
    return hashlib.sha256(text.encode()).hexdigest()


def _normal(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _normal(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_normal(item) for item in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _mistake(error: ValidationError, inside: tuple[str, ...] = ()) -> DesignError:
    """The first mistake pydantic found, as a DesignError."""
    item = error.errors()[0]
    key = ".".join(map(str, (*inside, *item["loc"])))
    if item["type"] == "missing":
        return DesignError(f"design.{key} is missing. Add it.", key=key, value=None)
    value = item["input"]
    if item["type"] == "extra_forbidden":
        remedy = "there is no such key. Remove it, or correct its name."
    else:
        remedy = f"{str(item['msg']).removeprefix('Value error, ')}. Correct it."
    shown = type(value).__name__ if isinstance(value, BaseModel | dict) else repr(value)
    return DesignError(f"design.{key} is {shown}: {remedy}", key=key, value=value)


def _check_estimand(design: Design) -> None:
    if design.estimand.quantity == "LATE" and design.strategy != "iv":
        refuse(
            "estimand.quantity", "LATE",
            f"only strategy iv identifies it, not {design.strategy}. Ask for ATE or ATT.",
        )  # fmt: skip


def _check_time_order(design: Design) -> None:
    """Images that stand for confounders end before the treatment is known."""
    imagery, known = design.confounders.imagery, design.treatment.first_known
    if imagery is None or known is None or not imagery.must_precede_treatment:
        return
    end = imagery.window[1]
    if end is not None and last_moment(end) >= known:
        refuse(
            "confounders.imagery.window", list(imagery.window),
            f"it reaches the treatment, which starts or is announced {known:%Y-%m-%d}. End it"
            " earlier.",
        )  # fmt: skip


def _check_columns(design: Design) -> None:
    """A column is adjusted for or excluded, and it is not the outcome or the treatment."""
    excluded = {*design.excluded.post_treatment, *design.excluded.colliders}
    forbidden = {design.outcome.name, design.treatment.column}
    for column in design.confounders.tabular:
        if column in excluded:
            refuse(
                "confounders.tabular", column,
                "it is among design.excluded too. Keep it in one place.",
            )  # fmt: skip
        if column in forbidden:
            refuse("confounders.tabular", column, "it is the outcome or the treatment. Remove it.")


def _check_outcome(design: Design) -> None:
    outcome, result = design.outcome, design.result
    if outcome.source == "map" and outcome.map_version is None:
        refuse("outcome.map_version", None, "source: map needs it. Say which version of the map.")
    if outcome.source == "map" and result and result.map_uncertainty_included is None:
        refuse(
            "result.map_uncertainty_included", None,
            "source: map needs it. Say whether the interval holds the error of the map.",
        )  # fmt: skip
    if outcome.support is None:
        for name in ("manski", "itb"):
            if name in design.sensitivity:
                refuse("outcome.support", None, f"{name} needs the least and the largest value.")
    elif not outcome.support[0] < outcome.support[1]:
        refuse(
            "outcome.support", list(outcome.support),
            "the least value stands first, below the largest. Correct them.",
        )  # fmt: skip


def _check_inference(design: Design) -> None:
    inference = design.inference
    if inference.se == "conley" and inference.cutoff_km is None:
        refuse("inference.cutoff_km", None, "se: conley needs it. Give a distance in km.")
