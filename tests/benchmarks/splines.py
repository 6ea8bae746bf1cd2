"""MAF and spline couplings against zuko, nflows and normflows, turn by turn.

Equal sizes: five layers, networks with two hidden layers of 64 (nflows and normflows have
one residual block of two such layers, and one more in front), eight bins. normflows builds
MAF the other way round, as IAF: it is turned here, so that all do the same work; as built,
without residuals, it draws in one pass, and is compared in that.
Run with the peers installed: `python -m tests.benchmarks.splines`.
"""

import importlib.util
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from gdm_course.flows.maf import MAF
from gdm_course.flows.spline import SplineCouplingFlow
from tests.benchmarks.couplings import Peer, medians, works
from tests.benchmarks.harness import Ratio, table

LAYERS, HIDDEN, BINS = 5, 64, 8
SIZES = {"hidden_features": (HIDDEN, HIDDEN), "transforms": LAYERS}


def ours(D: int) -> dict[str, Peer]:
    """The course's own MAF and spline couplings, with log_prob and sample."""
    hidden = (HIDDEN, HIDDEN)
    maf = MAF(D, layers=LAYERS, hidden=hidden)
    spline = SplineCouplingFlow(D, layers=LAYERS, bins=BINS, bound=5.0, hidden=hidden)
    return {"MAF": (maf, maf.log_prob, maf.sample)} | {
        "spline": (spline, spline.log_prob, spline.sample)
    }


def zuko(D: int) -> dict[str, Peer]:
    """Zuko's MAF, and its NSF in coupling form."""
    from zuko.flows import MAF, NSF

    maf, spline = MAF(D, **SIZES), NSF(D, bins=BINS, passes=2, **SIZES)
    return {
        name: (flow, lambda x, f=flow: f().log_prob(x), lambda n, f=flow: f().sample((n,)))
        for name, flow in {"MAF": maf, "spline": spline}.items()
    }


def nflows(D: int) -> dict[str, Peer]:
    """The two layers of nflows, MAF with reversals and couplings with alternating masks."""
    from nflows import transforms as t
    from nflows.distributions.normal import StandardNormal
    from nflows.flows.base import Flow
    from nflows.nn.nets import ResidualNet

    def net(i: int, o: int) -> nn.Module:
        return ResidualNet(i, o, hidden_features=HIDDEN, num_blocks=1)

    affine, curved = [], []
    for k in range(LAYERS):
        made = t.MaskedAffineAutoregressiveTransform(D, HIDDEN, num_blocks=1)
        affine += [t.ReversePermutation(D), made]
        mask = (torch.arange(D) + k) % 2
        coupling = t.PiecewiseRationalQuadraticCouplingTransform
        options = {"num_bins": BINS, "tails": "linear", "tail_bound": 5.0}
        curved.append(coupling(mask, net, **options))
    flows = {"MAF": affine, "spline": curved}
    made = {n: Flow(t.CompositeTransform(x), StandardNormal([D])) for n, x in flows.items()}
    return {name: (flow, flow.log_prob, flow.sample) for name, flow in made.items()}


class Turned(nn.Module):
    """Layers of normflows from data to noise: their forward is the cheap direction."""

    def __init__(self, D: int, residual: bool = True):
        super().__init__()
        import normflows as nf

        made = nf.flows.MaskedAffineAutoregressive
        how = {"num_blocks": 1, "use_residual_blocks": residual}
        self.layers = nn.ModuleList(made(D, HIDDEN, **how) for _ in range(LAYERS))
        self.base = nf.distributions.DiagGaussian(D, trainable=False)

    def log_prob(self, x: Tensor) -> Tensor:
        """Log p(x) in nats: one pass per layer."""
        log_det = 0.0
        for layer in self.layers:
            x, part = layer(x)
            x, log_det = x.flip(-1), log_det + part
        return self.base.log_prob(x) + log_det

    def sample(self, n: int) -> Tensor:
        """Draw (n, D): D passes per layer."""
        x = self.base.sample(n)
        for layer in reversed(self.layers):
            x, _ = layer.inverse(x.flip(-1))
        return x


class AsBuilt(Turned):
    """The same, not turned: density and samples change places."""

    def sample(self, n: int) -> Tensor:
        """Draw (n, D): one pass per layer."""
        x = self.base.sample(n)
        for layer in self.layers:
            x = layer(x)[0].flip(-1)
        return x


def normflows(D: int) -> dict[str, Peer]:
    """Layers of normflows: MAF turned, and coupled splines."""
    import normflows as nf

    maf = Turned(D)
    layers = [
        nf.flows.CoupledRationalQuadraticSpline(
            D, 1, HIDDEN, num_bins=BINS, tail_bound=5.0, reverse_mask=bool(k % 2)
        )
        for k in range(LAYERS)
    ]
    flow = nf.NormalizingFlow(nf.distributions.DiagGaussian(D, trainable=False), layers)
    spline = flow, flow.log_prob, lambda n: flow.sample(n)[0]
    return {"MAF": (maf, maf.log_prob, maf.sample), "spline": spline}


PEERS = {"zuko": zuko, "nflows": nflows, "normflows": normflows}
ONE_PASS = "normflows, drawing in one pass"
GOALS = {"MAF": 1.0, "spline": 1.4}


def one_pass(D: int, found: dict) -> dict:
    """Sampling by the layers of normflows as they are built, if it is installed."""
    if "normflows" not in found:
        return {}
    flow = AsBuilt(D, residual=False)
    return {ONE_PASS: torch.no_grad()(lambda: flow.sample(10_000))}


def ratios(repeat: int = 9) -> Iterator[Ratio]:
    """Every peer that is installed, in 2 and in 64 dimensions."""
    found = {n: make for n, make in PEERS.items() if importlib.util.find_spec(n)}
    if missing := sorted({*PEERS} - {*found}):
        print(f"not installed, so not compared: {', '.join(missing)}")
    for D in (2, 64):
        rivals = {name: make(D) for name, make in {"ours": ours, **found}.items()}
        for kind, goal in GOALS.items():
            made = {name: works(flows[kind], D) for name, flows in rivals.items()}
            for what in made["ours"]:
                slow = D > 2 and what.startswith("sample")  # seconds per call for some
                work = {name: work[what] for name, work in made.items()}
                if D == 2 and kind == "MAF" and what.startswith("sample"):
                    work |= one_pass(D, found)
                times = medians(work, 3 if slow else repeat)
                first = times.pop("ours")
                for name, other in times.items():
                    title = f"{kind}, {LAYERS} layers, {D}-D, {what}"
                    yield Ratio(title, first, other, name, goal)


if __name__ == "__main__":
    torch.manual_seed(0)
    print(table(list(ratios())))
