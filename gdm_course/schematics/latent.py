"""Drawings of models with a latent variable: the VAE, and the VQ-VAE.

A lecture calls them with its own model and batch:

    schematics.vae(model, x)
    schematics.vqvae(model, x)
"""

from torch import Tensor, nn

from gdm_course.schematics.drawing import Box, Drawing
from gdm_course.schematics.parts import shape_of
from gdm_course.schematics.tracing import Call, Trace, trace


def vae(model: nn.Module, x: Tensor) -> Drawing:
    """Draw a VAE with a Gaussian q(z | x) on its way from x (B, *D) to the bound.

    For a model with a price `beta` the two terms end in its loss instead, the rate priced.
    """
    seen = trace(model.elbo, x)
    terms, q = seen.first(model.terms), seen.first("diagonal_gaussian")
    title = f"{type(model).__name__}: noise enters from the side, gradients pass through z"
    what, beta = (
        ("minus the loss", "beta ") if hasattr(model, "beta") else ("the bound", "")
    )
    words = f"z = mu + sigma eps; {what} is log p(x | z) minus {beta}KL(q(z | x) || p(z))."
    d = Drawing(title, words, len(x))
    start = d.picture(x, "$x$", (0, 1))
    encoder = d.network(model.encoder, "encoder", (1, 1))
    mu = d.box("$\\mu$", (2, 1), of=q["mu"])
    sigma = d.box("$\\sigma$", (2, 0), of=q["sigma"])
    times, plus = d.box("×", (3, 0), "operation"), d.box("+", (3, 1), "operation")
    z = terms["z"]
    eps = d.box("ε ~ N(0, I)", (4, 0), "chance", of=(z - q["mu"]) / q["sigma"])
    z = d.box("$z$", (4, 1), of=z)
    d.way(start, encoder, mu, plus, z)
    d.arrow(encoder, sigma, via=[(1, 0)])
    d.way(sigma, times, plus)
    d.way(eps, times)
    _bound(d, model, terms, start, encoder, z)
    return d


def _bound(d: Drawing, model: nn.Module, terms: Call, x: Box, encoder: Box, z: Box) -> None:
    """Draw the decoder, the two terms of the bound, and what they are made of."""
    decoder = d.network(model.decoder, "decoder", (5, 1))
    kl, log_p = (
        d.box("KL(q(z | x) || p(z))", (1, 2), "term"),
        d.box("log p(x | z)", (5, 2), "term"),
    )
    priced = hasattr(model, "beta")
    bound = d.box("−loss" if priced else "elbo", (3, 2), "term")
    d.way(z, decoder, log_p)
    d.way(encoder, kl)
    d.arrow(kl, bound, "$-\\beta$ sum" if priced else "$-$ sum", terms.result[1])
    d.arrow(log_p, bound, "", terms.result[0])
    d.arrow(x, log_p, "the same $x$", via=[(0, 3), (5, 3)])


def vqvae(model: nn.Module, x: Tensor) -> Drawing:
    """Draw a VQ-VAE on its way from images (B, C, H, W) to codes and to its loss.

    The dashed arrow is the gradient that passes `nearest`, which has none of its own.
    """
    seen = trace(model.parts, x)
    call, parts = seen.first(model.quantiser), seen.first(model.parts)
    title = f"{type(model).__name__}: a grid of codes, and a gradient that jumps over them"
    words = (
        "Each vector becomes the nearest of the codebook; q hands its gradient to z as is."
    )
    d = Drawing(title, words, len(x))
    start, encoder = (
        d.picture(x, "$x$", (0, 0)),
        d.network(model.encoder, "encoder", (0, 1)),
    )
    z, q = d.box("$z$", (1, 1), of=call.given["z"]), d.box("$q$", (5, 1), of=parts["q"])
    nearest, look_up = (
        d.box(t, (c, 1), "operation") for t, c in (("nearest", 2), ("look up", 4))
    )
    d.way(start, encoder, z, nearest, d.box("codes", (3, 1), of=parts["codes"]), look_up, q)
    if hasattr(model.quantiser, "codebook"):
        book = d.box("codebook", (3, 2), note=shape_of(model.quantiser.codebook))
        d.arrow(book, nearest, via=[(2, 2)])
        d.arrow(book, look_up, via=[(4, 2)])
    d.arrow(q, z, "gradient, as if q were z", via=[(5, 0), (1, 0)], dashed=True)
    _losses(d, model, seen, z, q)
    return d


def _losses(d: Drawing, model: nn.Module, seen: Trace, z: Box, q: Box) -> None:
    """Draw the decoder and the two terms of the loss."""
    log_p, _, penalty = seen.result
    decoder = d.network(model.decoder, "decoder", (6, 1))
    likelihood, loss = d.box("log p(x | q)", (6, 2), "term"), d.box("loss", (6, 3), "term")
    commitment = d.box("β |z − q|²", (3, 3), "term")
    d.way(q, decoder, likelihood)
    d.arrow(z, commitment, via=[(1, 3)])
    d.arrow(q, commitment, via=[(5, 3)])
    d.arrow(commitment, loss, "", penalty, via=[(3, 4), (6, 4)])
    d.arrow(likelihood, loss, "", log_p)
