"""MAF of patches: a transformer says shift and scale of a patch from the patches before.

References:
    Zhai, Zhang, Nakkiran, Berthelot, Gu, Zheng, Chen, Bautista, Jaitly, Susskind (2024).
        Normalizing flows are capable generative models. arXiv:2412.06329. (TarFlow.)
    Kolesnikov, Pinto, Tschannen (2024). Jet: a modern transformer-based normalizing flow.
        arXiv:2412.15129. (The same with couplings: half of the patches pass.)
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gdm_course import validate
from gdm_course.autoregressive.decoding import Cache
from gdm_course.autoregressive.gpt import Block
from gdm_course.flows.realnvp import bounded
from gdm_course.nets import precise, zero_last


def to_patches(x: Tensor, patch: int) -> Tensor:
    """Cut pictures into squares, row by row: (B, C, H, W) -> (B, T, C patch^2)."""
    B, C, H, W = x.shape
    cut = x.reshape(B, C, H // patch, patch, W // patch, patch)
    return cut.permute(0, 2, 4, 1, 3, 5).flatten(3).flatten(1, 2)


def from_patches(s: Tensor, shape: tuple[int, int, int], patch: int) -> Tensor:
    """Put the squares back together: (B, T, C patch^2) -> (B, C, H, W)."""
    C, H, W = shape
    cut = s.reshape(len(s), H // patch, W // patch, C, patch, patch)
    return cut.permute(0, 3, 1, 4, 2, 5).reshape(len(s), C, H, W)


def patch_sizes(shape: tuple[int, int, int], patch: int) -> tuple[int, int]:
    """Return how many patches a picture has, and how many numbers are in each: T, D.

    Raises:
        ValueError: the picture cannot be cut into whole patches.
    """
    validate.at_least(1, shape=shape, patch=patch)
    if len(shape) != 3 or shape[1] % patch or shape[2] % patch:
        raise ValueError(
            f"pictures of shape {tuple(shape)} cannot be cut into patches of {patch} x "
            f"{patch}: expected (C, H, W) with sides that {patch} divides"
        )
    C, H, W = shape
    return (H // patch) * (W // patch), C * patch * patch


class PatchConditioner(nn.Module):
    """A causal transformer: mu and log sigma of patch i from the patches before it.

    It says 0 at first. The first place sees nothing but the label.

    Args:
        T, D: how many patches, and numbers in each.
        width, depth, heads: of the transformer, whose blocks are those of `GPT`.
        classes: how many labels y can be given, 0 for none.
    """

    def __init__(self, T: int, D: int, *, width: int, depth: int, heads=4, classes=0):
        super().__init__()
        self.embed = nn.Linear(D, width)
        self.position = nn.Parameter(torch.randn(T, width) / 2)
        self.label = nn.Embedding(max(classes, 1), width)  # stands at every place
        nn.init.normal_(self.label.weight, std=0.5)
        self.blocks = nn.ModuleList(Block(width, heads=heads) for _ in range(depth))
        self.norm, self.head = nn.LayerNorm(width), zero_last(nn.Linear(width, 2 * D))

    def see(self, x: Tensor) -> Tensor:
        """Embed patches (B, t, D); what lies beyond +-100 is just far out."""
        return self.embed(x.clamp(-100, 100))

    def place(self, seen: Tensor, y: Tensor, i: int = 0) -> Tensor:
        """Add labels, and where each patch stands, from place i on: (B, t, width)."""
        return seen + self.label(y)[:, None] + self.position[i : i + seen.shape[1]]

    def read(self, h: Tensor) -> tuple[Tensor, Tensor]:
        """Return mu and log sigma, within +-2: (B, t, width) -> two (B, t, D)."""
        mu, a = precise(self.head(self.norm(h))).chunk(2, -1)
        return mu, bounded(a)

    def forward(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """Return mu and log sigma of all patches, in one pass: (B, T, D), (B,) -> two."""
        seen = self.see(x[:, :-1])  # place i sees the patches before i, the first none
        h = self.place(F.pad(seen, (0, 0, 1, 0)), y)
        for block in self.blocks:
            h = block(h)
        return self.read(h)


class PatchLayer(nn.Module):
    """z_i = (x_i - mu_i(x_<i)) / sigma_i(x_<i), as (3), but x_i is the i-th patch.

    Args:
        net: from patches (B, T, D) and labels (B,) to mu and log sigma, both (B, T, D).
        patch: side of a patch.
        backwards: whether the last patch goes first.
    """

    def __init__(self, net: PatchConditioner, patch: int, *, backwards: bool = False):
        super().__init__()
        self.net, self.patch, self.backwards = net, patch, backwards

    def cut(self, x: Tensor) -> Tensor:
        """Return the patches of pictures in this layer's order: (B, T, D)."""
        s = to_patches(x, self.patch)
        return s.flip(1) if self.backwards else s

    def join(self, s: Tensor, like: Tensor) -> Tensor:
        """Undo `cut`, for pictures of the shape of `like`."""
        return from_patches(s.flip(1) if self.backwards else s, like.shape[1:], self.patch)

    def forward(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """Map x (B, C, H, W) to z, same shape, and log |det dz/dx| (B,), in one pass."""
        s = self.cut(x)
        mu, log_sigma = self.net(s, y)
        z = (s - mu) * torch.exp(-log_sigma)
        return self.join(z, x), -log_sigma.flatten(1).sum(1)

    def inverse(self, z: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """Map z back to x, and log |det dx/dz| (B,): about one pass; T with gradients."""
        solve = whole_passes if torch.is_grad_enabled() else cached
        s, log_det = solve(self.net, self.cut(z), y)
        return self.join(s, z), log_det


def whole_passes(net: PatchConditioner, z: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Invert by T passes, as (5): the i-th makes x_1..x_i right, whatever x was before."""
    x, log_sigma = z, torch.zeros_like(z)
    for _ in range(z.shape[1]):
        mu, log_sigma = net(x, y)
        x = mu + log_sigma.exp() * z
    return x, log_sigma.flatten(1).sum(1)


@torch.no_grad()
def cached(net: PatchConditioner, z: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Invert as GPT samples: each patch enters once, and its keys and values are kept."""
    (B, T, _), width = z.shape, net.position.shape[1]
    heads = net.blocks[0].attention.heads
    caches = [Cache(B, heads, T, width // heads, like=z) for _ in net.blocks]
    seen, steps = z.new_zeros(B, 1, width), []
    for i in range(T):
        h = net.place(seen, y, i)
        for block, cache in zip(net.blocks, caches):
            h = block(h, cache)
        mu, log_sigma = net.read(h)  # (B, 1, D)
        x = mu + log_sigma.exp() * z[:, i : i + 1]
        steps.append((x, log_sigma.sum((1, 2))))
        seen = net.see(x)
    x, log_sigma = zip(*steps)
    return torch.cat(x, dim=1), torch.stack(log_sigma).sum(0)
