"""Entries of the capstone: four honest ones, and those that would earn without learning.

An entry is source, as a cell of a notebook has it: the box runs the same text as the tests.
"""

HEAD = """
import torch
from gdm_course.contract import digits, frozen, plane
from gdm_course.contract.frozen import Contract, JumpNet


class Naive(Contract):
    "Flow matching, noise as it comes; t and d on the sampler's grid."

    def times(self, n, g):
        jumps = 2 ** torch.randint(0, 3, (n,), generator=g)
        at = (torch.rand(n, generator=g) * jumps).floor()
        return 1 - at / jumps, 1 / jumps

    def coupling(self, x, eps, g):
        return eps

    def loss(self, net, x, eps, t, d):
        x_t = (1 - t)[:, None] * x + t[:, None] * eps
        return (net(x_t, t, d) - (eps - x)).square().mean()


class Coupled(Naive):
    "The same with optimal transport inside of a batch."

    def coupling(self, x, eps, g):
        from scipy.optimize import linear_sum_assignment

        cost = torch.cdist(x, eps).square()
        return eps[torch.as_tensor(linear_sum_assignment(cost.numpy())[1])]


def blank(x):
    "Weights that nobody has trained."
    net = JumpNet(x.shape[1])
    return torch.nn.utils.parameters_to_vector(net.parameters()).detach()
"""

# What clears how many heights, of fair, good, best.
HONEST = {
    "naive": ("Entry = Naive", 1),
    "coupled": ("Entry = Coupled", 2),
    "coupled, robust": (
        """
class Entry(Coupled):
    def loss(self, net, x, eps, t, d):
        x_t = torch.lerp(x, eps, t[:, None])
        return ((net(x_t, t, d) - (eps - x)).square().mean(1) + 1e-3).sqrt().mean()
""",
        2,
    ),
    "mean flow, coupled": (
        """
class Entry(Coupled):
    def times(self, n, g):
        a, b = torch.rand(n, generator=g), torch.rand(n, generator=g)
        half = torch.arange(n) % 2
        return torch.maximum(a, b), (a - b).abs() * half

    def loss(self, net, x, eps, t, d):
        v, one = eps - x, torch.ones_like(t)
        x_t = x + t[:, None] * v
        u, slope = torch.func.jvp(net, (x_t, t, d), (v, one, one))
        square = (u - v + d[:, None] * slope.detach()).square().sum(1)
        return (square / (square + 0.01).sqrt().detach()).mean()
""",
        3,
    ),
}

DISHONEST = {
    "untrained": """
class Entry(Naive):
    def fit(self, x, steps, seed):
        return blank(x)
""",
    "zeros": """
class Entry(Naive):
    def fit(self, x, steps, seed):
        return 0 * blank(x)
""",
    "not a number": """
class Entry(Naive):
    def fit(self, x, steps, seed):
        return blank(x) * torch.nan
""",
    "so large that samples overflow": """
class Entry(Naive):
    def fit(self, x, steps, seed):
        return blank(x).sign() * 3e38
""",
    "samples in place of weights": """
class Entry(Naive):
    def fit(self, x, steps, seed):
        return x[torch.randint(len(x), (2000,))]
""",
    "samples and weights": """
class Entry(Naive):
    def fit(self, x, steps, seed):
        return blank(x), x
""",
    "training rows where weights belong": """
class Entry(Naive):
    def fit(self, x, steps, seed):
        return x.flatten().repeat(99)[: len(blank(x))]
""",
    "a larger network": """
class Entry(Naive):
    def fit(self, x, steps, seed):
        net = JumpNet(x.shape[1], hidden=300)
        return torch.nn.utils.parameters_to_vector(net.parameters()).detach()
""",
    "another network and sampler": """
def stolen(net, eps, evaluations):
    return STOLEN[torch.randint(len(STOLEN), (len(eps),))]


class Entry(Naive):
    def fit(self, x, steps, seed):
        global STOLEN
        STOLEN = x
        for module in (frozen, plane):
            module.generate = stolen
        return blank(x)
""",
    "a distance of zero": """
class Entry(Naive):
    def fit(self, x, steps, seed):
        plane.energy_distance = lambda x, y: torch.zeros(())
        plane.scores = lambda *a, **k: [0.0, 0.0, 0.0]
        torch.cdist = lambda x, y: torch.zeros(len(x), len(y))
        return blank(x)
""",
    "hunts for the law and the heights": """
class Entry(Naive):
    def fit(self, x, steps, seed):
        import gc
        from gdm_course.checks.challenges import capstone as check

        laws = [o for o in gc.get_objects() if type(o).__name__ in ("Bells", "Turned")]
        known = [getattr(x, "kept", None), *laws, getattr(check, "HEIGHTS", None)]
        assert not any(isinstance(k, (tuple, dict, plane.Bells)) for k in known)
        law = plane.bells(torch.Generator().manual_seed(seed))
        return blank(law.sample(8, torch.default_generator) if x.shape[1] == 2 else x)
""",
    "one training step": """
class Entry(Naive):
    def fit(self, x, steps, seed):
        return super().fit(x, 1, seed)
""",
}
