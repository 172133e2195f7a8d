"""The kinds of a program's operations, as its code and who makes programs know them."""

LINEAR, NORM, NORM_OF_SUM, GATE, PLACE, ATTEND, ADAPT = range(7)
