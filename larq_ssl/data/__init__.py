"""Where images come from, and the views of them that a method trains on."""
