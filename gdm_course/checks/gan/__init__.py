"""Questions of the gan family."""
