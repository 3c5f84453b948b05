"""Classes with a name on the wire: their instances cross without an annotation."""

# ruff: noqa: ANN401, DTZ001 - values of any type are what is tested, naive times among them

import datetime as dt
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum
from types import ModuleType
from typing import Any

import pydantic
import pytest

from offbook.actors.codec import Codec, extend, know_module, register
from offbook.actors.errors import (
    DuplicateName,
    InvalidOption,
    NotSerializable,
    PayloadMismatch,
    RunFailed,
    StepFailed,
)


@pytest.fixture
def codec() -> Codec:
    return Codec()


def crossed(codec: Codec, value: object, annotation: Any = Any) -> Any:
    return codec.decode(codec.encode(value, "value"), annotation)


class Account:
    made = 0

    def __init__(self, owner: str) -> None:
        Account.made += 1
        self.owner = owner
        self._balance = {"EUR": 1}

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Account) and vars(self) == vars(other)

    __hash__ = None  # type: ignore[assignment]


class Slotted:
    __slots__ = ("__private", "empty", "shown")

    def __init__(self) -> None:
        self.shown = 1
        self.__private = 2

    def total(self) -> int:
        return self.shown + self.__private


class Child(Slotted):
    def __init__(self) -> None:
        super().__init__()
        self.more = [self.total()]


def test_an_object_is_rebuilt_from_its_attributes_without_its_init(codec: Codec) -> None:
    codec.register(Account)
    account = Account("me")
    made = Account.made
    found = crossed(codec, [account, {"a": account}])
    assert found == [account, {"a": account}]
    assert found[0] is not account
    assert Account.made == made


def test_slots_and_private_names_are_kept(codec: Codec) -> None:
    codec.register(Slotted)
    codec.register(Child)
    found = crossed(codec, Slotted())
    assert (found.total(), hasattr(found, "empty")) == (3, False)
    assert crossed(codec, Child()).more == [3]


def test_a_subclass_is_not_registered_with_its_base(codec: Codec) -> None:
    codec.register(Slotted)
    with pytest.raises(NotSerializable):
        codec.encode(Child(), "value")


def test_the_given_pair_is_used(codec: Codec) -> None:
    codec.register(
        Account,
        name="account",
        encode=lambda account: (account.owner, {"extra"}),
        decode=lambda state: Account(state[0]),
    )
    assert crossed(codec, Account("me")) == Account("me")
    assert codec.plain(codec.encode(Account("me"))) == {
        "class": "account",
        "state": ["me", ["extra"]],
    }


def test_a_pair_that_fails_is_a_typed_error(codec: Codec) -> None:
    codec.register(Account, encode=lambda a: a.missing, decode=lambda state: state)
    with pytest.raises(NotSerializable, match="AttributeError") as caught:
        codec.encode({"a": Account("me")}, "value")
    assert caught.value.path == "value.a"

    other = Codec()
    other.register(Account, encode=lambda _: 1, decode=lambda state: state["no"])
    with pytest.raises(PayloadMismatch, match="TypeError"):
        crossed(other, Account("me"))


def test_the_state_of_a_registered_class_has_paths(codec: Codec) -> None:
    codec.register(Account)
    account = Account("me")
    account._balance["EUR"] = sys  # type: ignore[assignment]  # noqa: SLF001 - to spoil it
    with pytest.raises(NotSerializable) as caught:
        codec.encode([account], "accounts")
    assert caught.value.path == "accounts[0]._balance.EUR"


@dataclass
class Item:
    sku: str


@dataclass
class Order:
    items: list[Item]
    at: dt.datetime | None = None
    total: int = field(init=False, default=0)


class Leaf(pydantic.BaseModel, frozen=True):
    n: int = 0


class Color(Enum):
    RED = "red"


class UserId(str):
    __slots__ = ()


class Listing(list[int]):
    def __init__(self, *numbers: int) -> None:
        super().__init__(numbers)
        self.note = "x"


class Table(dict[str, int]):
    pass


class Numbers(frozenset[int]):
    pass


@pytest.mark.parametrize(
    "value",
    [
        Order([Item("a")], dt.datetime(2024, 1, 1)),
        Leaf(n=1),
        Color.RED,
        UserId("u1"),
        Listing(1, 2),
        Table(a=1),
        Numbers({1, 2}),
    ],
    ids=lambda v: type(v).__name__,
)
def test_any_kind_of_class_can_be_registered(codec: Codec, value: object) -> None:
    codec.register(type(value), name="kind")
    found = crossed(codec, [value])[0]
    assert found == value
    assert type(found) is type(value)
    assert getattr(found, "note", None) == getattr(value, "note", None)
    assert crossed(codec, [value], list[type(value)]) == [value]  # type: ignore[misc]


def test_a_registered_record_may_be_a_key(codec: Codec) -> None:
    codec.register(Leaf)
    assert crossed(codec, {Leaf(n=1): 2, (Leaf(),): 3}) == {Leaf(n=1): 2, (Leaf(),): 3}
    assert crossed(codec, {Leaf(n=1)}) == {Leaf(n=1)}
    (key,) = codec.plain(codec.encode({Leaf(n=1): 2}))
    assert '"state": {"n": 1}' in key


def test_a_registered_record_has_its_types_without_annotation(codec: Codec) -> None:
    codec.register(Order)
    found = crossed(codec, {"order": Order([Item("a")])})
    assert found["order"].items == [Item("a")]


def test_registration_takes_effect_on_what_was_encoded_before(codec: Codec) -> None:
    assert crossed(codec, Item("a")) == {"sku": "a"}
    codec.register(Item)
    assert crossed(codec, Item("a")) == Item("a")


def test_a_name_belongs_to_one_class(codec: Codec) -> None:
    codec.register(Item, name="thing")
    codec.register(Item, name="thing")
    with pytest.raises(DuplicateName) as caught:
        codec.register(Order, name="thing")
    assert caught.value.first.endswith("Item")
    assert caught.value.second.endswith("Order")


def test_a_reloaded_class_takes_the_place_of_the_old_one(codec: Codec) -> None:
    def define(value: int) -> type:
        class Local:
            number = value

        return Local

    codec.register(define(1))
    newer = define(2)
    codec.register(newer)
    assert crossed(codec, newer()).number == 2


def test_an_unknown_name_says_what_to_do(codec: Codec) -> None:
    codec.register(Account, name="account")
    data = codec.encode(Account("me"))
    with pytest.raises(PayloadMismatch, match="'account' is not registered here"):
        Codec().decode(data)
    assert Codec().plain(data)["class"] == "account"


def test_special_attributes_are_never_set_from_bytes(codec: Codec) -> None:
    codec.register(Account, name="account")
    evil = Codec()
    evil.register(Item, name="account", encode=lambda _: {"__class__": int}, decode=lambda s: s)
    with pytest.raises(PayloadMismatch, match="__class__"):
        codec.decode(evil.encode(Item("a")))


def test_register_is_a_decorator_and_a_function() -> None:
    @register
    class Plain:
        pass

    @register(name="test-registered-named")
    class Named:
        pass

    codec = Codec()
    assert type(crossed(codec, Plain())) is Plain
    assert type(crossed(codec, Named())) is Named
    assert register(Named, name="test-registered-named") is Named
    with pytest.raises(InvalidOption, match="both"):
        register(Named, encode=lambda _: 1)


# References


class Handle:
    def __init__(self, run: str) -> None:
        self.run = run


class TypedHandle(Handle):
    pass


def test_a_reference_crosses_as_a_name_and_plain_data(codec: Codec) -> None:
    codec.extend(
        "handle", Handle, lambda handle: {"handle": handle.run}, lambda x: Handle(x["handle"])
    )
    found = crossed(codec, {"a": [Handle("r1"), TypedHandle("r2")]})["a"]
    assert [(type(handle), handle.run) for handle in found] == [(Handle, "r1"), (Handle, "r2")]
    assert crossed(codec, Handle("r1"), Handle).run == "r1"
    assert crossed(codec, Handle("r1"), Handle | None).run == "r1"
    assert codec.plain(codec.encode(Handle("r1"))) == {
        "reference": "handle",
        "value": {"handle": "r1"},
    }


def test_a_reference_that_nobody_knows_here_is_a_mismatch(codec: Codec) -> None:
    codec.extend("handle", Handle, lambda handle: handle.run, Handle)
    with pytest.raises(PayloadMismatch, match="reference 'handle' is not registered here"):
        Codec().decode(codec.encode(Handle("r1")))


def test_a_kind_of_reference_belongs_to_one_class(codec: Codec) -> None:
    codec.extend("handle", Handle, str, str)
    with pytest.raises(DuplicateName):
        codec.extend("handle", Account, str, str)


def test_references_can_be_known_to_every_codec() -> None:
    class Everywhere:
        pass

    extend("test-everywhere", Everywhere, lambda _: None, lambda _: Everywhere())
    assert isinstance(crossed(Codec(), Everywhere()), Everywhere)


# Modules and classes as values


SOURCE = """
class Broken(Exception):
    class Inner(Exception):
        pass

class Service:
    pass

class Pretender(Exception):
    __module__ = "elsewhere"
"""


@pytest.fixture
def module() -> Iterator[ModuleType]:
    made = ModuleType("offbook_test_module")
    sys.modules[made.__name__] = made
    exec(SOURCE, vars(made))
    yield made
    del sys.modules[made.__name__]


def test_classes_of_a_known_module_cross_as_values(codec: Codec, module: ModuleType) -> None:
    with pytest.raises(NotSerializable, match="registered or in a module with steps"):
        codec.encode(module.Service, "cls")
    codec.know_module(module.__name__)
    for cls in (module.Service, module.Broken, module.Broken.Inner):
        assert crossed(codec, cls) is cls
        assert crossed(codec, cls, type[Any]) is cls


def test_what_a_known_module_imported_is_found_there(codec: Codec, module: ModuleType) -> None:
    user = ModuleType("offbook_test_user")
    vars(user)["Alias"] = module.Broken
    sys.modules[user.__name__] = user
    codec.know_module(user.__name__)
    assert type(codec.decode_error(codec.encode_error(module.Broken("x")))) is module.Broken
    assert crossed(codec, module.Service.__base__) is object
    del sys.modules[user.__name__]


def test_a_module_that_is_not_known_gives_no_exceptions(codec: Codec, module: ModuleType) -> None:
    found = codec.decode_error(codec.encode_error(module.Broken("x")), "charge")
    assert isinstance(found, StepFailed)
    assert (found.step, found.type) == ("charge", "offbook_test_module.Broken")
    codec.know_module(module.__name__)
    inner: Any = module.Broken.Inner
    assert type(codec.decode_error(codec.encode_error(module.Broken("x")))) is module.Broken
    assert type(codec.decode_error(codec.encode_error(inner()))) is inner


def test_a_known_module_that_is_gone_is_no_trouble(codec: Codec) -> None:
    codec.know_module("never.imported")
    assert isinstance(
        codec.decode_error(codec.encode_error(type("Local", (Exception,), {})())), StepFailed
    )


def test_every_codec_knows_the_modules_that_registered_steps() -> None:
    know_module(__name__)
    assert crossed(Codec(), Handle) is Handle


def test_a_registered_exception_crosses_by_its_name(codec: Codec) -> None:
    class Local(Exception):
        def __init__(self, a: int, b: int) -> None:
            super().__init__(f"{a}-{b}")
            self.pair = (a, b)

    codec.register(Local, name="local")
    found = codec.decode_error(codec.encode_error(Local(1, 2)))
    assert type(found) is Local
    assert (str(found), found.pair) == ("1-2", (1, 2))
    unknown = Codec().decode_error(codec.encode_error(Local(1, 2)))
    assert isinstance(unknown, StepFailed)
    assert (unknown.type, unknown.attributes) == ("local", {"pair": (1, 2)})


def test_errors_of_the_library_need_no_registration(codec: Codec) -> None:
    found = codec.decode_error(codec.encode_error(RunFailed("r", ValueError(1))))
    assert isinstance(found, RunFailed)
    assert isinstance(found.cause, ValueError)
