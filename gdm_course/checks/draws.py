"""Where the inputs of questions come from: a public seed, or a secret one of the judge.

A stranger's code sees some of what is drawn and must not be able to draw the rest: the
inputs of later asks, or the pre-image that a question asks for. Torch's own seeding keeps
32 bits of a seed, few enough to try all of them, so a secret seed fills the whole state.
"""

import hmac
from hashlib import shake_256

import torch

SECRET = 2**64  # seeds from here on are secret
WORDS, FIRST = 624, 24  # of the generator's state: its words, and where they begin


def generator(seed: int) -> torch.Generator:
    """Return the generator that a question draws its inputs from.

    Args:
        seed: below 2^64 a public one, as notebooks have, which torch takes as it is; above
            it a secret one. The first 624 words drawn from that are independent: nothing
            follows from those that are shown to those that are not.
    """
    made = torch.Generator()
    if seed < SECRET:
        return made.manual_seed(seed)
    state = made.manual_seed(0).get_state()
    noise = shake_256(seed.to_bytes(1 + seed.bit_length() // 8)).digest(4 * WORDS)
    words = torch.frombuffer(bytearray(noise), dtype=torch.int32).long() & 0xFFFFFFFF
    state[FIRST : FIRST + 8 * WORDS] = words.view(torch.uint8)
    return made.set_state(state)


def derived(secret: int, *what: str | int) -> int:
    """A secret seed that follows from another, one way, and from a name and a number."""
    key = secret.to_bytes(1 + secret.bit_length() // 8)
    text = "\0".join(map(str, what)).encode()
    return 2**256 + int.from_bytes(hmac.digest(key, text, "sha256"))
