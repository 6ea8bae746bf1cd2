#: why = "line magics, extensions that are not here, help, shells of all sorts, in answer cells"
#: expect = "FULL"
#: base = "solved"
# %%
%load_ext autoreload
%autoreload 2
%config InlineBackend.figure_format = "retina"
%matplotlib widget

# %%
%%html
<b>not Python</b>

# %%
%%bash
def = 3 ( "

# %%
%%no_such_magic
this is { no Python either

# %% instead wasserstein_1d
%load_ext an_extension_of_mine
%watermark -v
!pip install something
torch.sort?
files = !ls
%time thrice = 3
%timeit -n 1 -r 1 sum(range(10))
assert thrice == 3


def wasserstein_1d(x, y, k):
    return ((x.sort().values - y.sort().values).abs() ** k).mean() ** (1 / k)
