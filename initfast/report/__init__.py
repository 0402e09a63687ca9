"""What a profile found, to read, to print and to keep."""
