//! Rows of steps, tables and signals.
