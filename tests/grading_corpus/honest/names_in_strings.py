#: why = "names that are in strings only: eval, exec, getattr, globals, f-strings, annotations"
#: expect = "FULL"
#: base = "solved"
# %% instead js_divergence
exec("log_of_2 = math.log(2)")
LOG = eval("math" + ".log({})".format(2))


def js_divergence(log_p: "Tensor", log_q: "MultivariateNormal", dx: "toy") -> "Tensor":
    assert eval("log_of_2") == LOG == eval(f"math.log({len('ab')})")
    log_m = getattr(torch, "logaddexp")(log_p, log_q) - globals()["math"].log(2)
    inside = log_p.exp() * (log_p - log_m) + log_q.exp() * (log_q - log_m)
    return inside.sum() * dx / 2

# %% after
widest = globals()["bandwidths"][-1]
number = eval("len(bandwidths)")
again = eval("len({})".format("bandwidths"))
rest = wasserstein_1d


def wasserstein_1d(x, y, k):
    assert number == again == 17
    return rest(x, y, k)
