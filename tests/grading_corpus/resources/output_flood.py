#: why = "prints without end"
#: expect = "FULL"
#: base = "solved"
# %%
while True:
    print('x' * 10000)
