#: why = "lists, 500 deep"
#: expect = "Q0: kl_gaussian"
#: base = "solved"
#: status = "graded"
# %% instead kl_gaussian



def kl_gaussian(*args):
    x = 0.5
    for _ in range(500):
        x = [x]
    return x
