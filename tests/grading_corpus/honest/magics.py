#: why = "shell lines, timing, files in the working folder"
#: expect = "FULL"
#: base = "solved"
# %%
%pip --version
!echo hello > note.txt
%time x = sum(range(1000))

# %%
%%time
assert open("note.txt").read() == "hello\n"
y = 3

# %%
await __import__("asyncio").sleep(0)
