//! Rows that go from one database to another as they are.

use super::source::PageEnd;
use crate::domain::plan::ColumnType;

/// Rows of a page in the form in which the target takes them too: tuples of PostgreSQL's binary `COPY`, without its
/// header and its trailer.
#[derive(Clone, Debug, PartialEq)]
pub struct CopiedRows<'p> {
    /// Names of their columns, with the types whose form the values have.
    pub columns: Vec<(&'p str, ColumnType)>,
    /// The tuples, one behind the other.
    pub tuples: &'p [u8],
    /// Where each of them ends in `tuples`.
    pub ends: Vec<usize>,
    /// How the page ends.
    pub end: PageEnd,
}
