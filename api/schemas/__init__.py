"""The wire types of v1, apart from the domain."""
