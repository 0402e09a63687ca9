"""Statistics of numbers, of layers, and how they merge."""
