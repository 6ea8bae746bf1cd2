"""gan/cyclegan: right answers in other styles, and what its text demands."""

import numpy as np
import torch
from torch.nn.functional import l1_loss


def trips(start, first, second):
    """Mean |start first second - start|, number by number."""
    total = 0.0
    for row in start.double():
        back = [
            sum(
                float(row[i] * first[i, j] * second[j, k])
                for i in range(len(row))
                for j in range(len(row))
            )
            for k in range(len(row))
        ]
        total += sum(abs(b - float(r)) for b, r in zip(back, row))
    return total / start.numel()


def cycle_loss_loop(x, y, G, F):
    return trips(x, G, F) + trips(y, F, G)


def cycle_loss_torch(x, y, G, F):
    return l1_loss(x @ (G @ F), x) + l1_loss(y @ (F @ G), y)


def cycle_loss_numpy(x, y, G, F):
    x, y, G, F = (t.double().numpy() for t in (x, y, G, F))
    eye = np.eye(len(G))
    return np.abs(x @ (G @ F - eye)).mean() + np.abs(y @ (F @ G - eye)).mean()


def identity_loss_loop(x, y, G, F):
    eye = torch.eye(len(G), dtype=G.dtype)
    return trips(y, G, eye) + trips(x, F, eye)


def identity_loss_torch(x, y, G, F):
    return l1_loss(torch.mm(y, G), y) + l1_loss(torch.mm(x, F), x)


def identity_loss_numpy(x, y, G, F):
    x, y, G, F = (t.double().numpy() for t in (x, y, G, F))
    return np.mean(np.abs(y - y @ G)) + np.mean(np.abs(x - x @ F))


def patches_loop(size, layers):
    """Backwards: one logit's pixels grow to (n - 1) stride + kernel."""
    field = 1
    for kernel, stride, _ in reversed(layers.tolist()):
        field = (field - 1) * stride + kernel
    for kernel, stride, padding in layers.tolist():
        size = len(range(0, size + 2 * padding - kernel + 1, stride))
    return [size, field]


def patches_torch(size, layers):
    """By a real convolution in one dimension, and the slope of one of its outputs."""
    x = torch.zeros(1, 1, 400, requires_grad=True)
    y, n = x, torch.zeros(1, 1, size)
    for kernel, stride, padding in layers.tolist():
        ones = torch.ones(1, 1, kernel)
        y = torch.conv1d(y, ones, stride=stride, padding=padding)
        n = torch.conv1d(n, ones, stride=stride, padding=padding)
    (slope,) = torch.autograd.grad(y[0, 0, y.shape[-1] // 2], x)
    return torch.tensor([n.shape[-1], int((slope != 0).sum())])


def patches_numpy(size, layers):
    kernels, strides, paddings = layers.numpy().T
    jumps = np.concatenate([[1], np.cumprod(strides)[:-1]])
    for k, s, p in zip(kernels, strides, paddings):
        size = np.floor((size + 2 * p - k) / s) + 1
    return np.array([size, 1 + ((kernels - 1) * jumps).sum()])


def other_pair_loop(G, F, S):
    """Row by row: where the unit vectors go."""
    eye = torch.eye(len(S), dtype=S.dtype)
    there = torch.stack([(row @ G) @ S for row in eye])
    back = torch.stack([torch.linalg.solve(S.T, row) @ F for row in eye])
    return there, back


def other_pair_torch(G, F, S):
    return torch.mm(G, S), torch.linalg.solve(S, F)


def other_pair_numpy(G, F, S):
    G, F, S = (t.double().numpy() for t in (G, F, S))
    return [np.dot(G, S), np.linalg.pinv(S) @ F]


def from_pool_loop(pool, fakes, swap, place):
    pool, shown = [*pool], []
    for fake, yes, at in zip(fakes, swap.tolist(), place.tolist()):
        shown.append(pool[at] if yes else fake)
        pool[at] = fake if yes else pool[at]
    return torch.stack(shown), torch.stack(pool)


def from_pool_torch(pool, fakes, swap, place):
    """By indices: where each row comes from, in the pool or among the fakes."""
    everything, at = torch.cat([pool, fakes]), torch.arange(len(pool))
    source = torch.arange(len(fakes)) + len(pool)
    for i in swap.nonzero().flatten():
        source[i] = at[place[i]].item()
        at[place[i]] = len(pool) + i
    return everything[source], everything[at]


def from_pool_numpy(pool, fakes, swap, place):
    pool, fakes = pool.numpy().copy(), fakes.numpy().copy()
    for i in np.flatnonzero(swap.numpy()):
        old = pool[place[i]].copy()
        pool[place[i]] = fakes[i]
        fakes[i] = old
    return fakes, pool


def labels_kept_loop(logits, y):
    kept, there = {}, {}
    for row, label in zip(logits.tolist(), y.tolist()):
        there[label] = there.get(label, 0) + 1
        kept[label] = kept.get(label, 0) + (row.index(max(row)) == label)
    each = [kept[k] / there[k] for k in there]
    return sum(kept.values()) / len(y), sum(each) / len(each)


def labels_kept_torch(logits, y):
    K = logits.shape[1]
    right = logits.max(1).indices.eq(y).double()
    n = torch.bincount(y, minlength=K)
    share = torch.bincount(y, right, minlength=K)[n > 0] / n[n > 0]
    return torch.stack([right.mean(), share.mean()])


def labels_kept_numpy(logits, y):
    y, K = y.numpy(), logits.shape[1]
    table = np.zeros((K, K))
    np.add.at(table, (y, logits.numpy().argmax(1)), 1)
    n = table.sum(1)
    return [np.trace(table) / len(y), np.mean(np.diag(table)[n > 0] / n[n > 0])]


def same_rows(x, y, G, F):
    """Right only where both domains have as many rows."""
    total = (x @ G @ F - x).abs().sum() + (y @ F @ G - y).abs().sum()
    return total / x.numel()


FIXED = {"patches": {(1, 1)}}  # kernel, stride, padding
DEMANDS = {
    "cycle_loss": {
        "both round trips": "only the way A to B",
        "need not have as many": same_rows,
        "absolute difference": "the price is the absolute",
        "mean over all numbers": "the mean runs over all",
    },
    "identity_loss": {
        "what is in B already": "this forbids to translate",
        "Both translators": "F has a domain",
        "mean absolute difference": "the price is the absolute",
    },
    "patches": {
        "how many logits stand in a row": "sides are asked for",
        "on both sides": "the padding stands",
        "how many pixels in a row one of them sees": "after a stride of 2",
        "had no border": "what a logit sees is counted",
    },
    "other_pair": {
        "need not be a rotation": "S.T is the inverse",
        "every round trip from A ends where it did": "F has to undo S first",
        "$S$ acts in B": "S acts in B",
    },
    "from_pool": {
        "Go row by row": "one place was asked for twice",
        "takes its place": "what is taken out",
        "is shown the old one": "where swap is true",
    },
    "labels_kept": {
        "counts as much as": "the second number",
        "no example": "a class without an example",
        "A label is kept or it is not": "count:",
    },
}
