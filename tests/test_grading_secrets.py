"""What a box is told gives away no input: no seed, no number, no earlier question."""

import json
from collections.abc import Iterator
from functools import cache

import pytest
import torch
from torch import Tensor

from gdm_course.authoring.course import load
from gdm_course.checks import draws
from gdm_course.checks.question import Question, run
from gdm_course.grading.guest.packing import unpack_ask
from gdm_course.grading.judge.assignment import assignments
from gdm_course.grading.judge.judge import grade
from gdm_course.grading.judge.notebook import Notebook
from gdm_course.source import PACKAGE, ROOT

MAPS = assignments(load(ROOT))
del MAPS["challenges/capstone"]  # its reference earns nothing: see test_capstone.py
CASES = [(unit, name) for unit, made in MAPS.items() for name in made.questions]
SECRET = 0x5EC2E7_0123456789ABCDEF_0123456789ABCDEF


class Recorder:
    """A box that keeps what it is sent, and answers with the references."""

    rung, peak, cpu = "L3", 0, 0.0

    def __init__(self, questions: dict[str, Question], sent: list):
        self.questions, self.sent = questions, sent

    def ready(self, seconds: float) -> None:
        """It always is."""

    def request(self, message: dict, arrays: list, seconds: float):
        self.sent.append((message, [a.clone() for a in arrays]))
        if message["do"] == "load":
            return {"ok": True, "found": [*self.questions]}, []
        reference = self.questions[message["name"]].reference
        return {"ok": True}, run(unpack_ask(message["ask"], arrays), reference)

    def close(self) -> None:
        """There is nothing to close."""


@cache
def sent(unit: str, seed: int = SECRET) -> list[tuple[dict, list[Tensor]]]:
    """All frames of a whole grading, by what they hold."""
    frames: list = []
    made = MAPS[unit]
    result = grade(
        Notebook(()), "k", made, lambda: Recorder(made.questions, frames), seed=seed
    )
    assert result.earned == result.points
    return frames


def asked(unit: str, name: str) -> list[tuple[dict, list[Tensor]]]:
    return [(m, a) for m, a in sent(unit) if m.get("name") == name]


def numbers(value: object) -> set[int]:
    """Every integer of a message, wherever it stands and however it is written."""
    if isinstance(value, dict):
        return set().union(*map(numbers, value.values()))
    if isinstance(value, list | tuple):
        return set().union(*map(numbers, value))
    if isinstance(value, str) and value.isdecimal():
        return {int(value)}
    return {value} if type(value) is int else set()


def tensors(question: Question, seed: int) -> list[Tensor]:
    found: list[Tensor] = []
    for ask in question.asks(seed):
        found += [a for a in (*ask.args, *(ask.state or {}).values()) if torch.is_tensor(a)]
    return found


def drawn(arrays: list[Tensor]) -> list[Tensor]:
    """Those arrays that no two draws have in common: enough numbers, no counting."""
    return [a for a in arrays if a.is_floating_point() and len(a.unique()) > 4]


@pytest.mark.parametrize(("unit", "name"), CASES)
def test_no_number_in_a_frame_reproduces_the_inputs(unit, name):
    """`torch.initial_seed()`, a `Make` argument, anything near them, whole or scaled."""
    question, frames = MAPS[unit].questions[name], asked(unit, name)
    inputs = [a for _, arrays in frames for a in drawn(arrays)]
    told = set().union(*(numbers(message) for message, _ in frames)) | {*range(20)}
    near = {n // by + shift for n in told for by in (1, 2, 4, 8) for shift in range(-8, 9)}
    for guess in {g for g in near if g >= 0}:
        guessed = drawn(tensors(question, guess))
        assert not any(torch.equal(g, i) for g in guessed for i in inputs), guess


@pytest.mark.parametrize("unit", MAPS)
def test_the_secret_is_in_no_frame(unit):
    """Not whole, not in part, in no base, of no length that could be searched."""
    secret = SECRET.to_bytes((SECRET.bit_length() + 7) // 8)
    parts = {secret[i : i + 6] for i in range(len(secret) - 5)}
    for message, arrays in sent(unit):
        text = json.dumps(message)
        raw = b"".join(a.contiguous().numpy().tobytes() for a in arrays)
        for part in parts:
            assert str(int.from_bytes(part)) not in text
            assert part.hex() not in text.lower()
            assert part not in raw
            assert part[::-1] not in raw


def test_the_secret_is_too_long_to_be_tried_out():
    made = MAPS["flows/maf"]
    make = lambda: Recorder(made.questions, [])  # noqa: E731
    seeds = [grade(Notebook(()), "k", made, make).seed for _ in range(6)]
    assert len({*seeds}) == 6
    assert max(seeds).bit_length() > 120


@pytest.mark.parametrize("unit", MAPS)
def test_no_question_shows_the_inputs_of_another(unit):
    """Else the z of `planar_log_det` is the answer to `invert_planar`."""
    seen: dict[bytes, str] = {}
    for name in MAPS[unit].questions:
        for _, arrays in asked(unit, name):
            for three in threes(drawn(arrays)):
                assert seen.setdefault(three, name) == name


def threes(arrays: list[Tensor]) -> Iterator[bytes]:
    """Three numbers in a row, where they were drawn: those have more than ten bits."""
    for array in arrays:
        rows = array.double().flatten().unfold(0, 3, 1)
        fine = ((rows * 1024).frac() != 0).all(1)
        yield from (row.numpy().tobytes() for row in rows[fine])


def test_an_appeal_asks_the_same_again():
    first, second, other = (sent("flows/planar", seed) for seed in (SECRET, SECRET + 0, 7))
    sent.cache_clear()
    again = sent("flows/planar")
    for (m, a), (n, b) in zip(first, again, strict=True):
        assert m == n
        assert all(torch.equal(x, y) for x, y in zip(a, b, strict=True))
    assert first is second
    assert not torch.equal(first[1][1][0], other[1][1][0])


# Where inputs come from -------------------------------------------------------------------


def test_a_public_seed_is_torchs_own():
    here, torchs = draws.generator(3), torch.Generator().manual_seed(3)
    assert torch.equal(torch.rand(700, generator=here), torch.rand(700, generator=torchs))


def test_a_secret_seed_fills_the_whole_state():
    """Of a seed of its own torch keeps 32 bits: 2^32 are tried in minutes."""
    low = torch.Generator().manual_seed(SECRET % 2**32)
    first = torch.rand(3000, generator=draws.generator(SECRET))
    assert torch.equal(first, torch.rand(3000, generator=draws.generator(SECRET)))
    assert not torch.equal(first, torch.rand(3000, generator=low))
    for flipped in (1 << 70, 1 << 100, 1):
        other = torch.rand(3000, generator=draws.generator(SECRET ^ flipped))
        assert not (first == other).float().mean() > 0.01
    assert abs(first.mean() - 0.5) < 6 * (1 / 12 / 3000) ** 0.5
    assert abs(first.var() - 1 / 12) < 0.01


def test_torch_keeps_its_state_where_we_write_it():
    """The layout: 24 bytes, then 624 words of 32 bits in places of 64; then the normals."""
    state = torch.Generator().manual_seed(0xABCDEF01).get_state()
    assert state.numel() == 5056
    words = state[24 : 24 + 8 * 624].view(torch.int64)
    assert words[0] == 0xABCDEF01
    assert words[1] == (1812433253 * (0xABCDEF01 ^ (0xABCDEF01 >> 30)) + 1) % 2**32
    assert words.max() < 2**32


@pytest.mark.parametrize("name", ["flows/planar.invert_planar", "flows/maf.solve_bin"])
def test_a_hidden_pre_image_does_not_follow_from_what_is_shown(name, monkeypatch):
    """Independent words end after 624: from then on a stream follows from its past."""
    unit, question = name.split(".")
    made: list[torch.Generator] = []
    original = draws.generator

    def watched(seed: int) -> torch.Generator:
        made.append(original(seed))
        return made[-1]

    monkeypatch.setattr("gdm_course.checks.question.generator", watched)
    MAPS[unit].questions[question].asks(SECRET)
    once = original(SECRET)
    torch.rand(1, generator=once)
    assert torch.equal(made[0].get_state()[24:5016], once.get_state()[24:5016])


def test_questions_draw_from_there_alone():
    """A question that seeds a generator itself would have inputs of 32 bits."""
    elsewhere = {"draws.py": 2, "ask.py": 2}
    elsewhere["capstone.py"] = 1  # the judge's own noise, after the answer is in
    for path in (PACKAGE / "checks").rglob("*.py"):
        found = path.read_text(encoding="utf-8").count("manual_seed(")
        assert found == elsewhere.get(path.name, 0), path
