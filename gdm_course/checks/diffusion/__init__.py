"""Questions of the diffusion family."""
