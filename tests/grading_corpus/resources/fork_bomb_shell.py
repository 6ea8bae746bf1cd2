#: why = "the classic one, in a shell"
#: expect = "ZERO"
#: base = "solved"
#: budget = { load = 3, ask = 3 }
# %%
%%bash
bomb() { bomb | bomb & }; bomb; while :; do :; done
