"""What each page shows and does: a module for each page, or for pages that are alike."""
