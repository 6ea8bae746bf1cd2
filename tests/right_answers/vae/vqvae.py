"""vae/vqvae: right answers in other styles, and what its text demands.

Where derivatives are asked for, numpy cannot answer: there the third style is a function of
autograd's own.
"""

import math

import numpy as np
import torch
import torch.nn.functional as F


def nearest_code_loop(z, codebook):
    codes = []
    for vector in z:
        distances = [float(((vector - e) ** 2).sum()) for e in codebook]
        codes.append(distances.index(min(distances)))
    return torch.tensor(codes)


def nearest_code_torch(z, codebook):
    return torch.cdist(z, codebook).min(dim=1).indices


def nearest_code_numpy(z, codebook):
    differences = z.numpy()[:, None] - codebook.numpy()
    return np.argmin(np.linalg.norm(differences, axis=-1), axis=1).tolist()


def straight_through_loop(z, q):
    rows = []
    for one, code in zip(z, q.detach()):
        rows.append(torch.stack([a - a.detach() + b for a, b in zip(one, code)]))
    return torch.stack(rows)


def straight_through_torch(z, q):
    return z + (q - z).detach()


class HandOn(torch.autograd.Function):
    @staticmethod
    def forward(ctx, z, q):
        return q.clone()

    @staticmethod
    def backward(ctx, gradient):
        return gradient, None


def straight_through_numpy(z, q):
    return HandOn.apply(z, q)


def vq_loss_loop(z, e, beta):
    total = 0.0
    for a, b in zip(z, e):
        for x, y in zip(a, b):
            total = total + (x.detach() - y) ** 2 + beta * (x - y.detach()) ** 2
    return total


def vq_loss_torch(z, e, beta):
    codebook = F.mse_loss(e, z.detach(), reduction="sum")
    return codebook + beta * F.mse_loss(z, e.detach(), reduction="sum")


class TwoTerms(torch.autograd.Function):
    @staticmethod
    def forward(ctx, z, e, beta):
        ctx.difference, ctx.beta = z - e, beta
        return (1 + beta) * ctx.difference.square().sum()

    @staticmethod
    def backward(ctx, gradient):
        pull = 2 * gradient * ctx.difference
        return ctx.beta * pull, -pull, None


def vq_loss_numpy(z, e, beta):
    return TwoTerms.apply(z, e, beta)


def ema_step_loop(codebook, count, z, codes, decay):
    book, new = codebook.clone(), count.clone()
    for k in range(len(codebook)):
        won = [vector for vector, code in zip(z, codes) if code == k]
        new[k] = decay * count[k] + (1 - decay) * len(won)
        total = decay * count[k] * codebook[k]
        for vector in won:
            total = total + (1 - decay) * vector
        book[k] = total / new[k]
    return book, new


def ema_step_torch(codebook, count, z, codes, decay):
    """In place, but on tensors of its own."""
    chosen = F.one_hot(codes, len(codebook)).to(z)  # (N, K)
    new = torch.lerp(chosen.sum(0), count, decay)
    book = codebook * count[:, None]
    book *= decay
    book += (1 - decay) * (chosen.T @ z)
    return book.div_(new[:, None]), new


def ema_step_numpy(codebook, count, z, codes, decay):
    book, count, z, codes = (t.numpy() for t in (codebook, count, z, codes))
    s = np.zeros_like(book)
    np.add.at(s, codes, z)
    new = decay * count + (1 - decay) * np.bincount(codes, minlength=len(book))
    m = decay * count[:, None] * book + (1 - decay) * s
    return [m / new[:, None], new]


def fsq_code_loop(z, levels):
    codes = []
    for row in z.tolist():
        code, place = 0, 1
        for number, L in zip(row, levels.tolist()):
            u = L / (1 + math.exp(-2 * number)) - 0.5
            code += place * min(max(round(u), 0), L - 1)
            place *= L
        codes.append(code)
    return torch.tensor(codes)


def fsq_code_torch(z, levels):
    digits = (
        (levels * torch.sigmoid(z + z)).floor().clamp(min=torch.zeros(()), max=levels - 1)
    )
    code = torch.zeros(len(z))
    for digit, L in zip(digits.T.flip(0), levels.flip(0)):  # Horner, from the largest place
        code = code * L + digit
    return code.long()


def fsq_code_numpy(z, levels):
    z, levels = z.double().numpy(), levels.numpy()
    u = levels * 0.5 * (1 + np.tanh(z)) - 0.5  # sigmoid(2 z)
    digits = np.clip(np.rint(u), 0, levels - 1).astype(int)
    return np.ravel_multi_index(tuple(digits.T), tuple(levels), order="F")


def bound_bits_loop(log_p, log_prior):
    out = []
    for picture, codes in zip(log_p, log_prior):
        nats = -sum(picture.flatten().tolist()) - sum(codes.flatten().tolist())
        out.append(nats / math.log(2) / picture.numel())
    return torch.tensor(out)


def bound_bits_torch(log_p, log_prior):
    mean = log_p.mean(dim=(1, 2, 3)) + log_prior.sum((1, 2)) / log_p[0].numel()
    return -mean / torch.log(torch.tensor(2.0))


def bound_bits_numpy(log_p, log_prior):
    p, c = log_p.numpy(), log_prior.numpy()
    total = p.reshape(len(p), -1).sum(1) + c.reshape(len(c), -1).sum(1)
    return -np.log2(np.e) * total / np.prod(p.shape[1:])


def counts_in_place(codebook, count, z, codes, decay):
    book, new = ema_step_loop(codebook, count, z, codes, decay)
    count.copy_(new)
    return book, new


def lost_codes(codebook, count, z, codes, decay):
    """A code that wins nothing falls to 0."""
    book, new = ema_step_loop(codebook, count, z, codes, decay)
    won = codes.bincount(minlength=len(codebook)) > 0
    return torch.where(won[:, None], book, 0), new


DEMANDS = {
    "nearest_code": {
        "return for every vector": "one answer per vector",
        "Codes 0..K-1": "codes are counted from 0",
    },
    "straight_through": {
        "whose *value* is $q$": "the value has to be q",
        "whose derivative in $z$ is that of $z$": "this is q, and z is not in it",
        "the identity": "the gradient is to be handed on as it is",
        "Its derivative in $q$ is to be 0": "the gradient reaches z, but q takes one",
    },
    "vq_loss": {
        "(sg is stop gradient, `detach`)": "the value is right, but without stop gradients",
        "the derivatives in $z$": "the first term pulls at the vectors",
        "and in $e$": "the commitment pulls at the codes",
        "The first moves the codes": "the value is right, but the codes get no gradient",
        "summed over everything": "sum over the numbers of all vectors",
    },
    "ema_step": {
        "Change nothing in place": "right, but codebook and count",
        "in place": counts_in_place,
        "A code that wins nothing has to stay where it is": lost_codes,
    },
    "fsq_code": {
        "the first digit the smallest place": "the first digit is the smallest place",
        "whatever $z_d$ is": "far out u rounds to L_d",
        "rounds it to a digit": "round to the nearest",
    },
    "bound_bits": {
        "in **bits per dimension of the picture**": "these are nats per dimension",
        "A picture told in codes costs the codes": "this is the distortion alone",
    },
}
