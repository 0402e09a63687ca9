"""Putting a net right: audit, named schemes, initialize_, lsuv_ and repair_."""
