"""The deployed versions of the registry, loaded into sessions."""
