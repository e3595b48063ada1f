"""How programs run: each backend turns a graph into an executable."""
