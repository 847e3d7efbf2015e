"""The cache: from the clients' line requests to the memory ports, and back."""
