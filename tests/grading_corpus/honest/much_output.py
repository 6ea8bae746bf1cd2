#: why = "prints many megabytes, loading and asked"
#: expect = "FULL"
#: base = "solved"
# %%
for step in range(40_000):
    print(f"step {step:6d} loss {1 / (1 + step):.6f} ", "." * 60)

# %% instead wasserstein_1d
def wasserstein_1d(x, y, k):
    print("x" * 3_000_000)
    return ((x.sort().values - y.sort().values).abs() ** k).mean() ** (1 / k)
