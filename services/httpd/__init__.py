"""Between sockets and ASGI: who takes a connection, and how requests and answers travel on it."""
