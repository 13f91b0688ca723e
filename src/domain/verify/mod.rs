//! Comparing rows: digests for equality, sums of digests for whole tables, causes for differences.

mod cause;
mod digest;
mod finding;
mod lines;
mod side;
mod ttl;

pub use cause::{Difference, compare, row_error_cause};
pub use digest::{Digest, digest_cells};
pub use finding::{Finding, FindingKind};
pub use lines::{LinesDigest, each_line};
pub use side::{SideDigest, bucket};
pub use ttl::Ttl;
