"""GPT against generation without a cache, and against other libraries where installed.

`pip install 'gdm_course[peers]'` brings the others; what is missing is left out.
"""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

from gdm_course.autoregressive.decoding import choose
from gdm_course.autoregressive.gpt import GPT
from gdm_course.training import adam
from tests.benchmarks.harness import Ratio, compare

K, T, LAYERS, HEADS, WIDTH = 65, 256, 6, 4, 128  # 1.2 million parameters


@torch.no_grad()
def without_cache(model: GPT, n: int, length: int) -> Tensor:
    """Samples (n, length) with a pass over the whole past for every token."""
    x = torch.zeros(n, length, dtype=torch.int64)
    for t in range(length):
        x[:, t] = choose(model(x[:, : t + 1])[:, t])
    return x


@torch.no_grad()
def term_by_term(model: GPT, x: Tensor) -> Tensor:
    """Log p(x) with a forward pass for every token."""
    terms = [
        model(x[:, : t + 1])[:, t].log_softmax(-1).gather(1, x[:, t, None])[:, 0]
        for t in range(x.shape[1])
    ]
    return torch.stack(terms).sum(0)


def step_of(model: nn.Module, loss: Callable[[], Tensor]) -> Callable[[], None]:
    """One training step, with the same optimiser for everybody."""
    optimizer = adam(model.parameters(), 1e-3)

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        loss().backward()
        optimizer.step()

    return step


def hugging_face() -> tuple[nn.Module, Callable, Callable]:
    """Hugging Face's GPT-2 of the same shape: the model, its loss, its generation."""
    from transformers import GPT2Config, GPT2LMHeadModel

    sizes = {"n_positions": T, "n_embd": WIDTH, "n_layer": LAYERS, "n_head": HEADS}
    none = {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}
    tokens = {"vocab_size": K, "bos_token_id": 0, "eos_token_id": None, "pad_token_id": 0}
    model = GPT2LMHeadModel(GPT2Config(**sizes, **none, **tokens))
    how = {"do_sample": True, "use_cache": True, "top_k": 0}

    def generate(n: int, new: int) -> Tensor:
        start = torch.zeros(n, 1, dtype=torch.int64)
        mask = torch.ones_like(start)
        return model.generate(start, attention_mask=mask, max_new_tokens=new, **how)

    return model, lambda x: model(x, labels=x).loss, generate


def x_transformers() -> tuple[nn.Module, Callable, Callable]:
    """The same with x-transformers."""
    from x_transformers import AutoregressiveWrapper, Decoder, TransformerWrapper

    layers = Decoder(dim=WIDTH, depth=LAYERS, heads=HEADS, attn_dim_head=WIDTH // HEADS)
    net = TransformerWrapper(num_tokens=K, max_seq_len=T, attn_layers=layers)
    model = AutoregressiveWrapper(net)
    start = lambda n: torch.zeros(n, 1, dtype=torch.int64)  # noqa: E731
    return model, model, lambda n, new: model.generate(start(n), new, cache_kv=True)


PEERS = {"Hugging Face GPT-2": hugging_face, "x-transformers": x_transformers}


def peers() -> Iterator[Ratio]:
    """Training steps and generation against whatever is installed."""
    ours, x = GPT(K, T, layers=LAYERS, heads=HEADS, width=WIDTH), torch.randint(K, (16, T))
    for name, make in PEERS.items():
        try:
            other, loss, generate = make()
        except ImportError:
            print(f"{name} is not installed: left out (pip install 'gdm_course[peers]')")
            continue
        yield compare(
            f"GPT {sum(p.numel() for p in ours.parameters()):,}, step B16 T{T}",
            step_of(ours.train(), lambda: ours.loss(x)),
            step_of(other.train(), lambda loss=loss: loss(x)),
            name,
            goal=1,
            repeat=5,
        )
        ours.eval(), other.eval()
        for n in (1, 16):
            yield compare(
                f"the same, {n} x 200 tokens",
                lambda n=n: ours.sample(n, length=200),
                lambda n=n, generate=generate: generate(n, 200),
                f"{name}, with its cache",
                goal=2 if n == 1 else 1.5,
                repeat=3,
            )


def ratios() -> Iterator[Ratio]:
    """All comparisons of GPT."""
    torch.manual_seed(0)
    model = GPT(K, T, layers=LAYERS, heads=HEADS, width=WIDTH).eval()
    x = torch.randint(K, (4, T))
    with torch.no_grad():
        assert torch.allclose(model.log_prob(x), term_by_term(model, x), rtol=1e-4)
        yield compare(
            f"GPT, log_prob of 4 x {T} tokens",
            lambda: model.log_prob(x),
            lambda: term_by_term(model, x),
            "a forward pass per token",
            repeat=1,
        )
    for n in (1, 8):
        torch.manual_seed(1)
        cached = model.sample(n, length=40)
        torch.manual_seed(1)
        assert torch.equal(cached, without_cache(model, n, 40))
        yield compare(
            f"GPT, {n} x {T} tokens",
            lambda n=n: model.sample(n),
            lambda n=n: without_cache(model, n, T),
            "without a cache",
            goal=10,
            repeat=3 if n == 1 else 1,
        )
    yield from peers()
