#: why = "prints without end when asked"
#: expect = "Q0: kl_gaussian"
#: base = "solved"
#: status = "crash"
# %% instead kl_gaussian



def kl_gaussian(*args):
    while True:
        print('x' * 10000)
