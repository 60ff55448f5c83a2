"""What `jobs.evaluate_pictures` measures."""
