"""autoregressive/gpt: right answers in other styles, and what its text demands."""

import math

import numpy as np
import torch
import torch.nn.functional as F


def window_weights_loop(scores, W):
    T = len(scores)
    weights = torch.zeros(T, T)
    for t in range(T):
        first = max(0, t - W + 1)
        e = [math.exp(scores[t, s]) for s in range(first, t + 1)]
        for s in range(first, t + 1):
            weights[t, s] = e[s - first] / sum(e)
    return weights


def window_weights_torch(scores, W):
    allowed = torch.ones_like(scores, dtype=torch.bool).tril().triu(1 - W)
    return F.softmax(torch.where(allowed, scores, -1e9), dim=1)


def window_weights_numpy(scores, W):
    e = np.exp(scores.numpy())
    e = np.triu(np.tril(e), 1 - W)
    return (e / e.sum(1, keepdims=True)).tolist()


def attention_step_loop(q, keys, values):
    out = []
    for b in range(len(q)):
        w = [math.exp(q[b] @ k / math.sqrt(q.shape[1])) for k in keys[b]]
        out.append(sum(a * v for a, v in zip(w, values[b])) / sum(w))
    return torch.stack(out)


def attention_step_torch(q, keys, values):
    return F.scaled_dot_product_attention(q[:, None], keys, values)[:, 0]


def attention_step_numpy(q, keys, values):
    q, k, v = q.numpy(), keys.numpy(), values.numpy()
    scores = np.einsum("bd,btd->bt", q, k) / np.sqrt(k.shape[-1])
    w = np.exp(scores - scores.max(1, keepdims=True))
    return np.einsum("bt,btd->bd", w / w.sum(1, keepdims=True), v)


def nucleus_loop(p, top_p):
    rows = []
    for row in p.tolist():
        kept, total = set(), 0.0
        for i in sorted(range(len(row)), key=lambda i: -row[i]):
            if total >= top_p:
                break
            kept.add(i)
            total += row[i]
        rows.append([row[i] / total if i in kept else 0.0 for i in range(len(row))])
    return torch.tensor(rows)


def nucleus_torch(p, top_p):
    """Mask, in the place of each token, by what the likelier ones have together."""
    likelier = torch.where(p[:, None] > p[:, :, None], p[:, None], 0).sum(-1)
    return F.normalize(p * (likelier < top_p), p=1, dim=-1)


def nucleus_numpy(p, top_p):
    p = p.numpy()
    order = np.argsort(-p, axis=1)
    ranked = np.take_along_axis(p, order, 1)
    ranked[np.cumsum(ranked, 1) - ranked >= top_p] = 0
    kept = np.empty_like(p)
    np.put_along_axis(kept, order, ranked, 1)
    return kept / kept.sum(1, keepdims=True)


def most_frequent_pair_loop(tokens):
    counts, best = {}, None
    for i in range(len(tokens) - 1):
        pair = (tokens[i].item(), tokens[i + 1].item())
        counts[pair] = counts.get(pair, 0) + 1
        if best is None or counts[pair] > counts[best]:
            best = pair
    return best


def most_frequent_pair_torch(tokens):
    pairs = torch.stack([tokens[:-1], tokens[1:]], dim=1)
    found, counts = pairs.unique(dim=0, return_counts=True)
    return found[counts.argmax()]  # a tensor of two


def most_frequent_pair_numpy(tokens):
    x = tokens.numpy()
    found, counts = np.unique(np.stack([x[:-1], x[1:]]), axis=1, return_counts=True)
    return list(found[:, counts.argmax()])


def merge_pair_loop(tokens, pair, new):
    merged, skip = [], False
    for i, token in enumerate(tokens.tolist()):
        if skip:
            skip = False
        elif i + 1 < len(tokens) and (token, int(tokens[i + 1])) == pair:
            merged.append(new)
            skip = True
        else:
            merged.append(token)
    return torch.tensor(merged)


def merge_pair_torch(tokens, pair, new):
    hit = F.pad((tokens[:-1] == pair[0]) & (tokens[1:] == pair[1]), (0, 1))
    for i in hit.nonzero().flatten():
        if i > 0 and hit[i - 1]:  # used up by the merge before
            hit[i] = False
    keep = ~F.pad(hit, (1, 0))[:-1]
    return torch.where(hit, new, tokens)[keep]


def merge_pair_numpy(tokens, pair, new):
    text = "".join(map(chr, tokens.tolist()))
    return [ord(c) for c in text.replace("".join(map(chr, pair)), chr(new))]


def bits_per_byte_loop(nats, tokens, text):
    size = sum(len(letter.encode("utf-8")) for letter in text)
    return tokens * nats / math.log(2) / size


def bits_per_byte_torch(nats, tokens, text):
    return torch.tensor(nats * tokens) / math.log(2) / len(bytes(text, "utf-8"))


def bits_per_byte_numpy(nats, tokens, text):
    size = np.frombuffer(text.encode(), dtype=np.uint8).size
    return np.log2(np.exp(nats)) * tokens / size


DEMANDS = {
    "window_weights": {
        "the last $W$ positions only": "this sees all of the past",
        "itself included": "one position too many",
        "their weights sum to 1 all the same": "the rows do not sum to 1",
    },
    "attention_step": {
        "the keys and values of all positions": "keys and values are exchanged",
        "\\sqrt d": "the scores are not scaled",
    },
    "nucleus": {
        "the *fewest* likeliest tokens": "this keeps two tokens everywhere",
        "sum to `top_p` or more": "the token that crosses top_p belongs",
        "renormalises": "right tokens, but what is left",
        "every token in its own place": "these are sorted",
    },
    "most_frequent_pair": {
        "they overlap": "pairs overlap",
        "holds $(2,2)$ twice": "2 2 2 holds the pair",
        "the left one first": "the pair is the wrong way round",
    },
    "merge_pair": {
        "every occurrence of the pair": "replace every occurrence",
        "from left to right": "merge from left to right",
        "A token that was used in one merge is gone": "after a merge both tokens",
    },
    "bits_per_byte": {
        "bits per **byte** of the text in UTF-8": "len(text) counts characters",
        "nats per token": "these are bits per token",
    },
}
