#: why = "an endless loop while the cells run"
#: expect = "FULL"
#: base = "solved"
#: budget = { load = 8, ask = 8 }
# %%
while True:
    pass
