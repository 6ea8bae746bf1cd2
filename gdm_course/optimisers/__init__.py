"""Optimisers that torch does not have: what takes a step, given gradients.

They know parameters and no model. A recipe names one by its path: `optimisers.muon.muon`.
"""
