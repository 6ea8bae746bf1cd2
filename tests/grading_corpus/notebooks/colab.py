#: why = "Colab's metadata, another kernel"
#: expect = "FULL"
#: base = "solved"
#: edit = "colab"

