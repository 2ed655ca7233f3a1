"""The registry's commands, and the code that all commands share."""
