"""Byte-pair tokens: an alphabet learned from a text, in which frequent strings are letters.

References:
    Gage (1994). A new algorithm for data compression. C Users Journal.
    Sennrich, Haddow, Birch (2016). Neural machine translation of rare words with subword
        units. arXiv:1508.07909.
    Radford et al. (2019). Language models are unsupervised multitask learners. OpenAI.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from itertools import pairwise

Pair = tuple[int, int]

# Words with the space before them, space, anything else: every byte is in one chunk.
CHUNK = re.compile(rb" ?[A-Za-z0-9_\x80-\xff]+|\s+|[^A-Za-z0-9_\x80-\xff\s]+")


def merge(tokens: Sequence[int], pair: Pair, new: int) -> list[int]:
    """Replace every occurrence of a pair by the token `new`, from left to right."""
    merged, i = [], 0
    while i < len(tokens):
        if tuple(tokens[i : i + 2]) == pair:
            merged.append(new)
            i += 2
        else:
            merged.append(tokens[i])
            i += 1
    return merged


def learn(data: bytes, size: int) -> list[Pair]:
    """Merge the most frequent pair of neighbours, again and again, up to `size` tokens.

    Pairs are counted inside of words, once per different word; only words that hold the
    merged pair are counted anew.

    Args:
        data: the text.
        size: of the vocabulary: 256 bytes and size - 256 merges; fewer if pairs run out.

    Returns:
        The merges in order: the i-th makes token 256 + i from two earlier ones.
    """
    often = Counter(CHUNK.findall(data))
    words, weights = [[*word] for word in often], [*often.values()]
    counts, where = Counter(), defaultdict(set)

    def count(i: int, sign: int) -> None:
        for pair in pairwise(words[i]):
            counts[pair] += sign * weights[i]
            where[pair].add(i)

    for i in range(len(words)):
        count(i, +1)
    merges: list[Pair] = []
    while len(merges) < size - 256 and counts:
        best = max(counts, key=lambda pair: (counts[pair], pair))  # ties: the later bytes
        if counts[best] < 2:
            break
        for i in sorted(where.pop(best)):
            count(i, -1)
            words[i] = merge(words[i], best, 256 + len(merges))
            count(i, +1)
        merges.append(best)
    return merges


def in_alphabet(tokens: Sequence[int], K: int) -> Sequence[int]:
    """Return tokens, if all are from 0 to K - 1: a list counts -1 from its end."""
    for token in tokens:
        if not 0 <= token < K:
            raise ValueError(f"token {token}: expected 0 to {K - 1}, as there are {K}")
    return tokens


class BPE:
    """A tokeniser: bytes -> tokens 0..K-1 -> the same bytes, whatever they are.

    Args:
        merges: pairs in the order in which they were learned.
    """

    def __init__(self, merges: Sequence[Pair]):
        self.merges = [*merges]
        self.vocabulary = [bytes([i]) for i in range(256)]  # what each token stands for
        for left, right in merges:
            self.vocabulary.append(self.vocabulary[left] + self.vocabulary[right])
        self.token = {pair: 256 + i for i, pair in enumerate(merges)}
        self.known: dict[bytes, list[int]] = {}

    @property
    def K(self) -> int:
        """How many tokens there are."""
        return len(self.vocabulary)

    def encode_word(self, word: bytes) -> list[int]:
        """Apply the merges to one chunk, the one learned first before the others."""
        tokens = [*word]
        while pairs := [pair for pair in pairwise(tokens) if pair in self.token]:
            first = min(pairs, key=self.token.get)
            tokens = merge(tokens, first, self.token[first])
        return tokens

    def encode(self, data: bytes) -> list[int]:
        """Return the tokens of any bytes."""
        for word in {*CHUNK.findall(data)} - self.known.keys():
            self.known[word] = self.encode_word(word)
        return [token for word in CHUNK.findall(data) for token in self.known[word]]

    def decode(self, tokens: Sequence[int]) -> bytes:
        """Return the bytes of any tokens."""
        return b"".join(self.vocabulary[token] for token in in_alphabet(tokens, self.K))
