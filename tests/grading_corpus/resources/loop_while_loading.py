#: why = "an endless loop while the cells run"
#: expect = "ZERO"
#: base = "solved"
#: status = "timeout"
#: budget = { load = 3, ask = 3 }
# %%
while True:
    pass
