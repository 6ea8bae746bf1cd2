"""Masked diffusions with a network of their own, as recipes build them."""

from gdm_course.diffusion.masked import MaskedDiffusion
from gdm_course.diffusion.masked_nets import BidirectionalGPT, MaskedUNet


class MaskedText(MaskedDiffusion):
    """A masked diffusion of T tokens with K values, guessed by a `BidirectionalGPT`.

    Args:
        K, T: as of `GPT`: number of values, and of tokens.
        net: more about the network: layers, heads, width, dropout.
    """

    def __init__(self, K: int, T: int, **net):
        super().__init__(BidirectionalGPT(K, T, **net), T, K)


class MaskedPixels(MaskedDiffusion):
    """A masked diffusion of pictures with K values, guessed by a `MaskedUNet`.

    Args:
        size: H and W; pictures are vectors of H W codes.
        K: number of values of a pixel.
        net: more about the network: width, mult, ...
    """

    def __init__(self, size: tuple[int, int], K: int, **net):
        net = MaskedUNet(size, K, **net)
        super().__init__(net, size[0] * size[1], K)
