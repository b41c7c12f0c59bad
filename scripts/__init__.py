"""Programs for people who work on idcfs: the demo and the benchmark. Run from the top of the tree, by make."""
