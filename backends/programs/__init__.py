"""Programs of compiled backends: from a graph to steps over memories, whatever device they run on."""
