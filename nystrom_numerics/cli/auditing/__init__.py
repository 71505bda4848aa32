"""What ``nystrom audit`` finds in matrices, points and heads of attention, and how it is shown."""
