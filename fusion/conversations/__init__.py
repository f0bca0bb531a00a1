"""What is read and learned from, before any model sees it."""
