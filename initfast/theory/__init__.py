"""What theory predicts for a deep net at initialisation."""
