#: why = "an endless experiment after all answers, which prints"
#: expect = "FULL"
#: base = "solved"
#: budget = { load = 5 }
# %% after
epoch = 0
while True:
    epoch += 1
    loss = kl_gaussian(*torch.randn(4, 6, 4))
    if epoch % 1000 == 0:
        print("epoch", epoch, loss.mean())
