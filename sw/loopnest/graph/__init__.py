"""Models as graphs of operators: what front ends make, and what is lowered to statements."""
