"""The HTTP interface: authentication, request parsing and answers."""
