"""Optimisers that torch does not have: what takes a step, given gradients.

They know parameters and no model; a recipe names one by its path, as `optimisers.muon.muon`.
"""
