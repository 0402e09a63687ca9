"""What a run has measured: rows of moments, and the layers that are made of them."""
