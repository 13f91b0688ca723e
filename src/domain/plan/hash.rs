//! The plan's hash: what was reviewed is what runs.

use sha2::{Digest, Sha256};

use super::Plan;

impl Plan {
    /// SHA-256 of the plan's canonical JSON, as 64 hex digits. Any change to the plan changes it.
    #[must_use]
    pub fn hash(&self) -> String {
        // Serialising plain data of strings and numbers into memory cannot fail; an empty text would
        // still hash to something no real plan hashes to.
        let text = serde_json::to_vec(self).unwrap_or_default();
        Sha256::digest(&text).iter().map(|b| format!("{b:02x}")).collect()
    }
}
