//! Conversions of single values.
