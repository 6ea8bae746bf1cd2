"""Trees for a course that grades: one for students without the answers, one with them."""
