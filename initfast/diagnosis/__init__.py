"""What is wrong with a net, why, and what to do, from the numbers of its report."""
