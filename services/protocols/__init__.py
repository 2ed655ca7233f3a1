"""How requests and answers are written on the wire."""
