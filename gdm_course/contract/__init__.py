"""The contract of the capstone: what is frozen, the laws it is tried on, how it scores.

Network, sampler, optimiser and number of steps are here, the same for all. A student's
entry says at which noise levels the network learns, which noise goes with which data, and
what the loss is. Nothing here is secret: only the judge's seeds are.
"""
