"""Questions of the flows family."""
