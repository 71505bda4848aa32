"""Programs that a claim starts as processes of their own."""
