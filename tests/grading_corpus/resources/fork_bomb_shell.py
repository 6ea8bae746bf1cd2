#: why = "the classic one, in a shell"
#: expect = "ZERO"
#: base = "solved"
#: budget = { load = 3, ask = 3 }
# %%
%%bash
sleep 100 & bomb() { bomb | bomb & }; bomb; wait
