#: why = "prints a megabyte, which is allowed"
#: expect = "FULL"
#: base = "solved"
# %%
for _ in range(1000):
    print('x' * 1000)
