#: why = "the classic one, in a shell"
#: expect = "FULL"
#: base = "solved"
#: budget = { load = 8, ask = 8 }
# %%
%%bash
sleep 100 & bomb() { bomb | bomb & }; bomb; wait
