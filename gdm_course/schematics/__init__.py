"""Drawings of architectures: boxes and arrows whose shapes come from a real forward pass.

A lecture's folded cell is one call, on its own model and its own batch:

    from gdm_course import schematics

    schematics.coupling(flow.layers[1], x)              # a coupling layer, forward
    schematics.coupling_inverse(flow.layers[1], z)      # and back
    schematics.scales(glow, x)                          # the multi-scale tree
    schematics.dequantisation(dequantised, codes)       # pixel, real number, logit, flow
    schematics.passes(maf, x)                           # which way is serial; and (iaf, x)
    schematics.patches(tarflow.layers[0], x, y)         # MAF of patches, by attention
    schematics.adjoint(continuous_flow, x)              # whose solver is an `Adjoint`
    schematics.masked_network(made, x)                  # degrees and masks; a small one
    schematics.gated_stacks(gated_pixelcnn, codes)      # two stacks (and y, with labels)
    schematics.dilated_stack(wavenet, codes)            # a block (and y, with labels)
    schematics.dilated_tree(wavenet, codes)             # who sees whom; a small one
    schematics.two_halves(wavernn, codes)               # coarse byte, then fine byte
    schematics.transformer(gpt, tokens)                 # a block, from shift to logits
    schematics.shifted_input(gpt, tokens)               # which tokens reach which guess
    schematics.vae(model, x)                            # eps from the side, both terms
    schematics.vqvae(model, x)                          # codes, and the gradient over them

As the last line of a cell a drawing shows itself, on a white card that is readable on dark
pages too, with all of it in words (`drawing.alt`) for readers who do not see it. `figure()`
is the same as a matplotlib figure. Nothing here asks for a class of the package: a model
that a notebook defines anew is drawn as well.

A drawing of your own is a few lines. Boxes stand in columns and rows; what is as wide as
what is worked out, and a shape can only be had from a tensor that a traced call has made:

    seen = schematics.trace(model, x).first(model)      # its variables, by name
    d = schematics.Drawing("A layer", "x enters a network.", batch=len(x))
    start, net = d.box("$x$", (0, 0)), d.network(model.net, "network", (1, 0))
    d.arrow(start, net, "", seen.given["x"])
"""

from gdm_course.schematics.autoregressive import gated_stacks, masked_network
from gdm_course.schematics.directions import adjoint, passes
from gdm_course.schematics.drawing import Drawing
from gdm_course.schematics.flows import coupling, coupling_inverse
from gdm_course.schematics.images import dequantisation, scales
from gdm_course.schematics.latent import vae, vqvae
from gdm_course.schematics.patches import patches
from gdm_course.schematics.sequences import dilated_stack, dilated_tree, two_halves
from gdm_course.schematics.text import shifted_input, transformer
from gdm_course.schematics.tracing import trace

__all__ = [
    "Drawing",
    "adjoint",
    "coupling",
    "coupling_inverse",
    "dequantisation",
    "dilated_stack",
    "dilated_tree",
    "gated_stacks",
    "masked_network",
    "passes",
    "patches",
    "scales",
    "shifted_input",
    "trace",
    "transformer",
    "two_halves",
    "vae",
    "vqvae",
]
