"""The contract of the capstone: what is frozen, the laws it is tried on, and how it scores.

The network, the sampler, the optimiser and the number of steps are here and are the same for
all. A student's entry says at which noise levels the network learns, which noise goes with
which data, and what the loss is. Nothing here is secret: only the judge's seeds are.
"""
