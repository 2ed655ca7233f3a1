"""The HTTP server between sockets and ASGI: connections, requests and answers."""
