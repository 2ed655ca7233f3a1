"""Ways to carry a source over to a task, one to a file."""
