#: why = "a pickle in place of an array"
#: expect = "Q0: kl_gaussian"
#: base = "solved"
#: status = "graded"
# %% instead kl_gaussian
import pickle


def kl_gaussian(*args):
    return pickle.dumps(print)
