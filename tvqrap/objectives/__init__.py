"""What each of the three training stages optimises."""
