#: why = "an endless loop in one answer"
#: expect = "Q0: kl_gaussian"
#: base = "solved"
#: status = "timeout"
#: budget = { load = 8, ask = 2 }
# %% instead kl_gaussian



def kl_gaussian(*args):
    while True:
        pass
