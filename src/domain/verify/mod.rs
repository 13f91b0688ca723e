//! Comparing rows: digests for equality, causes for differences.

mod cause;
mod digest;

pub use cause::{Difference, compare};
pub use digest::{Digest, digest_cells};
