"""Questions of the family of diffusion models."""
