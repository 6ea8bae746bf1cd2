"""What every flow has in common: the chain, its direction, and its density."""

import math

import pytest
import torch
from torch import nn

from gdm_course.flows.flow import Flow, Inverse, Reverse
from gdm_course.nets import conv_net, mlp, zero_last


class Scale(nn.Module):
    """x -> a x + b, the flow whose density is known: a normal one."""

    def __init__(self, a, b):
        super().__init__()
        self.a, self.b = nn.Parameter(torch.tensor(a)), nn.Parameter(torch.tensor(b))

    def forward(self, x):
        return self.a * x + self.b, self.a.abs().log().sum().expand(len(x))

    def inverse(self, z):
        return (z - self.b) / self.a, -self.a.abs().log().sum().expand(len(z))


def chain():
    layers = (
        Scale([2.0, -0.5], [1.0, 3.0]),
        Reverse(),
        Inverse(Scale([0.1, 4.0], [0.0, 2.0])),
    )
    return Flow(layers, (2,)).double()


def test_chain_inverts_and_adds_up():
    flow, x = chain(), torch.randn(5, 2, dtype=torch.float64)
    z, log_det = flow(x)
    back, minus = flow.inverse(z)
    torch.testing.assert_close(back, x)
    torch.testing.assert_close(minus, -log_det)
    jacobian = torch.autograd.functional.jacobian(lambda x: flow(x[None])[0][0], x[0])
    torch.testing.assert_close(log_det[0], jacobian.det().abs().log())


def test_density_is_the_known_normal():
    # z = A x + c with A from the chain above, so x is normal with covariance (A' A)^-1
    flow, x = chain(), torch.randn(7, 2, dtype=torch.float64)
    at_0 = torch.zeros(2, dtype=torch.float64)
    A = torch.autograd.functional.jacobian(lambda x: flow(x[None])[0][0], at_0)
    mean = -torch.linalg.solve(A, flow(at_0[None])[0][0])
    truth = torch.distributions.MultivariateNormal(mean, precision_matrix=A.T @ A)
    torch.testing.assert_close(flow.log_prob(x), truth.log_prob(x))
    drawn = flow.sample(40_000)
    error = 6 * truth.stddev / math.sqrt(len(drawn))
    assert ((drawn.mean(0) - mean).abs() < error).all()
    assert not drawn.requires_grad


def test_base_follows_dtype_and_is_not_saved():
    flow = chain()
    assert flow.base.sample().dtype == torch.float64
    assert not {"mean", "scale"} & set(flow.state_dict())


@pytest.mark.parametrize("shape", [(3,), (2, 4, 4)])
def test_base_covers_all_dimensions(shape):
    flow = Flow([], shape)
    z = flow.sample(2)
    assert z.shape == (2, *shape)
    wanted = -0.5 * z.flatten(1).square().sum(1) - 0.5 * math.prod(shape) * math.log(
        2 * math.pi
    )
    torch.testing.assert_close(flow.log_prob(z), wanted)


def test_nets_start_where_they_should():
    assert mlp((3, 8, 8, 2))(torch.randn(4, 3)).shape == (4, 2)
    assert (zero_last(mlp((3, 8, 2)))(torch.randn(4, 3)) == 0).all()
    assert conv_net(1, 6, hidden=8)(torch.randn(2, 1, 5, 7)).shape == (2, 6, 5, 7)
