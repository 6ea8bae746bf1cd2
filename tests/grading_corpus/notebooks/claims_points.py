#: why = "metadata that claims 1,000 points per question"
#: expect = "FULL"
#: base = "solved"
#: edit = "claims_points"

