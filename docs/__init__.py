"""What keeps the documents true: the picture and the check of their links."""
