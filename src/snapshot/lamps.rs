//! The annunciator.
