//! The ARN of a DynamoDB table, which the service takes where it takes a table's name.

/// `arn:aws:dynamodb:eu-west-1:111122223333:table/Books`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arn<'a> {
    /// The region.
    pub region: &'a str,
    /// The account.
    pub account: &'a str,
    /// The table's name.
    pub table: &'a str,
}

impl<'a> Arn<'a> {
    /// The ARN that this is, if it is one of a table.
    #[must_use]
    pub fn of(text: &'a str) -> Option<Self> {
        let mut parts = text.splitn(6, ':');
        let begins = (parts.next()?, parts.next()?, parts.next()?);
        let (region, account, resource) = (parts.next()?, parts.next()?, parts.next()?);
        let table = resource.strip_prefix("table/").filter(|table| !table.is_empty() && !table.contains('/'))?;
        matches!(begins, ("arn", _, "dynamodb")).then_some(Self { region, account, table })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_arn_of_a_table_and_nothing_else_is_one() {
        let arn = Arn::of("arn:aws-cn:dynamodb:cn-north-1:111122223333:table/Shop.Books-2").unwrap();
        assert_eq!((arn.region, arn.account, arn.table), ("cn-north-1", "111122223333", "Shop.Books-2"));
        for other in [
            "Books",
            "arn:aws:dynamodb:eu-west-1:111122223333:table/Books/stream/2026",
            "arn:aws:s3:eu-west-1:1:table/Books",
            "arn:aws:dynamodb:eu-west-1:1:table/",
        ] {
            assert_eq!(Arn::of(other), None, "{other}");
        }
    }
}
