"""HTTP: who may ask, what is asked, and the answers as bytes."""
