#: why = "prompts that nobody answers"
#: expect = "FULL"
#: base = "solved"
# %% instead wasserstein_1d
name = input("Your name: ")
if input("Show plots? [y/N] ") == "y":
    plot.scatter(torch.zeros(3, 2))
while True:
    if input("q to quit: ") == "q":
        break

# %% after
name = input("Your name: ")


def wasserstein_1d(x, y, k):
    return ((x.sort().values - y.sort().values).abs() ** k).mean() ** (1 / k)
