"""What experiments run on: texts, recordings, trained models, points, tasks, and families whose spectrum is known."""
