"""A whole store with headquarters on one machine: the product's own processes, virtual devices, virtual shoppers."""
