"""Questions of the units on variational autoencoders."""
