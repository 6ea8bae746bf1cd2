#: why = "nothing"
#: expect = "Q0: kl_gaussian"
#: base = "solved"
#: status = "graded"
# %% instead kl_gaussian



def kl_gaussian(*args):
    return None
