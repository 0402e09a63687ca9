"""What is known of a net before it runs: names, modules, activations, structures."""
