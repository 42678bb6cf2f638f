"""What the routes are asked and what they answer, as their document shows it."""
