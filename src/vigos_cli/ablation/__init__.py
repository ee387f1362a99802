"""`vigos ablate`: the cells of a sweep, and the report that compares them."""
