"""What `Answer.confidence` is worth: whether it tells right answers, and whose fault wrong are."""
