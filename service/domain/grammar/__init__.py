"""The grammar of an architecture spec: names, groups, inputs, initializations."""
