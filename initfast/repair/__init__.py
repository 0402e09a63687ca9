"""Putting a net right: named schemes, initialize_, lsuv_ and repair_."""
