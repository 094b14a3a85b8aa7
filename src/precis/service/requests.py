"""What a request says, checked before any model sees it."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import from_json

from precis.service.limits import Limits
from precis.service.refusal import RefusedError

# a string, ended or not, or a bracket; possessive and with everything optional, so that no input is read twice
_TOKEN = re.compile(rb'"(?:[^"\\]++|\\.?)*+"?|[\[\]{}]', re.DOTALL)
_SHOWN = 5  # problems that one answer lists


class SummarizeRequest(BaseModel):
    """Documents, and how to summarize them."""

    model_config = ConfigDict(extra="forbid", strict=True)

    document: str | None = Field(None, description="One text; or give `documents`.")
    documents: list[str] | None = Field(
        None, min_length=1, description="Several texts, answered in their order."
    )
    model: Annotated[str, Field(max_length=200)] | None = Field(
        None, description="One of the loaded models, such as champion; the first of them if not given."
    )
    provenance: bool = Field(False, description="Whether each word's origin is told.")
    beam_size: int | None = Field(None, ge=1, description="Hypotheses kept open; as evaluated if not given.")
    min_length: int | None = Field(None, ge=0, description="Fewest words.")
    max_length: int | None = Field(None, ge=1, description="Most words.")
    length_penalty: Literal["none", "average", "wu"] | None = Field(
        None, description="What the log-probability of a summary is divided by; as evaluated if not given."
    )

    @model_validator(mode="after")
    def _has_one_kind_of_documents(self) -> Self:
        if (self.document is None) == (self.documents is None):
            raise ValueError("expected either `document` or `documents`")
        return self

    @property
    def texts(self) -> list[str]:
        """The documents."""
        if self.documents is not None:
            return self.documents
        assert self.document is not None
        return [self.document]

    @property
    def decoding(self) -> dict[str, Any]:
        """What changes in the decoding parameters of the model."""
        named = ("beam_size", "min_length", "max_length", "length_penalty")
        return {name: value for name in named if (value := getattr(self, name)) is not None}


def read_request(body: bytes, limits: Limits) -> SummarizeRequest:
    """The request in a body.

    Raises:
        RefusedError: it is no JSON (400), more than the limits allow (413), or JSON of another form (422).
    """
    check_depth(body, limits.depth)
    try:
        values = from_json(body, allow_inf_nan=False)
    except ValueError as error:
        raise RefusedError(400, f"the body is not JSON: {error}") from error
    if not isinstance(values, dict):
        raise RefusedError(422, f"expected a JSON object, found {_kind(values)}")
    try:
        request = SummarizeRequest.model_validate(values)
    except ValidationError as error:
        raise RefusedError(422, _explained(error)) from error
    _check_sizes(request, limits)
    return request


def check_depth(body: bytes, most: int) -> None:
    """Refuse nesting that would cost a parser its stack, before one looks at it."""
    depth = 0
    for match in _TOKEN.finditer(body):
        token = match[0]
        if token in (b"[", b"{"):
            depth += 1
            if depth > most:
                raise RefusedError(400, f"the JSON is nested deeper than {most} levels")
        elif token in (b"]", b"}"):
            depth -= 1


def _check_sizes(request: SummarizeRequest, limits: Limits) -> None:
    if len(request.texts) > limits.documents:
        raise RefusedError(
            413,
            f"found {len(request.texts)} documents, at most {limits.documents} are taken: send several requests",
        )
    for number, text in enumerate(request.texts):
        if len(text) > limits.characters:
            raise RefusedError(
                413,
                f"document {number} has {len(text):,} characters, at most {limits.characters:,} are taken",
            )
    if request.beam_size is not None and request.beam_size > limits.beam_size:
        raise RefusedError(
            422, f"beam_size: found {request.beam_size}, at most {limits.beam_size} is allowed"
        )
    for name in ("min_length", "max_length"):
        value = getattr(request, name)
        if value is not None and value > limits.summary_words:
            raise RefusedError(422, f"{name}: found {value}, at most {limits.summary_words} is allowed")
    if None not in (request.min_length, request.max_length) and request.min_length > request.max_length:  # type: ignore[operator]
        raise RefusedError(422, f"min_length {request.min_length} exceeds max_length {request.max_length}")


def _kind(value: object) -> str:
    names = {list: "a list", str: "a string", bool: "true or false", type(None): "null"}
    return names.get(type(value), "a number")


def _explained(error: ValidationError) -> str:
    """Every problem with its place; never the value itself, which may be a whole document."""
    problems = []
    for problem in error.errors(include_url=False, include_input=False, include_context=False):
        # the name of an unknown key is the client's own text
        where = ".".join(str(part)[:50] for part in problem["loc"])
        text = problem["msg"].removeprefix("Value error, ")
        problems.append(f"{where}: {text}" if where else text)
    more = f" (and {len(problems) - _SHOWN} more)" if len(problems) > _SHOWN else ""
    return "; ".join(problems[:_SHOWN]) + more
