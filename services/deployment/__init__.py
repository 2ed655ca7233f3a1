"""What is served: the registry's deployed versions, loaded and in sessions."""
