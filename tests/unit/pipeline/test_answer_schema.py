import datetime
import decimal
import enum
import subprocess
import sys
from dataclasses import dataclass
from typing import Annotated, Any, Literal, TypedDict

import msgspec
import pydantic
import pytest

from edge_et.errors import AnswerValueError, OptionError
from edge_et.generation import JsonGrammar
from edge_et.pipeline.answer_schema import read_schema

TEXT = '{"name": "ball", "size": "small", "count": 2}'


@dataclass
class AsDataclass:
    name: str
    size: Literal["small", "large"]
    count: Annotated[int, msgspec.Meta(ge=0)] = 1


class AsTypedDict(TypedDict):
    name: str
    size: Literal["small", "large"]
    count: int


class AsStruct(msgspec.Struct):
    name: str
    size: Literal["small", "large"]
    count: int | None


class AsModel(pydantic.BaseModel):
    name: str
    size: Literal["small", "large"]
    count: int = pydantic.Field(ge=0, description="how many")


@pytest.mark.parametrize("kind", [AsDataclass, AsStruct, AsModel])
def test_a_class_gives_its_objects(kind: Any) -> None:
    asked = read_schema(kind)
    JsonGrammar(asked.schema)
    assert asked.decode(TEXT) == kind(name="ball", size="small", count=2)


def test_a_typed_dict_and_a_schema_give_dicts() -> None:
    value = {"name": "ball", "size": "small", "count": 2}
    assert read_schema(AsTypedDict).decode(TEXT) == value
    assert read_schema({"type": "object"}).decode(TEXT) == value
    assert read_schema(list[AsTypedDict]).decode(f"[{TEXT}]") == [value]
    assert read_schema({"type": "number"}).decode("1e999") == float("inf")
    assert read_schema({"type": "integer"}).decode("9" * 9999) == float("inf")


class Colour(enum.Enum):
    RED = "red"


@dataclass
class Times:
    day: datetime.date
    at: datetime.datetime
    clock: datetime.time
    long: datetime.timedelta
    price: decimal.Decimal
    colour: Colour
    by_number: dict[int, bool]


def test_types_of_the_standard_library_are_read() -> None:
    asked = read_schema(Times)
    JsonGrammar(asked.schema)
    value = asked.decode(
        '{"day": "2024-02-28", "at": "2024-02-28T10:00:00Z", "clock": "10:00:00Z", "long": "P1D", '
        '"price": "1.50", "colour": "red", "by_number": {"3": true}}'
    )
    assert value.day == datetime.date(2024, 2, 28)
    assert value.at.tzinfo is not None
    assert (value.long, value.price) == (datetime.timedelta(days=1), decimal.Decimal("1.50"))
    assert (value.colour, value.by_number) == (Colour.RED, {3: True})


@dataclass
class Even:
    count: int

    def __post_init__(self) -> None:
        if self.count % 2:
            raise ValueError("it is odd")


class EvenModel(pydantic.BaseModel):
    count: int

    @pydantic.field_validator("count")
    @classmethod
    def check(cls, count: int) -> int:
        if count % 2:
            raise ValueError("it is odd")
        return count


@pytest.mark.parametrize("kind", [Even, EvenModel])
def test_what_a_class_refuses_beyond_its_schema_is_told(kind: Any) -> None:
    decode = read_schema(kind).decode
    assert decode('{"count": 2}').count == 2
    with pytest.raises(AnswerValueError, match="it is odd") as caught:
        decode('{"count": 3}')
    assert caught.value.text == '{"count": 3}'


class NotJson(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(arbitrary_types_allowed=True)
    thing: object
    lock: type(sys)  # type: ignore[valid-type]


@pytest.mark.parametrize(
    "given",
    [
        "schema.json",
        b"{}",
        5,
        object,
        AsDataclass("a", "small"),
        [AsDataclass],
        NotJson,
        dataclass(type("Raw", (), {"__annotations__": {"raw": bytes}})),
        dataclass(type("Any", (), {"__annotations__": {"lock": type(sys)}})),
    ],
    ids=lambda given: getattr(given, "__name__", repr(given))[:20],
)
def test_what_has_no_schema_is_refused(given: Any) -> None:
    with pytest.raises(OptionError) as caught:
        read_schema(given)
    assert (caught.value.name, caught.value.value) == ("schema", given)


def test_pydantic_is_not_imported_for_others() -> None:
    code = (
        "from edge_et.pipeline.answer_schema import read_schema; import sys, dataclasses; "
        "read_schema({'type': 'string'}); read_schema(list[int]); "
        "assert not {'pydantic', 'llguidance'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
