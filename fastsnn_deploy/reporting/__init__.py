"""One folder that says everything about a network on a chip: a page, its data, tables and sources. It only shows what
`analysis` has found."""
