//! Comparing rows: digests for equality, sums of digests for whole tables, causes for differences.

mod cause;
mod digest;
mod finding;
mod tally;
mod ttl;

pub use cause::{Difference, compare, misfit_cause};
pub use digest::{Digest, digest_cells};
pub use finding::{Finding, FindingKind};
pub use tally::{Tally, bucket};
pub use ttl::Ttl;
