"""Frames: what is written is read back; whatever else comes in is `Malformed`."""

import importlib
import json
import math
import random
import resource
import struct

import pytest
import safetensors.torch
import torch

from gdm_course.checks.ask import Ask, Make
from gdm_course.checks.question import Question
from gdm_course.grading.guest import wire
from gdm_course.grading.guest.packing import pack, pack_ask, unpack, unpack_ask
from tests.test_checks import UNITS, questions

ARRAYS = [
    torch.arange(6, dtype=torch.float64).reshape(2, 3),
    torch.tensor(1.5),
    torch.empty(0, 4, dtype=torch.int64),
    torch.tensor([-1, 2], dtype=torch.int32),
    torch.arange(256).to(torch.uint8),
    torch.tensor([True, False]),
]
MESSAGE = {"id": 3, "ok": True, "text": "π \ud800"}


def frame(header: object, body: bytes = b"") -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + body


def entry(dtype="F32", shape=(1,), offsets=(0, 4)) -> dict:
    return {"dtype": dtype, "shape": [*shape], "data_offsets": [*offsets]}


def test_what_is_written_is_read_back():
    data = wire.encode(MESSAGE, ARRAYS)
    assert wire.frame_length(data[:8]) == len(data) - 8
    message, arrays = wire.decode(data[8:])
    assert message == MESSAGE
    assert [a.dtype for a in arrays] == [a.dtype for a in ARRAYS]
    assert all(torch.equal(a, b) for a, b in zip(arrays, ARRAYS, strict=True))


def test_the_layout_is_that_of_safetensors():
    """An independent reader: the library of that name."""
    read = safetensors.torch.load(wire.encode(MESSAGE, ARRAYS)[8:])
    assert all(torch.equal(read[str(i)], a) for i, a in enumerate(ARRAYS))


def test_narrow_types_travel_in_a_wider_one_and_others_not_at_all():
    narrow = torch.tensor([1.5, -2], dtype=torch.bfloat16)
    _, (back,) = wire.decode(wire.encode({}, [narrow])[8:])
    assert back.dtype == torch.float32
    assert back.tolist() == [1.5, -2]
    for wrong in (
        torch.zeros(1, dtype=torch.complex64),
        torch.zeros([1] * 9),
        torch.zeros(1).expand(1 << 40),
    ):
        with pytest.raises(wire.Malformed):
            wire.encode({}, [wrong])
    with pytest.raises(wire.Malformed):
        wire.encode({}, [torch.zeros(1)] * 65)


HEAD = {"__metadata__": {"message": "{}"}}
BAD = {
    "empty": b"",
    "short": b"1234567",
    "header too long": struct.pack("<Q", 1 << 62) + b"{}",
    "header over the limit": frame(b" " * (wire.MAX_HEADER + 1)),
    "no JSON": frame(b"{"),
    "deep": frame(b'{"a":' * 9000 + b"1" + b"}" * 9000),
    "a long integer": frame(b'{"a": ' + b"9" * 5000 + b"}"),
    "a list": frame([]),
    "no message": frame({}),
    "message no text": frame({"__metadata__": {"message": {}}}),
    "message no object": frame({"__metadata__": {"message": "[]"}}),
    "message nested": frame({"__metadata__": {"message": "[" * 9000}}),
    "NaN": frame(b'{"__metadata__": {"message": "{}"}, "x": NaN}'),
    "a key twice": frame(b'{"__metadata__": {"message": "{}"}, "__metadata__": 1}'),
    "not UTF-8": frame(b'{"\xff": 1}'),
    "name": frame({**HEAD, "x": entry()}, b"1234"),
    "order": frame({**HEAD, "1": entry(), "0": entry(offsets=(4, 8))}, b"12345678"),
    "dtype": frame({**HEAD, "0": entry("F8")}, b"1234"),
    "dtype a list": frame({**HEAD, "0": entry(["F32"])}, b"1234"),
    "shape": frame({**HEAD, "0": entry(shape=(2,))}, b"1234"),
    "shape negative": frame({**HEAD, "0": entry(shape=(-1, -1))}, b"1234"),
    "shape bool": frame({**HEAD, "0": entry(shape=(True,))}, b"1234"),
    "shape float": frame({**HEAD, "0": entry(shape=(1.0,))}, b"1234"),
    "shape huge": frame({**HEAD, "0": entry(shape=(2**70, 0), offsets=(0, 0))}),
    "empty, its strides overflow": frame(
        {**HEAD, "0": entry(shape=(2**31, 2**31, 2**31, 0), offsets=(0, 0))}
    ),
    "empty and eight dimensions": frame(
        {**HEAD, "0": entry(shape=(0, *[2**31] * 7), offsets=(0, 0))}
    ),
    "empty, too many rows": frame({**HEAD, "0": entry(shape=(2**24, 0), offsets=(0, 0))}),
    "nine dimensions": frame({**HEAD, "0": entry(shape=(1,) * 9)}, b"1234"),
    "offsets overlap": frame({**HEAD, "0": entry(), "1": entry()}, b"1234"),
    "offsets outside": frame({**HEAD, "0": entry()}, b"12"),
    "offsets backwards": frame({**HEAD, "0": entry(offsets=(4, 0))}, b"1234"),
    "rest": frame({**HEAD, "0": entry()}, b"12345"),
    "extra key": frame({**HEAD, "0": {**entry(), "x": 1}}, b"1234"),
    "bool of 2": frame({**HEAD, "0": entry("BOOL", offsets=(0, 1))}, b"\x02"),
    "65 arrays": frame(
        {**HEAD, **{str(i): entry(shape=(0,), offsets=(0, 0)) for i in range(65)}}
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_frames_are_malformed(name):
    with pytest.raises(wire.Malformed):
        wire.decode(BAD[name])


def test_the_good_frame_beside_the_bad_ones_is_read():
    """Without this one, a reader that refuses everything would pass."""
    _, (one,) = wire.decode(frame({**HEAD, "0": entry()}, struct.pack("<f", 2.5)))
    assert one.tolist() == [2.5]


@pytest.mark.parametrize("length", [0, 9, wire.MAX_FRAME + 1, 2**64 - 1])
def test_a_length_that_no_frame_has_is_refused_before_anything_is_read(length):
    with pytest.raises(wire.Malformed):
        wire.frame_length(struct.pack("<Q", length))


def mutated(good: bytes, rng: random.Random) -> bytes:
    """A frame with a few bytes changed, cut out, doubled, or from chance altogether."""
    data = bytearray(good)
    for _ in range(rng.randint(1, 6)):
        at = rng.randrange(len(data) or 1)
        action = rng.randrange(5)
        if action == 0:
            data[at : at + 1] = bytes([rng.randrange(256)])
        elif action == 1:
            del data[at : at + rng.randint(1, 40)]
        elif action == 2:
            data[at:at] = data[at : at + rng.randint(1, 40)]
        elif action == 3:
            data[at : at + 1] = rng.choice(b'[]{}",:0123456789-eEn').to_bytes()
        else:
            data[0:8] = struct.pack(
                "<Q", rng.choice([0, 1, len(data), 2**63, rng.getrandbits(16)])
            )
    return bytes(data)


def fuzz(n: int, seed: int) -> tuple[int, int]:
    rng = random.Random(seed)
    good = [wire.encode(MESSAGE, ARRAYS[:k])[8:] for k in range(len(ARRAYS) + 1)] * 5
    good += [frame({**HEAD, "0": entry()}, b"1234"), *BAD.values()]
    read = refused = 0
    for _ in range(n):
        try:
            wire.decode(mutated(rng.choice(good), rng))
            read += 1
        except wire.Malformed:
            refused += 1
    return read, refused


@pytest.mark.parametrize("n", [20_000, pytest.param(1_000_000, marks=pytest.mark.full)])
def test_mutated_frames_give_one_error_class(n):
    """Any other exception ends this test; some frames survive, so both ways are walked."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    read, refused = fuzz(n, seed=n)
    assert read > n // 1000
    assert refused > n // 2
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 64 * 1024


ODD = (0, 1, 2, 3, 7, 2**16, 2**24, 2**31 - 1, 2**31, 2**32, 2**62, 2**63, 2**64, 10**30)
ODD += (-1, -(2**63), True, 1.0, 1e300, None, "1", [], [1], {})


def structured(rng: random.Random) -> bytes:
    """A frame that is right but for a few odd sizes, offsets, types and names."""

    def odd(share: float) -> bool:
        return rng.random() < share

    header: dict = {"__metadata__": {"message": "{" if odd(0.02) else "{}"}}
    start = 0
    for i in range(65 if odd(0.01) else rng.randint(1, 3)):
        shape = [
            rng.choice(ODD if odd(0.2) else (0, 1, 2, 3)) for _ in range(rng.randrange(9))
        ]
        numbers = all(type(n) is int and n >= 0 for n in shape)
        kind = "F8" if odd(0.02) else rng.choice([*wire.DTYPES])
        width = wire.DTYPES[kind].itemsize if kind in wire.DTYPES else 4
        size = math.prod(shape) * width if numbers else wire.MAX_BODY + 1
        end = start + size if size <= wire.MAX_BODY else start + 4
        offsets = [start, end]
        if odd(0.1):
            offsets[rng.randrange(2)] = rng.choice(ODD)
        made = {"dtype": kind, "shape": shape, "data_offsets": offsets}
        header["x" if odd(0.02) else str(i)] = made
        start = end
    return frame(header, bytes(rng.choice(ODD[:5]) if odd(0.05) else min(start, 1 << 20)))


@pytest.mark.parametrize("n", [10_000, pytest.param(500_000, marks=pytest.mark.full)])
def test_odd_shapes_and_offsets_give_one_error_class(n):
    rng = random.Random(n)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    read = 0
    for _ in range(n):
        try:
            _, arrays = wire.decode(structured(rng))
        except wire.Malformed:
            continue
        read += 1
        assert all(max(a.shape, default=0) <= wire.MAX_BODY for a in arrays)
    assert n // 20 < read < n // 2
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 64 * 1024


@pytest.mark.parametrize("error", [MemoryError, OverflowError, RuntimeError, KeyError])
def test_whatever_goes_wrong_in_torch_is_malformed(error, monkeypatch):
    def fails(*args, **kwargs):
        raise error("out of memory, say")

    monkeypatch.setattr(torch, "frombuffer", fails)
    with pytest.raises(wire.Malformed, match=error.__name__):
        wire.decode(frame({**HEAD, "0": entry()}, b"1234"))


def test_empty_arrays_travel_and_absurd_ones_do_not_even_start():
    for shape in ((0,), (0, 4), (5, 0), (3, 0, 2), (2**16, 0)):
        _, (back,) = wire.decode(wire.encode({}, [torch.empty(shape)])[8:])
        assert back.shape == shape
    with pytest.raises(wire.Malformed):
        wire.encode({}, [torch.empty(2**24, 0)])


VALUES = (1, -2.5, float("inf"), "a", None, True, [1, (2.0,)], {"k": (1,)}, torch.float64)


@pytest.mark.parametrize("value", VALUES, ids=str)
def test_plain_arguments_travel(value):
    assert unpack(json.loads(json.dumps(pack(value, []))), []) == value


def test_a_function_does_not_travel_but_its_recipe_does():
    with pytest.raises(wire.Malformed, match="Make"):
        pack(lambda x: x, [])
    make = Make("gdm_course.data.toy.get", ("two_moons",))
    assert unpack(pack(make, []), []) == make


def same(a: object, b: object) -> bool:
    if isinstance(a, torch.Tensor):
        return a.dtype == b.dtype and torch.equal(a, b)
    if isinstance(a, tuple | list):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, dict):
        return same([*a.items()], [*b.items()])
    if isinstance(a, Make):
        return same(vars(a), vars(b))
    return a == b


@pytest.mark.parametrize("unit", UNITS)
def test_every_ask_of_the_course_travels(unit):
    for question in questions(unit).values():
        assert isinstance(question, Question)
        for ask in question.asks(12345):
            spec, arrays = pack_ask(ask)
            message, arrived = wire.decode(wire.encode({"ask": spec}, arrays)[8:])
            assert same(vars(unpack_ask(message["ask"], arrived)), vars(ask))


def test_an_ask_with_everything_travels():
    ask = Ask(
        args=(torch.eye(2), Make("math.sqrt", (torch.tensor(4.0),))),
        kwargs={"k": 3},
        seed=2**47,
        init=(2,),
        state={"W": torch.ones(2)},
        method="log_prob",
        jacobian=True,
        argument=1,
        kept=True,
    )
    spec, arrays = pack_ask(ask)
    assert same(vars(unpack_ask(spec, arrays)), vars(ask))
    assert importlib.import_module("math").sqrt(4) == ask.args[1].resolve()
