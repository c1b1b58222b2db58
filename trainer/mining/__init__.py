"""Mining of hard negatives for training rows."""
