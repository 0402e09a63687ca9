"""Pictures of how a signal goes through a net."""
