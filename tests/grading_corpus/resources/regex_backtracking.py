#: why = "a regular expression that takes for ever"
#: expect = "Q0: kl_gaussian"
#: base = "solved"
#: status = "timeout"
#: budget = { load = 8, ask = 2 }
# %% instead kl_gaussian
import re


def kl_gaussian(*args):
    return re.match(r"(a+)+$", "a" * 40 + "b")
