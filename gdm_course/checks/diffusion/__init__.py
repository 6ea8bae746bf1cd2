"""Questions of the energy family."""
