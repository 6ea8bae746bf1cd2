"""The grader: strangers' code runs in a sealed box, the verdict is made outside of it."""
