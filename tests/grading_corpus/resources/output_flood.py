#: why = "prints without end"
#: expect = "ZERO"
#: base = "solved"
#: status = "crash"
# %%
while True:
    print('x' * 10000)
