"""Generation of sound with queues and states against a full pass for every sample."""

import time
from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from gdm_course.autoregressive.wavenet import Queues, WaveNet, receptive_field
from gdm_course.autoregressive.wavernn import WaveRNN
from tests.benchmarks.harness import Ratio, compare, table

SAMPLES = 8000


def loop_by_queue(model: WaveNet, codes: Tensor) -> Tensor:
    """The outputs after codes (n, t), by queues: (n, P)."""
    queues = Queues(model.net, len(codes))
    for code in codes.T:
        out = queues.step(code)
    return out


def cached_against_naive(blocks: int, n: int, seen: int, goal: float | None) -> Ratio:
    """Time per sample of `n` sounds at once, by queues and by a pass over `seen` codes.

    Both costs are the same for every sample, so a few stand for 8,000: `seen` is either the
    receptive field, which is all that a pass needs, or 4,000, the mean length of the past.
    Ours pays for setting its queues up, too, which a long sound does only once.
    """
    model, few = WaveNet(dilations=[2**i for i in range(blocks)]).eval(), 5
    past = torch.randint(256, (n, seen))
    assert seen >= receptive_field(model.net.dilations)
    with torch.no_grad():
        assert torch.allclose(loop_by_queue(model, past), model.net(past)[:, -1], atol=1e-3)

        def naive():
            for _ in range(few):
                model.output(model.net(past)[:, -1]).sample()

        name = f"WaveNet, {blocks} blocks, {few} of {SAMPLES:,} samples, {n} at once"
        repeat = 5 if n == 1 else 2
        against = f"a pass over {seen:,} codes per sample"
        return compare(name, lambda: model.sample(n, T=few), naive, against, goal, repeat)


def seconds_per_sound(n: int, T: int = SAMPLES) -> dict[str, float]:
    """Milliseconds per step of n whole sounds, by model."""
    found = {}
    for model in (WaveNet().eval(), WaveRNN().eval()):
        start = time.perf_counter()
        model.sample(n, T)
        found[type(model).__name__] = 1e3 * (time.perf_counter() - start) / T
    return found


def one_pass(T: int = 1000) -> Ratio:
    """log_prob of 4 sounds in one pass against the same numbers step by step."""
    model, x = WaveNet().eval(), torch.randint(256, (4, T))
    before = F.pad(x, (1, 0), value=128)[:, :-1]

    def steps():
        queues, total = Queues(model.net, 4), 0.0
        for code, new in zip(before.T, x.T):
            total = total + model.output(queues.step(code)).log_prob(new)
        return total

    with torch.no_grad():
        assert torch.allclose(model.log_prob(x), steps(), rtol=1e-3)
        ours = lambda: model.log_prob(x)  # noqa: E731
        return compare(f"WaveNet, log_prob of 4 x {T:,}", ours, steps, "steps", repeat=3)


def ratios() -> Iterator[Ratio]:
    """All comparisons, one after the other."""
    for blocks, n in ((8, 1), (8, 16), (10, 1), (10, 16)):
        yield cached_against_naive(blocks, n, 2**blocks, goal=None)
        yield cached_against_naive(blocks, n, SAMPLES // 2, goal=10)
    yield one_pass()


if __name__ == "__main__":
    torch.manual_seed(0)
    print(table(list(ratios())))
    for n in (1, 16):
        for name, ms in seconds_per_sound(n).items():
            print(f"{name}: {n} sounds of {SAMPLES:,}: {ms:.3f} ms/step, {ms / n:.4f} each")
