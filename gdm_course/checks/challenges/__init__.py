"""Questions of the challenges."""
