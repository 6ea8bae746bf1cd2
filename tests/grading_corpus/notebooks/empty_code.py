#: why = "only empty cells"
#: expect = "ZERO"
#: base = "nothing"
#: status = "missing"
# %%

# %%
# nothing
