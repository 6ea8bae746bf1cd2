"""Normalizing flows: an invertible map from data to noise, and the density it gives."""
