"""Where bars are kept for ever, and how they get there and back."""
