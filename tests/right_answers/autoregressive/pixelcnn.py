"""autoregressive/pixelcnn: right answers in other styles, and what its text demands."""

import itertools
import math

import numpy as np
import torch
import torch.nn.functional as F


def raster_masks_loop(inputs, outputs, size):
    A = torch.zeros(len(outputs), len(inputs), size, size)
    B, middle = A.clone(), size // 2
    for o, n, i, j in itertools.product(*map(range, A.shape)):
        earlier = i < middle or (i == middle and j < middle)
        here = i == middle and j == middle
        A[o, n, i, j] = earlier or (here and outputs[o] > inputs[n])
        B[o, n, i, j] = earlier or (here and outputs[o] >= inputs[n])
    return A, B


def raster_masks_torch(inputs, outputs, size):
    place = torch.arange(size * size).view(size, size) - size * size // 2
    before, middle = place < 0, place == 0
    o, n = outputs.view(-1, 1, 1, 1), inputs.view(1, -1, 1, 1)
    return before | (middle & (o > n)), before | (middle & (o >= n))


def raster_masks_numpy(inputs, outputs, size):
    flat = np.zeros((2, len(outputs), len(inputs), size * size))
    half = size * size // 2
    flat[..., :half] = 1
    flat[0, :, :, half] = np.greater.outer(outputs.numpy(), inputs.numpy())
    flat[1, :, :, half] = np.greater_equal.outer(outputs.numpy(), inputs.numpy())
    return tuple(flat.reshape(2, len(outputs), len(inputs), size, size))


def receptive_field_loop(A, B, layers, side):
    seen = {(side // 2, side // 2)}
    for mask in [B] * layers + [A]:
        r, spread = len(mask) // 2, set()
        for (i, j), (k, m) in itertools.product(seen, mask.nonzero().tolist()):
            at = i + k - r, j + m - r
            if min(at) >= 0 and max(at) < side:
                spread.add(at)
        seen = spread
    picture = torch.zeros(side, side)
    for at in seen:
        picture[at] = 1
    return picture


def receptive_field_torch(A, B, layers, side):
    seen = F.pad(torch.ones(1, 1, 1, 1), [side // 2] * 4)
    for mask in (*[B] * layers, A):
        turned = mask.flip(0, 1)[None, None]
        seen = F.conv2d(seen, turned, padding="same").clamp(max=1)
    return seen.squeeze().round().bool()


def receptive_field_numpy(A, B, layers, side):
    seen = np.zeros((side, side))
    seen[side // 2, side // 2] = 1
    for mask in [B.numpy()] * layers + [A.numpy()]:
        r = len(mask) // 2
        wide = np.zeros((side + 2 * r, side + 2 * r))
        for i, j in np.argwhere(seen):
            wide[i : i + 2 * r + 1, j : j + 2 * r + 1] += mask
        seen = np.sign(wide[r : r + side, r : r + side])
    return seen


def gated_step_loop(h, right, down, A, Q):
    F_, rows = h.shape[1], []
    for one, r, d in zip(h, right, down):
        a = r + A @ d
        gated = [math.tanh(a[i]) / (1 + math.exp(-a[F_ + i])) for i in range(F_)]
        rows.append(one + Q @ torch.tensor(gated))
    return torch.stack(rows)


def gated_step_torch(h, right, down, A, Q):
    a = torch.addmm(right, down, A.mT)
    n = a.size(-1) // 2
    return torch.baddbmm(h[None], (a[:, :n].tanh() * a[:, n:].sigmoid())[None], Q.mT[None])[
        0
    ]


def gated_step_numpy(h, right, down, A, Q):
    h, right, down, A, Q = (t.numpy() for t in (h, right, down, A, Q))
    signal, valve = np.split(right + down @ A.T, 2, axis=1)
    return h + np.einsum("fg,bg->bf", Q, np.tanh(signal) / (1 + np.exp(-valve)))


def logistic_bin_loop(v, mu, log_s, r):
    def log_sigmoid(a):
        return -math.log1p(math.exp(-a)) if a > 0 else a - math.log1p(math.exp(a))

    out = []
    for x, m, log_scale in zip(v.tolist(), mu.tolist(), log_s.tolist()):
        s = math.exp(log_scale)
        b, a = (x + r - m) / s, (x - r - m) / s
        out.append(log_sigmoid(b) + log_sigmoid(-a) + math.log(-math.expm1(-2 * r / s)))
    return torch.tensor(out)


def logistic_bin_torch(v, mu, log_s, r):
    s = log_s.exp()
    b, a = (v - mu + r) / s, (v - mu - r) / s
    return -F.softplus(-b) - F.softplus(a) + torch.special.expm1(-2 * r / s).neg().log()


def logistic_bin_numpy(v, mu, log_s, r):
    v, mu, s = v.double().numpy(), mu.double().numpy(), np.exp(log_s.double().numpy())
    d = np.abs(v - mu)  # by symmetry, to the left of the mean
    log_sigmoid = lambda a: -np.logaddexp(0, -a)  # noqa: E731
    width = np.log(-np.expm1(-2 * r / s))
    return log_sigmoid((r - d) / s) + log_sigmoid((r + d) / s) + width


def complete_image_loop(model, upper):
    x = [[row.tolist() for row in image[0]] for image in upper]
    for image in x:
        image += [[0] * model.shape[2] for _ in range(model.shape[1] - len(image))]
    for i in range(upper.shape[2], model.shape[1]):
        for j in range(model.shape[2]):
            p = model.conditionals(torch.tensor(x)[:, None]).probs[:, 0, i, j, 1]
            for image, chance in zip(x, p.tolist()):
                image[i][j] = int(torch.rand(()) < chance)
    return torch.tensor(x)[:, None]


def complete_image_torch(model, upper):
    _, H, W = model.shape
    x = F.pad(upper, (0, 0, 0, H - upper.size(2))).flatten(1)
    for d in range(upper[0].numel(), H * W):
        p = model.conditionals(x.view(-1, 1, H, W)).probs.flatten(1, 3)[:, d]
        x[:, d] = torch.multinomial(p, 1).squeeze(1)
    return x.view(-1, 1, H, W)


def complete_image_numpy(model, upper):
    (_, H, W), R = model.shape, upper.shape[2]
    x = np.zeros((len(upper), 1, H, W))
    x[:, :, :R] = upper.numpy()
    for i, j in np.ndindex(H - R, W):
        p = model.conditionals(torch.from_numpy(x)).probs[:, 0, R + i, j].numpy()
        u = torch.rand(len(upper), 1).numpy()
        x[:, 0, R + i, j] = (u > p.cumsum(1)[:, :-1]).sum(1)
    return x


def label_posterior_loop(log_p):
    rows, evidence = [], []
    for row in log_p.tolist():
        best = max(row)
        p = [math.exp(a - best) for a in row]
        rows.append([one / sum(p) for one in p])
        evidence.append(best + math.log(sum(p) / len(p)))
    return torch.tensor(rows), torch.tensor(evidence)


def label_posterior_torch(log_p):
    total = log_p.logsumexp(-1)
    return torch.exp(log_p - total[:, None]), total - math.log(log_p.size(-1))


def label_posterior_numpy(log_p):
    a = log_p.numpy()
    total = np.logaddexp.reduce(a, axis=1)
    return [np.exp(a - total[:, None]), total - np.log(a.shape[1])]


def hard_coded_masks(A, B, layers, side):
    """Right for the usual masks, whatever A and B hold."""
    seen = torch.zeros(side, side)
    r, w = len(A) // 2 + layers * (len(B) // 2), side // 2
    for up in range(r + 1):
        for back in range(-r, r + 1):
            if (up or back > 0) and up <= w and abs(back) <= w and -back <= up - (up > 0):
                seen[w - up, w - back] = 1
    return seen


def one_lower_row(model, upper):
    x = complete_image_torch(model, upper)
    x[:, :, upper.shape[2] + 1 :] = 0
    return x


def copied_images(model, upper):
    x = complete_image_torch(model, upper)
    return torch.cat([x[: len(x) // 4 * 2], x])[: len(x)]


FIXED = {"complete_image": {(1, 1)}}  # grey images
DEMANDS = {
    "raster_masks": {
        "You are given both": "right for grey images only",
        "in the middle row left of the middle": "pixels right of the middle",
        "odd width of the window": "of the rows above you kept the left half",
    },
    "receptive_field": {
        "sizes may differ": "the first layer has the mask A",
        "only the masks": hard_coded_masks,
        "Keep the picture at 0 and 1": "these are numbers of paths",
        "`layers` times mask B": "one layer B is missing",
    },
    "gated_step": {
        "the first half of the channels is $a$, the second $b$": "a and b are the first",
        "given in the shape (out, in)": "transposed",
    },
    "logistic_bin": {
        "hundreds of scales away from the mean": "right near the mean",
        "Use `F.logsigmoid` and `torch.expm1`": "right for wide bins",
    },
    "complete_image": {
        "draw the rest": one_lower_row,
        "the first R rows are `upper`": "every image has its own upper rows",
        "every image is to be drawn anew": copied_images,
    },
    "label_posterior": {"the `exp` of most is 0": "exp(-300) underflows"},
}
